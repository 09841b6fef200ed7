"""An independent implementation that carries the covariance of all positions with one another.

Every tensor is a sum of matrices times independent sources, a source being what a layer with
weights or an activation gives: moments of all images at all positions. The matrices of linear
layers are found by running Keras itself on images with a single one, so that its arithmetic of
padding and strides is not repeated here. Numbers are float64, the matrices exact.
"""

from __future__ import annotations

import math

import keras
import numpy as np

from oracles.full_calls import called
from oracles.full_functions import activated, forget, mean_of
from oracles.full_maps import (
    Group,
    Map,
    Source,
    UnknownError,
    added,
    cut_alike,
    made_of,
    mapped,
    matrix_of,
    normalized,
    origins,
    precise,
    side_by_side,
    spread,
    still,
)
from oracles.full_products import (
    beside_its_norm,
    beside_its_size,
    channels,
    highway,
    interleaved,
    multiplied,
    of_its_norm,
    regrouped,
    same_positions,
    scaled_by_one_and,
    shuffled,
    total,
)
from oracles.full_sequences import SEQUENCES, masked_mean
from oracles.full_steps import each_step
from oracles.full_weights import WEIGHTED, correlated, correlation, source_of

__all__ = ["UnknownError", "between_positions", "between_tangents", "full_kernel", "full_tangent"]

_STEP = 2e-5


def full_tangent(model, x1, x2):
    """Tangent kernel [N1, N2] of two sets of different images; see full_kernel."""
    return between_tangents(model, x1, x2)[:, :, 0, 0]


def between_tangents(model, x1, x2):
    """Tangent kernel [N1, N2, P, P] of two sets of different images, between all positions.

    Math: for two networks f and g with Gaussian weights of correlation r, Price's theorem gives
    dE[f(x) g(x')] / dr at r = 1 as the sum over all weights of Var(w) E[df(x)/dw df(x')/dw]; the
    derivative here is a difference of fourth order. There is none where an image's value is
    another's at correlation 1, as where both are the bias alone.
    """
    count = len(x1[0] if isinstance(x1, list) else x1)
    total = count + len(x2[0] if isinstance(x2, list) else x2)
    first = np.arange(total) < count
    values = []
    for step in (-2, -1, 1, 2):
        matrix = np.where(first[:, None] == first, 1.0, 1 + step * _STEP)
        with correlated(matrix):
            values.append(between_positions(model, x1, x2))
    return (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * _STEP)


def full_kernel(model, x1, x2):
    """Kernel matrix [N1, N2]; the output is one position of one channel group."""
    return between_positions(model, x1, x2)[:, :, 0, 0]


def between_positions(model, x1, x2):
    """Kernel [N1, N2, P, P] between the P positions of the output, of one channel group."""
    arrays = zip(*(x if isinstance(x, list) else [x] for x in (x1, x2)), strict=True)
    images = [Map(data=np.concatenate(pair).astype(float)) for pair in arrays]
    count = len(x1[0] if isinstance(x1, list) else x1)
    forget()
    (output,) = evaluate(model, images)
    (group,) = output.groups
    return group.second[:count, count:]


def evaluate(model, inputs):
    functional = model._functional if isinstance(model, keras.Sequential) else model
    known = {id(t): value for t, value in zip(functional.inputs, inputs, strict=True)}

    def value(tensor):
        if id(tensor) not in known:
            operation, index, _ = tensor._keras_history
            node = operation._inbound_nodes[index]
            if len(operation._inbound_nodes) > 1 and type(operation).__name__ in WEIGHTED:
                calls = operation._inbound_nodes
                made = called(operation, [value(call.input_tensors[0]) for call in calls])
                made = [activated(operation, result) for result in made]
                known.update({id(c.outputs[0]): m for c, m in zip(calls, made, strict=True)})
                return known[id(tensor)]
            sources = [value(t) for t in node.input_tensors]
            kind = type(operation).__name__
            if kind == "TimeDistributed":
                made = each_step(operation, sources[0], evaluate)
            elif kind in SEQUENCES:
                made = SEQUENCES[kind](operation, sources, mean_of)
            elif kind == "GlobalAveragePooling1D" and len(sources) > 1 and sources[0].data is None:
                made = masked_mean(sources)
            else:
                made = apply(operation, sources, node)
            made = made if isinstance(made, list) else [made]
            known.update({id(t): m for t, m in zip(node.outputs, made, strict=True)})
        return known[id(tensor)]

    return [value(t) for t in functional.outputs]


