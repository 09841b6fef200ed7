"""The choice of a noise variance: candidates, their curve, and what it warns of."""
