"""How images are tested: fixtures and base checks for pytest over :mod:`hubsmith.vm`, and the report of a run."""
