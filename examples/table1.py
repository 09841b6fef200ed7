"""The paper's Table 1 with any number of training images, and the learning curve below it.

python examples/table1.py --data tfds:mnist --train 10000 --test 10000 --out table1

The paper trains on 50 000 images of MNIST, validates on 10 000 others and tests on 10 000. Here
the validation images are train / 5, or --validation, the next ones of the training split; with 0
of them their share of the cross matrix is saved. All kernels are stored in --out, and the same
command goes on where it was interrupted; times add up over all of its runs.
A kernel matrix of N images holds those of N/2, N/4, ... as its corners: the learning curve costs
the solutions, and no kernel entry is computed twice.

It writes table1.json, table1.md and, where matplotlib is installed, table1.png.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import time
import warnings
from pathlib import Path

import keras
import numpy as np

import keras2gp
from keras2gp import data, zoo
from keras2gp.gp import JitterWarning, metrics
from keras2gp.plots.learning import learning_curve
from keras2gp.plots.style import save

PAPER = {
    "nngp": ("NNGP (fully connected)", None, 0.0121),
    "convnet": ("ConvNet GP", 0.0071, 0.0103),
    "residual-cnn": ("Residual CNN GP", 0.0072, 0.0096),
    "resnet32": ("ResNet GP", 0.0068, 0.0084),
}
"""Name, and the paper's validation and test errors after 50 000 images; NNGP is of Lee et al."""
PAPER_TRAIN = 50_000
HALVINGS = 5
FITTED_POINTS = 4
BATCH = 2000
"""Rows of the cross matrix in memory at once."""

TITLE = "# {data}: {train} training, {validation} validation and {test} test images"
NOTES = f"""\
The fit is error = a N^-b, by weighted least squares on the logarithms of the last {FITTED_POINTS}
points; its range knows of counting errors alone. Times are wall times over all runs, compilation
included. Jitter, relative to the mean diagonal: {{jitter}}."""


def fully_connected(input_shape, classes):
    """The baseline without convolutions: three hidden ReLU layers, w2 = 2, b2 = 0.1; ours."""
    image = x = keras.Input(input_shape)
    x = keras.layers.Flatten()(x)
    weight = keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")
    bias = keras.initializers.RandomNormal(stddev=0.1**0.5)
    prior = {"kernel_initializer": weight, "bias_initializer": bias}
    for _ in range(3):
        x = keras.layers.Dense(16, activation="relu", **prior)(x)
    return keras.Model(image, keras.layers.Dense(classes, **prior)(x), name="nngp")


class Record:
    """table1.json: settings, times and results, replaced whole after every step."""

    def __init__(self, folder, settings):
        self.path = folder / "table1.json"
        self.data = {"settings": settings, "rows": {}}
        if self.path.exists():
            self.data = json.loads(self.path.read_text())
            if self.data["settings"] != settings:
                raise SystemExit(
                    f"{self.path} is of another run, {self.data['settings']}; this one would be "
                    f"{settings}. Try: another --out"
                )

    def row(self, name):
        """The results of one network so far."""
        row = self.data["rows"].setdefault(name, {"seconds": {}, "points": {}})
        row["title"], _, row["paper_test_error"] = PAPER[name]
        return row

    def write(self):
        """Replace the file in one step: a kill leaves the old one or the new one."""
        temporary = self.path.with_suffix(".json.part")
        temporary.write_text(json.dumps(self.data, indent=2) + "\n")
        temporary.replace(self.path)


class Clock:
    """Called by keras2gp.gram after each block: the time of one matrix, over all runs."""

    def __init__(self, record, row, part):
        self.record, self.row, self.part = record, row, part
        self.began, self.before, self.idle = time.perf_counter(), None, False

    def __call__(self, done, total):
        """Pairs that are there, and pairs in all; the first call is for what was there before."""
        if self.before is None:
            if done == 0:  # a new store: what was computed from an older one no longer counts
                self.row["seconds"].pop(self.part, None)
                self.row["points"].clear()
            self.before = self.row["seconds"].get(self.part, 0.0)
            self.idle = done == total
        if not self.idle:
            self.row["seconds"][self.part] = self.before + time.perf_counter() - self.began
            self.record.write()


