"""Layers that encode text and integers: their vocabularies, as settings of a copy."""

from __future__ import annotations

from typing import Any

from keras import layers

__all__ = ["encoder_settings", "is_sparse", "vocabulary_of"]

_LOOKUPS = (layers.IntegerLookup, layers.StringLookup)


def _lookup_of(layer: Any) -> Any | None:
    """The lookup of a layer: itself, or the one that TextVectorization keeps."""
    if isinstance(layer, layers.TextVectorization):
        return layer._lookup_layer  # noqa: SLF001
    return layer if isinstance(layer, _LOOKUPS) else None


def vocabulary_of(layer: Any) -> list[Any] | None:
    """The entries that a layer looks up; None for a layer of another kind."""
    lookup = _lookup_of(layer)
    return None if lookup is None else list(lookup.get_vocabulary(include_special_tokens=False))


def is_sparse(layer: Any) -> bool:
    """Whether a layer's results are sparse or ragged tensors."""
    stated = (getattr(part, "sparse", False) is True for part in (layer, _lookup_of(layer)))
    return any(stated) or getattr(layer, "_ragged", False) is True


def encoder_settings(layer: Any) -> dict[str, Any]:
    """The settings that hold what a lookup was adapted to, which Keras keeps outside of them.

    Args:
        layer: Any layer.

    Returns:
        Its vocabulary, and the weights of its entries; nothing for a layer of another kind.
    """
    lookup = _lookup_of(layer)
    if lookup is None:
        return {}
    settings: dict[str, Any] = {"vocabulary": vocabulary_of(layer)}
    if lookup.output_mode == "tf_idf":
        weights = lookup.idf_weights_const.numpy()
        settings["idf_weights"] = weights[lookup.num_oov_indices :].tolist()
    return settings
