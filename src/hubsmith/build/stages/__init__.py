"""Build stages. Each runs in a sandbox of its own, as `python3 STAGE.py SPECIFICATION`, and writes `$out`."""
