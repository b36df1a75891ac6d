"""The stages of a build. Each runs alone inside the sandbox, as `python3 STAGE.py SPECIFICATION`, and writes `$out`."""
