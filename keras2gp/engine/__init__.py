"""From tiles to matrices. Its front is keras2gp.gram (engine/api.py)."""
