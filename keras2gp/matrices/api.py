"""keras2gp.gram: a kernel matrix in memory or on disk, computed by the executor that is there."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from keras2gp._util.arrays import Array, InputsLike, Matrix
from keras2gp._util.checks import one_of, whole_number
from keras2gp._util.files import sweep
from keras2gp._util.paths import as_path
from keras2gp._util.progress import Progress, check_progress, counted
from keras2gp._util.text import received_text
from keras2gp.errors import InputError, StoreError
from keras2gp.graph.variances import LayerVariances
from keras2gp.matrices.blocks import BlockShape
from keras2gp.matrices.estimate import Estimate, estimate_of
from keras2gp.matrices.executors import executor_of
from keras2gp.matrices.fingerprint import digest, fingerprint_of
from keras2gp.matrices.layout import LARGEST_SIDE
from keras2gp.matrices.local import in_memory
from keras2gp.matrices.store import GramStore
from keras2gp.matrices.work import BlockProgram, Executor, ExecutorLike, Work

__all__ = ["estimate", "gram"]

_TITLE = "kernel matrix"


@runtime_checkable
class _Kernel(Protocol):
    """The parts of a kernel, of an infinite or a finite network, that this module uses."""

    @property
    def program(self) -> BlockProgram: ...

    @property
    def parameters(self) -> Mapping[str, LayerVariances]: ...

    def images(self, x: InputsLike, name: str = "x") -> list[Array]: ...


def gram(
    kernel: _Kernel,
    x1: InputsLike,
    x2: InputsLike = None,
    out: str | Path | None = None,
    *,
    executor: ExecutorLike = "auto",
    progress: Progress = True,
    positions: Literal["equal", "all"] = "equal",
) -> Matrix | GramStore:
    """Kernel matrix as a numpy array if it fits in memory, else as a store on disk.

    An interrupted run is resumed by the same call. Every executor gives the same matrix, to the
    last bit on one kind of device.

    Args:
        kernel: a kernel that keras2gp.convert, keras2gp.load or keras2gp.empirical_kernel gave.
        x1: images of the rows, [N1, *shape], or a list of such arrays for a model with several
            inputs.
        x2: images of the columns, [N2, *shape]; None for the matrix of x1 with itself, symmetric,
            with an exact diagonal.
        out: path of a store to write, or to go on with. Without it a matrix that does not fit in
            memory is stored in the working directory as gram-FINGERPRINT.zarr, with a warning
            that says so.
        executor: "auto" (all GPUs if there are any, else threads), "threads", "gpus", "dask" or
            the address of a Dask scheduler, a tf.distribute.Strategy, or an Executor.
        progress: True for a bar on a terminal's stderr from the third second on; False; or a
            function that is called with (pairs done, pairs in all).
        positions: where the output has positions, "equal" for the covariances at equal positions,
            or "all" for those between all positions. One position: gram(kernel.at(position), ..).

    Returns:
        The matrix [N1, N2], or a GramStore of the same shape. With positions: [N1, N2, *positions],
        or between all of them [N1, *positions, N2, *positions]; a store of the latter has two axes,
        [N1 * P, N2 * P], whose rows are the P positions of the first image, then of the second.

    Raises:
        InputError: arrays that do not fit or are not finite, or an unknown executor.
        NumericalError: the kernel overflows its dtype.
        StoreError: the matrix does not fit, `out` holds another one, or the disk does not take it.

    >>> import keras, keras2gp, numpy
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> kernel = keras2gp.convert(model, overrides={"*": (1.0, 0.5)})
    >>> x = numpy.array([[1.0, 1.0], [2.0, 0.0]])
    >>> keras2gp.gram(kernel, x, progress=False).tolist()
    [[1.5, 1.5], [1.5, 2.5]]
    >>> store = keras2gp.gram(kernel, x, out="K.zarr", progress=False)
    >>> store[0, :].tolist()
    [1.5, 1.5]
    """
    return compute(kernel, x1, x2, out, executor=executor, progress=progress, positions=positions)


def compute(
    kernel: _Kernel,
    x1: InputsLike,
    x2: InputsLike = None,
    out: str | Path | None = None,
    *,
    executor: ExecutorLike = "auto",
    progress: Progress = False,
    shape: BlockShape | None = None,
    positions: Literal["equal", "all"] = "equal",
) -> Matrix | GramStore:
    """`gram`, with a choice of the block shape."""
    driver = executor_of(executor)
    check_progress(progress)
    if not isinstance(kernel, _Kernel):
        raise InputError(
            f"kernel={received_text(kernel)}: expected a kernel that keras2gp.convert, "
            "keras2gp.load or keras2gp.empirical_kernel gave"
        )
    program = program_of(kernel, positions)
    _require_room(program, x1, x2, out)
    first = kernel.images(x1, "x1")
    second = None if x2 is None else kernel.images(x2, "x2")
    work = Work.of(program, kernel.parameters, first, second, shape)
    if out is not None:
        return _fill(as_path("out", out, StoreError), work, driver, progress)
    needed = estimate_of(work.program, work.partition)
    if needed.fits_memory:
        pairs = [block.pairs for block in work.partition.blocks()]
        with counted(progress, _TITLE, pairs, []) as finished:
            matrix = in_memory(work, driver, finished)
            return kernel.by_positions(matrix, program) if positions == "all" else matrix  # type: ignore[attr-defined]
    if needed.block_demands:
        needed.require()
    path = Path(f"gram-{digest(fingerprint_of(work))[:12]}.zarr")
    warnings.warn(
        f"{needed.shortage}: it is stored in {path.absolute()}. Try: out=PATH for another place",
        stacklevel=3,
    )
    return _fill(path, work, driver, progress)


def program_of(kernel: _Kernel, positions: str) -> Any:
    """The program of a kernel at equal positions of its output, or between all of them.

    Raises:
        InputError: the output has no positions, or `positions` is neither "equal" nor "all".
    """
    one_of("positions", positions, ("equal", "all"))
    if positions == "equal":
        return kernel.program
    if not hasattr(kernel, "program_of"):
        raise InputError("positions='all': the kernel's output has no positions")
    return kernel.program_of(positions)


def _require_room(program: Any, x1: InputsLike, x2: InputsLike, out: str | Path | None) -> None:
    """Refuse a matrix that neither memory nor disk holds, before its images are prepared.

    Raises: StoreError
    """
    rows, columns = _count(x1), None if x2 is None else _count(x2)
    if rows is None or (x2 is not None and columns is None):
        return
    partition = program.partition(rows, columns)
    if out is None and estimate_of(program, partition).fits_memory:
        return
    place = Path.cwd() / "gram.zarr" if out is None else as_path("out", out, StoreError)
    try:
        needed = estimate_of(program, partition, place)
    except OSError:  # no name of a file, of which more is said later
        return
    needed.require()


def _count(x: InputsLike) -> int | None:
    """The number of images, as far as the shape of an array says it."""
    first = next(iter(x.values()), None) if isinstance(x, Mapping) else x
    if isinstance(first, list | tuple) and first and hasattr(first[0], "shape"):
        first = first[0]
    shape = getattr(first, "shape", None)
    return int(shape[0]) if isinstance(shape, tuple) and len(shape) > 1 and shape[0] else None


def _fill(path: Path, work: Work, executor: Executor, progress: Progress) -> GramStore:
    """The complete store at `path`: made if it is not there, otherwise the missing blocks computed.

    Blocks that are whole and in their place are kept. Several processes may fill one store at
    once: a block is the same bytes whoever writes it, and appears whole or not at all. A link at
    `path` is followed.

    Raises: StoreError if there is something else at `path`, if the space is too small, or if the
            disk takes no more; NumericalError if an entry is not finite.
    """
    fingerprint = fingerprint_of(work)
    try:
        path = path.resolve() if path.is_symlink() else path
        if "\0" in str(path):
            raise ValueError("a name holds no NUL character")
        occupied = path.exists() and any(path.iterdir() if path.is_dir() else [path])
    except (OSError, ValueError, RuntimeError) as error:  # no name at all, or a circle of links
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{received_text(str(path))} cannot be a store: {reason}") from error
    if occupied:
        GramStore(path).require(fingerprint)
    if work.partition.shape.rows > LARGEST_SIDE:
        raise StoreError(
            f"a block between all positions of one pair of images has {work.partition.per_image} "
            f"rows, and a store holds blocks of at most {LARGEST_SIDE}. Try: one position at a "
            "time, kernel.at(position)"
        )
    estimate_of(work.program, work.partition, path).require()
    GramStore.create(path, fingerprint)
    sweep(path)
    store = GramStore(path, writable=True)
    store.require(fingerprint)  # another process may have made it a moment ago
    if store.symmetric and not store.holds_diagonal():
        store.write_diagonal(work.diagonal)
    missing, every = store.missing(), store.blocks()
    kept = [block.pairs for block in set(every).difference(missing)]
    with (
        counted(progress, _TITLE, [block.pairs for block in every], kept) as finished,
        closing(executor.run(work, missing, store)) as run,
    ):
        for block in run:
            finished(block.pairs)
    sweep(path)  # a worker that was killed during this run may have left something
    return GramStore(path)


def estimate(
    kernel: _Kernel,
    n1: int,
    n2: int | None = None,
    out: str | Path | None = None,
    *,
    positions: Literal["equal", "all"] = "equal",
) -> Estimate:
    """Estimate of what `gram` would take; nothing is computed or written.

    Args:
        kernel: a kernel that keras2gp.convert, keras2gp.load or keras2gp.empirical_kernel gave.
        n1: number of images of the rows.
        n2: number of images of the columns; None for the symmetric matrix of n1 images.
        out: path of the store; None for a matrix in memory.
        positions: "equal" or "all", as for `gram`.

    Returns:
        The estimate; between positions its rows and columns are images at positions.

    Raises:
        InputError: a number is not a whole number of at least 1.
    """
    rows = whole_number("n1", n1, 1)
    columns = None if n2 is None else whole_number("n2", n2, 1)
    program = program_of(kernel, positions)
    path = None if out is None else as_path("out", out, StoreError)
    return estimate_of(program, program.partition(rows, columns), path)
