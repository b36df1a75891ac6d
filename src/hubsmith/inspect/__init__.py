"""Inspection and comparison of built images."""
