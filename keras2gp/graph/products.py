"""Products of tensors: factors that depend on each other are written out until none do.

t h + (1 - t) x is a polynomial in independent tensors, and (a + b)^2 - a^2 - b^2 is 2 a b.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from keras2gp.errors import Obstacle
from keras2gp.graph.independence import may_depend
from keras2gp.graph.multiples import (
    base_of,
    gated_product,
    gates_of,
    quotient,
    ratio,
    scaled_by,
)
from keras2gp.graph.normed import halves
from keras2gp.graph.ops import (
    STRAIGHT,
    Activation,
    Composed,
    Polynomial,
    Product,
    Scale,
    Shift,
    Sum,
)
from keras2gp.graph.rewriting import Rewriting, Terms

__all__ = ["ProductRewriting"]

Products = dict[tuple[int, ...], float]
"""Coefficients of products, by the nodes that are their factors, sorted."""
_MOST_PRODUCTS = 512
_ROUNDING = 1e-14


class ProductRewriting(Rewriting):
    """Writes products, and polynomials in independent tensors."""

    obstacles: list[Obstacle]

    def _add_product(self, inputs: tuple[int, ...], path: str) -> int:
        """A product of independent factors: those of one Gaussian tensor are one activation."""
        factors = list(inputs)
        while (pair := self._dependent_factors(factors)) is not None:
            fused = self._fused(Product(), pair, path) or self._gated(pair, path)
            if fused is None:
                self.obstacles.append(self._refused_product(pair, path))
                break
            for index in pair:
                factors.remove(index)
            factors.append(fused)
        return factors[0] if len(factors) == 1 else self._add(Product(), tuple(factors), path)

    def _gated(self, pair: tuple[int, int], path: str) -> int | None:
        """u phi(LN(u)) as one function of LN(u) times a number; None for other products."""
        parts = gated_product(pair, self.builder.nodes, self.kinds)
        if parts is None:
            return None
        v, function, terms = parts
        scaled = scaled_by(self._add(function, (v,), path), v, terms)
        return self._add(scaled.op, scaled.inputs, path)

    def _beside_its_gate(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with x + x phi(LN(x)) as one function of LN(x) times a number."""
        nodes = self.builder.nodes
        for v in gates_of(pair, nodes):
            first, second = (quotient(index, v, nodes, self.kinds) for index in pair)
            if first is None or second is None:
                continue
            number = first[2]
            factor = ratio(number, second[2])
            if factor is None:
                continue
            functions = tuple(
                index if head is None else self._add(head, (index,), path)
                for index, head, _ in (first, second)
            )
            weighted = Sum((terms[pair[0]], factor * terms[pair[1]]))
            fused = self._fused(weighted, functions, path)
            if fused is not None:
                scaled = scaled_by(fused, v, number)
                node = self._add(scaled.op, scaled.inputs, path)
                left = {i: c for i, c in terms.items() if i not in pair}
                return {**left, node: left.get(node, 0.0) + 1.0}
        return None

    def _of_two_sizes(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with homogeneous functions of two multiples of one Gaussian tensor written out.

        Math: phi(v) = a v + b |v|, and |v| = |r| |u| for v = r u: the sizes are a number times |u|.
        """
        nodes = self.builder.nodes
        first, second = (halves(index, nodes, self.kinds) for index in pair)
        if first is None or second is None:
            return None
        base = base_of(first[0], second[0], nodes)
        if base is None:
            return None
        left = {i: c for i, c in terms.items() if i not in pair}
        sizes = []
        for (v, straight, size), index in zip((first, second), pair, strict=True):
            left[v] = left.get(v, 0.0) + terms[index] * straight
            sizes.append((terms[index] * size, STRAIGHT, v))
        scaled = scaled_by(self._add(Activation("abs"), (base,), path), base, tuple(sizes))
        node = self._add(scaled.op, scaled.inputs, path)
        return {**left, node: left.get(node, 0.0) + 1.0}

    def _refused_product(self, pair: tuple[int, int], path: str) -> Obstacle:
        shared = may_depend(*(self.origins[i] for i in pair))
        why = ", so that the moments of their product are not products of theirs"
        return self._shared_layer(pair, path, "product", shared, why)

    def _polynomial(self, products: Products, path: str, *, squares: bool) -> int | None:
        """The node of a sum of products whose factors are or become independent.

        squares: whether products may hold a factor twice on the way
        """
        while (dependent := self._dependent_factors(_factors(products))) is not None:
            for index in sorted(dependent, reverse=True):
                written = self._written_out(products, index, path, squares=squares)
                if written is not None:
                    products = written
                    break
            else:
                return None
        constant = products.pop((), 0.0)
        if all(len(factors) == 1 for factors in products):
            return None  # a sum
        if any(len(set(factors)) < len(factors) for factors in products):
            return None
        read = _factors(products)
        op = Polynomial(
            tuple((c, tuple(read.index(i) for i in factors)) for factors, c in products.items())
        )
        return self._shift(self._add(op, tuple(read), path), constant, path)

    def _written_out(
        self, products: Products, index: int, path: str, *, squares: bool
    ) -> Products | None:
        """The products with one factor written out; None if it is neither a sum nor a product."""
        node = self.builder.nodes[index]
        squared = self._squared(index) if squares else None
        if squared is not None:
            of, factor = squared
            inner: Products = {(of, of): factor}
        elif isinstance(node.op, Product):
            inner = {tuple(sorted(node.inputs)): 1.0}
        elif isinstance(node.op, Polynomial):
            inner = {tuple(sorted(node.inputs[i] for i in s)): c for c, s in node.op.terms}
        elif isinstance(node.op, Shift):
            inner = {node.inputs: 1.0, (): node.op.constant}
        else:
            parts = self._parts(index, path)
            if parts is None:
                return None
            inner = {(i,): c for i, c in parts.items()}
        result: Products = {}
        for factors, coefficient in products.items():
            expanded: Products = {tuple(i for i in factors if i != index): coefficient}
            for _ in range(factors.count(index)):
                expanded = _multiplied(expanded, inner)
            for both, c in expanded.items():
                if not squares and len(set(both)) < len(both):
                    return None
                result[both] = result.get(both, 0.0) + c
        # n times 1 / n is 1 but for the last digit: what is left of it is no product.
        least = _ROUNDING * max(map(abs, result.values()), default=0.0)
        result = {factors: c for factors, c in result.items() if abs(c) > least}
        return result if 0 < len(result) <= _MOST_PRODUCTS else None

    def _squared(self, index: int) -> tuple[int, float] | None:
        """The node v and the number c of a node c v^2; None for any other node."""
        node = self.builder.nodes[index]
        op = node.op
        if isinstance(op, Activation) and op.name == "square":
            return node.inputs[0], 1.0
        steps = op.steps if isinstance(op, Composed) else ()
        scale = steps[0][0] if len(steps) == 2 else None
        if isinstance(scale, Scale) and steps[1] == (Product(), (1, 1)):
            return node.inputs[0], scale.factor**2
        return (node.inputs[0], 1.0) if steps == ((Product(), (0, 0)),) else None

    def _written_parts(self, indices: Sequence[int]) -> list[int]:
        """The nodes, and those that they are sums of."""
        parts = list(indices)
        for index in parts:
            node = self.builder.nodes[index]
            parts += [i for i in node.inputs if node.op.sum_weights and i not in parts]
        return parts


def _factors(products: Products) -> list[int]:
    """All factors of the products, sorted."""
    return sorted({index for factors in products for index in factors})


def _multiplied(first: Products, second: Products) -> Products:
    """The product of two sums of products."""
    products: Products = {}
    for (one, a), (two, b) in product(first.items(), second.items()):
        both = tuple(sorted((*one, *two)))
        products[both] = products.get(both, 0.0) + a * b
    return products
