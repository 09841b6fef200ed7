"""What the paper leaves open: pooling, tangent kernels, chosen noise and calibrated probabilities.

python examples/beyond_table1.py --data tfds:mnist --train 2000 --test 10000 --out beyond

Each network of the paper's table ends as in the paper, in a dense layer that has weights of its own
for each position, or in an average of windows or of all positions before it. Each has the kernel of
the network at its initial weights (NNGP), or that of its training (NTK). To each kernel matrix a
classifier is fitted in four ways, each of which has one thing more than the one before it.

Kernels are stored in --out, and the same command goes on where it was interrupted. It writes
beyond.json and prints the table.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

import keras2gp
from keras2gp import data, zoo
from keras2gp.gp import JitterWarning, metrics

NETWORKS = {"convnet": "ConvNet GP", "residual-cnn": "Residual CNN GP", "resnet32": "ResNet GP"}
ENDS = "flatten", "windows", "average"
PAPER = {"noise_variance": 0.0, "intercept": 0, "probabilities": "temperature"}
HEADS = {
    "paper": PAPER,
    "noise chosen": PAPER | {"noise_variance": "auto"},
    "and calibrated": PAPER | {"noise_variance": "auto", "probabilities": "linear"},
    "and intercept": {"noise_variance": "auto", "probabilities": "linear", "intercept": "auto"},
}
"""The paper's regression, and what the defaults add to it."""


class Rows(NamedTuple):
    """Images to train and test on, and their labels."""

    x_train: Any
    y_train: Any
    x_test: Any
    y_test: Any


def images_and_labels(source, train, test):
    """The first images of a data set, in [0, 1], and their labels."""
    rows = data.load(source).split(train, test)
    x = np.concatenate([rows.x_train, rows.x_test])
    shape = x.shape[1:] if x.ndim == 4 else (*x.shape[1:], 1)
    images, _ = data.prepare_images(x, model_rescales=False, sample_shape=shape)
    return Rows(images[:train], rows.y_train, images[train:], rows.y_test)


def network(name, end, shape, classes):
    """The paper's network with another end between its last activation and its dense layer."""
    whole = zoo.ZOO[name](shape, classes)
    flatten, dense = whole.layers[-2:]
    x = flatten.input
    if end == "windows":
        x = keras.layers.AveragePooling2D(7)(x)
    x = keras.layers.GlobalAveragePooling2D()(x) if end == "average" else keras.layers.Flatten()(x)
    return keras.Model(whole.input, keras.layers.Dense.from_config(dense.get_config())(x))


def matrices(name, end, kind, rows, folder):
    """Kernel matrices of the training images, a store, and of the test images with them."""
    shape = rows.x_train.shape[1:]
    classes = len(np.unique(rows.y_train))
    kernel = keras2gp.convert(network(name, end, shape, classes), kind=kind)
    stores = [folder / f"{name}-{end}-{kind}-{part}.zarr" for part in ("train", "test")]
    k = keras2gp.gram(kernel, rows.x_train, out=stores[0])
    return k, keras2gp.gram(kernel, rows.x_test, rows.x_train, out=stores[1])[:, :]


def measure(k, cross, rows, settings):
    """Test error, negative log likelihood, calibration error, and what was chosen."""
    classifier = keras2gp.GPClassifier("precomputed", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JitterWarning)  # it is in the record
        classifier.fit(None, rows.y_train, gram=k, progress=False)
    told = rows.y_test, classifier.predict_proba(cross), classifier.classes_
    labels = classifier.predict(cross)
    return {
        "error": float((labels != rows.y_test).mean()),
        "nll": metrics.negative_log_likelihood(*told),
        "calibration": metrics.expected_calibration_error(*told),
        "noise": float(classifier.noise_variance_),
        "intercept": classifier.intercept_,
        "jitter": classifier.jitter_report_.jitter,
    }


def as_markdown(record):
    """Test error and negative log likelihood of every kernel and head."""
    lines = [
        f"| network | end | kernel | {' | '.join(HEADS)} |",
        "|---" * (3 + len(HEADS)) + "|",
    ]
    for key, heads in record.items():
        name, end, kind = key.split(" ")
        cells = [f"{heads[h]['error']:.2%}, {heads[h]['nll']:.4f}" for h in HEADS]
        lines.append(f"| {NETWORKS[name]} | {end} | {kind} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Test error, negative log likelihood."])


def main(argv=None):
    """Fill the table in; returns its largest test error with the paper's head."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", default="sample", help="sample, tfds:mnist, a .npz, a folder")
    parser.add_argument("--train", type=int, default=500, metavar="N")
    parser.add_argument("--test", type=int, default=500, metavar="M")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--ends", nargs="+", choices=ENDS, default=["flatten"])
    parser.add_argument("--kinds", nargs="+", choices=["nngp", "ntk"], default=["nngp", "ntk"])
    parser.add_argument("--out", type=Path, default=Path("beyond"), metavar="DIR")
    options = parser.parse_args(argv)
    rows = images_and_labels(options.data, options.train, options.test)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "beyond.json"
    settings = {name: getattr(options, name) for name in ("data", "train", "test")}
    kept = json.loads(path.read_text()) if path.exists() else {"settings": settings, "table": {}}
    if kept.get("settings") != settings:
        parser.error(f"{path} is of {kept.get('settings')}. Try: another --out")
    record = kept["table"]
    for name in options.networks:
        for end in options.ends:
            for kind in options.kinds:
                k, cross = matrices(name, end, kind, rows, options.out)
                key = f"{name} {end} {kind}"
                record[key] = {head: measure(k, cross, rows, s) for head, s in HEADS.items()}
                path.write_text(json.dumps(kept, indent=2) + "\n")
                print(f"{key}: {record[key]['paper']['error']:.2%}", flush=True)
    print(as_markdown(record))
    return max(heads["paper"]["error"] for heads in record.values())


if __name__ == "__main__":
    main()
