"""The table of layers: it is complete, its readers exist, and every row has a case here."""

# ruff: noqa: PLW0108 (a layer belongs to one model: it is made when it is called)

import importlib
import pkgutil

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from keras.src.ops.operation import Operation
from networks import conv

import keras2gp
from keras2gp.conversion.registry import built_in, runs_code
from keras2gp.layer_table import LAYERS, NO_RULE, OPERATIONS, wording
from keras2gp.verification import layers as widening

SHAPES = {0: (6,), 1: (6, 2), 2: (4, 6, 2), 3: (4, 4, 6, 2)}


def dense(x):
    return layers.Dense(8)(x)


def features(x):
    return conv(x) if len(x.shape) > 2 else dense(x)


def of(layer):
    """Input -> random layer -> this layer."""
    return lambda x: layer(features(x))


def ranked(name, *args, ranks=(1, 2, 3), **settings):
    """One case for each rank of a layer."""
    return {
        f"{name}{rank}D": (
            rank, of(lambda h, kind=f"{name}{rank}D": getattr(layers, kind)(*args, **settings)(h))
        )
        for rank in ranks
    }  # fmt: skip


LAYER_CASES = {
    "Dense": (0, lambda x: layers.Dense(8)(x)),
    **ranked("Conv", 8, 2),
    "EinsumDense": (2, lambda x: layers.EinsumDense("abcd,de->abce", (4, 6, 8))(x)),
    **{f"Conv{n}DTranspose": (n, of(lambda h, n=n: getattr(layers, f"Conv{n}DTranspose")(8, 2)(h)))
       for n in (1, 2, 3)},
    **ranked("DepthwiseConv", 2, ranks=(1, 2)),
    **ranked("SeparableConv", 8, 2, ranks=(1, 2)),
    "Embedding": (0, lambda x: layers.Embedding(5, 8)(x)),
    "SimpleRNN": (1, of(lambda h: layers.SimpleRNN(8)(h))),
    "Bidirectional": (1, of(lambda h: layers.Bidirectional(layers.SimpleRNN(8))(h))),
    "Activation": (0, of(lambda h: layers.Activation("relu")(h))),
    "ELU": (0, of(lambda h: layers.ELU()(h))),
    "LeakyReLU": (0, of(lambda h: layers.LeakyReLU()(h))),
    "PReLU": (0, of(lambda h: layers.PReLU()(h))),
    "ReLU": (0, of(lambda h: layers.ReLU()(h))),
    "Softmax": (0, of(lambda h: layers.Softmax()(h))),
    "Add": (0, lambda x: layers.Add()([dense(x), dense(x)])),
    "Subtract": (0, lambda x: layers.Subtract()([dense(x), dense(x)])),
    "Average": (0, lambda x: layers.Average()([dense(x), dense(x)])),
    "Multiply": (0, lambda x: layers.Multiply()([dense(x), dense(x)])),
    "Dot": (0, lambda x: layers.Dot(1)([dense(x), dense(x)])),
    "Maximum": (0, lambda x: layers.Maximum()([dense(x), dense(x)])),
    "Minimum": (0, lambda x: layers.Minimum()([dense(x), dense(x)])),
    "Concatenate": (0, lambda x: dense(layers.Concatenate()([dense(x), dense(x)]))),
    "Rescaling": (0, of(lambda h: layers.Rescaling(0.5)(h))),
    "CustomScaleLayer": (0, lambda x: CustomScaleLayer(0.2)([dense(x), dense(x)])),
    "LayerScale": (0, of(lambda h: LayerScale(0.3, 8)(h))),
    "StochasticDepth": (0, of(lambda h: StochasticDepth(0.1)(h))),
    **ranked("AveragePooling", 2),
    **ranked("GlobalAveragePooling"),
    **ranked("AdaptiveAveragePooling", 2),
    **ranked("MaxPooling", 1, 2),
    **{f"GlobalMaxPooling{n}D": (n, of(lambda h, n=n: getattr(layers, f"GlobalMaxPooling{n}D")()(
        getattr(layers, f"GlobalAveragePooling{n}D")(keepdims=True)(h)))) for n in (1, 2, 3)},
    "BatchNormalization": (0, of(lambda h: layers.BatchNormalization()(h))),
    "LayerNormalization": (0, of(lambda h: layers.LayerNormalization()(h))),
    "GroupNormalization": (2, of(lambda h: layers.GroupNormalization(2)(h))),
    "RMSNormalization": (0, of(lambda h: layers.RMSNormalization()(h))),
    "UnitNormalization": (0, of(lambda h: layers.UnitNormalization()(h))),
    "ActivityRegularization": (0, of(lambda h: layers.ActivityRegularization(l2=0.1)(h))),
    "AlphaDropout": (0, of(lambda h: layers.AlphaDropout(0.1)(h))),
    "Dropout": (0, of(lambda h: layers.Dropout(0.1)(h))),
    "GaussianDropout": (0, of(lambda h: layers.GaussianDropout(0.1)(h))),
    "GaussianNoise": (0, of(lambda h: layers.GaussianNoise(0.1)(h))),
    "Identity": (0, of(lambda h: layers.Identity()(h))),
    **ranked("SpatialDropout", 0.1),
    "Flatten": (2, of(lambda h: layers.Flatten()(h))),
    "Reshape": (2, of(lambda h: layers.Reshape((24, 8))(h))),
    "RepeatVector": (0, of(lambda h: layers.RepeatVector(3)(h))),
    "Permute": (2, of(lambda h: layers.Permute((3, 1, 2))(h))),
    "TimeDistributed": (2, of(lambda h: layers.TimeDistributed(layers.Conv1D(8, 2))(h))),
    **ranked("UpSampling"),
    "Resizing": (2, of(lambda h: layers.Resizing(2, 3)(h))),
    **ranked("ZeroPadding"),
    **ranked("Cropping"),
    "CenterCrop": (2, of(lambda h: layers.CenterCrop(2, 3)(h))),
}  # fmt: skip


