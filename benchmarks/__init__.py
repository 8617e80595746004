"""Benchmarks: speed, size and memory, ours and an opponent in one run."""
