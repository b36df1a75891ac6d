"""Run `hubsmith` commands that die at a chosen step, with their state on a small file system.

A program that :class:`Driver` starts in namespaces of its own: nothing else is mounted or running there, and all that
is left running ends with it. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

#: What a command does to the world; Python announces each of them before it happens.
CHANGES = (
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.kill", "os.killpg",
    "shutil.rmtree", "subprocess.Popen", "socket.connect",
)  # fmt: skip


class Driver:
    """The test's side.

    :param root: a project's tree; the state is in `state`, a file system of `size` (as `mount` takes it).
    """

    def __init__(self, root: Path, size: str = "64M") -> None:
        self.state = root / "state"
        self.state.mkdir()
        words = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self._driver = subprocess.Popen(
            [*words, sys.executable, __file__, root, size], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, what: str, **more: object) -> Any:
        """Have the driver do one thing."""
        assert self._driver.stdin and self._driver.stdout
        self._driver.stdin.write(json.dumps({"what": what, **more}) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        assert line, "the driver is dead"
        return json.loads(line)

    def run(self, *argv: str, die: int = 0, crash: bool = False) -> tuple[int, str]:
        """Run a command.

        :param die: kill it with SIGKILL before its so many-th change; 0 lets it end.
        :param crash: then kill everything else too, as a crash of the host does.
        :returns: its exit code (negative: the signal) and what it printed.
        """
        code, text = self.ask("run", argv=argv, die=die, crash=crash)
        return code, text

    def end(self) -> None:
        """End it, with all that runs in it."""
        self._driver.kill()
        self._driver.communicate()


def run(argv: list[str], die: int, crash: bool, log: Path) -> tuple[int, str]:
    """Run a command in a process of its own."""
    if not (child := os.fork()):
        with log.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        if die:
            sys.addaudithook(Killer(die))
        code = 1
        try:
            from hubsmith.cli import main

            code = main(argv)
        except BaseException:  # nothing of the driver may go on in here
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if crash:
        for pid in others():
            os.kill(pid, signal.SIGKILL)
    return code, log.read_text(errors="replace")


class Killer:
    """An audit hook that kills the process before a change."""

    def __init__(self, change: int) -> None:
        self.left, self.seed = change, False
        self.state = os.environ["HUBSMITH_STATE"]

    def __call__(self, event: str, words: tuple[Any, ...]) -> None:
        place = str(words[0]) if words else ""
        # What is opened elsewhere (the null device for a child, say) changes nothing.
        opens = event == "open" and words[2] & (os.O_WRONLY | os.O_RDWR) and place.startswith(self.state)
        # Neither does a folder that is there. The many files of the metadata are in one folder, which is rewritten as a
        # whole; what is deleted in a folder has no path.
        if event == "shutil.rmtree":
            self.seed = place.endswith("/seed")
        alike = "/seed/" in place or (self.seed and event in ("os.remove", "os.rmdir") and not place.startswith("/"))
        alike |= event == "os.mkdir" and Path(place).is_dir()
        if (opens or event in CHANGES) and not alike:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def others() -> list[int]:
    """The processes that run here beside the driver. Those that have ended are collected."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return [int(one.name) for one in Path("/proc").glob("[0-9]*") if one.name != str(os.getpid())]


def serve(root: Path, size: str) -> None:
    """Answer requests."""
    state = root / "state"
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", state], check=True)
    os.environ["HUBSMITH_STATE"] = str(state)
    os.chdir(root)
    # Loaded and found out once for all commands.
    from hubsmith.cli import deploy, down, info, scale, up  # noqa: F401
    from hubsmith.vm.accel import detect

    detect()

    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("what"):
            case "run":
                answer: Any = run(request["argv"], request["die"], request["crash"], root / "command.log")
            case "processes":
                answer = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in others()]
            case "fill":
                room = os.statvfs(state)
                with (state / "filler").open("wb") as filler:
                    os.posix_fallocate(filler.fileno(), 0, max(1, room.f_bavail * room.f_bsize - request["left"]))
                answer = True
            case "free":
                (state / "filler").unlink()
                answer = True
            case "files":
                answer = sorted(str(path.relative_to(state)) for path in state.rglob("*"))
            case "read":
                answer = (state / request["file"]).read_text()
            case "shell":
                done = subprocess.run(["sh", "-c", request["line"]], cwd=state, capture_output=True, text=True)
                answer = [done.returncode, done.stdout + done.stderr]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
