"""Do the X-ray's differences agree with training? Variants of small networks on digits or garments.

Every variant is trained with Adam from several seeds, until its error on validation rows stops
falling, and its mean test error stands beside the leave-one-out error of its Gaussian process on
the same training rows. Two things are printed with their uncertainty: the rank correlation of both
errors over the variants, and how often a difference that the X-ray finds (corrected for the number
of comparisons) has the sign of the trained one.

    python tools/xray_study.py --rows 2000 --seeds 3 --out study
    python tools/xray_study.py --data tfds:fashion_mnist --rows 2000 --seeds 3 --out fashion-study
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from scipy.stats import beta, spearmanr

from keras2gp._util.files import write_file
from keras2gp.data import load
from keras2gp.xrays.arguments import XRaySettings
from keras2gp.xrays.measuring.comparisons import differences
from keras2gp.xrays.measuring.scores import Scores, score_kernel
from keras2gp.xrays.reporting.findings import sample_of
from keras2gp.xrays.rows import ScoredTargets, draw_halves
from keras2gp.xrays.running.run import XRayRun
from keras2gp.xrays.variants.subject import Variant

HE = "he_normal"
DRAWS = 2000
PATIENCE = 5
"""Epochs without a smaller validation error, after which training stops."""
SETTINGS = ("data", "rows", "validation", "test", "epochs", "width", "subsets")
"""Options on which results depend that are kept; others may change when a run goes on."""
CLEAR = 2.0
"""Standard errors from 0 of a trained difference that is called clear."""


def residual(width: int) -> Any:
    """Two residual blocks, a pooling, and a hidden dense layer; images of 14 x 14."""
    x = image = keras.Input((14, 14, 1))
    x = layers.Conv2D(width, 4, 3, kernel_initializer=HE, name="stem")(x)
    for i in (1, 2):
        y = layers.Activation("relu", name=f"relu{i}")(x)
        y = layers.Conv2D(width, 3, padding="same", kernel_initializer=HE, name=f"conv{i}")(y)
        x = layers.Add(name=f"add{i}")([x, y])
    x = layers.Activation("relu", name="relu3")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    return _headed(image, x, width, "residual")


def plain(width: int) -> Any:
    """Four convolutions and a hidden dense layer, without skips or pooling."""
    x = image = keras.Input((14, 14, 1))
    for i in range(4):
        settings = {"strides": 2 if i in (0, 2) else 1, "padding": "same", "name": f"conv{i}"}
        x = layers.Conv2D(width, 3, kernel_initializer=HE, **settings)(x)
        x = layers.Activation("relu", name=f"relu{i}")(x)
    return _headed(image, x, width, "plain")


def dense(width: int) -> Any:
    """Three hidden dense layers."""
    x = image = keras.Input((14, 14, 1))
    x = layers.Flatten(name="pixels")(x)
    for i in range(2):
        x = layers.Dense(8 * width, kernel_initializer=HE, name=f"dense{i}")(x)
        x = layers.Activation("relu", name=f"relu{i}")(x)
    return _headed(image, x, width, "dense")


def _headed(image: Any, x: Any, width: int, name: str) -> Any:
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(4 * width, kernel_initializer=HE, name="hidden")(x)
    x = layers.Activation("relu", name="relu")(x)
    return keras.Model(image, layers.Dense(10, name="out")(x), name=name)


NETWORKS: dict[str, Callable[[int], Any]] = {
    "residual": residual,
    "plain": plain,
    "dense": dense,
}


@dataclass(frozen=True, eq=False)
class Data:
    """Images and labels to train on, to stop by, and to test on."""

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]

    @classmethod
    def of(cls, options: argparse.Namespace) -> Data:
        """The first rows of a data set of 28 x 28 pixels, halved."""
        held = load(options.data).split(options.rows + options.validation, options.test)
        x, y = halved(held.x_train), np.asarray(held.y_train)
        train, rest = slice(0, options.rows), slice(options.rows, None)
        test = halved(held.x_test), np.asarray(held.y_test)
        return cls((x[train], y[train]), (x[rest], y[rest]), test)


def halved(x: Any) -> Any:
    """Images of 14 x 14, means of 2 x 2 pixels, from 0 to 1."""
    x = np.asarray(x, np.float32).reshape(len(x), 14, 2, 14, 2).mean(axis=(2, 4))[..., None]
    return x / np.float32(255.0)


def trained(model: Any, data: Data, seed: int, epochs: int) -> dict[str, float]:
    """The test error of a fresh copy of a model at its best validation error, and its epochs."""
    keras.utils.set_random_seed(seed)
    fresh = keras.models.clone_model(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Compilation by XLA would take longer than training.
    fresh.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"], jit_compile=False)
    stop = keras.callbacks.EarlyStopping(
        "val_accuracy", mode="max", patience=PATIENCE, restore_best_weights=True
    )
    settings = {"validation_data": data.validation, "validation_batch_size": 1000}
    run = fresh.fit(
        *data.train, batch_size=64, epochs=epochs, verbose=0, callbacks=[stop], **settings
    )
    labels = fresh.predict(data.test[0], batch_size=1000, verbose=0).argmax(axis=1)
    return {"error": float((labels != data.test[1]).mean()), "epochs": len(run.epoch)}


@dataclass(frozen=True, eq=False)
class Result:
    """A variant, its test errors after training, [seeds], and the scores of its kernel."""

    network: str
    name: str
    errors: Any
    scores: Scores


@dataclass(frozen=True, eq=False)
class Job:
    """A variant that is to be trained and examined."""

    network: str
    variant: Variant
    model: Any
    targets: ScoredTargets

    def done(self, data: Data, options: argparse.Namespace) -> Result:
        """Its result, of which parts that an earlier run has left are read."""
        kernel, name = self.variant.kernel, f"{self.network}-{self.variant.key}"
        assert kernel is not None

        def examine() -> Any:
            subsets = draw_halves(self.targets, options.subsets, 0)
            return score_kernel(kernel.matrix(data.train[0]), self.targets, subsets).state()

        def train(seed: int) -> Any:
            return trained(self.model, data, seed, options.epochs)

        scores = Scores.from_state(kept(options.out / f"{name}.scores.json", examine))
        runs = [
            kept(options.out / f"{name}.seed-{seed}.json", lambda seed=seed: train(seed))
            for seed in range(options.seeds)
        ]
        errors = np.array([run["error"] for run in runs])
        return Result(self.network, self.variant.name, errors, scores)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What an earlier run has left at a path, or what is made now and left there."""
    if not path.exists():
        began = time.perf_counter()
        write_file(path, json.dumps(make()))
        print(f"{path}: {time.perf_counter() - began:.0f} s", flush=True)
    return json.loads(path.read_text())


