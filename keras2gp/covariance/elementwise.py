"""Rules of activations, sums, products and factors: pointwise on the maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import chain, islice, permutations, product
from operator import mul
from typing import Any

from keras2gp._util.arrays import ImageMap, PairMap, Tensor
from keras2gp.covariance.base import Covariance, ImageStatistics, Maps, Reach, Rule, RuleContext
from keras2gp.covariance.registry import dual_of, rule
from keras2gp.graph.ops import (
    Activation,
    Composed,
    Gain,
    Polynomial,
    Product,
    Scale,
    Shift,
    Sum,
    Total,
)

__all__ = [
    "ActivationRule",
    "GainRule",
    "PolynomialRule",
    "ProductRule",
    "ScaleRule",
    "ShiftRule",
    "SumRule",
    "TotalRule",
]


@rule(Activation)
@rule(Composed)
class ActivationRule(Rule[Activation]):
    """k' = E[phi(u) phi(v)], by the dual activation.

    Math: Theta' = Theta E[phi'(u) phi'(v)], m' = E[phi(u)]
    """

    def __init__(self, op: Activation) -> None:
        super().__init__(op)
        self.dual = dual_of(op)
        self.needs_inside = not self.dual.anywhere

    def compact(self, *, tangent: bool, reach: Reach = "compact") -> ActivationRule:
        """The rule of the compact dual, whose moments are not numbers at larger variances."""
        own = self.dual.compact(tangent=tangent, reach=reach)
        dual = own or self.dual.compact(tangent=tangent)
        if dual is None:
            return self
        rule = ActivationRule(self.op)
        rule.dual, rule.limited, rule.reaches = dual, True, own is not None
        return rule

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """E[phi(u) phi(v)]."""
        (k,) = maps
        s1, s2 = self._statistics(maps, context)
        if context.is_variance:
            return self._called(context, "variance", k, s1)
        return self._called(context, "covariance", k, s1, s2)

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta E[phi'(u) phi'(v)]."""
        (c,), (theta,) = maps, thetas
        s1, s2 = self._statistics(maps, context)
        if context.is_variance:
            return theta * self._called(context, "derivative_variance", c, s1)
        return theta * self._called(context, "derivative", c, s1, s2)

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """E[phi(u)]."""
        return self.dual.mean(maps[0])

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """The covariance if phi(0) = 0, the tangent kernel where that of its input does."""
        (k,) = inputs
        return self.dual.vanishes, k.ntk is None or k.ntk_zeros

    @property
    def columns(self) -> int:
        """As many as the dual activation needs."""
        return self.dual.columns

    def _statistics(
        self, maps: Maps, context: RuleContext
    ) -> tuple[ImageStatistics, ImageStatistics]:
        return context.statistics(lambda: self._called(context, "prepare", maps[0]))

    def _called(
        self, context: RuleContext, name: str, k: PairMap, *statistics: ImageStatistics
    ) -> Any:
        """The dual's moment of maps and statistics, one subprogram for all equal activations.

        A dual of the user's own is run for each: its code may be any.
        """
        method = getattr(self.dual, name)
        if not type(self.dual).__module__.startswith("keras2gp."):
            return method(k, *statistics)
        counts = [len(side) for side in statistics]

        def part(k: PairMap, *tensors: Tensor) -> Any:
            rest = iter(tensors)
            return method(k, *(tuple(islice(rest, count)) for count in counts))

        return context.called((self.op, name, *counts), part, k, *chain(*statistics))


@rule(Sum)
class SumRule(Rule[Sum]):
    """k' = sum of c_i^2 k_i over independent terms (equation 16), and of their means' products.

    Math: + sum over i != j of c_i c_j m_i(x1) m_j(x2), where terms are features with means m.
          Theta' = sum of c_i^2 Theta_i, m' = sum of c_i m_i
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """sum of c_i^2 k_i + sum over i != j of c_i c_j m_i m_j."""
        c, count = self.op.coefficients, range(len(maps))
        k = sum(k if c * c == 1.0 else c * c * k for c, k in zip(c, maps, strict=True))
        if not context.needs_means:
            return k
        m1, m2 = context.statistics(lambda: tuple(context.mean(i) for i in count))
        return k + sum(c[i] * c[j] * m1[i] * m2[j] for i, j in permutations(count, 2))

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """sum of c_i^2 Theta_i."""
        return sum(c * c * theta for c, theta in zip(self.op.coefficients, thetas, strict=True))

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """sum of c_i m_i."""
        return sum(c * context.mean(i) for i, c in enumerate(self.op.coefficients))


@rule(Product)
class ProductRule(Rule[Product]):
    """k' = product of k_i over independent factors.

    Math: Theta' = sum of Theta_i times the product of the other k_j, m' = product of m_i
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """The product of the k_i."""
        return reduce(mul, maps)

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """sum of Theta_i times the product of the other k_j."""
        others = (reduce(mul, maps[:i] + maps[i + 1 :]) for i in range(len(maps)))
        return sum(theta * other for theta, other in zip(thetas, others, strict=True))

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """The product of the m_i."""
        return reduce(mul, [context.mean(i) for i in range(len(maps))])

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """k' where one k_i does; Theta' where in each of its terms one factor does."""
        zeros = [k.zeros for k in inputs]
        terms = (
            k.ntk is None or k.ntk_zeros or any(zeros[:i] + zeros[i + 1 :])
            for i, k in enumerate(inputs)
        )
        return any(zeros), all(terms)


