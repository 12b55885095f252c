"""Measurements behind the README's figures; `jobs/benchmark.py` runs them."""
