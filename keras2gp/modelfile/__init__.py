"""Model files from strangers: archives, the allow-list, screening of configurations, loading."""
