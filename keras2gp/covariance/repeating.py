"""Repetitions in a forward pass: equal stretches of a loop, which one body computes in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from keras2gp._util.arrays import Tensor
from keras2gp.covariance.base import Covariance, ImageStatistics, Offset, Pairs, Parameters, Rule
from keras2gp.covariance.borders import Borders
from keras2gp.graph.ops import Weighted
from keras2gp.graph.repetitions import Repetition

__all__ = ["Stretches"]

Maps = dict[int, Covariance]
Compute = Callable[[Iterable[int], Maps, Borders], None]
"""Adds the maps of some nodes to those of the nodes before."""


class Stretches:
    """The stretches of a repetition, which differ in the numbers of their ops and layers alone.

    pairs:   of images; they have the statistics of all stretches together, [count, ...]
    rules:   the rule of every node; for a time those of one stretch
    tangent: whether the tangent kernel is computed alongside
    """

    def __init__(
        self, repetition: Repetition, pairs: Pairs, rules: dict[int, Rule[Any]], *, tangent: bool
    ) -> None:
        self.repetition = repetition
        self.first = repetition.nodes[0]
        self.pairs = pairs
        self.rules = rules
        self.tangent = tangent
        self._made: dict[int, ImageStatistics] = {}
        self._states: list[Covariance] = []

    def last(
        self, maps: Mapping[int, Covariance], borders: Borders, offset: Offset, compute: Compute
    ) -> Maps:
        """The maps of the last stretch that are read behind it, from those of the nodes before."""
        count, begin = self.repetition.count, 0
        self._states = [self._entering(maps[i]) for i in self.repetition.entering]
        if self.pairs.is_variance(offset):
            # Written out: a loop has to know how many statistics there are, and their shapes.
            begin, written = 1, dict(maps)
            compute(self.first, written, borders)
            self._made = self.pairs.statistics_of(self.first)
            self._states = self._carried(written)
        numbers = self._numbers()

        def stretch(turn: Tensor, tensors: Sequence[Tensor], arrays: Sequence[Any]) -> Any:
            inner = {**maps, **self._read(tensors)}
            made = self._compute(numbers, turn, inner, borders.within(), compute)
            arrays = [a.write(turn - begin, t) for a, t in zip(arrays, made, strict=True)]
            return turn + 1, _tensors(self._states), arrays

        firsts = [t for statistics in self._made.values() for t in statistics]
        arrays = [tf.TensorArray(t.dtype, count - begin, element_shape=t.shape) for t in firsts]
        _, tensors, arrays = tf.while_loop(
            lambda turn, *_: turn < count,
            stretch,
            (tf.constant(begin), _tensors(self._states), arrays),
            parallel_iterations=1,
        )
        stacks = iter(arrays)
        for index, statistics in self._made.items():
            every = (tf.concat([t[None], next(stacks).stack()], 0) for t in statistics)
            self.pairs.store_statistics(index, tuple(every))
        last = self.repetition.nodes[-1]
        states = self._with_tensors(tensors)
        return {last[p]: k for p, k in zip(self.repetition.carried, states, strict=True)}

    def _compute(
        self, numbers: _Numbers, turn: Tensor, maps: Maps, borders: Borders, compute: Compute
    ) -> list[Tensor]:
        """The maps of one stretch, which become the states, and its statistics."""
        rules = numbers.rules(turn)
        before = {index: self.rules[index] for index in rules}
        self.rules.update(rules)
        with self.pairs.in_turn(turn, numbers.parameters(turn)):
            compute(self.first, maps, borders)
            made = self.pairs.statistics_of(self.first) if self._made else {}
        self.rules.update(before)
        self._states = self._carried(maps)
        return [t for index in self._made for t in made[index]]

    def _read(self, tensors: Sequence[Tensor]) -> Maps:
        """The maps of the stretch before, in the places of those before the first one.

        Whether they are 0 beyond the border may differ from stretch to stretch.
        """
        states = self._with_tensors(tensors)
        unknown = (replace(k, zeros=False, ntk_zeros=False) for k in states)
        return dict(zip(self.repetition.entering, unknown, strict=True))

    def _with_tensors(self, tensors: Sequence[Tensor]) -> list[Covariance]:
        rest = iter(tensors)
        return [
            replace(k, nngp=next(rest), ntk=None if k.ntk is None else next(rest))
            for k in self._states
        ]

    def _carried(self, maps: Mapping[int, Covariance]) -> list[Covariance]:
        return [maps[self.first[place]] for place in self.repetition.carried]

    def _entering(self, k: Covariance) -> Covariance:
        """The map of a node before, with a tangent kernel of 0 where it is none yet."""
        missing = self.tangent and k.ntk is None
        return replace(k, ntk=tf.zeros_like(k.nngp)) if missing else k

    def _numbers(self) -> _Numbers:
        nodes = {index: self.repetition.alike(index) for index in self.first}
        rules = {index: [self.rules[i] for i in alike] for index, alike in nodes.items()}
        return _Numbers(self.pairs.parameters, rules)


class _Numbers:
    """The numbers in which stretches differ, by the nodes of the first one."""

    def __init__(self, parameters: Parameters, rules: Mapping[int, Sequence[Rule[Any]]]) -> None:
        self._parameters = parameters
        self._rules = rules
        self._layers: dict[str, tuple[Tensor, Tensor]] = {}
        for alike in rules.values():
            if isinstance(alike[0].op, Weighted):
                both = zip(*(parameters.of(rule.op.layer) for rule in alike), strict=True)
                weights, biases = (tf.stack(values) for values in both)
                self._layers[alike[0].op.layer] = weights, biases

    def parameters(self, turn: Tensor) -> Parameters:
        """Variances of all layers; those of one stretch for the layers of the first."""
        values = {layer: (w[turn], b[turn]) for layer, (w, b) in self._layers.items()}
        return self._parameters.with_values(values)

    def rules(self, turn: Tensor) -> dict[int, Rule[Any]]:
        """The rules of one stretch."""
        dtype = self._parameters.weights[0].dtype
        return {
            index: alike[0].in_turn([rule.op for rule in alike], turn, dtype)
            for index, alike in self._rules.items()
        }


def _tensors(maps: Iterable[Covariance]) -> list[Tensor]:
    return [t for k in maps for t in (k.nngp, k.ntk) if t is not None]