def split(source, train, test, validation, download):
    """Images to train, validate and test on, and their labels; by default as the paper's."""
    validation = max(train // 5, 1) if validation is None else validation
    rows = data.load(source, download=download).split(train + validation, test)
    x = np.concatenate([rows.x_train, rows.x_test])
    shape = x.shape[1:] if x.ndim == 4 else (*x.shape[1:], 1)
    images, _ = data.prepare_images(x, model_rescales=False, sample_shape=shape)
    labels = np.concatenate([rows.y_train, rows.y_test])
    ends = [train, train + validation]
    return np.split(images, ends), np.split(labels, ends)


def matrices(name, images, labels, folder, record):
    """The kernels of one network as stores: of the training images, and of the others with them."""
    classes = len(np.unique(labels[0]))
    shape = images[0].shape[1:]
    build = zoo.ZOO.get(name, fully_connected)
    kernel = keras2gp.convert(build(shape, classes))
    row = record.row(name)
    train, *others = images
    k = keras2gp.gram(
        kernel, train, out=folder / f"{name}-train.zarr", progress=Clock(record, row, "kernel")
    )
    cross = keras2gp.gram(
        kernel,
        np.concatenate(others),
        train,
        out=folder / f"{name}-cross.zarr",
        progress=Clock(record, row, "cross"),
    )
    return k, cross


def solve(k, cross, labels, count):
    """Errors after the first `count` training images, from the corners of the kernel matrices.

    And how good and how honest the probabilities of the test images are, unless some of their
    classes are not among the training images.
    """
    train, validation, test = labels
    began = time.perf_counter()
    # The paper's regression, and one temperature, as in the documented table.
    classifier = keras2gp.GPClassifier(
        "precomputed", noise_variance=0.0, probabilities="temperature", intercept=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JitterWarning)  # it is in the table
        # All of a store is read block by block; a smaller corner is an array in memory.
        corner = k if count == len(train) else k[:count, :count]
        classifier.fit(None, train[:count], gram=corner)
    fitted = time.perf_counter()
    starts = range(0, cross.shape[0], BATCH)
    p = np.concatenate([classifier.predict_proba(cross[i : i + BATCH, :count]) for i in starts])
    wrong = classifier.classes_[p.argmax(axis=1)] != np.concatenate([validation, test])
    measured = {}
    if np.isin(test, classifier.classes_).all():
        told = p[len(validation) :]
        by_class = (test, told, classifier.classes_)
        measured = {
            "negative_log_likelihood": metrics.negative_log_likelihood(*by_class),
            "calibration_error": metrics.expected_calibration_error(*by_class),
            "calibration_error_by_chance": metrics.calibration_error_by_chance(told),
        }
    if len(validation):
        measured["validation_error"] = float(wrong[: len(validation)].mean())
    return measured | {
        "test_error": float(wrong[len(validation) :].mean()),
        "wrong_tests": int(wrong[len(validation) :].sum()),
        "jitter": classifier.jitter_report_.jitter,
        "solve_seconds": fitted - began,
        "predict_seconds": time.perf_counter() - fitted,
    }


def curve_sizes(labels):
    """N, N/2, ... N/32, smallest first; without those that hold a single class."""
    total = len(labels)
    sizes = {total >> i for i in range(HALVINGS + 1)}
    return sorted(n for n in sizes if len(np.unique(labels[:n])) > 1)


def extrapolate(points, target=PAPER_TRAIN):
    """The test error at `target` images by error = a N^-b, and b; None where it cannot be fitted.

    Least squares on the logarithms of the last points that have errors, each with the weight of a
    Poisson count: the variance of log(k) is about 1 / k. The range is that of one standard error
    of the fit; it knows of the counts, and not of a curve that bends, nor that all points share
    their test images.
    """
    known = sorted((int(n), p) for n, p in points.items() if p["wrong_tests"])[-FITTED_POINTS:]
    if len(known) < 2:
        return None
    sizes = np.array([n for n, _ in known])
    errors = np.array([p["test_error"] for _, p in known])
    weights = np.sqrt([p["wrong_tests"] for _, p in known])
    line, covariance = np.polyfit(np.log(sizes), np.log(errors), 1, w=weights, cov="unscaled")
    at = np.array([np.log(target), 1.0])
    middle, spread = at @ line, np.sqrt(at @ covariance @ at)
    low, error, high = np.exp([middle - spread, middle, middle + spread])
    return {
        "train": target,
        "error": float(error),
        "low": float(low),
        "high": float(high),
        "exponent": float(-line[0]),
        "factor": float(np.exp(line[1])),
        "fitted_to": sizes.tolist(),
    }


def as_markdown(record):
    """The table, the learning curve, and how the extrapolation was made."""
    settings, rows = record.data["settings"], record.data["rows"]
    whole = str(settings["train"])
    done = {name: row for name, row in rows.items() if whole in row["points"]}
    heads = [
        "network",
        "validation error",
        "test error",
        f"fit at {PAPER_TRAIN} (one standard error)",
        f"paper, MNIST, {PAPER_TRAIN}: validation",
        "paper: test",
        "NLL",
        "calibration error (by chance)",
        "kernel matrix",
        "cross matrix",
        "solve",
        "predict",
    ]
    lines = [TITLE.format(**settings), "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in done.items():
        title, validation, test = PAPER[name]
        point, seconds, fit = row["points"][whole], row["seconds"], row["extrapolation"]
        guess = f"{fit['error']:.2%} ({fit['low']:.2%} to {fit['high']:.2%})" if fit else ""
        times = [seconds["kernel"], seconds["cross"], point["solve_seconds"]]
        cells = [
            title,
            f"{point['validation_error']:.2%}" if "validation_error" in point else "",
            f"{point['test_error']:.2%}",
            guess,
            f"{validation:.2%}" if validation else "",
            f"{test:.2%}",
            *honesty(point),
            *(f"{t:.1f} s" for t in [*times, point["predict_seconds"]]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    sizes = sorted({int(n) for row in done.values() for n in row["points"]})
    lines += ["", "Test error after the first images:", "", f"| images | {' | '.join(done)} |"]
    lines.append("|---" * (len(done) + 1) + "|")
    for n in sizes:
        errors = [f"{row['points'][str(n)]['test_error']:.2%}" for row in done.values()]
        lines.append(f"| {n} | {' | '.join(errors)} |")
    jitters = {name: row["points"][whole]["jitter"] for name, row in done.items()}
    needed = ", ".join(f"{name} {jitter:g}" for name, jitter in jitters.items() if jitter)
    return "\n".join([*lines, "", NOTES.format(jitter=needed or "none was needed"), ""])


def honesty(point):
    """Cells on the probabilities of test images; empty where `solve` has measured none."""
    if "calibration_error" not in point:
        return ["", ""]
    error, chance = point["calibration_error"], point["calibration_error_by_chance"]
    return [f"{point['negative_log_likelihood']:.4f}", f"{error:.2%} ({chance:.2%})"]


def draw(record, path):
    """The learning curve, where the extra `plot` is installed."""
    if importlib.util.find_spec("matplotlib"):
        save(learning_curve(record.data), path)


def main(argv=None):
    """Fill in the table row by row; returns the largest test error in it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", default="sample", help="sample, tfds:mnist, a .npz, a folder")
    parser.add_argument("--train", type=int, default=1000, metavar="N")
    parser.add_argument("--test", type=int, default=1000, metavar="M")
    parser.add_argument("--validation", type=int, metavar="V", help="default: N / 5")
    parser.add_argument("--out", type=Path, default=Path("table1"), metavar="DIR")
    parser.add_argument("--rows", nargs="+", choices=PAPER, default=list(PAPER), metavar="ROW")
    parser.add_argument("--download", action="store_true", help="let tfds fetch the data")
    options = parser.parse_args(argv)
    if options.validation is not None and options.validation < 0:
        parser.error(f"--validation {options.validation}: expected 0 or more")
    counts = options.train, options.test, options.validation
    images, labels = split(options.data, *counts, options.download)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {
        "data": options.data,
        "train": len(images[0]),
        "validation": len(images[1]),
        "test": len(images[2]),
        "labels_sha256": hashlib.sha256(repr(np.concatenate(labels).tolist()).encode()).hexdigest(),
    }
    record = Record(options.out, settings)
    for name in options.rows:
        k, cross = matrices(name, images, labels, options.out, record)
        row = record.row(name)
        for count in curve_sizes(labels[0]):
            if str(count) not in row["points"]:
                row["points"][str(count)] = point = solve(k, cross, labels, count)
                print(f"{PAPER[name][0]}: {point['test_error']:.2%} after {count} images")
                row["extrapolation"] = extrapolate(row["points"])
                record.write()
        (options.out / "table1.md").write_text(as_markdown(record))
        draw(record, options.out / "table1.png")
    print(as_markdown(record))
    whole = str(settings["train"])
    return max(record.row(name)["points"][whole]["test_error"] for name in options.rows)


if __name__ == "__main__":
    main()
