"""Sizes that a model leaves open, and that `input_shape=` states."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras2gp._util.arrays import KerasTensor
from keras2gp._util.checks import whole_number
from keras2gp._util.keras_objects import KerasModel
from keras2gp._util.text import received_text
from keras2gp.errors import InputError

__all__ = ["arguments_of", "one_shape", "sized_inputs"]

_LARGEST = 2**31
_EXPECTED = (
    "expected the sizes of one image without the batch axis, such as (28, 28, 1); for several "
    "inputs a list of them, or a dict by input name"
)


def sized_inputs(inputs: Sequence[KerasTensor], stated: Any) -> list[KerasTensor]:
    """Symbolic inputs of the stated sizes.

    Args:
        inputs: The symbolic inputs of a functional model.
        stated: The value of `input_shape`.

    Returns:
        A tensor for each input, of its dtype; the same object where its sizes agree.

    Raises:
        InputError: A size is no whole number, or is not the model's.
    """
    shapes = _by_name([t.name for t in inputs], stated)
    return [_sized(t, shape) for t, shape in zip(inputs, shapes, strict=True)]


def one_shape(stated: Any) -> tuple[int, ...] | None:
    """The sizes of one input; None where `input_shape` states none, or those of several."""
    return _sizes(stated, "input") if stated is not None and _is_shape(stated) else None


def _by_name(names: Sequence[str], stated: Any) -> list[Any]:
    """One shape for each input."""
    if isinstance(stated, Mapping):
        unknown = [key for key in stated if key not in names]
        missing = [name for name in names if name not in stated]
        if unknown or missing:
            what = f"no input {unknown[0]!r}" if unknown else f"none for the input {missing[0]!r}"
            raise InputError(f"input_shape: {what}. The model's inputs: {', '.join(names)}")
        return [stated[name] for name in names]
    if _is_shape(stated):
        stated = [stated]
    if not isinstance(stated, list | tuple) or not all(map(_is_shape, stated)):
        raise InputError(f"input_shape={received_text(stated)}: {_EXPECTED}")
    if len(stated) != len(names):
        raise InputError(
            f"input_shape: {len(stated)} shapes, and the model has {len(names)} inputs: "
            f"{', '.join(names)}"
        )
    return list(stated)


def _is_shape(value: Any) -> bool:
    if isinstance(value, keras.KerasTensor):
        return True
    return isinstance(value, list | tuple) and not any(
        isinstance(size, list | tuple | Mapping | keras.KerasTensor) for size in value
    )


def _sizes(shape: Any, name: str) -> tuple[int, ...]:
    if isinstance(shape, keras.KerasTensor):
        shape = shape.shape[1:]
    if not _is_shape(shape):
        raise InputError(f"input_shape: {name!r}: {received_text(shape)}: {_EXPECTED}")
    return tuple(int(whole_number(f"input_shape: {name!r}", n, 1, _LARGEST)) for n in shape)


def _sized(tensor: KerasTensor, shape: Any) -> Any:
    """The input with the sizes that are stated. Raises: InputError if they are not the model's."""
    sizes, own = _sizes(shape, tensor.name), tuple(tensor.shape[1:])
    fits = len(sizes) == len(own) and all(
        n in (None, size) for n, size in zip(own, sizes, strict=True)
    )
    if not fits:
        raise InputError(
            f"input_shape: {sizes} for the input {tensor.name!r}, which the model states to be "
            f"{own}"
        )
    if sizes == own:
        return tensor
    return keras.KerasTensor((tensor.shape[0], *sizes), tensor.dtype, name=tensor.name)


def arguments_of(model: KerasModel, stated: Any) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments to call a model with that is code: symbolic tensors of its inputs' sizes.

    Args:
        model: A subclassed model, or a Sequential one that is not built.
        stated: The value of `input_shape`; None for the sizes that the model was built with.

    Returns:
        Positional arguments, and those by name; None if the sizes are not known.

    Raises:
        InputError: A size is no whole number, or there are more shapes than arguments.
    """
    names = _positional(model)
    if stated is None:
        return _built_with(model, names)
    if isinstance(stated, Mapping):
        tensors = {str(key): _tensor(shape, str(key)) for key, shape in stated.items()}
        by_name = len(names) > 1 and set(tensors) <= set(names)
        return ([], tensors) if by_name else ([tensors], {})
    if _is_shape(stated):
        return [_tensor(stated, names[0])], {}
    if not isinstance(stated, list | tuple):
        raise InputError(f"input_shape={received_text(stated)}: {_EXPECTED}")
    if len(names) > 1:
        if len(stated) > len(names):
            raise InputError(
                f"input_shape: {len(stated)} shapes, and {type(model).__name__}.call takes "
                f"{', '.join(names)}"
            )
        return [_tensor(s, name) for s, name in zip(stated, names, strict=False)], {}
    return [[_tensor(s, f"{names[0]}_{i}") for i, s in enumerate(stated)]], {}


def _positional(model: KerasModel) -> list[str]:
    """The names of the arguments of a model's call that hold tensors."""
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.signature(model.call).parameters.values()
    names = [p.name for p in parameters if p.kind in kinds and p.name not in ("training", "mask")]
    needed = [p.name for p in parameters if p.name in names and p.default is p.empty]
    return needed or names[:1] or ["inputs"]


def _tensor(shape: Any, name: str) -> Any:
    dtype = shape.dtype if isinstance(shape, keras.KerasTensor) else "float32"
    return keras.KerasTensor((None, *_sizes(shape, name)), dtype, name=name)


def _built_with(model: KerasModel, names: Sequence[str]) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments of the shapes that Keras noted when it built the model; None without them."""
    noted = dict(model._build_shapes_dict or {})  # noqa: SLF001
    if not noted:
        return None
    if len(noted) == 1:
        (shape,) = noted.values()
        return [_of_shapes(shape, names[0])], {}
    return [], {
        key.removesuffix("_shape"): _of_shapes(shape, key.removesuffix("_shape"))
        for key, shape in noted.items()
    }


def _of_shapes(shapes: Any, name: str) -> Any:
    """Tensors of noted shapes, whose first axis is that of the batch."""
    if isinstance(shapes, Mapping):
        return {key: _of_shapes(shape, str(key)) for key, shape in shapes.items()}
    if _is_shape(shapes):
        return keras.KerasTensor((None, *shapes[1:]), "float32", name=name)
    make: Callable[[Any], Any] = list if isinstance(shapes, list) else tuple
    return make(_of_shapes(shape, f"{name}_{i}") for i, shape in enumerate(shapes))