def apply(layer, sources, node):
    kind = type(layer).__name__
    source = sources[0]
    if all(s.data is not None for s in sources) and kind not in WEIGHTED:
        return on_data(layer, [s.data for s in sources], node)
    first = getattr(layer, "data_format", None) == "channels_first"
    if source.data is not None and first:
        source = Map(data=np.moveaxis(source.data, 1, -1))
    stated = [source, *sources[1:]]
    sources = [s.random() for s in stated]
    source = sources[0]
    if kind in WEIGHTED:
        start = getattr(layer, "bias_initializer", None)
        start = {"Constant": getattr(start, "value", 0.0), "Ones": 1.0}.get(type(start).__name__, 0)
        return activated(layer, shifted(WEIGHTED[kind](layer, source), start))
    if kind in ("Activation", "ReLU", "LeakyReLU", "Erf", "Sin", "Abs"):
        return activated(layer, source)
    if kind in OTHERS:
        return OTHERS[kind](sources, node)
    if kind in FACTORS:
        random = type(getattr(layer, "gamma_initializer", None)).__name__ == "RandomNormal"
        factor = FACTORS[kind](layer) * np.eye(math.prod(source.spatial))
        return gained(source, layer) if random else mapped(source, factor)
    if kind in COEFFICIENTS:
        numbers = [v for v in node.arguments.args if isinstance(v, int | float)]
        arrays = [v for v in node.arguments.args if isinstance(v, np.ndarray)]
        count = len(source.groups[0].mean)
        stated += [Map(data=np.repeat(v, count, 0).astype(float)) for v in arrays]
        sources = cut_alike(stated)
        total = added(
            same_positions(sources), COEFFICIENTS[kind](layer, len(sources))[: len(sources)]
        )
        return shifted(total, (-1 if kind == "Subtract" else 1) * sum(numbers))
    if kind in NORMALIZATIONS:
        return normalized(source, *NORMALIZATIONS[kind](layer), layer.epsilon)
    if kind == "Reshape" and len(layer.target_shape) > 1:
        return reshaped(source, layer)
    return source if kind in IDENTITIES else linear(layer, source, first)


def reshaped(source, layer):
    """As many positions on other axes, or more of fewer channels, or fewer of more."""
    count, before = math.prod(layer.target_shape[:-1]), math.prod(source.spatial)
    if count > before:
        places = regrouped if source.spatial else spread
        return places(source, layer.target_shape)
    return beside_each_other(source, layer) if count < before else linear(layer, source, False)


def on_data(layer, arrays, node):
    """Keras's own result."""
    if isinstance(layer, keras.Layer):
        made = precise(layer)(arrays if len(arrays) > 1 else arrays[0])
    else:  # such as a slice, with its other arguments
        made = layer(*arrays, *node.arguments.args[len(arrays) :], **node.arguments.kwargs)
    return Map(data=np.asarray(made, "float64"))


IDENTITIES = ("Flatten", "Dropout", "Identity")


def joined(sources, node):
    layer = node.operation
    rank = len(layer.output.shape)
    if layer.axis % rank < rank - 1:
        return side_by_side(sources, layer.axis - 1)
    return Map(sources[0].spatial, [group for s in sources for group in s.groups])


def linear(layer, source, first):
    """A layer that maps positions: run on one channel and one position at a time."""
    changes = {}
    if type(layer) is keras.layers.Reshape:
        changes = {"target_shape": (*layer.target_shape[:-1], 1)}
    return mapped(source, *matrix_of(precise(layer, **changes), source.spatial, first))


def beside_each_other(source, layer):
    """Several positions as groups of channels, by what the layer makes of one channel."""
    if isinstance(layer, keras.layers.Reshape):
        *sizes, last = layer.target_shape
        last //= sum(group.channels for group in source.groups)
        layer = keras.layers.Reshape((*sizes, last), dtype="float64")

    def in_front(basis):
        return np.moveaxis(np.asarray(layer(basis)), -1, 1)[..., None]

    matrix, (count, *spatial) = matrix_of(in_front, source.spatial)
    places = np.split(matrix, count)
    return Map(tuple(spatial), [g.map(place) for place in places for g in source.groups])


