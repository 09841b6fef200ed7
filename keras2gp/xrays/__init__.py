"""X-rays of an architecture: what each part is worth on given rows, without training anything."""
