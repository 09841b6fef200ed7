"""The parts of tools/coverage.py: the models, the document, and figures of kernels."""
