"""Metrics: one per file, and the table of all of them."""
