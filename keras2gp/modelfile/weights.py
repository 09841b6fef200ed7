"""Trained weights out of model files: Keras 3's archives, Keras 2's archives, and HDF5 files.

Only what is asked for is read, after its shape was compared with the layer's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.utils.naming import to_snake_case

from keras2gp._util.keras_objects import KerasLayer, KerasModel, KerasVariable
from keras2gp._util.text import quoted_text
from keras2gp.errors import ModelFileError
from keras2gp.modelfile.archive import printable
from keras2gp.modelfile.hdf5 import fault_of, names_of, opened, text_of
from keras2gp.modelfile.sources import ModelSource, extracted_weights

__all__ = ["cause_of", "load_weights"]

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""Groups in which Keras 2.14 and 2.12 keep the layers of a model."""
_TOP = "model_weights"
_BACKEND = 2**10
_DEEPEST = 6
"""Most components of a weight's name that are compared."""


def cause_of(error: Exception) -> str:
    """The innermost message of an error of Keras, which repeats whole configurations around it."""
    return f"{quoted_text(error)} ({type(error).__name__})"


def load_weights(
    source: ModelSource, version: str | None, model: KerasModel, fixed: list[Any], limit: int
) -> None:
    """Load trained weights, except those of the layers in `fixed`.

    Args:
        source: the file.
        version: the version of Keras that it states, if any.
        model: the model that was built of its configuration.
        fixed: layers whose weights are not loaded.
        limit: most bytes of weights that the file may declare.

    Raises:
        ModelFileError: the weights are damaged, refer to other files, or do not fit the model.
    """
    left_out = {id(variable) for layer in fixed for variable in layer.variables}
    if source.kind == "hdf5":
        with opened(source.path, f"{source.path}:") as file:
            _refuse_flipped(file, source.path, model)
            top = _checked_top(file, source.path, limit)
            _Loader(source.path, left_out).load_by_names(top, model)
        _finish(model)
        return
    with extracted_weights(source, limit) as weights:
        if (version or "").startswith("2."):
            with opened(weights, f"{source.path}: its weights"), h5py.File(weights, "r") as file:
                _Loader(source.path, left_out).load_by_places(file, model)
            _finish(model)
            return
        try:
            model.load_weights(str(weights), objects_to_skip=fixed)
        except Exception as error:
            raise _misfit(source.path, cause_of(error)) from error


def _checked_top(file: h5py.File, path: Path, limit: int) -> h5py.Group:
    """The group of an HDF5 file that holds the weights, of which no link leads elsewhere."""
    if not isinstance(file.get(_TOP, getlink=True), h5py.HardLink):
        raise ModelFileError(f"{path}: holds no {_TOP} of its own, and thus no trained weights")
    top = file[_TOP]
    fault = fault_of(top, limit) if isinstance(top, h5py.Group) else "is no group"
    if fault is not None:
        raise ModelFileError(f"{path}: its {_TOP} {fault}, which Keras never writes")
    return top


def _refuse_flipped(file: h5py.File, path: Path, model: KerasModel) -> None:
    """Refuse kernels of convolutions that Keras 2 stored for Theano: its convolutions flip them."""
    convolutions = (part for part in model._flatten_layers() if "Conv" in type(part).__name__)  # noqa: SLF001
    if text_of(file, "backend", _BACKEND) == b"theano" and any(convolutions):
        raise ModelFileError(
            f"{path}: its convolutions were trained with Theano, which flips their kernels. Try: "
            "load it with Keras 2 on TensorFlow, and save it again; or prior='initializers'"
        )


def _misfit(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"{path}: its weights do not fit the model: {why}")


