"""The architecture's import directions, read from the files; and that importing is light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras2gp"
FRONT = {"translate", "persistence"}
PARTS = {
    "errors": set(),
    "graph": {"errors"},
    "report": {"errors", "graph"},
    "frontend": {"errors", "graph", "report"},
    "rules": {"errors", "graph"},
    "engine": {"errors", "graph", "rules"},
    "inputs": {"errors"},
    "kernel": {"errors", "engine", "graph", "inputs", "persistence", "report", "rules"},
    "persistence": {
        "errors", "exported", "frontend", "engine", "graph", "inputs", "kernel", "report", "rules",
        "staging",
    },
    "staging": set(),
    "exported": {"engine", "kernel", "rules"},
    "serving": {"errors", "exported", "gp", "kernel", "staging", "tensors"},
    "tensors": {"gp"},
    "translate": {
        "errors", "frontend", "engine", "graph", "inputs", "kernel", "report", "rules",
    },
    "verification": {
        "errors", "frontend", "engine", "graph", "inputs", "kernel", "rules", "translate",
    },
    "gp": {"errors"},
    "adapters": {"errors", "gp"},
    "datafiles": {"errors"},
    "data": {"errors", "datafiles"},
    "zoo": {"errors"},
    "search": {"errors", "engine", "gp", "graph", "kernel", "quiet", "translate"},
    "plots": {"errors"},
    "quiet": set(),
    "__main__": {"cli"},
}  # fmt: skip
"""What each part may import of the others. The front (cli, __init__) may import anything."""
HEAVY = {"tensorflow", "keras", "sklearn", "scipy", "tensorflow_datasets"}
WITHOUT = {
    "graph": HEAVY | {"numpy"},
    "errors": HEAVY | {"numpy"},
    "report": HEAVY,
    "rules": {"keras", "sklearn", "scipy", "tensorflow_datasets"},
    "engine": {"keras", "sklearn", "tensorflow_datasets"},
    "gp": {"keras", "tensorflow_datasets"},
    "verification": {"sklearn", "tensorflow_datasets"},
    "inputs": HEAVY,
    "plots": HEAVY,
}
"""Libraries that a part does without, at any depth of its code."""


def part_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file):
    """Dotted names that a file imports outside of `if TYPE_CHECKING`, wherever they stand."""
    tree = ast.parse(file.read_text())
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_imports_point_inwards(file):
    part = part_of(file)
    for name in imports(file):
        top, *rest = name.split(".")
        assert top not in WITHOUT.get(part, ()), f"{part} imports {name}"
        if top == "keras2gp" and part in PARTS:
            target = rest[0] if rest else "__init__"
            known = target in {part, "__version__", *PARTS[part]}
            assert known, f"{part} imports {name}"


OPS = ("keras2gp.graph.ops.", "keras2gp.graph.features.", "keras2gp.graph.mixing.")
WALKS = {"program.py", "walk.py", "moments.py", "mixing.py", "expansion.py"}
"""The forward pass, and what is prepared for it, read the graph itself."""


def test_the_equations_know_the_ops_of_a_graph_and_no_more():
    for file in (PACKAGE / "rules").rglob("*.py"):
        if file.name not in WALKS:
            used = {n for n in imports(file) if n.startswith("keras2gp.graph")}
            assert all(n.startswith(OPS) for n in used), file.name


def test_every_part_has_its_place():
    parts = {part_of(file) for file in FILES} - {"__init__", "cli", "sample"}
    assert parts <= set(PARTS), "a new part: write into PARTS what it may import"


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
