"""A tiny model and tiny data for the command line, and ways to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras2gp.cli.main import main

CLASSES = np.array(["cat", "dog", "owl"])


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """tiny.keras, tiny.json, pooled.keras (not convertible), data.npz, images.npz, real.npz."""
    folder = tmp_path_factory.mktemp("cli")
    layers = keras.layers
    he = "he_normal"
    tiny = [
        keras.Input((6, 6, 1)),
        layers.Conv2D(4, 3, activation="relu", kernel_initializer=he, name="conv"),
        layers.Flatten(name="flatten"),
        layers.Dense(3, activation="softmax", kernel_initializer=he, name="head"),
    ]
    model = keras.Sequential(tiny, name="tiny")
    model.save(folder / "tiny.keras")
    (folder / "tiny.json").write_text(model.to_json())
    pooled = [keras.Input((6, 6, 1)), layers.Conv2D(4, 3, name="[red]conv\x1b[31m")]
    pooled += [layers.MaxPooling2D(name="pool"), layers.Flatten(), layers.Dense(3)]
    keras.Sequential(pooled, name="pooled").save(folder / "pooled.keras")

    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    x = rng.normal(60, 30, (120, 6, 6, 1)) + 50 * y[:, None, None, None]
    x = x.clip(0, 255).astype(np.uint8)
    np.savez(folder / "data.npz", x=x, y=CLASSES[y])
    np.savez(folder / "images.npz", x=x[100:])
    np.savez(folder / "real.npz", x=x / 255.0, y=1.5 * y)
    np.savez(folder / "copy.npz", x=x[:30], y=CLASSES[y[:30]])
    return folder


@pytest.fixture(scope="session")
def fitted(files):
    """A fit of tiny.keras to the first 80 rows of data.npz. Not to be changed."""
    out = files / "fitted"
    arguments = ["fit", files / "tiny.keras", "--data", files / "data.npz", "--train", "80"]
    assert main([str(a) for a in [*arguments, "--out", out, "--noise-variance", "0.1"]]) == 0
    return out


@pytest.fixture
def run(capsys):
    """Run a command in this process: (exit code, stdout, stderr), lines as long as they are."""

    def runner(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return runner


@pytest.fixture
def run_json(run):
    """Run a command with --json: (exit code, document). Anything else on stdout fails."""

    def runner(*arguments):
        code, out, err = run(*arguments, "--json")
        assert not err
        return code, json.loads(out)

    return runner


@pytest.fixture(scope="session")
def spawn():
    """Run Python in a process of its own, as a shell would start it."""

    def runner(*arguments, **options):
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root), **options.pop("env", {})}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
        command = [sys.executable, *map(str, arguments)]
        settings = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run(command, env=environment, check=False, **settings)  # noqa: S603

    return runner
