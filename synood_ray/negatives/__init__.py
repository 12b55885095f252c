"""Negative labels: candidate words from WordNet, and NegLabel mining."""
