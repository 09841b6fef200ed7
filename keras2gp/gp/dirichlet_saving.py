"""A Dirichlet posterior as arrays for a saved estimator, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras2gp.errors import ModelFileError
from keras2gp.gp.dirichlet import DirichletPosterior, Transformation

__all__ = ["DIRICHLET_FILES", "dirichlet_arrays", "restored_dirichlet"]

DIRICHLET_FILES = ("dirichlet_factor.npy", "dirichlet_alpha.npy", "dirichlet_inner.npy")


def dirichlet_arrays(dirichlet: DirichletPosterior) -> dict[str, npt.NDArray[Any]]:
    """Contents of DIRICHLET_FILES; the last is the classes' inner factors, one after another."""
    inner = np.concatenate([r.reshape(-1) for r in dirichlet.inner])
    arrays = (dirichlet.factor.as_vector(), dirichlet.alpha, inner)
    return dict(zip(DIRICHLET_FILES, arrays, strict=True))


def restored_dirichlet(
    settings: Any,
    arrays: Mapping[str, Any],
    columns: npt.NDArray[np.intp],
    classes: int,
    *,
    wanted: bool,
) -> DirichletPosterior | None:
    """The posterior of the transformation `settings`, if one is wanted.

    Raises: ModelFileError if the arrays do not fit; TypeError or AttributeError for settings that
        are malformed.
    """
    present = [name in arrays for name in DIRICHLET_FILES] + [settings is not None]
    if any(present) != wanted or all(present) != wanted:
        raise ModelFileError("the arrays are not those of its probabilities")
    if not wanted:
        return None
    transformation = Transformation(**settings)
    if not all(isinstance(v, float) and 0.0 < v < math.inf for v in vars(transformation).values()):
        raise ModelFileError(f"{transformation}: expected positive numbers")
    factor, alpha, flat = (arrays[name] for name in DIRICHLET_FILES)
    counts = np.bincount(columns, minlength=classes)
    fits = factor.size == len(columns) and alpha.shape == (len(columns), classes)
    if not fits or flat.shape != (int((counts**2).sum()),):
        raise ModelFileError("the arrays of the Dirichlet posterior do not fit the labels")
    members = [np.flatnonzero(columns == c) for c in range(classes)]
    parts = np.split(flat, np.cumsum(counts**2)[:-1])
    inner = [part.reshape(n, n) for part, n in zip(parts, counts, strict=True)]
    return DirichletPosterior(transformation, factor, alpha, members, inner)
