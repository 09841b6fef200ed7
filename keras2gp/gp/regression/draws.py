"""Draws from the posterior of a regression: at given inputs jointly, and functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, InputsLike, Matrix
from keras2gp._util.checks import truth, whole_number
from keras2gp.errors import InputError
from keras2gp.gp.process.sampling import random_generator
from keras2gp.gp.regression.distribution import RegressionDistribution
from keras2gp.gp.regression.paths import Prior, SamplePaths, corrections, prior_of, warn_of_left_out
from keras2gp.gp.solvers.inducing import InducingSystem
from keras2gp.gp.solvers.precision import relative_error

__all__ = ["RegressionDraws"]


class RegressionDraws(RegressionDistribution):
    """Samples and sample paths of a fit to real targets; see GPRegressor."""

    def sample_y(
        self,
        X: InputsLike,  # noqa: N803 (scikit-learn's name)
        n_samples: int = 1,
        random_state: Any = 0,
        *,
        observations: bool = False,
    ) -> Array:
        """Draws from the joint posterior at X, of the latent function or of new observations.

        Where the noise is chosen each draw has a scale of its own, drawn too: they are of the
        multivariate Student's t, and outputs are independent.

        Args:
            X: inputs.
            n_samples: number of draws.
            random_state: an integer, None, or a numpy RandomState, as in scikit-learn.
            observations: of new observations, with noise, and not of the function.

        Shapes:
            X [M, features] or [M, *shape]; draws [M, n_samples] or [M, C, n_samples]. With
            positions [M, *positions] stands for [M].

        Returns:
            Draws in the units of the targets.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: X does not fit the training inputs, or the memory does not suffice.
            NumericalError: the posterior covariance has an eigenvalue further below zero than
                rounding explains.

        >>> import numpy as np
        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> gp.sample_y([[0.5], [3.0]], n_samples=5).shape
        (2, 5)
        """
        with_noise = truth("observations", observations)
        x = self._test_inputs(X)
        noise = self._noise_of_observations() if with_noise else 0.0
        factors, student = self._factors, self._student
        draws = self._samples(
            x, n_samples, random_state, factors=factors, student=student, noise=noise
        )
        return self._by_position(self._units.draws(draws, self._prior_mean(x)))

    def sample_paths(
        self,
        n_samples: int = 1,
        random_state: Any = 0,
        *,
        rank: int | None = None,
        around: Any = None,
    ) -> SamplePaths:
        """Functions drawn from the posterior, to be computed at any number of inputs.

        `sample_y` draws at M inputs jointly, and takes time with M^3; a path takes one solve for
        each sample, and then time with M (N + R^2) for the R inputs in Z. It is a draw of the
        prior, through features of the kernel at Z, less what the data correct of it. Z are
        training inputs, and those of `around`. Where Z holds all training inputs, as it does by
        default for N up to 10 000, the variance of the paths is the posterior's. Where it does not,
        the prior is drawn without the covariances between those that Z leaves. A
        SamplePathWarning says so where what Z leaves is more than a hundredth of the noise. The
        covariance is the posterior's too, but for the part of the prior's that Z leaves, which is
        drawn independently for each input: `left_out` of the paths says how much that is.

        With solvers Nystroem() and ProjectedProcess(), Z are their inducing inputs, and no solve is
        needed.

        Args:
            n_samples: number of paths.
            random_state: an integer, None, or a numpy RandomState, as in scikit-learn.
            rank: the largest number of training inputs in Z: fewer are faster, and approximate.
                None for all of up to 10 000, and 2000 of more.
            around: further inputs in Z: some of those where the paths will be asked for.

        Returns:
            The paths, to be called on inputs.

        Raises:
            NotFittedError: the estimator is not fitted.
            InputError: the kernel is precomputed, an argument does not fit, or the memory does
                not suffice.
            NumericalError: a solve does not reach its tolerance.

        References:
            Wilson et al. 2020, Efficiently sampling functions from Gaussian process posteriors.

        >>> import numpy as np
        >>> from sklearn.gaussian_process.kernels import RBF
        >>> from keras2gp import GPRegressor
        >>> gp = GPRegressor(RBF(1.0), noise_variance=0.1).fit([[0.0], [1.0]], [0.0, 1.0])
        >>> gp.sample_paths(5)(np.linspace(0.0, 9.0, 1000)[:, None]).shape
        (1000, 5)
        """
        self._require_fitted()
        count, random = whole_number("n_samples", n_samples, 1), random_generator(random_state)
        if rank is not None:
            whole_number("rank", rank, 1)
        if self.precomputed:
            raise InputError(
                "sample paths need the kernel between new inputs and others, which a precomputed "
                "matrix does not hold. Try: a kernel, or sample_y"
            )
        near = None if around is None else self._test_inputs(around)
        draws, outputs = count * self.targets_.shape[1], self.targets_.shape[1]
        covariance, system = self._covariance, self.system_
        if isinstance(system, InducingSystem):
            if near is not None:
                raise InputError(
                    f"around: the features of solver {self.solver_report_.solver!r} are its "
                    "inducing inputs. Try: without around, or an exact solver"
                )
            weights = system.draws(random.standard_normal((system.basis, draws)))
            seed = int(random.randint(2**31 - 1))
            error = relative_error(getattr(covariance, "dtype", np.float64), system.basis)
            prior = Prior(covariance, self._basis, system.lower, weights, seed, error)
            taken: Matrix | None = None
        else:
            training, noise = self._saved_training(None), self._shift()
            prior, rest, at_data = prior_of(
                training, covariance, near, rank=rank, random=random, draws=draws
            )
            warn_of_left_out(rest, noise, len(prior.lower), stacklevel=2)
            taken = corrections(system, at_data, noise, random)
        root = np.sqrt(self._student.factors(self.scale_, self._counts, count, random))

        def values(x: InputsLike) -> Array:
            parts = []
            for part in self._batches(len(x)):
                cross = self._cross(x[part])
                drawn = prior(x[part])[1]
                if taken is not None:
                    drawn += cross @ taken
                mean = cross @ self.weights_
                parts.append(mean[:, :, None] + root * drawn.reshape(-1, outputs, count))
            found = np.concatenate(parts)
            return self._by_position(self._units.draws(found, self._prior_mean(x)))

        def left(x: InputsLike) -> Array:
            parts = [prior(x[part])[0] for part in self._batches(len(x))]
            return self._by_position(np.concatenate(parts))

        return SamplePaths(values, left, self._test_inputs, len(prior.lower))