def jobs_of(data: Data, options: argparse.Namespace) -> list[Job]:
    """The networks as they are, and then all variants of all networks in random order."""
    first, others = [], []
    for network in options.networks.split(","):
        model = NETWORKS[network](options.width)
        settings = {"signal_rows": 0, "most_work": options.most_work}
        kinds = options.kinds and options.kinds.split(",")
        run = XRayRun(model, *data.train, XRaySettings(kinds=kinds, **settings))
        for number, variant in enumerate(run.computed):
            live = model if variant.model is None else variant.model
            (others if number else first).append(Job(network, variant, live, run.targets))
    order = np.random.default_rng(0).permutation(len(others))
    return first + [others[i] for i in order.tolist()]


def results_of(data: Data, options: argparse.Namespace) -> dict[str, list[Result]]:
    """The results by network, of which the network as it is comes first."""
    began = time.monotonic()
    groups: dict[str, list[Result]] = {}
    jobs = jobs_of(data, options)
    for number, job in enumerate(jobs):
        if time.monotonic() - began > 60.0 * options.minutes:
            print(f"{number} of {len(jobs)} variants, in random order, fit into the time")
            break
        groups.setdefault(job.network, []).append(job.done(data, options))
    return groups


def correlation(errors: Any, losses: Any, seed: int = 0) -> dict[str, float]:
    """Spearman's correlation, and a 95% interval by a bootstrap over variants, seeds and rows.

    errors: [variants, seeds], of trained networks
    losses: [variants, rows], of leave-one-out predictions
    """
    rng = np.random.default_rng(seed)
    value = float(spearmanr(errors.mean(axis=1), losses.mean(axis=1)).statistic)
    draws = []
    for _ in range(DRAWS):
        chosen = rng.integers(0, len(errors), len(errors))
        seeds = rng.integers(0, errors.shape[1], errors.shape[1])
        rows = rng.integers(0, losses.shape[1], losses.shape[1])
        one, other = errors[chosen][:, seeds].mean(axis=1), losses[chosen][:, rows].mean(axis=1)
        if np.ptp(one) and np.ptp(other):
            draws.append(float(spearmanr(one, other).statistic))
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"correlation": value, "low": float(low), "high": float(high)}


