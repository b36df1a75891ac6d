"""Benchmarks for `scripts/bench`: hubsmith compared with plain tools in the same run."""
