"""Sums over branches that share a random layer: rewritten as sums of independent terms.

Each tensor is a formal sum: coefficient * linear map * source, a source being one call of one
random layer. Covariances of summed branches add only if the branches share no source. Where two
branches do, the sum is written out into its terms, and terms that are maps of one tensor become
one: x + x is 2 x with four times the covariance, (x + y) + x is 2 x + y, and x + average_pool(x)
is one map of x, a Combination. Since equal nodes are one node (GraphBuilder), tensors are
recognised by their index.

A sum adds channel by channel. Where concatenated branches are not aligned, a channel of x meets
another channel of x, which is independent of it: OtherChannels marks that branch. The mark moves to
the sources, where it makes another source of each, and goes when all sums are resolved.

The factors of a Product must be independent, which is more than sharing no source: see
independence.py.
"""

from __future__ import annotations

from itertools import combinations

from keras2gp.errors import Obstacle
from keras2gp.graph.graph import Graph, GraphBuilder, Node
from keras2gp.graph.independence import OtherChannels
from keras2gp.graph.multiples import split, sum_of_multiples
from keras2gp.graph.normed import beside, slopes
from keras2gp.graph.ops import (
    Activation,
    Combination,
    Gain,
    Kind,
    Mixture,
    Multiple,
    Op,
    Product,
    Rest,
    Scale,
    Shift,
    Sum,
    Total,
)
from keras2gp.graph.products import ProductRewriting
from keras2gp.graph.rewriting import Terms

__all__ = ["OtherChannels", "resolve_sums"]

Chain = tuple[Op, ...]


def resolve_sums(graph: Graph) -> tuple[Graph, list[Obstacle]]:
    """The same network with every Sum over independent terms, and the sums that have no rule."""
    return _Resolver(graph).run()


