"""The scores of an X-ray's variants: from its directory, or from their matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras2gp._util.arrays import Indices, Matrix
from keras2gp._util.progress import Progress
from keras2gp.errors import InputError, NumericalError
from keras2gp.matrices.store import GramStore
from keras2gp.matrices.work import ExecutorLike
from keras2gp.xrays.measuring.scores import Scores, score_kernel
from keras2gp.xrays.planning.sharing import Share, chosen_rows, shares_of
from keras2gp.xrays.rows import Inputs, ScoredTargets, checked_halves, take_rows, without_mean
from keras2gp.xrays.running.directory import Directory, scores_file
from keras2gp.xrays.variants.subject import Variant

__all__ = ["Scoring"]


class Scoring:
    """How the variants of an X-ray are scored.

    Args:
        x: the rows.
        targets: the targets of the rows and of the test rows.
        test: test rows; None for none.
        halvings: random halvings of the rows, for standard errors.
        seed: seed of the halvings, and of the rows of variants that have fewer.

    Attributes:
        rows: number of rows.
        shares: how the matrix of each variant is computed, by its key; see `plan`.

    Raises:
        InputError: the rows of a half have one label.
    """

    def __init__(
        self, x: Inputs, targets: ScoredTargets, test: Inputs | None, halvings: int, seed: int
    ) -> None:
        self._x, self._targets, self._test = x, targets, test
        self._halvings, self._seed = halvings, seed
        self.rows = len(targets.y)
        self.shares: dict[str, Share] = {}
        self._alone: set[str] = set()
        checked_halves(targets, halvings, seed)

    def plan(self, variants: Sequence[Variant], full_work: float, rows: int | None = None) -> None:
        """Decide how the matrices of variants with kernels are computed; see `shares_of`.

        Args:
            variants: the variants, the model as it is first.
            full_work: as for `shares_of`.
            rows: number of random rows that variants are compared on at most; None for all.

        Raises:
            InputError: the fewer rows have too few of a rare label.
        """
        others = 0 if self._targets.test is None else len(self._targets.test)
        most = self.rows if rows is None else rows
        if most < self.rows:
            checked_halves(self._of_rows(most), self._halvings, self._seed)
        shares = shares_of(variants, most, others, full_work)
        for variant, share in zip(variants, shares, strict=True):
            self.shares[variant.key] = share
            if share.rows == most:
                continue
            try:
                checked_halves(self._of_rows(share.rows), self._halvings, self._seed)
            except InputError:  # too few of a rare label
                self.shares[variant.key] = replace(share, rows=most)

    def file(self, variant: Variant) -> str:
        """The name of a variant's scores in a directory."""
        return scores_file(self._named(variant.key, self.shares[variant.key].rows))

    def stored_scores(self, variant: Variant, directory: Directory) -> Scores | None:
        """The scores of a variant that an earlier run has left."""
        return directory.scores(self._named(variant.key, self.shares[variant.key].rows))

    def score(
        self,
        variant: Variant,
        directory: Directory,
        executor: ExecutorLike,
        rows: int | None = None,
    ) -> Scores:
        """The scores of a variant that has a kernel.

        Args:
            variant: the variant.
            directory: the directory.
            executor: as for `gram`.
            rows: number of rows; None for its own.

        Raises:
            NumericalError: its kernel is singular or overflows.
        """
        share = self.shares[variant.key]
        count = share.rows if rows is None else rows
        name = self._named(variant.key, count)
        earlier = directory.scores(name)
        if earlier is not None:
            return earlier
        targets = self._of_rows(count)
        if targets.regression:
            targets = without_mean(
                targets, share.own, take_rows(self._x, self._chosen(count)), self._test
            )
        matrix = self._matrix(variant, share, directory, None, executor)
        cross = None
        if self._test is not None:
            cross = self._matrix(variant, share, directory, self._test, executor)
        if count < share.rows:  # the model, beside a variant that has fewer rows
            chosen = chosen_rows(count, self.rows, self._seed)
            if share.rows < self.rows:  # fewer rows are some of the more
                more = chosen_rows(share.rows, self.rows, self._seed)
                chosen = np.searchsorted(more, chosen)
            matrix = matrix[np.ix_(chosen, chosen)]
            cross = None if cross is None else cross[:, chosen]
        result = score_kernel(
            matrix, targets, checked_halves(targets, self._halvings, self._seed), cross
        )
        directory.write(scores_file(name), result.state())
        return result

    def fill(
        self, variant: Variant, directory: Directory, executor: ExecutorLike, progress: Progress
    ) -> None:
        """Compute the matrices of a variant into the directory, where `score` finds them.

        Args:
            variant: the variant.
            directory: the directory.
            executor: as for `gram`.
            progress: as for `gram`.

        Raises:
            NumericalError: its kernel overflows.
        """
        share = self.shares[variant.key]
        settings: dict[str, Any] = {"executor": executor, "progress": progress}
        for images in (None,) if self._test is None else (None, self._test):
            self._store(variant, share, directory, images, **settings)

    def _named(self, key: str, rows: int) -> str:
        return key if rows == self.rows else f"{key}-{rows}"

    def _chosen(self, count: int) -> slice | Indices:
        """The rows of so many: of all a slice, which copies no images."""
        return slice(None) if count == self.rows else chosen_rows(count, self.rows, self._seed)

    def _of_rows(self, count: int) -> ScoredTargets:
        return replace(self._targets, y=self._targets.y[self._chosen(count)])

    def _matrix(
        self,
        variant: Variant,
        share: Share,
        directory: Directory,
        first: Inputs | None,
        executor: ExecutorLike,
    ) -> Matrix:
        """The covariances of a variant's rows, or of other images and its rows."""
        store, place = self._store(variant, share, directory, first, executor=executor)
        values = np.asarray(store)
        return values if place is None else np.ascontiguousarray(values[..., place])

    def _store(
        self,
        variant: Variant,
        share: Share,
        directory: Directory,
        first: Inputs | None,
        **settings: Any,
    ) -> tuple[Matrix | GramStore, int | None]:
        """The store of these covariances, by `gram`, and the variant's place if others share it."""
        suffix = ".zarr" if first is None else ".cross.zarr"
        x = take_rows(self._x, self._chosen(share.rows))
        sides = (x,) if first is None else (first, x)
        if share.place is not None and share.key not in self._alone:
            try:
                name = f"{self._named(share.key, share.rows)}{suffix}"
                return directory.store(share.kernel, name, *sides, **settings), share.place
            except NumericalError:  # of one of them: the others may have finite entries
                self._alone.add(share.key)
        name = f"{self._named(variant.key, share.rows)}{suffix}"
        return directory.store(share.own, name, *sides, **settings), None
