"""keras2gp.xray: what every part of an architecture is worth on given rows, without training."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from keras2gp._util.arrays import InputsLike, TargetsLike
from keras2gp._util.keras_objects import KerasModel
from keras2gp.matrices.work import ExecutorLike
from keras2gp.xrays.arguments import XRaySettings
from keras2gp.xrays.reporting.report import XRay
from keras2gp.xrays.running.run import XRayRun

__all__ = ["xray"]


def xray(
    model: KerasModel,
    x: InputsLike,
    y: TargetsLike,
    *,
    test: tuple[InputsLike, TargetsLike] | None = None,
    out: str | os.PathLike[str] | None = None,
    variants: Mapping[str, Any] | None = None,
    kinds: Collection[str] | None = None,
    most_work: float = 20.0,
    full_work: float = 1.5,
    subsets: int = 10,
    signal_rows: int = 200,
    seed: int = 0,
    minutes: float | None = None,
    position: Any = None,
    overrides: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    kind: str = "nngp",
    executor: ExecutorLike = "auto",
    progress: Callable[[str, int, int], None] = lambda _name, _done, _total: None,
    announce: Callable[[str], None] | None = None,
    **conversion: Any,
) -> XRay:
    """Measure what each part of an architecture is worth on given rows, without training it.

    Every ablation of the model is a Keras model with a kernel of its own. Each is fitted to the
    same rows, with a noise and a scale of its own, and its leave-one-out predictions are compared
    with those of the model as it is, row by row.

    Args:
        model: a Keras model, or the path of its file.
        x: images, [N, *shape], floating-point; for a model with several inputs a list of such
            arrays, or a dict by input name.
        y: their labels, [N]; or real targets, [N] or [N, C], if their type is floating-point.
        test: images and targets that no fit sees, for test errors.
        out: directory of the report (report.html, report.json, report.txt), of the variants as
            .keras files, and of kernel matrices and scores, with which the same call goes on after
            an interruption; None for none of them.
        variants: models of your own by name: Keras models, or paths of their files.
        kinds: of ablations: some of "skip", "normalization", "pooling", "stride", "padding",
            "window", "receptive field", "depth", "activation" and "bias"; None for all.
        most_work: a variant whose kernel takes more than so many times the time of the model's is
            left out, and listed.
        full_work: a variant whose kernel takes more than so many times the time of the model's, and
            more than a minute of a core, is compared on fewer rows, random ones, with the model on
            the same ones; at least 200.
        subsets: random halvings of the rows, both halves of which are fitted for standard errors.
        signal_rows: the first so many rows show how signal flows; 0 for none.
        seed: of the halvings.
        minutes: what all of it is to be done in, earlier runs included; None for any time. A few
            rows are measured, and what does not fit is left out: the variants that say least
            first, and rows of all of them last. A call with more minutes goes on.
        position: of an output with positions the one that the targets are of, as for `Kernel.at`.
        overrides: variances by layer, as for `convert`; a variant without such a layer is as it is.
        dtype: of the kernels' entries, "float32" or "float64".
        kind: of all kernels: "nngp", the covariance of networks before training, or "ntk", the
            tangent kernel, whose fit has the mean of networks that gradient descent has trained.
        executor: as for `gram`.
        progress: called with (name of a variant, variants done, variants in all).
        announce: called with time, memory and disk in words before the first kernel, such as
            `print`; the time is measured on a few rows.
        **conversion: output, max_pooling, tolerance, activations, layers or input_shape, as for
            `convert`.

    Returns:
        The report.

    Raises:
        UnsupportedModelError: the model as it is has no exact kernel.
        InputError: an argument does not fit, or `minutes` are too few for the model as it is.
        NumericalError: the kernel of the model as it is is singular or overflows.
        StoreError: `out` is of another X-ray, holds a file that would be replaced and keras2gp did
            not write, another process is at work in it, or it cannot be written.

    >>> import keras, keras2gp, numpy
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     keras.layers.Dense(8, "relu", kernel_initializer="he_normal", name="hidden"),
    ...     keras.layers.Dense(2, name="out"),
    ... ])
    >>> x = numpy.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(int)
    >>> report = keras2gp.xray(model, x, y, kinds=["activation"], subsets=4, signal_rows=0)
    >>> report.finding("linear").nats.verdict  # a linear network cannot know a product
    'worse'
    """
    settings = XRaySettings(
        out=out,
        variants=variants,
        kinds=kinds,
        most_work=most_work,
        full_work=full_work,
        subsets=subsets,
        signal_rows=signal_rows,
        seed=seed,
        minutes=minutes,
        position=position,
        overrides=overrides,
        dtype=dtype,
        kind=kind,
        conversion=conversion,
    )
    run = XRayRun(model, x, y, settings, test=test)
    if announce is not None:
        announce(str(run.cost()))
    return run.run(executor=executor, progress=progress)