class _Resolver(ProductRewriting):
    """Writes a graph anew, every sum as one of independent terms."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(moves=any(node.op.moves_channels for node in graph.nodes))
        self.graph = graph
        self.obstacles: list[Obstacle] = []

    def run(self) -> tuple[Graph, list[Obstacle]]:
        renamed: list[int] = []
        for node in self.graph.nodes:
            inputs = tuple(renamed[i] for i in node.inputs)
            if isinstance(node.op, OtherChannels):
                renamed.append(self._shifted(inputs[0], node.op.shift))
                continue
            renamed.append(self._read(node.op, inputs, node.path))
        return _unmarked(self.builder.graph(renamed[self.graph.output])), self.obstacles

    def _read(self, op: Op, inputs: tuple[int, ...], path: str) -> int:
        """A node of the network: a sum, product or activation over independent tensors."""
        if isinstance(op, Sum):
            return self._add_sum(op, inputs, path)
        if isinstance(op, Product):
            return self._add_product(inputs, path)
        if isinstance(op, Activation) and self.kinds[inputs[0]] is Kind.FEATURES:
            gained = self._before_gain(op, inputs[0], path)
            return gained or self._fused(op, inputs, path) or self._add(op, inputs, path)
        shifted = self.builder.nodes[inputs[0]] if len(inputs) == 1 else None
        if shifted is not None and isinstance(shifted.op, Shift):
            # Constants move outwards, so that an activation sees its Gaussian argument.
            constant = shifted.op.constant
            if isinstance(op, Shift):
                return self._shift(shifted.inputs[0], constant + op.constant, path)
            if isinstance(op, Scale) or op.keeps_constants:
                factor = op.factor if isinstance(op, Scale) else 1.0
                return self._shift(self._add(op, shifted.inputs, path), factor * constant, path)
        return self._add(op, inputs, path)

    def _before_gain(self, op: Activation, index: int, path: str) -> int | None:
        """phi(gamma u) as |gamma| phi(u), for a homogeneous phi; None for another.

        Maps of positions may stand in between, since gamma is one number for each channel.
        """
        between: list[Node] = []
        node = self.builder.nodes[index]
        while node.op.separable is not None:
            between.append(node)
            node = self.builder.nodes[node.inputs[0]]
        gain = node.op
        if not op.homogeneous or not isinstance(gain, Gain):
            return None
        (index,) = node.inputs
        if self.kinds[index] is not Kind.GAUSSIAN and not gain.never_turns:
            return None
        for link in reversed(between):
            index = self._add(link.op, (index,), link.path)
        return self._add(gain.positive, (self._read(op, (index,), path),), node.path)

    def _add_sum(self, op: Sum, inputs: tuple[int, ...], path: str) -> int:
        terms: Terms = {}
        constant = 0.0
        for coefficient, index in zip(op.coefficients, inputs, strict=True):
            node = self.builder.nodes[index]
            if isinstance(node.op, Shift):
                constant += coefficient * node.op.constant
                (index,) = node.inputs  # noqa: PLW2901 (its argument)
            terms[index] = terms.get(index, 0.0) + coefficient
        return self._shift(self._add_terms(terms, path), constant, path)

    def _add_terms(self, terms: Terms, path: str) -> int:
        apart: set[tuple[int, int]] = set()
        while (pair := self._dependent(terms, apart)) is not None:
            resolved = (
                self._joined(terms, pair, path)
                or self._beside_its_norm(terms, pair, path)
                or self._as_function(terms, pair, path)
                or self._beside_its_size(terms, pair, path)
                or self._of_two_sizes(terms, pair, path)
                or self._beside_its_gate(terms, pair, path)
                or self._beside_its_function(terms, pair, path)
                or self._as_polynomial(terms, pair, path)
                or self._as_pairs(terms, pair, path)
                or self._as_total(terms, pair, path)
                or self._expanded(terms, pair, path)
            )
            if resolved is None and self._is_apart(pair):
                apart.add(pair)
                continue
            if resolved is None:
                self.obstacles.append(self._refusal(pair, path))
                break
            terms = resolved
        nonzero = {index: c for index, c in terms.items() if c != 0.0}
        if not nonzero:  # x - x: zero, with the shape of x
            return self._add(Scale(0.0), (next(iter(terms)),), path)
        if len(nonzero) == 1:
            ((index, coefficient),) = nonzero.items()
            return index if coefficient == 1.0 else self._add(Scale(coefficient), (index,), path)
        return self._add(Sum(tuple(nonzero.values())), tuple(nonzero), path)

    def _dependent(self, terms: Terms, apart: set[tuple[int, int]]) -> tuple[int, int] | None:
        """Two terms that share a source; apart: pairs that share one and are uncorrelated."""
        for pair in combinations([i for i, c in terms.items() if c != 0.0], 2):
            if self.sources[pair[0]] & self.sources[pair[1]] and pair not in apart:
                return pair
        return None

    def _is_apart(self, pair: tuple[int, int]) -> bool:
        """Whether the two are uncorrelated at all positions and images, though they share a source.

        Math: E[u phi(v)] = Cov(u, v) E[phi'(v)] = 0 for Gaussian u and v and an even phi.
            E[f g y] = E[f] E[g y] = 0 for a factor f of mean 0 on which neither g nor y depends.
        """
        for first, second in (pair, pair[::-1]):
            node = self.builder.nodes[second]
            while isinstance(node.op, Multiple):  # a number known of each image times another
                node = self.builder.nodes[node.inputs[0]]
            even = isinstance(node.op, Activation) and (node.op.even or isinstance(node.op, Rest))
            gaussian = self.kinds[first] is Kind.GAUSSIAN
            if even and gaussian and self.kinds[node.inputs[0]] is Kind.GAUSSIAN:
                return True
            if self._has_free_factor(first, second):
                return True
        return False

    def _joined(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with the two as one map of the tensor that both are maps of; None without one.

        Of several such tensors the nearest: fewest ops are composed.
        """
        first, second = (self._behind(index) for index in pair)
        base = max(set(first) & set(second), default=None)
        if base is None:
            return None
        chains: dict[Chain, float] = {}
        for index in pair:
            for coefficient, chain in self._chains(index, base):
                chains[chain] = chains.get(chain, 0.0) + terms[index] * coefficient
        chains = {chain: c for chain, c in chains.items() if c != 0.0}
        joined = {i: c for i, c in terms.items() if i not in pair}
        if not chains:
            return {**joined, pair[0]: 0.0}
        index, coefficient = base, 1.0
        if len(chains) > 1:
            op = Combination(tuple(chains.values()), tuple(chains))
            index = self._add(op, (base,), path)
        else:
            ((chain, coefficient),) = chains.items()
            for link in chain:
                index = self._add(link, (index,), path)
        joined[index] = joined.get(index, 0.0) + coefficient
        return joined

    def _beside_its_norm(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with the two as one op, if one is the normalisation of the other."""
        normed = beside(pair, terms, self.builder.nodes)
        if normed is None or normed.norm is None or normed.op is None:
            return None
        node = self._add(normed.op, normed.norm[1], path)
        left = {i: c for i, c in terms.items() if i not in pair}
        return {**left, node: left.get(node, 0.0) + 1.0}

    def _beside_its_size(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with one of the two as a v + b |v|, of a v that is a number times the other."""
        for index, other in (pair, pair[::-1]):
            parts = slopes(index, other, self.builder.nodes, self.kinds)
            if parts is not None:
                v, *factors = parts
                left = {i: c for i, c in terms.items() if i != index}
                size = self._add(Activation("abs"), (v,), path)
                for node, factor in zip((v, size), factors, strict=True):
                    left[node] = left.get(node, 0.0) + terms[index] * factor
                return left
        return None

    def _beside_its_function(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with the two as a multiple of one tensor, and what is uncorrelated with it."""
        left = {i: c for i, c in terms.items() if i not in pair}
        for index, other in (pair, pair[::-1]):
            factors, nodes = (terms[index], terms[other]), self.builder.nodes
            multiple = sum_of_multiples((index, other), factors, nodes, self.kinds)
            if multiple is None:
                parts = split(index, other, factors, nodes, self.kinds)
                if parts is None:
                    continue
                multiple, rest, v = parts
                beside = self._add(rest, (v,), path)
                left[beside] = left.get(beside, 0.0) + terms[index]
            node = self._add(multiple.op, multiple.inputs, path)
            return {**left, node: left.get(node, 0.0) + 1.0}
        return None

    def _as_function(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with the two as one activation of a Gaussian tensor; None if they are not."""
        weighted = Sum(tuple(terms[index] for index in pair))
        fused = self._fused(weighted, pair, path)
        if fused is None:
            return None
        left = {i: c for i, c in terms.items() if i not in pair}
        return {**left, fused: left.get(fused, 0.0) + 1.0}

    def _as_polynomial(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with the two as products of independent tensors; None if they are not.

        t h + (1 - t) x: what depends on each other is written out until nothing does.
        """
        left = {i: c for i, c in terms.items() if i not in pair}
        node = self._polynomial({(i,): terms[i] for i in pair}, path, squares=False)
        return None if node is None else {**left, node: left.get(node, 0.0) + 1.0}

    def _as_pairs(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """All terms as products of independent tensors, where squares cancel; None if they do not.

        (a + b)^2 - a^2 - b^2 is 2 a b.
        """
        if not any(self._squared(index) is not None for index in self._written_parts(pair)):
            return None
        node = self._polynomial({(i,): c for i, c in terms.items() if c}, path, squares=True)
        return None if node is None else {node: 1.0}

    def _as_total(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """Two sums over the same channels as the sum over channels of a sum; None if they are not.

        The channels of one Total are those of another: what is added has one shape.
        """
        first, second = (self.builder.nodes[index] for index in pair)
        if not isinstance(first.op, Total) or first.op != second.op:
            return None
        inner = {first.inputs[0]: terms[pair[0]]}
        inner[second.inputs[0]] = inner.get(second.inputs[0], 0.0) + terms[pair[1]]
        if any(isinstance(self.builder.nodes[i].op, Mixture) for i in inner):
            return None
        total = self._add(first.op, (self._add_terms(inner, path),), path)
        left = {i: c for i, c in terms.items() if i not in pair}
        return {**left, total: left.get(total, 0.0) + 1.0}

    def _behind(self, index: int) -> list[int]:
        """The node and all that it is a separable map of."""
        chain = [index]
        while self.builder.nodes[index].op.separable is not None:
            (index,) = self.builder.nodes[index].inputs
            chain.append(index)
        return chain

    def _chains(self, index: int, base: int) -> list[tuple[float, Chain]]:
        """The node as a sum of maps of `base`: coefficients, and ops from the first to the last."""
        coefficient = 1.0
        links: list[Op] = []
        while index != base:
            op = self.builder.nodes[index].op.separable
            if isinstance(op, Scale):
                coefficient *= op.factor
            elif op is not None:
                links.insert(0, op)
            (index,) = self.builder.nodes[index].inputs
        if len(links) == 1 and isinstance(links[0], Combination):
            inner = links[0]
            both = zip(inner.coefficients, inner.chains, strict=True)
            return [(coefficient * c, chain) for c, chain in both]
        return [(coefficient, tuple(links))]

    def _expanded(self, terms: Terms, pair: tuple[int, int], path: str) -> Terms | None:
        """The terms with the later of the two written out, or the earlier; None if neither can."""
        for index in sorted(pair, reverse=True):
            parts = self._parts(index, path)
            if parts is None:
                continue
            expanded = {i: c for i, c in terms.items() if i != index}
            for part, coefficient in parts.items():
                expanded[part] = expanded.get(part, 0.0) + terms[index] * coefficient
            return expanded
        return None

    def _refusal(self, pair: tuple[int, int], path: str) -> Obstacle:
        shared = self.sources[pair[0]] & self.sources[pair[1]]
        why = " through different maps, so their covariances do not simply add"
        return self._shared_layer(pair, path, "sum", shared, why)


def _unmarked(graph: Graph) -> Graph:
    """The graph without OtherChannels: terms of a sum that are one node there are independent."""
    builder = GraphBuilder()
    renamed: list[int] = []
    for node in graph.nodes:
        inputs = tuple(renamed[i] for i in node.inputs)
        marked = isinstance(node.op, OtherChannels)
        renamed.append(inputs[0] if marked else builder.add(node.op, inputs, node.path))
    return builder.graph(renamed[graph.output])
