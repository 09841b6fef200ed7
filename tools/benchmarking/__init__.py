"""The processes of tools/benchmark.py: one that asks, and one for every library it measures.

The process that asks imports no heavy library. A child's peak memory starts from its parent's, so
that a light parent is what makes the peaks below those of the library alone.
"""
