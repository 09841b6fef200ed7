"""Model files from strangers, read as data: archives, the allow-list, screening, loading."""
