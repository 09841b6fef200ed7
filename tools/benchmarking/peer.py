"""The process that measures Neural Tangents; run by the interpreter of its own environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax  # type: ignore[import-not-found, unused-ignore]
import numpy as np
from neural_tangents import stax  # type: ignore[import-not-found, unused-ignore]

from benchmarking.serving import serve
from benchmarking.timing import Meter, Rate

Layer = Any


def _conv(window: int, w2: float, b2: float = 0.0, stride: int = 1) -> Layer:
    size, steps = (window, window), (stride, stride)
    return stax.Conv(1, size, steps, "SAME", W_std=w2**0.5, b_std=b2**0.5)


def _dense(w2: float, b2: float = 0.0) -> Layer:
    return stax.Dense(1, W_std=w2**0.5, b_std=b2**0.5)


def convnet() -> Layer:
    """keras2gp.zoo.convnet."""
    layers = [_conv(7, 2.79 * 49, 7.86), stax.Relu()] * 7
    return stax.serial(*layers, stax.Flatten(), _dense(2.79, 7.86))


def residual_cnn() -> Layer:
    """keras2gp.zoo.residual_cnn."""
    branch = stax.serial(_conv(4, 7.27 * 16, 4.69), stax.Relu(), _conv(1, 1.0))
    blocks = [_residual(stax.Identity(), branch)] * 8
    last = [_conv(4, 7.27 * 16, 4.69), stax.Relu(), stax.Flatten(), _dense(7.27, 4.69)]
    return stax.serial(_conv(1, 1.0), *blocks, *last)


def resnet32() -> Layer:
    """keras2gp.zoo.resnet32."""
    return stax.serial(*_resnet32(), stax.Flatten(), _dense(1.0))


def resnet32_pooled() -> Layer:
    """benchmarking.networks.resnet32_pooled."""
    return stax.serial(*_resnet32(), stax.GlobalAvgPool(), _dense(1.0))


def _resnet32() -> list[Layer]:
    layers = [_conv(3, 1.0)]
    for stride in (1, 2, 2):
        rest = _conv(3, 1.0, stride=stride), stax.Relu(), _conv(3, 1.0)
        first = _residual(_conv(1, 1.0, stride=stride), stax.serial(*rest))
        layers += [stax.Relu(), first]
        branch = stax.serial(stax.Relu(), _conv(3, 1.0), stax.Relu(), _conv(3, 1.0))
        layers += [_residual(stax.Identity(), branch)] * 4
    return [*layers, stax.Relu()]


def pooling() -> Layer:
    """benchmarking.networks.pooling."""
    stage = _conv(3, 2.0, 0.1), stax.Relu()
    pool = stax.AvgPool((2, 2), (2, 2), "VALID")
    return stax.serial(*stage, pool, *stage, pool, *stage, stax.Flatten(), _dense(2.0, 0.1))


def fully_connected() -> Layer:
    """benchmarking.networks.fully_connected."""
    return stax.serial(stax.Flatten(), *[_dense(2.0, 0.1), stax.Relu()] * 7, _dense(2.0, 0.1))


def _residual(skip: Layer, branch: Layer) -> Layer:
    return stax.serial(stax.FanOut(2), stax.parallel(skip, branch), stax.FanInSum())


NETWORKS = {
    "convnet": convnet,
    "residual-cnn": residual_cnn,
    "resnet32": resnet32,
    "fully-connected": fully_connected,
    "pooling": pooling,
    "resnet32-pooled": resnet32_pooled,
}
METERS: dict[str, Meter] = {}


def _compiled(network: str) -> Any:
    *_, kernel = NETWORKS[network]()
    return jax.jit(lambda a, b: kernel(a, b, "nngp"))


def tune(
    network: str, inputs: str, batches: list[tuple[int, int]], threads: list[int], seconds: float
) -> dict[str, Any]:
    """Try all batches and numbers of threads; keep the fastest for `rate`."""
    x = np.load(inputs)
    kernel = _compiled(network)
    best, chosen, tried = 0.0, "", {}
    for rows, columns in batches:
        a, b = jax.device_put(x[:rows]), jax.device_put(x[len(x) - columns :])

        def step(a: Any = a, b: Any = b) -> int:
            kernel(a, b).block_until_ready()
            return len(a) * len(b)

        Meter(step).warm()
        for count in threads:
            meter = Meter(step, count)
            rate = meter.run(seconds)["pairs_per_second"]
            name = f"{rows} x {columns}, {count} thread{'s' * (count > 1)}"
            tried[name] = rate
            if rate > best:
                best, chosen = rate, name
                METERS[network] = meter
    return {"chosen": chosen, "tried": tried}


def rate(network: str, seconds: float) -> Rate:
    """One round with what `tune` chose."""
    return METERS[network].run(seconds)


def values(network: str, inputs: str, count: int, out: str) -> None:
    """Covariances of the first and last `count` images, to a file."""
    x = np.load(inputs)
    np.save(Path(out), np.asarray(_compiled(network)(x[:count], x[len(x) - count :])))


if __name__ == "__main__":
    serve({"tune": tune, "rate": rate, "values": values})
