"""Sample paths of a posterior: functions that are drawn once, and computed at any inputs later.

Math: f(x) = k(x, Z) L^-T w + sqrt(r(x)) e(x),  w and e standard normal, L L^T = K_ZZ
        r(x) = k(x, x) - |L^-1 k(Z, x)|^2, the prior variance that the features at Z leave
        e(x) independent for different inputs, and a function of the input alone
    path(x) = f(x) + k(x, X) A^-1 (y - f(X) - noise)

f has the kernel's variance everywhere, and its covariance wherever one of two inputs is explained
by Z: Q = k(., Z) K_ZZ^-1 k(Z, .). Between two inputs that Z leaves variance of, k - Q is missing.

References: Wilson et al. 2020, Efficiently sampling functions from Gaussian process posteriors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import ndtri

from keras2gp._util.arrays import Array, Images, InputsLike, Matrix, Noise, Vector
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError
from keras2gp.gp.arguments.kernel_function import check_variances, kernel_values
from keras2gp.gp.arguments.noise import column_of
from keras2gp.gp.arguments.positions import Positioned
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.preconditioner import partial_cholesky, randomly_pivoted
from keras2gp.gp.solvers.system import LinearSystem, Solving
from keras2gp.gp.solvers.training import Training

__all__ = [
    "Prior",
    "SamplePathWarning",
    "SamplePaths",
    "corrections",
    "normals_of",
    "prior_of",
    "warn_of_left_out",
]

WHOLE, DEFAULT_RANK = 10_000, 2000
"""Up to so many training inputs all are features of the prior, and of more so many."""
_GOLDEN = 0x9E3779B97F4A7C15
_LEFT = 0.01
"""What features may leave of training inputs unsaid, over the noise: the variance of paths was then
at most 2% above the posterior's, in the mean over inputs, for kernels of networks and RBFs."""
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class SamplePathWarning(UserWarning):
    """The features of sample paths leave more of the training inputs' variance than noise hides."""


def warn_of_left_out(rest: Vector, noise: Noise, rank: int, *, stacklevel: int) -> None:
    """Warn where the variance of paths is not the posterior's.

    The variance that features leave of training inputs is drawn like noise that the data do not
    have: next to the noise it is what the paths vary too much by.

    Args:
        rest: the prior variance that the features leave of training inputs, [N].
        noise: the sum of noise and jitter on the diagonal of A, or that of each row, [N]; of
            outputs with a noise of their own [1, C] or [N, C].
        rank: the number of features.
        stacklevel: of the warning, from the caller.
    """
    least = np.min(noise, axis=1) if np.ndim(noise) == 2 else np.reshape(noise, -1)
    with np.errstate(divide="ignore"):
        ratio = float(np.divide(rest, least, out=np.zeros_like(rest), where=rest > 0.0).mean())
    if ratio > _LEFT:
        times = "and there is no noise" if np.isinf(ratio) else f"{ratio:.2g} times the noise"
        told = (
            f"{rank} features of the prior leave a variance of {rest.mean():.2g} at the training "
            f"inputs, {times}. It is drawn without the covariances between them: the variance of "
            "the paths is larger than the posterior's. Try: a larger rank, or sample_y"
        )
        warnings.warn(told, SamplePathWarning, stacklevel=stacklevel + 1)


