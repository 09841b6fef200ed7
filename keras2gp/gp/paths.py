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

from keras2gp._util.arrays import Array, Images, Matrix, Noise, Vector
from keras2gp._util.memory import require_memory
from keras2gp.errors import InputError
from keras2gp.gp.kernel_function import check_variances, kernel_values
from keras2gp.gp.positions import Positioned
from keras2gp.gp.solvers.jitter import column_of
from keras2gp.gp.solvers.precision import relative_error
from keras2gp.gp.solvers.preconditioner import partial_cholesky, randomly_pivoted
from keras2gp.gp.solvers.system import LinearSystem, Solving
from keras2gp.gp.solvers.training import Training

__all__ = [
    "DEFAULT_RANK",
    "PathWarning",
    "Paths",
    "Prior",
    "corrections",
    "normals_of",
    "prior_of",
    "warn_of_left_out",
]

DEFAULT_RANK = 2000
_GOLDEN = 0x9E3779B97F4A7C15
_LEFT = 0.01
"""The mean share of the prior variance that features may leave of training inputs unsaid."""
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


class PathWarning(UserWarning):
    """The features of sample paths leave much of the training inputs' prior variance."""


def warn_of_left_out(shares: Vector, rank: int, *, stacklevel: int) -> None:
    """Warn where the variance of paths is not the posterior's.

    Args:
        shares: the share of the prior variance that the features leave of training inputs, [N].
        rank: the number of features.
        stacklevel: of the warning, from the caller.
    """
    if (mean := float(np.mean(shares))) > _LEFT:
        most = float(np.max(shares))
        told = (
            f"{rank} features of the prior leave {mean:.2g} of its variance at the training inputs "
            f"(up to {most:.2g}), which is drawn without the covariances between them: "
            "the variance of the paths is not the posterior's. Try: a larger rank, or sample_y"
        )
        warnings.warn(told, PathWarning, stacklevel=stacklevel + 1)


class Paths:
    """Paths drawn from a posterior, to be called on inputs: the same paths at every call.

    `GPRegressor.sample_paths` makes them. The values at an input do not depend on the other inputs
    of the call, nor on their order.

    Args:
        values: values [M, ...] of rows, in the units of the targets.
        left: shares of the prior variance, [M].
        check: checks inputs as a prediction does, and gives the rows.

    Attributes:
        rank: the number of features of the prior.
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

    def __call__(self, x: Any) -> Array:
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

    def left_out(self, x: Any) -> Array:
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
    """

    covariance: Any
    basis: Any
    lower: Matrix
    weights: Matrix
    seed: int

    def __call__(self, rows: Any) -> tuple[Matrix, Vector, Matrix]:
        """k(x, Z), the share of the variance that Z leaves, and f of rows, [M, draws]."""
        cross = kernel_values(
            self.covariance(rows, self.basis), (len(rows), len(self.lower)), "the kernel matrix"
        ).astype(np.float64)
        variance = check_variances(
            self.covariance.diag(rows), len(rows), "the diagonal of the kernel"
        )
        features = solve_triangular(self.lower, cross.T, lower=True)
        rest = np.maximum(variance - np.einsum("rm,rm->m", features, features), 0.0)
        # Entries err: what is below their error is nothing that Z leaves.
        error = relative_error(getattr(self.covariance, "dtype", np.float64), len(self.lower))
        rest[rest <= 10.0 * error * variance] = 0.0
        values = cross @ self.weights
        some = np.flatnonzero(rest)
        if some.size:
            draws = normals_of(rows[some], self.seed, values.shape[1])
            values[some] += np.sqrt(rest[some])[:, None] * draws
        share = np.divide(rest, variance, out=np.zeros_like(rest), where=variance > 0.0)
        return cross, share, values


def prior_of(
    training: Training, covariance: Any, around: Any, *, rank: int, random: Any, draws: int
) -> Prior:
    """Draws from the prior with features at training inputs, and at those of `around`.

    Args:
        training: the covariance of the training inputs; its kernel computes what is needed.
        covariance: the kernel of rows.
        around: further rows, or None.
        rank: the largest number of training inputs in Z; pivots of a partial Cholesky factor.
        random: the generator.
        draws: the number of functions.

    Raises:
        InputError: the memory does not suffice.
    """
    rows, error = training.x, relative_error(training.dtype, len(training))
    more = 0 if around is None else len(around)
    size = min(rank, len(rows)) + more
    require_memory(
        8 * (len(rows) * min(rank, len(rows)) + 4 * size**2 + 3 * (len(rows) + size) * draws),
        f"{draws} paths through {size} features of the prior",
        "a lower rank, fewer samples, or fewer inputs in around",
    )
    chosen = randomly_pivoted(training, min(rank, len(rows)), error, seed=0).pivots
    basis = rows[np.sort(np.array(chosen, dtype=np.intp))]
    if around is not None:
        basis = _joined(basis, around)
    whole = Training(covariance, basis, None)
    given = whole.among(list(range(len(basis))))
    partial = partial_cholesky(Training(covariance, basis, given), range(len(basis)), error)
    kept = np.array(partial.pivots, dtype=np.intp)
    lower = partial.factor[kept]
    normal = random.standard_normal((len(kept), draws))
    weights = solve_triangular(lower, normal, lower=True, trans=1)
    return Prior(covariance, basis[kept], lower, weights, int(random.randint(2**31 - 1)))


def normals_of(rows: Any, seed: int, count: int) -> Matrix:
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
    root = np.sqrt(noise)
    if np.ndim(noise) == 2:  # the draws of an output stand side by side
        root = np.repeat(root, prior.shape[1] // np.shape(noise)[1], axis=1)
    else:
        root = column_of(root)
    noisy = prior + root * random.standard_normal(prior.shape)
    result: Matrix = -system.solve(noisy)
    return result
