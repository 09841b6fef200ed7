"""The paper's table on a machine with a GPU and JAX alone.

    python tools/gpu/table.py prepare FOLDER [--data tfds:mnist] [--train 50000] [--others 20000]
    python tools/gpu/table.py solve FOLDER PROGRAM ... [--out DIR]    (on the GPU; needs JAX alone)
    python tools/gpu/table.py report FOLDER NETWORK ... [--out DIR]

FOLDER holds what tools/gpu/export.py wrote for the three networks of the paper. `prepare` adds the
images and labels, the next ones of the training split (validation) and the test images last.
`solve` computes the kernel matrix of the training images, and that of the others with them, by the
exported program of a block. In float64 it computes the Cholesky factor, the means of the others and
the leave-one-out means, for N, N/2, ... N/32 training images, into NETWORK-means.npz. `report`
makes classes and probabilities of them with keras2gp, and prints errors, NLL and calibration.
The numbers are those of examples/table1.py, which computes them with TensorFlow and the stores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

HALVINGS = 5
TEST = 10_000
"""Images of the test split, the last of the others."""
JITTERS = (0.0, 1e-9, 1e-8, 1e-7, 1e-6)
"""What is added to the diagonal where there is no factor, of its mean."""
CHUNK = 2048
"""Rows of the cross matrix in float64 at once."""


def prepare(folder: Path, source: str, train: int, others: int) -> None:
    """Images as uint8, [N, H, W], and the labels, of the training images and of the others."""
    from keras2gp import data

    rows = data.load(source).split(train + others - TEST, TEST)
    x = np.concatenate([rows.x_train, rows.x_test]).reshape(-1, *rows.x_train.shape[1:3])
    y = np.concatenate([rows.y_train, rows.y_test])
    images, _ = data.prepare_images(x, model_rescales=False, sample_shape=(*x.shape[1:], 1))
    if not np.array_equal(images[..., 0], pixels(x)):
        raise SystemExit("the command prepares these images otherwise than by a division by 255")
    np.savez_compressed(folder / "digits.npz", x=x, y=y, train=train)
    print(f"{train} training images, {len(x) - train - TEST} for validation, {TEST} to test")


def pixels(x):
    return x.astype(np.float32) / np.float32(255)


class Kernel:
    """The program of a block, for matrices of any size on the device."""

    def __init__(self, folder: Path, row: dict[str, Any]) -> None:
        import jax
        from run import Case

        self.case = Case(row, folder, jax.devices()[0], [])
        self.side, self.tile = row["side"], row["tile"]
        starts = np.array(self.case.starts, np.int32)
        self.loop = [self.case.put(starts), self.case.put(np.int32(len(starts)))]
        self.write = jax.jit(self._write, donate_argnums=0)

    def _write(self, matrix, tiles, row, column):
        import jax

        each, size = self.side // self.tile, self.tile
        block = tiles.reshape(each, each, size, size).transpose(1, 2, 0, 3)
        return jax.lax.dynamic_update_slice(
            matrix, block.reshape(self.side, self.side), (row, column)
        )

    def sides(self, x) -> list:
        """The statistics of the images of each block; the last block is filled up."""
        from run import run

        found = []
        for start in range(0, len(x), self.side):
            block = x[np.arange(start, start + self.side) % len(x)]
            images = np.moveaxis(pixels(block), 0, -1)[:, :, None, :]
            found.append(run(self.case.statistics, [self.case.put(images), *self.case.scalars]))
        return found

    def matrix(self, first: list, second: list, *, symmetric: bool):
        """Blocks of the upper triangle, or all of them, in one array on the device."""
        import jax.numpy as jnp
        from run import run

        values = jnp.zeros((len(first) * self.side, len(second) * self.side), jnp.float32)
        for i, one in enumerate(first):
            for j in range(i if symmetric else 0, len(second)):
                given = [*one[1:], *second[j][1:], *self.loop, *self.case.scalars]
                (tiles,) = run(self.case.tiles, given)
                values = self.write(values, tiles, i * self.side, j * self.side)
        return values.block_until_ready()


def solution(upper, cross, targets, count: int):
    """Means of the others and leave-one-out means after `count` images, and the jitter it took."""
    import jax
    import jax.numpy as jnp

    def factor_of(matrix, jitter):
        whole = jnp.triu(matrix[:count, :count].astype(jnp.float64))
        whole += jnp.triu(whole, 1).T
        scale = jnp.trace(whole) / count
        return jnp.linalg.cholesky(whole + jitter * scale * jnp.eye(count), symmetrize_input=False)

    def left_out_of(factor, y):
        inverse = jax.scipy.linalg.solve_triangular(factor, jnp.eye(count), lower=True)
        weights = inverse.T @ (inverse @ y)
        return weights, y - weights / jnp.sum(inverse**2, axis=0)[:, None]

    y = jnp.asarray(targets[:count], jnp.float64)
    for jitter in JITTERS:
        factor = jax.jit(factor_of)(upper, jitter)
        if bool(jnp.isfinite(factor[-1, -1])):
            break
    else:
        raise SystemExit(f"the matrix of {count} images is not positive definite")
    weights, left_out = jax.jit(left_out_of)(factor, y)
    del factor
    mean_of = jax.jit(lambda rows, weights: rows[:, :count].astype(jnp.float64) @ weights)
    parts = [mean_of(cross[i : i + CHUNK], weights) for i in range(0, len(cross), CHUNK)]
    return np.concatenate(parts), np.asarray(left_out), jitter


class Laps:
    """The seconds since the last call."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def __call__(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before


