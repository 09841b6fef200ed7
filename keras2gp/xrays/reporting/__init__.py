"""Reports of an X-ray: findings, as text, as a page, and as data for JSON."""