@rule(Polynomial)
class PolynomialRule(Rule[Polynomial]):
    """k' = sum over s, t of c_s c_t times the moments of their factors, which are independent.

    Math: the moment of a factor of both products is k_i, of one of s alone m_i(x1), of one of t
          alone m_i(x2). Theta' = sum over s, t and over their common factors of Theta_i in the
          place of k_i. m' = sum of c_s times the product of m_i
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """The moments of all pairs of products."""
        return sum(
            weight * reduce(mul, [*both.values(), *means])
            for weight, both, means in self._pairs(maps, context)
        )

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta_i in the place of k_i, one after the other."""
        return sum(
            weight * reduce(mul, [thetas[i], *(k for j, k in both.items() if j != i), *means])
            for weight, both, means in self._pairs(maps, context)
            for i in both
        )

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """sum of c_s times the product of m_i."""
        return sum(c * reduce(mul, map(context.mean, factors)) for c, factors in self.op.terms)

    @property
    def columns(self) -> int:
        """A mean for each input."""
        return max(2, *(1 + i for _, factors in self.op.terms for i in factors))

    def _pairs(
        self, maps: Maps, context: RuleContext
    ) -> Iterator[tuple[float, dict[int, PairMap], list[ImageMap]]]:
        """For s and t: c_s c_t, the covariances of common factors, and the means of the others.

        Pairs with a factor of mean 0 that stands in one of them are left out.
        """
        m1: ImageStatistics = ()
        m2: ImageStatistics = ()
        if context.needs_means:
            m1, m2 = context.statistics(lambda: tuple(map(context.mean, range(len(maps)))))
        for (a, first), (b, second) in product(self.op.terms, repeat=2):
            if not context.needs_means and set(first) != set(second):
                continue
            both = {i: maps[i] for i in first if i in second}
            means = [m1[i] for i in first if i not in both]
            yield a * b, both, means + [m2[i] for i in second if i not in both]


@rule(Total)
class TotalRule(Rule[Total]):
    """k' = count k, and Theta' = count Theta, of a sum over independent channels of mean 0."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """count k."""
        return self.op.count * maps[0]

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """0."""
        return 0.0 * maps[0]


@rule(Shift)
class ShiftRule(Rule[Shift]):
    """k' = k + c (m1 + m2) + c^2 for the constant c, and m' = m + c.

    Math: Theta' = Theta
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """k + c (m1 + m2) + c^2."""
        (k,), c = maps, self.op.constant
        if context.needs_means:
            (m1,), (m2,) = context.statistics(lambda: (context.mean(0),))
            k = k + c * (m1 + m2)
        return k + c * c

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """Theta."""
        return thetas[0]

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """m + c."""
        return context.mean(0) + self.op.constant

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """The constant stays beyond the border."""
        (k,) = inputs
        return False, k.ntk is None or k.ntk_zeros


@rule(Gain)
class GainRule(Rule[Gain]):
    """k' = E[gamma^2] k, and m' = E[gamma] m, for a random factor gamma of each channel.

    Math: Theta' = E[gamma^2] Theta + Var(gamma) k
    """

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """E[gamma^2] k."""
        return self.op.square * maps[0]

    def tangent(self, k: PairMap, maps: Maps, thetas: Maps, context: RuleContext) -> PairMap:
        """E[gamma^2] Theta + Var(gamma) k."""
        return self.op.square * thetas[0] + self.op.variance * maps[0]

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """E[gamma] m."""
        return self.op.mean * context.mean(0)

    def vanishes(self, inputs: Sequence[Covariance]) -> tuple[bool, bool]:
        """k' where k does, Theta' where k and Theta do."""
        (k,) = inputs
        return k.zeros, k.zeros and (k.ntk is None or k.ntk_zeros)


@rule(Scale)
class ScaleRule(Rule[Scale]):
    """k' = factor^2 k, and m' = factor m."""

    def covariance(self, maps: Maps, context: RuleContext) -> PairMap:
        """factor^2 k."""
        return self.op.factor**2 * maps[0]

    def mean(self, maps: Maps, context: RuleContext) -> ImageMap:
        """factor m."""
        return self.op.factor * context.mean(0)