def operation(name):
    """A case for an operation of one tensor, by its class."""
    kind = getattr(importlib.import_module(OPERATIONS[name].module), name)
    if name == "Threshold":
        return 0, of(lambda h: kind(0.1, 0.0)(h))
    return 0, of(lambda h: kind()(h, *((np.float64(0.5),) if name == "Heaviside" else ())))


OPERATION_CASES = {
    **{
        name: operation(name)
        for name, entry in OPERATIONS.items() if entry.reader == "activation.read_operation"
    },
    "Add": (0, lambda x: dense(x) + dense(x)),
    "Subtract": (0, lambda x: dense(x) - dense(x)),
    "Multiply": (0, of(lambda h: 2 * h)),
    "Divide": (0, of(lambda h: ops.divide(h, 2))),
    "TrueDivide": (0, of(lambda h: h / 2)),
    "Power": (0, of(lambda h: h**3)),
    "Maximum": (0, lambda x: ops.maximum(dense(x), dense(x))),
    "Minimum": (0, of(lambda h: ops.minimum(h, 0.5))),
    "Clip": (0, of(lambda h: ops.clip(h, -1.0, 0.5))),
    "Einsum": (0, lambda x: ops.expand_dims(ops.einsum("ij,ij->i", dense(x), dense(x)), 1)),
    "Take": (2, of(lambda h: ops.take(h, np.array([0, 2, 2]), axis=1))),
    "Matmul": (2, of(lambda h: ops.matmul(np.eye(6)[1:3] - 0.5, h))),
    "Dot": (0, of(lambda h: ops.dot(h, np.ones((8, 3))))),
    "Tensordot": (0, of(lambda h: ops.tensordot(h, np.ones((8, 3)), 1))),
    "Cumsum": (2, of(lambda h: ops.cumsum(h, axis=1))),
    "Roll": (2, of(lambda h: ops.roll(h, 1, axis=2))),
    "Tile": (2, of(lambda h: ops.tile(h, [1, 2, 1, 1]))),
    "Glu": (0, of(ops.glu)),
    "Normalize": (0, of(ops.normalize)),
    "Log": (0, of(lambda h: ops.log(ops.sigmoid(h)))),
    "Split": (0, lambda x: ops.split(dense(x), 2, axis=-1)[1]),
    "Negative": (0, of(lambda h: -h)),
    "Concatenate": (0, lambda x: dense(ops.concatenate([dense(x), dense(x)], -1))),
    "Stack": (0, lambda x: dense(layers.Flatten()(ops.stack([dense(x), dense(x)], axis=1)))),
    "AveragePool": (2, of(lambda h: ops.average_pool(h, 2))),
    "AdaptiveAveragePool": (2, of(lambda h: ops.adaptive_average_pool(h, (2, 3)))),
    "MaxPool": (2, of(lambda h: ops.max_pool(h, 1, 2))),
    "Mean": (2, of(lambda h: ops.mean(h, axis=(1, 2)))),
    "ExpandDims": (0, of(lambda h: ops.expand_dims(h, 1))),
    "Reshape": (2, of(lambda h: ops.reshape(h, (-1, 24, 8)))),
    "Squeeze": (0, of(lambda h: ops.squeeze(ops.expand_dims(h, 1), 1))),
    "Swapaxes": (2, of(lambda h: ops.swapaxes(h, 1, 2))),
    "Resize": (2, of(lambda h: ops.image.resize(h, (2, 3)))),
    "DepthToSpace": (2, of(lambda h: ops.depth_to_space(h, 2))),
    "SpaceToDepth": (2, of(lambda h: ops.space_to_depth(h, 2))),
    "ExtractPatches": (2, of(lambda h: ops.image.extract_patches(h, 2))),
    "Flip": (2, of(lambda h: ops.flip(h, axis=2))),
    "Sum": (2, of(lambda h: ops.sum(h, axis=(1, 2)))),
    "Transpose": (2, of(lambda h: ops.transpose(h, (0, 3, 1, 2)))),
    "GetItem": (2, of(lambda h: h[:, 1:])),
    "Repeat": (2, of(lambda h: ops.repeat(h, 2, axis=1))),
    "Cast": (0, of(lambda h: ops.cast(h, "float64"))),
    "ConvertToTensor": (0, of(lambda h: ops.convert_to_tensor(h))),
    "Pad": (2, of(lambda h: ops.pad(h, ((0, 0), (1, 1), (0, 0), (0, 0))))),
}  # fmt: skip
NO_DUAL = {
    *("Cosh", "Expm1", "Log1p", "LogSoftmax", "Sign", "Sinh", "Softmax", "Sparsemax"),
}  # fmt: skip
"""Activations without a dual: one may be registered, and softmax may stand at the output."""


