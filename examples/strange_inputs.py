"""Strange inputs: what each score sees of dimmed, blank, scaled, inverted and shuffled digits.

python examples/strange_inputs.py
"""

from __future__ import annotations

import numpy as np

import keras2gp
from keras2gp import data, gp, zoo

TRAINING, TEST = 200, 100


def strange_images(x: np.ndarray) -> dict[str, np.ndarray]:
    """Digits that are spoilt in several ways, float32 in [0, 1] but for the scaled ones."""
    pixels = np.random.default_rng(0).permuted(x.reshape(len(x), -1), axis=1)
    return {
        "dimmed tenfold": x / 10.0,
        "blank": np.zeros_like(x),
        "scaled to 0..255": x * 255.0,
        "inverted": 1.0 - x,
        "shuffled pixels": pixels.reshape(x.shape),
    }


def main() -> dict[str, dict[str, float]]:
    """The area under the ROC curve of every score, for every kind of strange image."""
    digits = data.load("sample").split(TRAINING, TEST)
    x_train, x_test = (x.astype("float32") / 255 for x in (digits.x_train, digits.x_test))
    kernel = keras2gp.convert(zoo.convnet(), dtype="float64")
    classifier = keras2gp.GPClassifier(kernel, noise_variance=0.01).fit(x_train, digits.y_train)
    usual = gp.ood_scores(classifier, x_test)

    print(f"{'':18}" + "".join(f"{name:>19}" for name in usual))
    table = {}
    for kind, images in strange_images(x_test).items():
        scores = gp.ood_scores(classifier, images)
        table[kind] = {
            name: gp.out_of_distribution_auroc(usual[name], values)
            for name, values in scores.items()
        }
        line = "".join(f"{auroc:19.2f}" for auroc in table[kind].values())
        told = classifier.input_range_.warning(images)
        print(f"{kind:18}{line}{'  (warned of)' if told else ''}")
    return table


if __name__ == "__main__":
    main()