def sliced(sources, node):
    """x[:, ::2, 1:4]: positions by the matrix of the index, channels by number."""
    (source,) = sources
    stated = node.arguments.args[1]
    index = list(stated) if isinstance(stated, tuple) else [stated]
    at = index.index(Ellipsis) if Ellipsis in index else len(index)
    missing = len(source.spatial) + 2 - len([key for key in index if key is not Ellipsis])
    *places, last = [*index[:at], *[slice(None)] * missing, *index[at + 1 :]]
    moved = mapped(source, *matrix_of(lambda basis: basis[tuple(places)], source.spatial))
    return channels(moved, *last.indices(sum(g.channels for g in source.groups))[:2])


def halves(sources, node):
    """Half of the channels times the sigmoid of the others."""
    (source,) = sources
    half = sum(g.channels for g in source.groups) // 2
    gate = activated(keras.layers.Activation("sigmoid"), channels(source, half, 2 * half))
    return multiplied([channels(source, 0, half), gate])


def split(sources, node):
    """Channels in equal parts."""
    (source,) = sources
    count = node.operation.indices_or_sections
    size = sum(g.channels for g in source.groups) // count
    return [channels(source, i * size, (i + 1) * size) for i in range(count)]


def shifted(source, constant):
    """A constant added: a source of its own that does not vary."""
    if not constant:
        return source
    groups = []
    for group in source.groups:
        count, places = group.mean.shape
        constants = still(np.full((count, places), float(constant)))
        terms = {**group.terms, (constants, 0): np.eye(places)}
        groups.append(Group(group.channels, terms))
    return Map(source.spatial, groups)


def gained(source, layer):
    """A random factor for each channel: Gaussian no more, if homogeneous functions may follow."""
    law, scale = layer.gamma_initializer, 1 / (1 + layer.epsilon)
    groups = []
    for group in source.groups:
        second = scale * (law.mean**2 + correlation() * law.stddev**2) * group.second
        square = law.mean**2 + law.stddev**2
        made = made_of([group], second, math.sqrt(scale) * law.mean * group.mean)
        made.gain = absolute(law.mean, law.stddev) / math.sqrt(square)
        own = Source(second, made.mean)
        made.factors = ((origins([(own, 0)]), law.mean == 0), *made.factors)
        groups.append(Group(group.channels, {(made, 0): np.eye(second.shape[-1])}))
    return Map(source.spatial, groups)


def absolute(mean, deviation):
    """E|w| of a Gaussian w."""
    z = mean / deviation
    spread = deviation * math.sqrt(2 / math.pi) * math.exp(-z * z / 2)
    return spread + mean * math.erf(z / math.sqrt(2))


def product(sources, node):
    """Branches, or a tensor and a number."""
    if len(sources) > 1:
        return multiplied(sources)
    factor = next(v for v in node.arguments.args if isinstance(v, int | float))
    return mapped(sources[0], factor * np.eye(math.prod(sources[0].spatial)))


def permuted(sources, node):
    """Positions in another order of axes, where the channels stay last."""
    (source,) = sources
    layer, rank = node.operation, len(source.spatial) + 2
    places = [0, *layer.dims] if hasattr(layer, "dims") else list(layer.axes)
    if places[-1] != rank - 1:
        return source
    return mapped(source, *matrix_of(lambda basis: basis.transpose(places), source.spatial))


def reduced(sources, node):
    """A sum or mean, over channels where it says so."""
    (source,), operation = sources, node.operation
    axis = operation.axis if isinstance(operation.axis, int) else operation.axis[0]
    if axis % (len(source.spatial) + 2) != len(source.spatial) + 1:
        return linear(operation, source, False)
    return total(source, -1 if type(operation).__name__ == "Mean" else 1)


def inner(sources, node):
    """The inner product of towers, of unit vectors where it says so."""
    count = sum(g.channels for g in sources[0].groups)
    if node.operation.normalize:
        sources = [normalized(s, False, False, False, 0.0) for s in sources]
    made = total(multiplied(sources), 1)
    return mapped(
        made, np.eye(math.prod(made.spatial)) / (count if node.operation.normalize else 1.0)
    )


def taken(sources, node):
    """Positions of a list."""
    _, places = node.arguments.args
    axis = node.operation.axis
    chosen = matrix_of(lambda basis: np.take(basis, places, axis), sources[0].spatial)
    return mapped(sources[0], *chosen)


