"""Overrides of prior variances by layer-name pattern, from Python or from a YAML or JSON file."""

from __future__ import annotations

import difflib
import json
import math
import numbers
import os
import re
import reprlib
import stat
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from keras2gp._util.paths import as_path, suffix_of
from keras2gp._util.text import repeated, unique_object
from keras2gp.errors import PriorError
from keras2gp.graph.variances import LayerVariances
from keras2gp.kernel.variances import matching

__all__ = ["apply_overrides", "check_overrides", "overrides_template", "read_overrides"]

_FILE_LIMIT = 2**20
_LISTED_LAYERS = 20
_FIELDS = ("weight", "bias")


def apply_overrides(
    parameters: Mapping[str, LayerVariances], overrides: Mapping[str, object] | None
) -> dict[str, LayerVariances]:
    """Replace prior variances by layer-name pattern; later patterns win.

    parameters: layer path, such as "block/conv2d", to its variances
    overrides:  pattern to new variances. A pattern is matched against the whole path, case
                sensitively: * any text ("/" too), ? one character, [ab] a choice. Variances are
                {"weight": w2, "bias": b2} (either may be absent and then stays), a
                LayerVariances, or a pair (w2, b2); w2 is fan-in times the variance of one weight.

    Raises: PriorError that lists every mistake: a pattern that matches no layer, an unknown key,
        a value that is not a finite number of at least 0.
    """
    result = dict(parameters)
    mistakes: list[str] = []
    for pattern, value in check_overrides(overrides).items():
        matches = matching(pattern, parameters)
        if not matches:
            mistakes.append(f"{_show(pattern)} matches no layer; {_layers(pattern, parameters)}")
        fields = _fields(pattern, value, mistakes)
        for name in matches:
            old = result[name]
            result[name] = LayerVariances(
                weight=fields.get("weight", old.weight), bias=fields.get("bias", old.bias)
            )
    if mistakes:
        noun = "mistake" if len(mistakes) == 1 else "mistakes"
        lines = [f"the overrides of prior variances hold {len(mistakes)} {noun}:"]
        raise PriorError("\n".join(lines + [f"  - {mistake}" for mistake in mistakes]))
    return result


def check_overrides(overrides: Mapping[str, object] | None) -> Mapping[str, Any]:
    """Overrides as a mapping; {} for None. Raises: PriorError for anything but a mapping."""
    if not isinstance(overrides, Mapping | None):
        raise PriorError(
            f"overrides map layer-name patterns to variances; received {_show(overrides)}"
        )
    return overrides or {}


def read_overrides(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read overrides for `apply_overrides` from a .yaml, .yml or .json file of at most 1 MB.

    Raises: PriorError, naming the file, if it is missing, too large, malformed, names a pattern
        twice, or does not hold a mapping. Patterns and values are checked by `apply_overrides`.
    """
    file = as_path("overrides", path, PriorError)
    kind = suffix_of(file)
    if kind not in (".yaml", ".yml", ".json"):
        raise PriorError(f"{file}: overrides are read from .yaml, .yml or .json files")
    try:
        if stat.S_ISFIFO(file.stat().st_mode):
            raise PriorError(f"{file}: is a pipe, and no file")
        with file.open("rb") as stream:
            data = stream.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise PriorError(f"{file}: cannot be read: {error.strerror or error}") from error
    if len(data) > _FILE_LIMIT:
        raise PriorError(f"{file}: larger than 1 MB: this is no file of overrides")
    try:
        text = data.decode("utf-8-sig")
        content = _parse_json(text) if kind == ".json" else _parse_yaml(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise PriorError(f"{file}: not valid {kind[1:].upper()}: {error}") from error
    if content is None:  # A template with every line commented out.
        return {}
    if not isinstance(content, dict):
        raise PriorError(
            f"{file}: holds {_show(content)}; overrides map layer-name patterns to variances"
        )
    return content


def overrides_template(parameters: Mapping[str, LayerVariances]) -> str:
    """Write variances as the YAML text of an overrides file; it reads back to the same floats."""
    entries = {
        _literal_pattern(name): {"weight": value.weight, "bias": value.bias}
        for name, value in parameters.items()
    }
    # PyYAML writes floats by repr, with the dot that YAML 1.1 asks for in 1.0e-05.
    text = yaml.dump(entries, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return _HEADER + str(text)


_HEADER = """\
# Prior variances of the model's random layers, by layer name.
#   weight: fan-in times the variance of one weight (He 2, LeCun 1)
#   bias:   variance of one bias
# Edit the numbers; drop the lines that should stay as they are. A name may be a pattern:
# * any text, ? one character, [ab] a choice; later lines win over earlier ones.
"""


def _fields(pattern: object, value: object, mistakes: list[str]) -> dict[str, float]:
    """The valid entries of one override; a message is appended for each invalid one."""
    where = _show(pattern)
    if isinstance(value, LayerVariances):
        return {"weight": value.weight, "bias": value.bias}
    if isinstance(value, list | tuple) and len(value) == 2:
        value = dict(zip(_FIELDS, value, strict=True))
    if not isinstance(value, Mapping) or not value:
        mistakes.append(
            f"{where}: give weight and bias, or one of them, or a pair; received {_show(value)}"
        )
        return {}
    fields = {}
    for key, number in value.items():
        if key not in _FIELDS:
            mistakes.append(f"{where}: unknown key {_show(key)}; the keys are weight and bias")
        elif (variance := _variance(number)) is None:
            mistakes.append(
                f"{where}: {key} is {_show(number)}; a variance is a finite number of at least 0"
            )
        else:
            fields[key] = variance
    return fields


def _variance(number: object) -> float | None:
    """A number as a variance; None if it is none."""
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        return None
    try:
        variance = float(number)
    except OverflowError:
        return None
    return variance if math.isfinite(variance) and variance >= 0.0 else None


def _layers(pattern: object, parameters: Mapping[str, LayerVariances]) -> str:
    """List the layers' names, those close to a pattern first."""
    names = list(parameters)
    if not names:
        return "the model has no layers with weights"
    close = difflib.get_close_matches(str(pattern)[:200], names, n=3, cutoff=0.6)
    ordered = close + [name for name in names if name not in close]
    more = len(ordered) - _LISTED_LAYERS
    tail = f" and {more} more" if more > 0 else ""
    return "the layers are " + ", ".join(map(repr, ordered[:_LISTED_LAYERS])) + tail


def _show(value: object) -> str:
    """Show a value from outside in a bounded number of characters."""
    return reprlib.repr(value)


def _literal_pattern(name: str) -> str:
    """The pattern that matches a name and nothing else."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=unique_object)


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader


class _Loader(yaml.SafeLoader):
    """The safe loader with the numbers of YAML 1.2, without aliases, which can blow a file up.

    YAML 1.1 reads 010 as 8, 1:30 as 90 and the layer names on and no as truth values.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, whose keys are names of layers or of variances: texts, whatever they say."""
        keys = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value]
        if None in keys:
            raise yaml.YAMLError("a key that is no text")
        if len(set(keys)) != len(keys):
            raise yaml.YAMLError(f"{_show(repeated(keys))} stands there twice")
        values = (self.construct_object(value, deep=deep) for _, value in node.value)
        return dict(zip(keys, values, strict=True))

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        """A whole number; leading zeros do not make it octal."""
        return int(node.value)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
    r"|\.(nan|NaN|NAN)",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)


class _Dumper(yaml.SafeDumper):
    """The safe dumper; it quotes a layer called 1e3, which is a number to other readers."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
