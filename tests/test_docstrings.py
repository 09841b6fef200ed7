"""Docstrings of the package: examples run, public names have their sections, prose is plain.

An example must run when it is copied into a fresh Python: it imports what it uses.
"""

import ast
import doctest
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

from keras2gp._util import arrays
from keras2gp.covariance import registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras2gp"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PUBLIC = (
    "keras2gp",
    "keras2gp.adapters",
    "keras2gp.data",
    "keras2gp.gp",
    "keras2gp.plots",
    "keras2gp.zoo",
)
"""Modules whose `__all__` is the public interface."""
RESULTS = (
    "keras2gp.VerificationReport",
    "keras2gp.gp.CholeskyReport",
    "keras2gp.gp.DirichletPosterior",
    "keras2gp.gp.InputRange",
    "keras2gp.gp.JitterStep",
    "keras2gp.gp.NoiseCurve",
    "keras2gp.gp.ReliabilityBin",
    "keras2gp.gp.SolverReport",
)
"""Names that nobody constructs: the examples of other names give them."""
ELSEWHERE = (
    "keras2gp.ClusterProduct",
    "keras2gp.adapters.gpflow_kernel",
    "keras2gp.adapters.tfp_kernel",
    "keras2gp.gp.GaussianProcess",
    "keras2gp.gp.Likelihood",
    "keras2gp.gp.MatrixProduct",
    "keras2gp.gp.Transformation",
    "keras2gp.rule",
)
"""Base classes and protocols, and names whose examples take workers, files or other libraries."""
ARRAYS = {*arrays.__all__}
IMPLICIT = ("self", "cls", "args", "kwargs")


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


FILES = sorted(PACKAGE.rglob("*.py"))
PARTS = {part_of(module_of(file)) for file in FILES}
WITH_EXAMPLES = [module_of(file) for file in FILES if ">>> " in file.read_text()]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_DUALS", registry._DUALS.copy())  # an example adds to it
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    told = []
    tests = doctest.DocTestFinder(exclude_empty=True).find(module, name, globs={})
    for test in tests:
        if test.examples:
            runner.run(test, out=told.append)
    assert runner.tries > 0, f"{name}: the examples stand where doctest does not look"
    assert runner.failures == 0, "".join(told)


def public_names():
    for home in PUBLIC:
        module = importlib.import_module(home)
        for name in getattr(module, "__all__", ()):
            if not name.startswith("_"):
                yield f"{home}.{name}", getattr(module, name)


def callables(path, value):
    """The functions, classes and methods that a public name stands for, each once."""
    if inspect.isclass(value):
        yield path, value
        for name in dir(value):
            method = inspect.getattr_static(value, name)
            owner = next((k for k in value.__mro__ if name in vars(k)), None)
            if name.startswith("_") or owner is None or "keras2gp" not in owner.__module__:
                continue
            if isinstance(method, staticmethod | classmethod):
                method = method.__func__
            if inspect.isfunction(method) or isinstance(method, property):
                yield f"{path}.{name}", method
    elif inspect.isfunction(value):
        yield path, value


def lacking(path, value):
    """The parts that a docstring lacks."""
    text = inspect.getdoc(value) if inspect.isclass(value) else value.__doc__
    if text is None and "." in path:
        text = inspect.getdoc(value)
    if not text or not text.strip():
        yield "a docstring"
        return
    if isinstance(value, property) or overrides(path, value):
        return
    if inspect.isclass(value):
        yield from lacking_of_class(value, text)
        return
    parameters = [n for n in inspect.signature(value).parameters if n not in IMPLICIT]
    yield from lacking_parameters(parameters, text)
    tree = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    own = [n for s in tree.body for n in ast.walk(s)]
    if any(isinstance(n, ast.Raise) and n.exc is not None for n in own) and "Raises:" not in text:
        yield "Raises:"
    if parameters and tree.returns is not None and ast.unparse(tree.returns) != "None":
        if not any(word in text for word in ("Returns:", "Yields:")):
            yield "Returns:"
        arguments = ast.walk(tree.args)
        notes = [ast.unparse(a.annotation) for a in arguments if getattr(a, "annotation", None)]
        used = {w for n in [*notes, ast.unparse(tree.returns)] for w in re.findall(r"\w+", n)}
        if used & ARRAYS and "[" not in text:
            yield "shapes of arrays"


def overrides(path, value):
    """Whether a method implements one of a base class in the package, which documents it."""
    home, owner, name = [*path.rsplit(".", 2), ""][:3]
    kind = getattr(importlib.import_module(home), owner, None) if home in PUBLIC else None
    bases = kind.__mro__[1:] if inspect.isclass(kind) else ()
    return any(name in vars(b) and vars(b)[name] is not value for b in bases if home_is_ours(b))


def home_is_ours(kind):
    return kind.__module__.startswith("keras2gp.")


def lacking_of_class(value, text):
    made = vars(value).get("__init__")
    if made is None or issubclass(value, Exception) or getattr(value, "_is_protocol", False):
        return
    if not any(word in text for word in ("Args:", "Attributes:")):
        yield "Args: or Attributes:"


def lacking_parameters(names, text):
    if names and not any(word in text for word in ("Args:", "Attributes:")):
        yield "Args:"
    for name in names:
        if f"{name}:" not in text and f"{name} " not in text and f"{name}," not in text:
            yield f"the parameter {name}"


@pytest.mark.parametrize("part", sorted(PARTS))
def test_public_names_have_their_sections(part):
    missing = {}
    for name, value in public_names():
        for path, function in callables(name, value):
            home = inspect.unwrap(getattr(function, "fget", None) or function).__module__
            if part_of(home) == part and (lacks := list(lacking(path, function))):
                missing[path] = lacks
    assert not missing, "\n".join(f"{path}: {', '.join(p)}" for path, p in missing.items())


@pytest.mark.parametrize("part", sorted(PARTS))
def test_public_names_have_an_example(part):
    lacking = []
    for path, value in public_names():
        told = not callable(value) or path in RESULTS + ELSEWHERE or fails(value)
        if not told and part_of(value.__module__) == part and ">>> " not in inspect.getdoc(value):
            lacking.append(path)
    assert not lacking


def fails(value):
    """Whether a name is a warning, or an error of the tree that needs no explanation."""
    return inspect.isclass(value) and issubclass(value, Exception) and ">>>" not in value.__doc__


def docstrings(part):
    for file in FILES:
        if part_of(module_of(file)) != part:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ) and (text := ast.get_docstring(node)):
                yield f"{file.relative_to(ROOT)}: {getattr(node, 'name', 'module')}", text


@pytest.mark.parametrize("part", sorted(PARTS))
def test_no_docstring_starts_with_what(part):
    """A sentence has its subject first, and says what a thing is without the word."""
    starts = [place for place, text in docstrings(part) if text.split()[0] in ("What", "What's")]
    assert not starts, "\n".join(starts)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_modules_say_what_they_are(part):
    """The first line of a module is a sentence that stands alone."""
    short = {}
    for file in FILES:
        if part_of(module_of(file)) != part:
            continue
        text = ast.get_docstring(ast.parse(file.read_text())) or ""
        if len(text.split("\n\n")[0].split()) < 4:
            short[str(file.relative_to(ROOT))] = text
    assert not short