class SamplePaths:
    """Paths drawn from a posterior, to be called on inputs: the same paths at every call.

    `GPRegressor.sample_paths` makes them. The values at an input do not depend on the other inputs
    of the call, nor on their order, beyond rounding.

    Args:
        values: values [M, ...] of rows, in the units of the targets.
        left: shares of the prior variance, [M].
        check: checks inputs as a prediction does, and gives the rows.

    Attributes:
        rank: the number of features of the prior.

    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from keras2gp import GPRegressor
    >>> gp = GPRegressor(RBF(1.0), noise_variance=0.01).fit([[0.0], [1.0]], [0.0, 1.0])
    >>> paths = gp.sample_paths(3, random_state=0)
    >>> paths([[0.5], [2.0]]).shape
    (2, 3)
    >>> np.allclose(paths([[2.0]]), paths([[0.5], [2.0]])[1:])  # the same functions again
    True
    """

    def __init__(
        self,
        values: Callable[[Any], Array],
        left: Callable[[Any], Array],
        check: Callable[[Any], Any],
        rank: int,
    ) -> None:
        self._values, self._left, self._check = values, left, check
        self.rank = rank

    def __call__(self, x: InputsLike) -> Array:
        """The paths at inputs, as functions without noise, in the units of the targets.

        Args:
            x: inputs, [M, ...].

        Returns:
            Values [M, n_samples], or [M, C, n_samples] with several outputs. With positions
            [M, *positions] stands for [M].

        Raises:
            InputError: x does not fit the training inputs.

        >>> import numpy as np
        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> paths = gp.sample_paths(3)
        >>> x = np.linspace(0.0, 5.0, 6)[:, None]
        >>> bool(np.allclose(paths(x)[2:4], paths(x[2:4])))
        True
        """
        return self._values(self._check(x))

    def left_out(self, x: InputsLike) -> Array:
        """The share of the prior variance at inputs that the features of the prior leave, [M].

        If it is 0 at all training inputs, the covariance of the paths between inputs where it is 0
        too is exactly the posterior's. Where it is not 0, that share is drawn independently for
        each input.

        Args:
            x: inputs, [M, ...].

        Returns:
            Shares from 0 to 1.

        Raises:
            InputError: x does not fit the training inputs.
        """
        return self._left(self._check(x))


@dataclass(frozen=True)
class Prior:
    """Draws from the prior, as functions.

    Attributes:
        covariance: the kernel of rows.
        basis: Z, rows of the kernel.
        lower: L, [R, R].
        weights: L^-T w, [R, draws].
        seed: of e.
        error: relative error of the kernel's entries.
    """

    covariance: Any
    basis: Any
    lower: Matrix
    weights: Matrix
    seed: int
    error: float

    def __call__(self, rows: InputsLike) -> tuple[Vector, Matrix]:
        """The share of the variance that Z leaves of rows, [M], and f of them, [M, draws]."""
        cross = kernel_values(
            self.covariance(rows, self.basis), (len(rows), len(self.lower)), "the kernel matrix"
        ).astype(np.float64)
        variance = check_variances(
            self.covariance.diag(rows), len(rows), "the diagonal of the kernel"
        )
        features = solve_triangular(self.lower, cross.T, lower=True)
        rest = np.maximum(variance - np.einsum("rm,rm->m", features, features), 0.0)
        values = cross @ self.weights
        rest = self.add_rest(values, rows, variance, rest)
        share = np.divide(rest, variance, out=np.zeros_like(rest), where=variance > 0.0)
        return share, values

    def add_rest(self, values: Matrix, rows: InputsLike, variance: Vector, rest: Vector) -> Vector:
        """The variance that Z leaves of rows, 0 below rounding; what is drawn of it is added to f.

        Args:
            values: k(x, Z) L^-T w, [M, draws]; f when this returns.
            rows: x.
            variance: k(x, x), [M].
            rest: r(x), [M].
        """
        # Entries err: what is below their error is nothing that Z leaves.
        rest = np.where(rest > 10.0 * self.error * variance, rest, 0.0)
        some = np.flatnonzero(rest)
        if some.size:
            draws = normals_of(rows[some], self.seed, values.shape[1])
            values[some] += np.sqrt(rest[some])[:, None] * draws
        return rest