def extreme(sign):
    """The larger of two independent Gaussian branches, or the smaller.

    Math: max(a, b) = a + (b - a)+, and E[a (b' - a')+] = -Cov(a, a') / 2 by Stein's lemma, so that
    E[max max'] = E[(b - a)+ (b' - a')+]. min(a, b) = -max(-a, -b).
    """

    def of(sources, node):
        (half,) = activated(keras.layers.ReLU(), added(sources, [-1.0, 1.0])).groups
        both = [group for source in sources for group in source.groups]
        made = made_of(both, half.second, sign * half.mean, function=True)
        places = np.eye(math.prod(sources[0].spatial))
        return Map(sources[0].spatial, [Group(half.channels, {(made, 0): places})])

    return of


def by_matrix(sources, node):
    """Constants times the positions of the last axis."""
    constants, _ = node.arguments.args
    made = matrix_of(lambda basis: np.matmul(constants, basis), sources[0].spatial)
    return mapped(sources[0], *made)


def beside_weights(sources, node):
    """x + x @ kernel + bias."""
    (source,) = sources
    return added([source, WEIGHTED["Dense"](node.operation, source)], [1.0, 1.0])


def beside_biases(sources, node):
    """x + bias, of biases that all positions share: random ones, or one number."""
    (source,), start = sources, node.operation.bias_initializer
    if hasattr(start, "value"):
        return shifted(source, start.value)
    size = sum(g.channels for g in source.groups)
    count, places = source.groups[0].mean.shape
    second = np.full((count, count, places, places), start.stddev**2)
    return added([source, Map(source.spatial, [source_of(second, size)])], [1.0, 1.0])


OTHERS = {
    "NormGate": lambda sources, node: of_its_norm(
        sources[0], node.operation.epsilon, *node.operation.factors, product=node.operation.product
    ),
    "OwnBias": beside_biases,
    "OwnResidual": beside_weights,
    "ChannelShuffle": lambda sources, node: interleaved(sources[0], node.operation.groups),
    "Einsum": lambda sources, node: total(multiplied(sources), 1),
    "Maximum": extreme(1.0),
    "Minimum": extreme(-1.0),
    "Matmul": by_matrix,
    "Take": taken,
    "Beside": lambda sources, node: beside_its_norm(
        sources[0], node.operation.epsilon, *node.operation.factors
    ),
    "BesideSize": lambda sources, node: beside_its_size(
        sources[0], node.operation.epsilon, *node.operation.factors
    ),
    "BesideFunction": lambda sources, node: of_its_norm(
        sources[0], node.operation.epsilon, *node.operation.factors
    ),
    "TimesFunction": lambda sources, node: of_its_norm(
        sources[0], node.operation.epsilon, *node.operation.factors, 0.0, product=True
    ),
    "DepthToSpace": lambda sources, node: shuffled(sources[0], node.operation.block_size),
    "Dot": inner,
    "SpaceToDepth": lambda sources, node: beside_each_other(sources[0], node.operation),
    "ExtractPatches": lambda sources, node: beside_each_other(sources[0], node.operation),
    "Highway": lambda sources, node: highway(sources),
    "Gated": lambda sources, node: scaled_by_one_and(sources),
    "Concatenate": joined,
    "GetItem": sliced,
    "Glu": halves,
    "Mean": reduced,
    "Multiply": product,
    "Permute": permuted,
    "Transpose": permuted,
    "Split": split,
    "Sum": reduced,
}

FACTORS = {
    "BatchNormalization": lambda layer: 1 / math.sqrt(1 + layer.epsilon),
    "LayerScale": lambda layer: layer.init_values,
    "Rescaling": lambda layer: layer.scale,
}

NORMALIZATIONS = {
    "LayerNormalization": lambda layer: (_everywhere(layer.axis), True, True),
    "RMSNormalization": lambda layer: (_everywhere(layer.axis), False, False),
    "GroupNormalization": lambda layer: (True, True, True),
}
"""Whether over all positions, whether centered, whether over the variance."""


def _everywhere(axis):
    return isinstance(axis, list | tuple) and len(axis) > 1


COEFFICIENTS = {
    "Add": lambda layer, count: [1.0] * count,
    "Subtract": lambda layer, count: [1.0, -1.0],
    "Average": lambda layer, count: [1.0 / count] * count,
    "CustomScaleLayer": lambda layer, count: [1.0, layer.scale],
}
