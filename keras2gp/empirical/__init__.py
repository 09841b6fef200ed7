"""Kernels of finite networks at their present weights: tangent kernel and last features."""
