"""Hyperparameters: random search over architectures, and ascent of the evidence by variances."""

PAPER_SPACES = ("paper", "paper-convnet", "paper-residual")
"""Spaces of the paper: all its networks, those without skips, and those with skips."""

SPACE_NAMES = f"expected {', '.join(PAPER_SPACES)}, or path.py:function"
"""The spaces that a command takes, for an error."""
