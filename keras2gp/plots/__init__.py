"""Pictures, as matplotlib figures: of numbers that are there, nothing is computed for them.

They need the extra `plot` (matplotlib), which is imported when the first figure is made.
"""
