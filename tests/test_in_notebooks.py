"""Bars, pictures and tables in a notebook, run by a Jupyter kernel."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

BAR = """
import time
from keras2gp._util import progress_bar
from keras2gp._util.progress import stage

progress_bar._PATIENCE = 0.0
progress_bar._NOTEBOOK_REFRESH = 0.05
with stage("a <b>long</b> step") as advance:
    advance(1, 2)
    time.sleep(0.5)
print("done")
"""
FIGURE = """
from keras2gp import plots
plots.confusion_matrix(["cat", "dog"], ["cat", "cat"])
"""
KERNEL = """
import keras2gp, keras
kernel = keras2gp.convert(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")]))
kernel / 2.0 + kernel
"""


class Watched(nbclient.NotebookClient):
    """Runs cells, and keeps the HTML of every display in its order."""

    def __init__(self, notebook):
        super().__init__(notebook, timeout=120)
        self.shown = []

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in ("display_data", "update_display_data"):
            self.shown.append(msg["content"]["data"]["text/html"])
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def client():
    cells = [nbformat.v4.new_code_cell(source) for source in (BAR, FIGURE, KERNEL)]
    client = Watched(nbformat.v4.new_notebook(cells=cells))
    client.execute()
    return client


def test_a_bar_that_is_gone_at_the_end(client):
    assert len(client.shown) > 3
    for picture in client.shown[:-1]:
        assert "a &lt;b&gt;long&lt;/b&gt; step <progress" in picture
    assert '<progress value="1" max="2"></progress> 50%' in client.shown[-2]
    assert client.shown[-1] == ""
    display, printed = client.nb.cells[0].outputs
    assert display.data["text/html"] == ""
    assert printed.text == "done\n"


def test_a_figure_is_a_picture(client):
    (output,) = client.nb.cells[1].outputs
    assert len(output.data["image/png"]) > 1000


def test_a_sum_of_kernels_is_a_table(client):
    (output,) = client.nb.cells[2].outputs
    assert "1.out" in output.data["text/html"]
    assert "2.out" in output.data["text/html"]
