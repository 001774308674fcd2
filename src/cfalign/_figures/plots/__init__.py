"""Figures with matplotlib: results in, a ``Figure`` or a file out."""