def report_of(case):
    rank, function = case
    x = keras.Input(SHAPES[rank])
    head = layers.Dense(1, name="head")(layers.Flatten(name="flat")(function(x)))
    return keras2gp.inspect(keras.Model(x, head))


CASES = {("layer", name): case for name, case in LAYER_CASES.items()}
CASES |= {("operation", name): case for name, case in OPERATION_CASES.items()}


@pytest.mark.parametrize(("table", "name"), CASES)
def test_every_row_with_a_reader_is_read(table, name):
    report = report_of(CASES[table, name])
    rows = [row for row in report.rows if row.layer == name]
    assert rows
    assert all(row.became != "refused" for row in rows), report
    assert report.exact == (name not in NO_DUAL | {"Dot", "Einsum", "Tensordot"}), (
        report
    )  # no weights may follow them


def test_every_row_with_a_reader_has_a_case():
    for table, cases in ((LAYERS, LAYER_CASES), (OPERATIONS, OPERATION_CASES)):
        read = {name for name, entry in table.items() if entry.reader}
        assert read == set(cases)


@pytest.mark.parametrize("table", [LAYERS, OPERATIONS], ids=["layers", "operations"])
def test_every_row_says_what_it_becomes_or_why_it_does_not(table):
    for name, entry in table.items():
        assert entry.name == name
        assert bool(entry.reader) == bool(entry.becomes)
        if entry.reader:
            assert callable(built_in(getattr(importlib.import_module(entry.module), name)))
            assert entry.reader.split(".")[1].startswith("read_")
        else:
            assert all(entry.reason)


UNREAD = {
    "LSTM": lambda x: layers.LSTM(4)(layers.Conv1D(8, 2)(x)),
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 4)(*[layers.Conv1D(8, 2)(x)] * 2),
    "RandomCrop": lambda x: layers.RandomCrop(2, 1)(
        layers.Reshape((5, 1, 8))(layers.Conv1D(8, 2)(x))
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_rows_without_a_reader_are_refused_with_their_reason(name):
    obstacles = report_of((1, UNREAD[name])).obstacles
    (obstacle,) = [o for o in obstacles if o.received.startswith(f"{name} of")]
    assert (obstacle.why, obstacle.hint) == LAYERS[name].reason


def test_every_layer_of_keras_is_in_the_table():
    names = {
        name for name, kind in vars(keras.layers).items()
        if isinstance(kind, type) and issubclass(kind, keras.Layer)
    }  # fmt: skip
    kinds = {getattr(keras.layers, entry.name, None) for entry in LAYERS.values()}
    missing = {name for name in names if getattr(keras.layers, name) not in kinds}
    assert missing == set()
    of_keras = {name for name, entry in LAYERS.items() if entry.module == "keras.layers"}
    assert of_keras <= names


def test_every_operation_of_keras_is_in_the_table():
    import keras.src.ops as package

    defined = {("keras.src.activations.activations", name) for name in ("Mish", "ReLU")}
    for found in pkgutil.iter_modules(package.__path__):
        if found.name.endswith("_test"):
            continue
        module = importlib.import_module(f"{package.__name__}.{found.name}")
        defined |= {
            (module.__name__, name) for name, kind in vars(module).items()
            if isinstance(kind, type) and issubclass(kind, Operation)
            and kind is not Operation and kind.__module__ == module.__name__
        }  # fmt: skip
    assert {(entry.module, entry.name) for entry in OPERATIONS.values()} == defined


def test_layers_with_weights_are_those_that_can_be_widened():
    for name, entry in LAYERS.items():
        layer_class = getattr(importlib.import_module(entry.module), name)
        layer = layer_class.__new__(layer_class)
        assert widening.weighted(layer) == bool(entry.weights), name


def test_a_layer_without_a_reason_of_its_own_names_a_reader():
    assert LAYERS["RandomCrop"].reason == NO_RULE
    assert "a reader of your own" in str(report_of((1, UNREAD["RandomCrop"])))


def test_rows_that_run_code_are_those_refused_for_it():
    rows = [entry for table in (LAYERS, OPERATIONS) for entry in table.values()]
    assert {e.name for e in rows if e.runs_code} == {
        e.name for e in rows if e.reason == wording.CODE
    }
    assert not any(e.runs_code and e.in_files for e in rows)
    assert runs_code(layers.Lambda(lambda t: t))
    assert not runs_code(layers.Dense(2))
