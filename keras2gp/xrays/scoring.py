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
from keras2gp.xrays.arguments import Inputs, checked_subsets, taken, without_mean
from keras2gp.xrays.directory import Directory, scores_file
from keras2gp.xrays.scores import Scores, Task, scored
from keras2gp.xrays.sharing import Share, chosen_rows, shares_of
from keras2gp.xrays.variants import Variant

__all__ = ["Scoring"]


class Scoring:
    """How the variants of an X-ray are scored.

    Args:
        x: the rows.
        task: their targets.
        test: test rows; None for none.
        halvings: of the rows, for standard errors.
        seed: of the halvings, and of the rows of those that have fewer.

    Attributes:
        rows: number of rows.
        shares: how the matrix of each variant is computed, by its key; see `plan`.

    Raises:
        InputError: the rows of a half have one label.
    """

    def __init__(
        self, x: Inputs, task: Task, test: Inputs | None, halvings: int, seed: int
    ) -> None:
        self._x, self._task, self._test = x, task, test
        self._halvings, self._seed = halvings, seed
        self.rows = len(task.y)
        self.shares: dict[str, Share] = {}
        self._alone: set[str] = set()
        checked_subsets(task, halvings, seed)

    def plan(self, variants: Sequence[Variant], full_work: float, rows: int | None = None) -> None:
        """Decide how the matrices of variants with kernels are computed; see `shares_of`.

        Args:
            variants: the model as it is first.
            full_work: as for `shares_of`.
            rows: random ones on which all of them are compared at most; None for all rows.

        Raises:
            InputError: the fewer rows have too few of a rare label.
        """
        others = 0 if self._task.test is None else len(self._task.test)
        most = self.rows if rows is None else rows
        if most < self.rows:
            checked_subsets(self._of_rows(most), self._halvings, self._seed)
        shares = shares_of(variants, most, others, full_work)
        for variant, share in zip(variants, shares, strict=True):
            self.shares[variant.key] = share
            if share.rows == most:
                continue
            try:
                checked_subsets(self._of_rows(share.rows), self._halvings, self._seed)
            except InputError:  # too few of a rare label
                self.shares[variant.key] = replace(share, rows=most)

    def file(self, variant: Variant) -> str:
        """The name of a variant's scores in a directory."""
        return scores_file(self._named(variant.key, self.shares[variant.key].rows))

    def there(self, variant: Variant, work: Directory) -> Scores | None:
        """The scores of a variant that an earlier run has left."""
        return work.scores(self._named(variant.key, self.shares[variant.key].rows))

    def scores(
        self, variant: Variant, work: Directory, executor: ExecutorLike, rows: int | None = None
    ) -> Scores:
        """The scores of a variant that has a kernel.

        Args:
            variant: it.
            work: the directory.
            executor: as for `gram`.
            rows: number of rows; None for its own.

        Raises:
            NumericalError: its kernel is singular or overflows.
        """
        share = self.shares[variant.key]
        count = share.rows if rows is None else rows
        name = self._named(variant.key, count)
        earlier = work.scores(name)
        if earlier is not None:
            return earlier
        task = self._of_rows(count)
        if task.regression:
            task = without_mean(task, share.own, taken(self._x, self._chosen(count)), self._test)
        matrix = self._matrix(variant, share, work, None, executor)
        cross = None
        if self._test is not None:
            cross = self._matrix(variant, share, work, self._test, executor)
        if count < share.rows:  # the model, beside a variant that has fewer rows
            chosen = chosen_rows(count, self.rows, self._seed)
            if share.rows < self.rows:  # fewer rows are some of the more
                more = chosen_rows(share.rows, self.rows, self._seed)
                chosen = np.searchsorted(more, chosen)
            matrix = matrix[np.ix_(chosen, chosen)]
            cross = None if cross is None else cross[:, chosen]
        found = scored(matrix, task, checked_subsets(task, self._halvings, self._seed), cross)
        work.write(scores_file(name), found.state())
        return found

    def fill(
        self, variant: Variant, work: Directory, executor: ExecutorLike, progress: Progress
    ) -> None:
        """Compute the matrices of a variant into the directory, where `scores` finds them.

        Args:
            variant: it.
            work: the directory.
            executor: as for `gram`.
            progress: as for `gram`.

        Raises:
            NumericalError: its kernel overflows.
        """
        share = self.shares[variant.key]
        settings: dict[str, Any] = {"executor": executor, "progress": progress}
        for images in (None,) if self._test is None else (None, self._test):
            self._store(variant, share, work, images, **settings)

    def _named(self, key: str, rows: int) -> str:
        return key if rows == self.rows else f"{key}-{rows}"

    def _chosen(self, count: int) -> slice | Indices:
        """The rows of so many: of all a slice, which copies no images."""
        return slice(None) if count == self.rows else chosen_rows(count, self.rows, self._seed)

    def _of_rows(self, count: int) -> Task:
        return replace(self._task, y=self._task.y[self._chosen(count)])

    def _matrix(
        self,
        variant: Variant,
        share: Share,
        work: Directory,
        first: Inputs | None,
        executor: ExecutorLike,
    ) -> Matrix:
        """The covariances of a variant's rows, or of other images and its rows."""
        store, place = self._store(variant, share, work, first, executor=executor)
        values = np.asarray(store)
        return values if place is None else np.ascontiguousarray(values[..., place])

    def _store(
        self,
        variant: Variant,
        share: Share,
        work: Directory,
        first: Inputs | None,
        **settings: Any,
    ) -> tuple[Matrix | GramStore, int | None]:
        """The store of these covariances, by `gram`, and the variant's place if others share it."""
        suffix = ".zarr" if first is None else ".cross.zarr"
        x = taken(self._x, self._chosen(share.rows))
        sides = (x,) if first is None else (first, x)
        if share.place is not None and share.key not in self._alone:
            try:
                name = f"{self._named(share.key, share.rows)}{suffix}"
                return work.store(share.kernel, name, *sides, **settings), share.place
            except NumericalError:  # of one of them: the others may have finite entries
                self._alone.add(share.key)
        name = f"{self._named(variant.key, share.rows)}{suffix}"
        return work.store(share.own, name, *sides, **settings), None
