"""Checks of every machine with the notebook environment."""

from __future__ import annotations

import json
from typing import Any

Host = Any
PYTHON = "/opt/notebook/bin/python"


def test_usual_libraries_are_there(host: Host) -> None:
    assert host.check_output(f"{PYTHON} -c 'import numpy, pandas, matplotlib; print(numpy.arange(3).sum())'") == "3"


def test_environment_is_not_for_users_to_change(host: Host) -> None:
    assert host.run("find /opt/notebook /etc/jupyter /etc/ipython ! -user root -o ! -type l -perm /022").stdout == ""


def test_no_second_kernel_with_a_debugger(host: Host) -> None:
    command = f"{PYTHON} -m jupyter kernelspec list --json"
    kernels = json.loads(host.check_output(command))["kernelspecs"]
    assert list(kernels) == ["python3"]
    assert kernels["python3"]["spec"]["metadata"]["debugger"] is False
    assert host.run(f"test -x {kernels['python3']['spec']['argv'][0]}").rc == 0


def test_server_starts_without_the_hubs_own_parts(host: Host) -> None:
    probe = "import runpy, sys; sys.argv = ['x', '--version']\n" \
        "try: runpy.run_path('/usr/lib/hubsmith/python/hubsmith_notebook/singleuser.py', run_name='__main__')\n" \
        "except SystemExit: pass\n" \
        "assert not {'alembic', 'rfc3987_syntax.syntax_helpers'} & set(sys.modules), 'loaded in vain'"  # fmt: skip
    done = host.run("cd /tmp && %s -c %s", PYTHON, probe)
    assert done.rc == 0, done.stderr


def test_git_is_there_for_nbgitpuller(host: Host) -> None:
    assert host.run("git --version").rc == 0
