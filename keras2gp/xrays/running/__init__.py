"""Runs of an X-ray: its directory, the scores of variants, kernels computed ahead, the clock."""
