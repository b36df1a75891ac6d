"""What `scripts/bench` measures: hubsmith against plain tools, as ratios within one run."""
