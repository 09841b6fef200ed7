"""--config FILE: a TOML file of options for runs that are repeated.

[fit] holds the options of `fit`, [plot.kernel] those of `plot kernel`; keys above all tables are
options of every command that has them. The command line wins over the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras2gp._util.paths import expanded, missing, read_if_regular
from keras2gp._util.text import did_you_mean, received_text
from keras2gp.cli.argument_parser import Option, Parser, meant
from keras2gp.cli.exit_codes import UsageError

__all__ = ["with_configuration"]

_LARGEST = 2**20
_OPTION = "--config"
_NEVER = ("config", "json")
"""Options that a file does not hold."""


def with_configuration(arguments: Sequence[str], parser: Parser) -> list[str]:
    """The words of a command line with those of its --config file before its own options.

    Args:
        arguments: the words after `keras2gp`.
        parser: the whole parser.

    Returns:
        The words without --config; they are the same where there is none.

    Raises:
        UsageError: the file cannot be read, or holds something else than options.
    """
    words, path = _without_option(list(arguments))
    if path is None:
        return words
    names: list[str] = []
    command = parser
    while command.commands():
        if len(names) == len(words) or words[len(names)] not in command.commands():
            return words  # the parser refuses them
        command = command.commands()[words[len(names)]]
        names.append(words[len(names)])
    rest = words[len(names) :]
    file = expanded(path)
    stated = _options_of(file, names, command, parser)
    positional = not rest or rest[0].startswith("-")
    return [*names, *_words(stated, command.options(), file, positional=positional), *rest]


def _without_option(words: list[str]) -> tuple[list[str], str | None]:
    """The words but for --config, and its value; None without it. Raises: UsageError."""
    for place, word in enumerate(words):
        if word == "--":
            break
        if word.startswith(f"{_OPTION}="):
            return [*words[:place], *words[place + 1 :]], word.partition("=")[2]
        if word == _OPTION:
            if place + 1 == len(words):
                raise UsageError(f"{_OPTION}: expected a .toml file")
            return [*words[:place], *words[place + 2 :]], words[place + 1]
    return words, None


def _options_of(
    path: Path, names: Sequence[str], command: Parser, parser: Parser
) -> dict[str, Any]:
    """The options that a file states for a command. Raises: UsageError."""
    data = _read(path)
    known = {option.name: option for option in command.options()}
    everywhere = {option.name for _, kind in _kinds(parser) for option in kind.options()}
    stated: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            if key not in parser.commands():
                hint = did_you_mean(key, list(parser.commands()))
                raise UsageError(f"{_OPTION} {path}: [{key}] is no command.{hint}")
            continue
        name = _named(key, everywhere)
        if name is None:
            hint = did_you_mean(key.replace("_", "-"), sorted(everywhere))
            raise UsageError(f"{_OPTION} {path}: {key} is an option of no command.{hint}")
        if name in known:
            stated[name] = value
    table: Mapping[str, Any] = data
    for depth in range(len(names)):
        table = _table(table, names[: depth + 1], path)
    # A slip in any table is refused before the run that needs it.
    for name, kind in parser.commands().items():
        _check_table(_table(data, [name], path), kind, [name], path)
    named = {_named(key, known): value for key, value in table.items()}
    return stated | {name: value for name, value in named.items() if name is not None}


def _named(key: str, known: Collection[str]) -> str | None:
    """The option that a key names, with hyphens or underscores; None if it is none of a file."""
    name = key.replace("_", "-")
    name = name if name in known else key
    return name if name in known and name not in _NEVER else None


def _check_table(table: Mapping[str, Any], command: Parser, names: list[str], path: Path) -> None:
    """Refuse a key of a command's table that is no option of it. Raises: UsageError."""
    within = command.commands()
    known = sorted(within or {option.name for option in command.options()})
    for key in table:
        if key in within:
            _check_table(_table(table, [*names, key], path), within[key], [*names, key], path)
        elif within or _named(key, known) is None:
            what, table_name = "command" if within else "option", f"[{'.'.join(names)}]"
            hint = meant(key, known, table_name)
            raise UsageError(f"{_OPTION} {path}: {table_name} has no {what} {key}.{hint}")


def _table(data: Mapping[str, Any], names: Sequence[str], path: Path) -> Mapping[str, Any]:
    """The table of a command in that of its group, {} without it.

    Raises: UsageError if it is something else.
    """
    table = data.get(names[-1], {})
    if not isinstance(table, Mapping):
        raise UsageError(
            f"{_OPTION} {path}: {names[-1]} is {received_text(table)}: expected a table "
            f"[{'.'.join(names)}]"
        )
    return table


def _kinds(parser: Parser, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    """Every command that has options, and its names."""
    for name, command in parser.commands().items():
        if command.commands():
            yield from _kinds(command, (*names, name))
        else:
            yield (*names, name), command


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_if_regular(path, _LARGEST)
        if content is None:
            raise UsageError(f"{_OPTION} {missing(path)}")
        return tomllib.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = received_text(getattr(error, "strerror", None) or str(error), 200)
        raise UsageError(f"{_OPTION} {path} cannot be read as TOML: {reason}") from error


def _words(
    stated: Mapping[str, Any], options: Sequence[Option], path: Path, *, positional: bool
) -> Iterator[str]:
    """The words of the stated options; positional arguments first, if they are wanted."""
    for option in options:
        if not option.names and option.name in stated and positional:
            yield _text(stated[option.name], option, path)
    for option in options:
        if option.names and option.name in stated:
            yield from _option_words(stated[option.name], option, path)


def _option_words(value: Any, option: Option, path: Path) -> Iterator[str]:
    """The words of one option with its value."""
    if isinstance(value, bool):
        if value and not (option.is_flag or option.may_be_bare):
            raise UsageError(f"{_OPTION} {path}: {option.name} takes a value, and is true")
        if value:
            yield f"--{option.name}"
        elif f"--no-{option.name}" in option.names:
            yield f"--no-{option.name}"
    elif option.is_flag:
        raise UsageError(f"{_OPTION} {path}: {option.name} is true or false")
    elif option.repeats and isinstance(value, list):
        yield from (f"--{option.name}={_text(entry, option, path)}" for entry in value)
    else:
        yield f"--{option.name}={_text(value, option, path)}"


def _text(value: Any, option: Option, path: Path) -> str:
    """A value as a word; the numbers of a list are separated by commas."""
    if isinstance(value, list) and option.is_path:
        raise UsageError(f"{_OPTION} {path}: {option.name} is a list: expected one path")
    if isinstance(value, list) and value and all(type(entry) in (int, str) for entry in value):
        return ",".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        received = received_text(value)
        raise UsageError(
            f"{_OPTION} {path}: {option.name} is {received}: expected text or a number"
        )
    return str(value)
