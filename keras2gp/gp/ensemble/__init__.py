"""The ensemble of infinitely wide networks that were trained by gradient flow."""
