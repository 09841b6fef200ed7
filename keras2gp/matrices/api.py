"""keras2gp.gram: a kernel matrix in memory or on disk, on whatever there is to compute it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from keras2gp._util.arrays import Array
from keras2gp._util.checks import whole_number
from keras2gp._util.progress import Progress, counted
from keras2gp.errors import InputError
from keras2gp.graph.graph import Graph
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.compiled import CompiledProgram
from keras2gp.matrices.estimate import Estimate, estimate_of
from keras2gp.matrices.executor import Executor, Work
from keras2gp.matrices.executors import executor_of
from keras2gp.matrices.fingerprint import digest, fingerprint_of
from keras2gp.matrices.local import in_memory
from keras2gp.matrices.plan import BlockShape
from keras2gp.matrices.resume import fill
from keras2gp.matrices.store import GramStore

__all__ = ["estimate", "gram"]


class _Kernel(Protocol):
    """What is asked of a kernel: keras2gp.kernel.kernel.Kernel has it."""

    @property
    def program(self) -> CompiledProgram: ...

    @property
    def graph(self) -> Graph: ...

    @property
    def dtype(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, LayerVariances]: ...

    def images(self, x: Any, name: str = "x") -> list[Array]: ...


def gram(
    kernel: _Kernel,
    x1: Any,
    x2: Any = None,
    out: str | Path | None = None,
    *,
    executor: Any = "auto",
    progress: Progress = True,
) -> Array | GramStore:
    """Kernel matrix, [N1, N2], as a numpy array if it fits in memory, else as a store on disk.

    x1, x2:   [N, *shape] each, or a list of such arrays for a model with several inputs; with
              x2=None the matrix of x1 with itself, symmetric, with an exact diagonal
    out:      path of a store to write, or to go on with. Without it a matrix that does not fit
              in memory is stored in the working directory as gram-FINGERPRINT.zarr, with a
              warning that says so.
    executor: "auto" (all GPUs if there are any, else threads), "threads", "gpus", "dask" or the
              address of a Dask scheduler, a tf.distribute.Strategy, or an Executor
    progress: True for a bar on a terminal's stderr from the third second on; False; or a function
              that is called with (pairs done, pairs in all)

    An interrupted run is resumed by the same call. Every executor gives the same matrix, to the
    last bit on one kind of device.

    Raises: InputError for arrays that do not fit or are not finite; NumericalError if the kernel
            overflows its dtype; StoreError if the matrix does not fit, if `out` holds another
            one, or if the disk does not take it.
    """
    return compute(kernel, x1, x2, out, executor=executor, progress=progress)


def compute(
    kernel: _Kernel,
    x1: Any,
    x2: Any = None,
    out: str | Path | None = None,
    *,
    executor: Any = "auto",
    progress: Progress = False,
    shape: BlockShape | None = None,
) -> Array | GramStore:
    """`gram`, with a say in how the matrix is cut."""
    driver = executor_of(executor)
    if not isinstance(progress, bool) and not callable(progress):
        raise InputError(f"progress={progress!r}: expected True, False or a function")
    first = kernel.images(x1, "x1")
    second = None if x2 is None else kernel.images(x2, "x2")
    work = Work.of(kernel.program, kernel.parameters, first, second, shape)
    if out is not None:
        return fill(Path(out), work, driver, progress)
    n1, n2 = work.size
    needed = estimate_of(kernel.graph, kernel.dtype, n1, None if x2 is None else n2, shape=shape)
    if needed.fits_memory:
        return _in_memory(work, driver, progress)
    path = Path(f"gram-{digest(fingerprint_of(work))[:12]}.zarr")
    warnings.warn(
        f"{needed.shortage}: it is stored in {path.absolute()}. Try out=PATH for another place",
        stacklevel=3,
    )
    return fill(path, work, driver, progress)


def _in_memory(work: Work, driver: Executor, progress: Progress) -> Array:
    with counted(progress, "kernel matrix", [b.pairs for b in work.blocks()], []) as finished:
        return in_memory(work, driver, lambda block: finished(block.pairs))


def estimate(
    kernel: _Kernel, n1: int, n2: int | None = None, out: str | Path | None = None
) -> Estimate:
    """What `gram` would take for n1 and n2 images; n2=None is the symmetric matrix of n1.

    out: path of the store; None for a matrix in memory. Nothing is computed or written.
    Raises: InputError unless there is at least one image.
    """
    whole_number("n1", n1, 1)
    if n2 is not None:
        whole_number("n2", n2, 1)
    return estimate_of(kernel.graph, kernel.dtype, n1, n2, out=None if out is None else Path(out))