def solve(folder: Path, out: Path, names: list[str]) -> None:
    """The matrices of each program, and what follows from them."""
    import jax

    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}: {jax.devices()[0].device_kind}", flush=True)
    rows = {row["name"]: row for row in json.loads((folder / "manifest.json").read_text())}
    with np.load(folder / "digits.npz") as file:
        x, y, train = file["x"], file["y"], int(file["train"])
    targets = np.where(y[:train, None] == np.unique(y), 1.0, -1.0)
    for name in names:
        lap = Laps()
        kernel = Kernel(folder, rows[name])
        seconds = {"compile": lap()}
        first, others = kernel.sides(x[:train]), kernel.sides(x[train:])
        upper = kernel.matrix(first, first, symmetric=True)
        seconds["kernel"] = lap()
        cross = kernel.matrix(others, first, symmetric=False)[: len(x) - train]
        seconds["cross"] = lap()
        blocks = len(first) * (len(first) + 1) / 2, len(first) * len(others)
        for part, number in zip(("kernel", "cross"), blocks, strict=True):
            rate = number * kernel.side**2 / seconds[part]
            print(f"{name}: {part} {seconds[part]:.1f} s, {rate / 1e6:.2f} M pairs/s", flush=True)
        del first, others
        kept: dict[str, Any] = {}
        for count in sorted(train >> i for i in range(HALVINGS + 1)):
            means, left_out, jitter = solution(upper, cross, targets, count)
            seconds[f"solve-{count}"] = lap()
            kept[f"means-{count}"] = means.astype(np.float32)
            kept[f"left_out-{count}"] = left_out.astype(np.float32)
            kept[f"jitter-{count}"] = jitter
            wrong = (np.unique(y)[means.argmax(axis=1)] != y[train:])[-TEST:].mean()
            print(
                f"{name}: {count}: {wrong:.2%} in {seconds[f'solve-{count}']:.1f} s, "
                f"jitter {jitter:g}",
                flush=True,
            )
            np.savez_compressed(out / f"{rows[name]['network']}-means.npz", **kept, **seconds)
        del upper, cross, kernel


def report(folder: Path, out: Path, names: list[str]) -> None:
    """Errors and how honest the probabilities are, by keras2gp."""
    from keras2gp.gp import fit_temperature, metrics, tempered_softmax
    from keras2gp.gp.arguments.labels import targets_of

    with np.load(folder / "digits.npz") as file:
        y, train = file["y"], int(file["train"])
    for name in names:
        with np.load(out / f"{name}-means.npz") as file:
            kept = dict(file)
        counts = sorted(int(key.split("-")[1]) for key in kept if key.startswith("means-"))
        for count in counts:
            classes, index, _ = targets_of(y[:count])
            temperature = fit_temperature(kept[f"left_out-{count}"].astype(np.float64), index)
            p = tempered_softmax(kept[f"means-{count}"].astype(np.float64), temperature)
            wrong = classes[p.argmax(axis=1)] != y[train:]
            told, test = p[-TEST:], y[-TEST:]
            validation = f"{wrong[:-TEST].mean():.2%}" if len(wrong) > TEST else "-"
            print(
                f"{name} {count}: validation {validation}, test {wrong[-TEST:].mean():.2%}, "
                f"temperature {temperature:.3f}, NLL "
                f"{metrics.negative_log_likelihood(test, told, classes):.4f}, calibration error "
                f"{metrics.expected_calibration_error(test, told, classes):.2%} "
                f"({metrics.calibration_error_by_chance(told):.2%} by chance), jitter "
                f"{kept[f'jitter-{count}']:g}, solved in {kept[f'solve-{count}']:.1f} s"
            )
        print({key: round(float(kept[key]), 1) for key in ("compile", "kernel", "cross")})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["prepare", "solve", "report"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", default="tfds:mnist")
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--others", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="for the means; by default FOLDER")
    arguments = parser.parse_args()
    folder, out = arguments.folder, arguments.out or arguments.folder
    if arguments.part == "prepare":
        prepare(folder, arguments.data, arguments.train, arguments.others)
    elif arguments.part == "solve":
        solve(folder, out, arguments.names)
    else:
        report(folder, out, arguments.names)


if __name__ == "__main__":
    main()
