"""Variants of a model: what ablations take out or exchange, changed copies, their kernels."""
