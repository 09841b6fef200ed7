"""The kinds of ablations by name; nothing heavy is imported, since the command line reads them."""

__all__ = ["KINDS"]

KINDS = (
    *("skip", "normalization", "pooling", "stride", "padding", "window", "receptive field"),
    *("depth", "activation", "bias"),
)
"""In the order of the report."""
