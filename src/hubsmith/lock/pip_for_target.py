"""Run pip with the environment markers of the machine that packages are for, instead of this one's.

pip chooses wheels for a foreign Python with `--python-version` and `--platform`, but it evaluates markers such as
`python_version < "3.12"` with the interpreter that it runs on (https://github.com/pypa/pip/issues/11664). Called as a
script: the first argument is the marker environment as JSON, the others are pip's own.
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
