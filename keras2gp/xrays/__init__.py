"""X-rays of an architecture: what each part is worth on given rows, without training anything."""

__all__ = ["ABLATIONS", "KINDS"]

ABLATIONS = {
    "skip": "removals.skips",
    "normalization": "removals.normalizations",
    "pooling": "poolings.poolings",
    "stride": "exchanges.strides",
    "padding": "exchanges.paddings",
    "window": "exchanges.windows",
    "receptive field": "exchanges.receptive_fields",
    "depth": "removals.depths",
    "activation": "exchanges.activations",
    "bias": "exchanges.biases",
}
"""The function of each kind of ablation, in keras2gp/xrays/variants/, in the order of the report.

The command line reads the kinds: nothing heavy is imported here, so that functions are named."""
KINDS = tuple(ABLATIONS)
"""The kinds of ablations."""