def verdicts(results: list[Result], measure: str) -> list[tuple[Result, str, float, float]]:
    """Variants, the X-ray's verdicts, and the trained differences with their standard errors."""
    base, others = results[0], results[1:]

    tested = differences([[sample_of(r.scores, base.scores, measure) for r in others]])[0]
    found = []
    for result, difference in zip(others, tested, strict=True):
        spread = result.errors.var(ddof=1) + base.errors.var(ddof=1)
        error = math.sqrt(spread / len(base.errors))
        mean = float(result.errors.mean() - base.errors.mean())
        found.append((result, difference.verdict, mean, error))
    return found


def agreement(judged: list[tuple[Result, str, float, float]]) -> str:
    """How many of the X-ray's differences have the sign of the trained ones, with an interval."""
    lines = []
    for title, needed in (("all", 0.0), (f"clear in training ({CLEAR:g} errors)", CLEAR)):
        held = [
            (verdict == "worse") == (mean > 0.0)
            for _, verdict, mean, error in judged
            if verdict != "no difference" and mean != 0.0 and abs(mean) >= needed * error
        ]
        n, k = len(held), sum(held)
        low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
        high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
        lines.append(f"{title}: {k} of {n} with the same sign [{low:.2f}, {high:.2f}]")
    return "; ".join(lines)


def show(groups: dict[str, list[Result]]) -> None:
    """Print the variants, the correlations, and the agreement."""
    judged: dict[str, list[tuple[Result, str, float, float]]] = {"error": [], "nats": []}
    for network, results in groups.items():
        print(f"\n{network:<28} {'trained':>15} {'left out':>9} {'nats':>7}  verdicts")
        by_measure = {m: verdicts(results, m) for m in judged}
        said = {
            a[0].name: f"{a[1]}, {b[1]}"
            for a, b in zip(by_measure["error"], by_measure["nats"], strict=True)
        }
        for measure in judged:
            judged[measure] += by_measure[measure]
        for r in sorted(results, key=lambda r: float(r.errors.mean())):
            spread = r.errors.std(ddof=1) / math.sqrt(len(r.errors))
            error = f"{100 * r.errors.mean():.2f} ± {100 * spread:.2f}%"
            left, nats = np.mean(r.scores.error), np.mean(r.scores.nats)
            print(f"{r.name:<28} {error:>15} {left:9.2%} {nats:7.4f}  {said.get(r.name, '')}")
    every = {**groups, "all networks": [r for results in groups.values() for r in results]}
    for network, results in every.items():
        errors = np.array([r.errors for r in results])
        for measure in judged:
            losses = np.array([getattr(r.scores, measure) for r in results])
            found = json.dumps({k: round(v, 2) for k, v in correlation(errors, losses).items()})
            print(f"{network} ({len(results)}), {measure}: {found}")
    for measure, some in judged.items():
        print(f"differences of {measure}, {agreement(some)}")


def main() -> None:
    """Run the study; finished parts are kept in OUT, and a run that was stopped goes on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="tfds:mnist", help="of 28 x 28 pixels")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--validation", type=int, default=1000)
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--epochs", type=int, default=60, help="at most")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--subsets", type=int, default=0, help="for the errors of verdicts")
    parser.add_argument("--most-work", type=float, default=3.0)
    parser.add_argument("--kinds", help="of variants, such as skip,pooling (default all)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="then begin no variant")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in SETTINGS}
    if kept(options.out / "settings.json", lambda: settings) != settings:
        sys.exit(f"{options.out} is of other settings. Try: another --out")
    data = Data.of(options)
    show(results_of(data, options))


if __name__ == "__main__":
    main()
