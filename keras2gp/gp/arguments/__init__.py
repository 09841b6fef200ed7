"""The arguments of estimators: inputs, kernel, rows, labels, positions, noise."""
