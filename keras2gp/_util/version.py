"""The version of keras2gp, which stored results carry."""

__all__ = ["VERSION"]

VERSION = "0.2.0"
