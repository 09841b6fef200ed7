"""Every command of the guides is run, in the order of its page, in a folder with small data.

Models, data and results of earlier pages are stand-ins, but for pages whose Python blocks write
what their commands read. Numbers of rows are cut to FEWEST.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import chdir

import keras
import numpy as np
import pytest
from test_docs import PAGES, blocks, name_of, program_lines

from keras2gp.data import Dataset

pytestmark = pytest.mark.slow

FEWEST = {
    "--train": 60, "--rows": 60, "--validation": 30, "--test": 30, "--rank": 20, "--limit": 5,
}  # fmt: skip
"""Numbers that are cut, by option."""
TRIALS = 2
"""Samples of a random search."""
INSTEAD = {
    "tfds:mnist": "sample", "tfds:fashion_mnist": "negatives.npz", "MODEL": "my_model.keras",
    "DATA": "my_data.npz", "FIT": "many",
}  # fmt: skip
"""Data and names that stand for the reader's own."""
ELSEWHERE = {
    "docs/guide/clusters.md": "it takes the address of a cluster; tests/matrices/test_dask_workers",
    "docs/notebooks/fashion.md": "its folder is the notebook's; tools/notebooks.py runs it",
}
"""Pages whose commands are run by other means, or by none, and why."""
WRITTEN = ("README.md", "docs/start/five-minutes.md")
"""Pages whose Python blocks write the models and data of their commands."""


def network(size, flexible=False):
    shape = (None, None, 1) if flexible else (size, size, 1)
    end = keras.layers.GlobalAveragePooling2D() if flexible else keras.layers.Flatten()
    convolution = keras.layers.Conv2D(8, 3, strides=size // 4, activation="relu")
    return keras.Sequential([keras.Input(shape), convolution, end, keras.layers.Dense(3)])


OWN = """
import keras

SPACE = {"units": [16, 64]}


def build(settings):
    hidden = keras.layers.Dense(settings["units"], "relu")
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), hidden]
    return keras.Sequential([*layers, keras.layers.Dense(3)])
"""


def prepare(folder, page):
    """The files that a reader has, or has made on an earlier page."""
    pytest.importorskip("PIL")
    from PIL import Image

    import keras2gp
    from keras2gp.data import load

    flexible = name_of(page) == "docs/guide/own-model.md"
    network(8, flexible).save("my_model.keras")
    network(28).save("model.keras")
    keras2gp.convert(network(8)).save("my_kernel")
    digits = load("sample")
    images, labels = digits.x_train[:200, 2:26:3, 2:26:3], digits.y_train[:200] % 3
    np.savez("my_data.npz", x=images, y=labels)
    np.savez("new_images.npz", x=images[:20])
    (folder / "new_images").mkdir()
    for number, image in enumerate(images[:6]):
        Image.fromarray(np.asarray(image)[..., 0]).save(folder / "new_images" / f"{number}.png")
    (folder / "own.py").write_text(OWN)
    sides = [keras.Input((None, None, 1), name=side) for side in ("left", "right")]
    ends = [keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x)) for x in sides]
    joined = keras.layers.Dense(3)(keras.layers.Concatenate()(ends))
    keras.Model(sides, joined).save("two_inputs.keras")
    classifier = keras2gp.GPClassifier(keras2gp.convert(network(28)), noise_variance=0.1)
    classifier.fit(digits.x_train[:60] / 255.0, digits.y_train[:60]).save("fitted")
    np.savez("negatives.npz", x=255 - digits.x_test[:60], y=digits.y_test[:60])
    for block in blocks(page, "toml"):
        settings = block.replace("tfds:fashion_mnist", "sample").replace("download = true\n", "")
        for option, most in FEWEST.items():
            name = option.removeprefix("--")
            settings = re.sub(rf"(?m)^{name} = \d+", f"{name} = {most}", settings)
        (folder / "run.toml").write_text(settings)


def smaller(words):
    """The words of a command with fewer rows, and with data that is there."""
    cut = [INSTEAD.get(word, word) for word in words]
    for at, word in enumerate(cut[:-1]):
        most = TRIALS if (cut[0], word) == ("search", "--samples") else FEWEST.get(word)
        if most is not None and cut[at + 1].isdecimal():
            cut[at + 1] = str(min(int(cut[at + 1]), most))
    return cut


def with_commands():
    for page in PAGES:
        name = name_of(page)
        guides = name == "README.md" or name.startswith(("docs/start/", "docs/guide/", "docs/how/"))
        lines = [words for words in program_lines(page) if words != ["demo"]]
        if guides and lines and name not in ELSEWHERE:
            yield pytest.param(page, lines, id=name)


@pytest.mark.parametrize(("page", "commands"), list(with_commands()))
def test_commands_of_a_page_run(page, commands, tmp_path, monkeypatch):
    whole = Dataset.split
    few = lambda d, *counts: whole(d, *(min(n, 60) for n in counts))  # noqa: E731
    monkeypatch.setattr(Dataset, "split", few)
    with chdir(tmp_path):
        prepare(tmp_path, page)
        keras.utils.clear_session()  # a page's layers are the first of their kind
        names = {"__name__": "__main__"}
        for block in blocks(page, "python") if name_of(page) in WRITTEN else ():
            exec(block, names)  # noqa: S102 (our own text)
        failed = []
        for words in map(smaller, commands):
            run = subprocess.run(  # noqa: S603 (our own text)
                [sys.executable, "-m", "keras2gp", *words],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
            if run.returncode:
                failed.append(f"keras2gp {' '.join(words)}\n{run.returncode}: {run.stderr[-600:]}")
    assert not failed, "\n".join(failed)
