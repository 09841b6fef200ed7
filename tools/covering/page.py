"""The document: formats, families, a row for each model, and why some have no exact kernel."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping
from typing import Any

import keras2gp
from covering.families import section
from covering.models import built
from covering.verified import HEADER, with_rows

__all__ = ["applications_in", "page", "row_of"]

_TOP = """\
# What converts

Written by `python tools/coverage.py`.

"""
_HEAD = """\

## Models of keras.applications

Every model of keras.applications, with its classification layer, on 32x32 images or the smallest
that it takes, for the prior of its initialisers:

- **exact**: `keras2gp.convert(model)` gives the kernel of its infinitely wide limit.
- **average pooling**: so it does with `max_pooling="average"` (`--max-pooling average`), which puts
  average pooling in the place of max pooling: the largest of several Gaussian variables is not
  Gaussian. The kernel is exact for the model with average pooling.
- **refused**: there is no exact kernel. The reasons are those left with `max_pooling="average"`,
  with the number of layers that each holds for, and the first of them.

{summary}

"""
_COLUMNS = "| model | images | layers | kernel | reasons |\n|---|---|---|---|---|\n"
_TAIL = """
### Why the refused ones are refused

In the limit of many channels a convolution or Dense layer gives a Gaussian process, whatever kind
of tensor it sums over, by the central limit theorem: its weights are independent, and the second
moments of what they sum over no longer fluctuate. An activation needs the law of what it acts on,
and a covariance states that of a Gaussian alone.

- **An activation of a sum with an activation** (ResNet v1, InceptionResNetV2): relu(x + y), where x
  is the output of the relu before. The sum is not Gaussian, and the covariance after the relu
  depends on more than the covariance before it. ResNet v2 adds outputs of convolutions, before the
  activation, and has a kernel. So have those blocks of ResNet v1 whose shortcut is a convolution;
  the others are the layers that are counted.
- **An activation straight after a depthwise convolution** (MobileNet, EfficientNet): each output is
  made of one channel alone, so that there is nothing for the central limit theorem to sum over. It
  is weights times random values of that channel, and no Gaussian. A pointwise convolution after it
  (SeparableConv2D in Xception and NASNet) sums over channels and makes it Gaussian again, also with
  a LayerNormalization in between (ConvNeXt).

MobileNetV3's gates, relu6(x + 3) / 6 times another branch, are no obstacle: a product of
independent branches has moments that are products of theirs, and the weights after it make it
Gaussian.

### Computing them

A kernel's first matrix is compiled, and pooling early in a deep network multiplies its work: every
layer before it is walked once for each offset that the pooling asks for. On two cores that other
work kept busy (float32, three images of 32x32) the first matrix took 11 s for ConvNeXtTiny, 14 s
for ResNet50V2 and 16 s for VGG16, and the next one 0.03, 0.2 and 4 s. DenseNet121, whose four
poolings divide 120 layers, took 44 s, half of it to trace the program and half to compile it.
InceptionV3 and the NASNets, which pool in every block, take about 6 minutes of a core in float64,
and 9 to 12 GB of memory, most of it the compiler's. `python tools/coverage.py --kernels` measures
all of them.

### Random copies beside the kernels

`python tools/coverage.py --verify` draws random copies of every model with a kernel, on three
images, and keeps a row of each as it finishes: see keras2gp.verify. Widths are of the narrowest
hidden layer, the variance is extrapolated from them to infinite width, and a kernel that is off by
what the next column says would have been rejected. Seconds are those of two cores that other work
kept busy, conversion, kernel matrix and networks together; those of InceptionV3 and the NASNets had
less than one core, and are the sum of several runs.

"""


def row_of(name: str) -> tuple[str, float]:
    """The row of one model, and the seconds that its two inspections took together."""
    with built(name) as model:
        began = time.perf_counter()
        exact = keras2gp.inspect(model)
        average = exact if exact.exact else keras2gp.inspect(model, max_pooling="average")
        seconds = time.perf_counter() - began
        size = "x".join(str(n) for n in model.input_shape[1:3])
        kernel = "refused"
        if average.exact:
            kernel = "exact" if exact.exact else "average pooling"
        reasons = "" if average.exact else _reasons(average.obstacles)
        replaced = sum("replaced by average pooling" in row.note for row in average.rows)
        if kernel == "average pooling":
            reasons = f"{replaced} max pooling"
        return f"| `{name}` | {size} | {len(model.layers)} | {kernel} | {reasons} |", seconds


def applications_in(document: str) -> dict[str, str]:
    """The rows of the models of keras.applications in a document."""
    table = document.partition(_COLUMNS)[2].splitlines()
    rows = itertools.takewhile(lambda line: line.startswith("| `"), table)
    return {row.split("`")[1]: row for row in rows}


def _reasons(obstacles: Any) -> str:
    """Reasons with the number of layers and the first of them."""
    groups: dict[str, list[str]] = {}
    for obstacle in obstacles:
        # What the reason says of this layer alone is left out.
        why = re.sub(r"^\S+ gives features", "it acts on features", obstacle.why)
        why = why.split(", so the covariance")[0]
        groups.setdefault(why, []).append(obstacle.where)
    return "; ".join(f"{_where(layers)}: {why}" for why, layers in groups.items())


def _where(layers: list[str]) -> str:
    if len(layers) == 1:
        return f"`{layers[0]}`"
    return f"{len(layers)} layers, first `{layers[0]}`"


def page(rows: Mapping[str, str], verified: Mapping[str, str]) -> str:
    """The whole document.

    rows:     of all models
    verified: rows of the table of random copies, which are kept from document to document
    """
    kinds = [row.split("|")[4].strip() for row in rows.values()]
    counts = [f"{kinds.count(kind)} {kind}" for kind in ("exact", "average pooling", "refused")]
    summary = f"Of {len(rows)} models: {', '.join(counts)}."
    head = _HEAD.format(summary=summary) + _COLUMNS + "\n".join(rows.values()) + "\n"
    return with_rows(_TOP + section() + head + _TAIL + HEADER, dict(verified))