def prior_of(
    training: Training, covariance: Any, around: Any, *, rank: int | None, random: Any, draws: int
) -> tuple[Prior, Vector, Matrix]:
    """Draws from the prior with features at training inputs, and at those of `around`.

    Math: K = F F^T + the rest, F of the rows X and those of `around`, L its rows at Z;  f(X) = F w
        and what is drawn of the rest

    Args:
        training: the covariance of the training inputs; its kernel computes what is needed.
        covariance: the kernel of rows.
        around: further rows, or None.
        rank: the largest number of training inputs in Z; pivots of a partial Cholesky factor. None
            for all of up to WHOLE, and DEFAULT_RANK of more.
        random: the generator.
        draws: the number of functions.

    Returns:
        The draws, and of the training inputs the variance that Z leaves, [N], and the draws'
        values, [N, draws].

    Raises:
        InputError: the memory does not suffice.
    """
    rows, error = training.x, relative_error(training.dtype, len(training))
    count = len(rows)
    if rank is None:
        rank = count if count <= WHOLE else DEFAULT_RANK
    whole, more = rank >= count, 0 if around is None else len(around)
    size, every = min(rank, count) + more, count + more
    require_memory(
        8 * (size * (every + size) + whole * every**2 + 3 * (every + size) * draws),
        f"{draws} paths through {size} features of the prior",
        "a lower rank, fewer samples, or fewer inputs in around",
    )
    chosen: Any = range(count)
    if not whole:
        chosen = sorted(randomly_pivoted(training, rank, error, seed=0).pivots)
    source = Training(covariance, rows if around is None else _joined(rows, around), None)
    if whole:
        source = source.computed()
    partial = partial_cholesky(source, [*chosen, *range(count, every)], error)
    kept = np.array(partial.pivots, dtype=np.intp)
    lower = partial.factor[kept]
    normal = random.standard_normal((len(kept), draws))
    weights = solve_triangular(lower, normal, lower=True, trans=1)
    prior = Prior(covariance, source.x[kept], lower, weights, int(random.randint(2**31 - 1)), error)
    values = partial.factor[:count] @ normal
    rest = prior.add_rest(values, rows, partial.diagonal[:count], partial.residual[:count])
    return prior, rest, values


def normals_of(rows: InputsLike, seed: int, count: int) -> Matrix:
    """Standard normal numbers of inputs, [M, count], which are functions of the input and the seed.

    Equal inputs, in whatever floating-point type, have the same; those of others are independent,
    as far as a hash of 64 bits is.

    Args:
        rows: inputs, or Positioned ones.
        seed: of all of them.
        count: numbers of each.
    """
    keys = np.array([_key(row) for row in _each(rows)], dtype=np.uint64)
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    start = _mixed(np.array([seed], dtype=np.uint64) + np.uint64(_GOLDEN))
    bits = _mixed(_mixed(keys ^ start)[:, None] + steps)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    result: Matrix = ndtri(uniform)
    return result


def _mixed(state: Array) -> Array:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014); whole numbers wrap around."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    mixed: Array = state ^ (state >> np.uint64(31))
    return mixed


def _each(rows: Any) -> Any:
    return (rows[i] for i in range(len(rows)))


def _key(row: Array) -> int:
    """A hash of one input: of its numbers in float64, or of its texts."""
    if row.dtype.kind in "US":
        content = "\0".join(map(str, row.ravel())).encode()
    else:
        content = (np.ascontiguousarray(row, dtype=np.float64) + 0.0).tobytes()
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _joined(first: Any, second: Any) -> Any:
    """Rows one after another."""
    if isinstance(first, Positioned):
        images = np.concatenate([first.images, second.images])
        rows = np.concatenate([first.rows, second.rows + len(first.images) * first.count])
        return Positioned(images, first.count, rows)
    joined: Images = np.concatenate([first, second])
    return joined


def corrections(system: LinearSystem, prior: Matrix, noise: Noise, random: Any) -> Matrix:
    """-A^-1 (f(X) + noise), [N, draws]: what the data take away from draws of the prior.

    Args:
        system: the linear system of the fit.
        prior: f(X), [N, draws].
        noise: the sum of noise and jitter on the diagonal of A, or that of each row, [N]; of
            outputs with a noise of their own [1, C] or [N, C].
        random: the generator.

    Raises:
        InputError: the system solves for no other right-hand sides.
        NumericalError: a solve does not reach its tolerance.
    """
    if not isinstance(system, Solving):
        raise InputError(
            f"sample paths need solves with other targets, which {type(system).__name__} has not "
            "got. Try: solver='cholesky'"
        )
    root: Noise = np.sqrt(noise)
    if np.ndim(noise) == 2:  # the draws of an output stand side by side
        root = np.repeat(root, prior.shape[1] // np.shape(noise)[1], axis=1)
    else:
        root = column_of(root)
    noisy = prior + root * random.standard_normal(prior.shape)
    result: Matrix = -system.solve(noisy)
    return result