class _Loader:
    """Assigns the weights of one file. left_out: identities of variables that keep their values."""

    def __init__(self, path: Path, left_out: set[int]) -> None:
        self.path, self.left_out = path, left_out

    def load_by_names(self, top: h5py.Group, model: KerasModel) -> None:
        """Load the groups of an HDF5 file, each of which has the name of a layer."""
        groups = {name.replace("/", "_"): group for name, group in _groups(top)}
        for layer in model.layers:
            variables = [*layer.trainable_weights, *layer.non_trainable_weights]
            if not variables:
                continue
            if layer.name not in groups:
                raise _misfit(self.path, f"it holds none of the layer {printable(layer.name)}")
            self._assign(layer.name, variables, groups[layer.name])

    def _assign(self, name: str, variables: Sequence[Any], group: h5py.Group) -> None:
        """Give the variables of a layer the datasets below its group."""
        found = dict(_datasets(group))
        if len(found) != len(variables):
            raise _misfit(
                self.path,
                f"the layer {printable(name)} has {len(variables)} weights, and the file "
                f"{len(found)}",
            )
        order = _by_name([v.path for v in variables], list(found)) or names_of(
            group, "weight_names"
        )
        if order is None or set(order) != set(found) or len(order) != len(found):
            raise _misfit(self.path, f"those of the layer {printable(name)} have other names")
        for variable, key in zip(variables, order, strict=True):
            self._set(variable, found[key])

    def load_by_places(self, group: h5py.Group, layer: KerasLayer) -> None:
        """Load a layer of a Keras 2 archive, whose groups go by class and number."""
        own = [*layer._trainable_variables, *layer._non_trainable_variables]  # noqa: SLF001
        stored = group.get("vars")
        stored = stored if isinstance(stored, h5py.Group) else {}
        if isinstance(layer, keras.Model):
            own = []
            self._load_container(group, layer)
        if own and len(own) != len(stored):
            raise _misfit(
                self.path,
                f"the layer {printable(layer.name)} has {len(own)} weights, and the file "
                f"{len(stored)}",
            )
        for number, variable in enumerate(own):
            if str(number) not in stored:
                raise _misfit(self.path, f"{printable(variable.path)} is missing")
            self._set(variable, stored[str(number)])
        for name in group:
            part = vars(layer).get(name)  # no property of the layer is run by a name in a file
            if isinstance(part, keras.Layer) and isinstance(group[name], h5py.Group):
                self.load_by_places(group[name], part)

    def _load_container(self, group: h5py.Group, model: KerasModel) -> None:
        """Load the layers of a model: of a class with weights, the k-th has the k-th group."""
        container = next((group[name] for name in _CONTAINERS if name in group), None)
        if not isinstance(container, h5py.Group):
            raise _misfit(self.path, f"it holds none of the layers of {printable(model.name)}")
        places: dict[str, list[tuple[int, str]]] = {}
        for name in container:
            stem, number = _numbered(name)
            if any(True for _ in _datasets(container[name])):
                places.setdefault(stem, []).append((number, name))
        queues = {stem: [name for _, name in sorted(pairs)] for stem, pairs in places.items()}
        for layer in model.layers:
            if not layer.weights:
                continue
            queue = queues.get(to_snake_case(type(layer).__name__), [])
            if not queue:
                raise _misfit(self.path, f"it holds none of the layer {printable(layer.name)}")
            self.load_by_places(container[queue.pop(0)], layer)
        left = [name for queue in queues.values() for name in queue]
        if left:
            raise _misfit(self.path, f"it holds weights of other layers, {printable(left[0])}")

    def _set(self, variable: KerasVariable, dataset: Any) -> None:
        """Give a variable the numbers of a dataset of its shape."""
        if not isinstance(dataset, h5py.Dataset) or tuple(dataset.shape) != tuple(variable.shape):
            shape = getattr(dataset, "shape", None)
            raise _misfit(
                self.path,
                f"{printable(variable.path)} is {tuple(variable.shape)}, and in the file {shape}",
            )
        if id(variable) in self.left_out:
            return
        values = np.asarray(dataset[()])
        if variable.dtype == "bfloat16" and values.dtype == np.dtype("V2"):
            # HDF5 has no such type.
            values = values.view(keras.ops.convert_to_numpy(variable).dtype)
        variable.assign(values)


def _groups(top: h5py.Group, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, h5py.Group]]:
    """The groups of layers below a group, by path; names of layers of Keras 2 may hold "/"."""
    for name in top:
        item = top[name]
        if not isinstance(item, h5py.Group):
            continue
        if "weight_names" in item.attrs or "weight_names0" in item.attrs:
            yield prefix + name, item
        elif depth < _DEEPEST:
            yield from _groups(item, f"{prefix}{name}/", depth + 1)


def _datasets(top: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """The datasets below a group, by path, each once."""
    stack, seen = [("", top)], set()
    while stack:
        prefix, group = stack.pop()
        for name in group if isinstance(group, h5py.Group) else ():
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Dataset):
                yield prefix + name, item
            else:
                stack.append((f"{prefix}{name}/", item))


def _by_name(wanted: list[str], found: list[str]) -> list[str] | None:
    """For each name of a variable the one in the file that ends alike, if that is unambiguous."""
    for plain in (_components, _unnumbered):
        for count in range(1, _DEEPEST + 1):
            ends = {plain(name)[-count:]: name for name in found}
            order = [ends.get(plain(name)[-count:]) for name in wanted]
            if len(ends) == len(found) and None not in order and len(set(order)) == len(order):
                return [name for name in order if name is not None]
    return None


def _components(name: str) -> tuple[str, ...]:
    """The parts of a weight's name, without the ":0" of TensorFlow."""
    return tuple(part.partition(":")[0] for part in name.split("/"))


def _unnumbered(name: str) -> tuple[str, ...]:
    """The parts of a weight's name, without the numbers that Keras makes them unique by."""
    return tuple(re.sub(r"_\d+$", "", part) for part in _components(name))


def _numbered(name: str) -> tuple[str, int]:
    """A group's name without its number, and the number: ("dense", 12), and ("dense", 0)."""
    match = re.fullmatch(r"(.+)_(\d{1,9})", name)
    return (match[1], int(match[2])) if match else (name, 0)


def _finish(model: KerasModel) -> None:
    """Have the layers that compute with what was loaded take note of it."""
    for part in model._flatten_layers():  # noqa: SLF001
        if isinstance(part, keras.layers.Normalization) and part.input_mean is None and part.built:
            part.finalize_state()
