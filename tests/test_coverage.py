"""docs/coverage.md: every model has a row, and rows can be made again."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from keras import applications

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "coverage.md").read_text()
ROW = re.compile(
    r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| (exact|average pooling|refused) \|", re.MULTILINE
)
KINDS = dict(ROW.findall(TEXT))
AVERAGED = ("VGG", "DenseNet", "InceptionV3", "Xception", "NASNet")


BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(1, len(BLOCKS)))
def test_examples_convert_as_they_stand(number, monkeypatch):
    """Each defines a kernel, and `convert` refuses what has none."""
    keras.utils.clear_session()
    imports, _, _ = BLOCKS[0].partition("\n\nx = ")
    names = {}
    exec(imports + "\n" + BLOCKS[number], names)  # noqa: S102 (our own text)
    assert names["kernel"].report.exact


def test_the_text_is_written_by_the_tool(monkeypatch):
    """Edits by hand would be lost when the page is written again."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from covering.page import applications_in, page
    from covering.verified import rows_in

    assert page(applications_in(TEXT), rows_in(TEXT)) == TEXT


def test_the_example_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(BLOCKS[0], names)  # noqa: S102 (our own text)
    assert names["kernel"].report.prior == "weights"


def check(*models):
    command = [sys.executable, str(ROOT / "tools" / "coverage.py"), "--check", "--models", *models]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)  # noqa: S603


def expected(name):
    if name.startswith("ConvNeXt"):
        return "exact"
    version_2 = name.startswith("ResNet") and name.endswith("V2")
    return "average pooling" if name.startswith(AVERAGED) or version_2 else "refused"


def test_every_model_has_a_row():
    models = {name for name in dir(applications) if name[0].isupper()}
    assert {name: expected(name) for name in models} == KINDS


def test_rows_are_made_again():
    done = check("ConvNeXtTiny", "MobileNet", "VGG16", "ResNet50")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(" s\n") == 4


@pytest.mark.slow
def test_every_row_is_made_again():
    done = check(*KINDS)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_such_model():
    done = check("LeNet")
    assert done.returncode == 2
    assert "LeNet" in done.stderr
