"""The architecture's import directions, read from the files; and that importing is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras2gp"
ORDER = (
    {"errors", "layer_table"},
    {"_util"},
    {"data", "fit_record", "graph", "plots", "zoo"},
    {"report", "modelfile", "covariance", "gp"},
    {"matrices", "adapters"},
    {"kernel"},
    {"conversion", "loading", "serving"},
    {"empirical", "verification", "search", "xrays"},
    {"cli", "__init__"},
    {"__main__"},
)
"""The packages from the ground up: each may import what stands in an earlier row, and itself."""
APART = {"gp": {"graph"}, "adapters": {"graph", "covariance", "matrices"}}
"""Packages that a package avoids although the order lets it: gp knows linear algebra alone."""
WITHIN_GP = (
    {"arguments", "metrics"},
    {"solvers"},
    {"probabilities"},
    {"noise"},
    {"process"},
    {"classification", "ensemble", "laplace", "regression"},
    {"saving"},
    {"__init__"},
)
"""The same order for the parts of gp, the largest package."""
HEAVY = {"tensorflow", "keras", "sklearn", "scipy", "tensorflow_datasets"}
WITHOUT = {
    "graph": HEAVY | {"numpy"},
    "errors": HEAVY | {"numpy"},
    "layer_table": HEAVY | {"numpy"},
    "report": HEAVY,
    "covariance": {"keras", "sklearn", "scipy", "tensorflow_datasets"},
    "matrices": {"keras", "sklearn", "tensorflow_datasets"},
    "gp": {"keras", "tensorflow_datasets"},
    "empirical": {"sklearn", "scipy", "tensorflow_datasets"},
    "verification": {"sklearn", "tensorflow_datasets"},
    "zoo": {"sklearn", "scipy", "tensorflow_datasets"},
    "plots": HEAVY,
}
"""Libraries that a part does without, at any depth of its code."""


def part_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(PACKAGE.rglob("*.py"))
PARTS = {part_of(file) for file in FILES}
MODULES = {module_of(file): file for file in FILES}
ROW = {part: row for row, parts in enumerate(ORDER) for part in parts}


def imports(file):
    """Dotted names that a file imports, wherever they stand, also for type checking alone."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_read(file):
    """The modules of the package that a file imports."""
    for name in imports(file):
        if name.split(".")[0] == "keras2gp":
            yield name if name in MODULES else name.rsplit(".", 1)[0]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_imports_follow_the_order(file):
    part = part_of(file)
    for name in imports(file):
        assert name.split(".")[0] not in WITHOUT.get(part, ()), f"{part} imports {name}"
    for name in modules_read(file):
        target = part_of(MODULES[name])
        if target != part:
            assert ROW[target] < ROW[part], f"{part} imports {name}, which stands above or beside"
            assert target not in APART.get(part, ()), f"{part} imports {name}"


@pytest.mark.parametrize("file", sorted((PACKAGE / "gp").rglob("*.py")), ids=lambda f: f.name)
def test_the_parts_of_gp_follow_their_order(file):
    row = {part: row for row, parts in enumerate(WITHIN_GP) for part in parts}

    def inner(path):
        return path.relative_to(PACKAGE / "gp").parts[0].removesuffix(".py")

    for name in modules_read(file):
        if name.startswith("keras2gp.gp.") and inner(MODULES[name]) != inner(file):
            assert row[inner(MODULES[name])] < row[inner(file)], f"{module_of(file)}: {name}"


def packages_of(module):
    """The packages that a module is in: importing it runs them first."""
    parts = module.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}


def test_no_circles():
    """No module imports itself by way of others, not through a function or for types either."""
    read = {}
    for name, file in MODULES.items():
        found = set(modules_read(file))
        found |= {package for other in found for package in packages_of(other)}
        read[name] = found - {name} - packages_of(name)
    left = dict(read)
    while ready := {name for name, wanted in left.items() if not wanted & set(left)}:
        left = {name: wanted for name, wanted in left.items() if name not in ready}
    assert not left, f"circles among {sorted(left)}"


OPS = tuple(f"keras2gp.graph.{name}." for name in ("ops", "linear_maps"))
WALKS = {
    *("program.py", "forward_pass.py", "adjoint.py", "repeating.py", "seams.py"),
    *("stored_maps.py", "expansion.py"),
}
"""The forward pass, and what is prepared for it, read the graph itself."""


def test_the_equations_know_the_ops_of_a_graph_and_no_more():
    for file in (PACKAGE / "covariance").rglob("*.py"):
        if file.name not in WALKS:
            used = {n for n in imports(file) if n.startswith("keras2gp.graph")}
            assert all(n.startswith(OPS) for n in used), file.name


def test_every_part_has_its_place():
    assert set(ROW) >= PARTS, "a new part: write into ORDER where it stands"


def names_of(file):
    """Names that a module defines or imports at its top, and its submodules."""
    for node in ast.parse(file.read_text()).body:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import | ast.ImportFrom):
                yield from ((alias.asname or alias.name).split(".")[0] for alias in inner.names)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.With | ast.For | ast.If):
            names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
            yield from (n.id for n in names if isinstance(n.ctx, ast.Store))
    if file.name == "__init__.py":
        yield from (sibling.stem for sibling in file.parent.iterdir())


SCRIPTS = [file for folder in ("tools", "examples") for file in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_scripts_import_names_that_are_there(file):
    for name in imports(file):
        if name.split(".")[0] == "keras2gp" and name not in MODULES:
            module, _, wanted = name.rpartition(".")
            assert module in MODULES, f"{name}: there is no {module}"
            lazy = module == "keras2gp" and wanted in (PACKAGE / "__init__.py").read_text()
            assert lazy or wanted in names_of(MODULES[module]), f"{module} has no {wanted}"


@pytest.mark.parametrize("statement", [
    "import keras2gp", "import keras2gp.errors", "from keras2gp.graph import GraphBuilder",
    "import keras2gp; dir(keras2gp); keras2gp.__version__",
])  # fmt: skip
def test_importing_is_light(statement):
    heavy = sorted(HEAVY)
    check = f"{statement}; import sys; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(  # noqa: S603 (this interpreter, texts from above)
        [sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.strip() == "[]"


def test_public_names():
    import keras2gp

    assert keras2gp.__all__ == sorted(keras2gp.__all__)
    with pytest.raises(AttributeError):
        _ = keras2gp.nothing_of_this_name
    for name in keras2gp.__all__:
        assert getattr(keras2gp, name) is not None
