"""Do the X-ray's errors rank architectures as training does? Variants of a small network on MNIST.

Every variant is trained with Adam from several seeds, and its mean test error is ranked beside the
leave-one-out error of its Gaussian process on the same rows. The uncertainty of the rank
correlation is that of a bootstrap over variants, with the errors of each drawn anew from its seeds
and from its rows.

    python tools/xray_study.py --rows 1000 --seeds 3 --out /tmp/study
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from scipy.stats import spearmanr

from keras2gp._util.files import write_file
from keras2gp.data import load
from keras2gp.xrays.api import Examination
from keras2gp.xrays.scores import scored

HE = "he_normal"
DRAWS = 2000


def network(width: int) -> Any:
    """A residual block, a pooling, and a hidden dense layer, on images of 14 x 14."""
    x = image = keras.Input((14, 14, 1))
    x = layers.Conv2D(width, 3, padding="same", kernel_initializer=HE, name="stem")(x)
    y = layers.Activation("relu", name="relu1")(x)
    y = layers.Conv2D(width, 3, padding="same", kernel_initializer=HE, name="conv")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.Activation("relu", name="relu2")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(4 * width, kernel_initializer=HE, name="hidden")(x)
    x = layers.Activation("relu", name="relu3")(x)
    return keras.Model(image, layers.Dense(10, name="out")(x), name="small")


def halved(x: Any) -> Any:
    """Images of 14 x 14, means of 2 x 2 pixels, from 0 to 1."""
    x = np.asarray(x, np.float32).reshape(len(x), 14, 2, 14, 2).mean(axis=(2, 4))[..., None]
    return x / np.float32(255.0)


def trained_error(model: Any, train: Any, test: Any, seed: int, epochs: int) -> float:
    """The test error of a fresh copy of a model after training with Adam."""
    keras.utils.set_random_seed(seed)
    fresh = keras.models.clone_model(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fresh.compile(keras.optimizers.Adam(1e-3), loss)
    fresh.fit(*train, batch_size=64, epochs=epochs, verbose=0)
    labels = fresh.predict(test[0], batch_size=512, verbose=0).argmax(axis=1)
    return float((labels != test[1]).mean())


def correlation(errors: Any, losses: Any, seed: int) -> dict[str, float]:
    """Spearman's correlation, and a 95% interval.

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


def main() -> None:
    """Run the study; finished parts are kept in OUT."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="tfds:mnist")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--most-work", type=float, default=1.6)
    parser.add_argument("--kinds", help="of variants, such as skip,pooling (default all)")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = load(options.data).split(options.rows, options.test)
    train = halved(data.x_train), np.asarray(data.y_train)
    test = halved(data.x_test), np.asarray(data.y_test)
    model = network(options.width)
    kinds = options.kinds and options.kinds.split(",")
    settings = {"subsets": 2, "signal_rows": 0, "most_work": options.most_work, "kinds": kinds}
    examination = Examination(model, *train, **settings)
    errors, losses, nats, names = [], [], [], []
    for variant in examination.computed:
        path = options.out / f"{variant.key}.json"
        if path.exists():
            found = json.loads(path.read_text())
        else:
            began = time.perf_counter()
            matrix = variant.kernel.matrix(train[0])
            scores = scored(matrix, examination.task)
            network_ = model if variant.model is None else variant.model
            seeds = range(options.seeds)
            found = {
                "name": variant.name,
                "trained": [
                    trained_error(network_, train, test, seed, options.epochs) for seed in seeds
                ],
                "error": scores.error,
                "nats": scores.nats,
            }
            write_file(path, json.dumps(found))
            print(f"{variant.name}: {time.perf_counter() - began:.0f} s", flush=True)
        names.append(found["name"])
        errors.append(found["trained"])
        losses.append(found["error"])
        nats.append(found["nats"])
    trained, left_out = np.array(errors), np.array(losses)
    print(f"{'variant':<30} {'trained':>15} {'left out':>9} {'nats':>7}")
    for i in np.argsort(trained.mean(axis=1)):
        spread = trained[i].std(ddof=1) / math.sqrt(len(trained[i])) if options.seeds > 1 else 0.0
        error = f"{100 * trained[i].mean():.2f} ± {100 * spread:.2f}%"
        print(f"{names[i]:<30} {error:>15} {left_out[i].mean():9.2%} {np.mean(nats[i]):7.4f}")
    for title, values in (("errors", left_out), ("log likelihoods", np.array(nats))):
        print(title, json.dumps(correlation(trained, values, seed=0)))


if __name__ == "__main__":
    main()
