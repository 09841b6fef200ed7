"""Pictures of results as matplotlib figures; nothing is computed for them.

They need the extra `plot` (matplotlib), which is imported when the first figure is made.
"""
