"""Benchmarks: each runs by itself, beside its peer, and prints ratios (`make bench`)."""
