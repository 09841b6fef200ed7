"""X-rays of an architecture: what each part is worth on given rows, without training anything."""

__all__ = ["KINDS"]

KINDS = (
    *("skip", "normalization", "pooling", "stride", "padding", "window", "receptive field"),
    *("depth", "activation", "bias"),
)
"""The kinds of ablations, in the order of the report. The command line reads them: nothing heavy
is imported here."""
