"""Benchmarks: figures as ratios to limit scripts, printed by `make bench`. They fail no test."""
