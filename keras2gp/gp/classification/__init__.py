"""Classification: the estimator, its probabilities and its labels."""
