"""Run pip with the environment markers of the target instead of this computer's.

With `--python-version` and `--platform` pip chooses wheels for another Python. But it evaluates markers such as
`python_version < "3.12"` for its own interpreter (https://github.com/pypa/pip/issues/11664). Run as a script. The first
argument is the marker environment as JSON, the others are passed to pip.
"""

from __future__ import annotations

import json
import runpy
import sys


def main() -> None:
    """Replace pip's marker environment, then run pip."""
    from pip._vendor.packaging import markers

    environment = json.loads(sys.argv[1])
    missing = markers.default_environment().keys() - environment.keys()
    if missing:
        raise SystemExit(f"the marker environment of the target lacks {', '.join(sorted(missing))}")
    markers.default_environment = lambda: dict(environment)
    sys.argv = ["pip", *sys.argv[2:]]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
