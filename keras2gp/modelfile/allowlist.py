"""The allow-list: Keras classes that a model file may name.

A file names classes by module and name, and Keras imports the named module. Therefore a name is
first compared with these lists, as text. Layers and operations come from the column `in_files` of
the table of layers. Classes that hold or fetch code are left out on purpose
(Lambda, TFSMLayer, TorchModuleWrapper, JaxLayer, FlaxLayer, operations that take functions).
Classes that can read files (StringLookup, IntegerLookup, TextVectorization) are read only where
their vocabulary stands in the file (config_values.py, vocabularies.py). A Keras layer that is
missing here is refused with a message; read its from_config and build before you add it.
"""

from __future__ import annotations

from collections.abc import Mapping

from keras2gp import layer_table
from keras2gp.layer_table import Entry

__all__ = ["ACTIVATIONS", "ARRAY_DTYPES", "FOREIGN_CODE", "LAYERS", "MODELS", "OBJECTS", "OPS"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODELS: dict[str, frozenset[str]] = {
    "keras": frozenset({"Sequential"}),
    "keras.models": frozenset({"Sequential"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.models.sequential": frozenset({"Sequential"}),
}


def _by_module(table: Mapping[str, Entry]) -> dict[str, frozenset[str]]:
    """The names of a table that a model file may hold, by module."""
    names: dict[str, frozenset[str]] = {}
    for entry in table.values():
        if entry.in_files:
            names[entry.module] = names.get(entry.module, frozenset()) | {entry.name}
    return names


LAYERS = _by_module(layer_table.LAYERS)
OPS = _by_module(layer_table.OPERATIONS)
FOREIGN_CODE = frozenset(entry.name for entry in layer_table.LAYERS.values() if entry.runs_code)

OBJECTS: dict[str, frozenset[str]] = {
    "keras": frozenset({"DTypePolicy", "FloatDTypePolicy"}),
    "keras.constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"}),
    "keras.dtype_policies": frozenset({"DTypePolicy", "DTypePolicyMap", "FloatDTypePolicy"}),
    "keras.initializers": _names(
        "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform "
        "Ones Orthogonal RandomNormal RandomUniform STFT TruncatedNormal VarianceScaling "
        "Zeros"
    ),
    "keras.random": frozenset({"SeedGenerator"}),
    "keras.regularizers": frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"}),
}

ACTIVATIONS = _names(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
    leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax
    softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink
    threshold
    """
)

ARRAY_DTYPES = _names(
    "bfloat16 bool float16 float32 float64 int16 int32 int64 int8 uint16 uint32 uint64 uint8"
)
