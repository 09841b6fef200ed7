"""The table of Keras's layers and operations: how each is read, allowed, widened and documented.

It is the only list of their names. Reader registration (conversion/registry.py), the allow-list of
model files (modelfile/allowlist.py), the widening of random copies (verification/layers.py) and the
table of docs/reference/layers.md (tools/make_tables.py) read it. It imports nothing, so that each
of them may.

A new layer is one function in a module of conversion/layers/ and one row of layers.py.
"""

from keras2gp.layer_table.entry import NO_RULE, Entry
from keras2gp.layer_table.layers import LAYERS
from keras2gp.layer_table.operations import OPERATIONS

__all__ = ["LAYERS", "NO_RULE", "OPERATIONS", "Entry"]
