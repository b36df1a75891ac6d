"""Choice of the accelerator: KVM if a guest really boots under it, else multi-threaded TCG.

A usable ``/dev/kvm`` proves little. Under some nested virtualisation every guest soon dies with an emulation failure,
or `-cpu host` aborts QEMU. So a guest is booted as a probe: OVMF with two processors and no disk. It goes from real
mode through paging to long mode, and reports on the serial console that it found nothing to boot.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hubsmith import files
from hubsmith.errors import HarnessFailed, HubsmithError
from hubsmith.paths import cache_dir
from hubsmith.run import run, spawn

log = logging.getLogger("hubsmith.vm")

QEMU = "qemu-system-x86_64"
OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
DEVICE = Path("/dev/kvm")
#: The environment variable that chooses the accelerator instead of the probe.
CHOICE = "HUBSMITH_ACCEL"

#: Timeout of the probe in seconds. It takes about 1 s under KVM, and 5 to 10 s under TCG on two busy cores.
PROBE_TIMEOUT = 20.0
#: Printed by OVMF's boot manager when it has nothing to boot.
PROBE_MARK = b"BdsDxe"

#: Oldest supported QEMU (decision 0012).
QEMU_MINIMUM = (9, 0)

#: Processor under TCG: everything that TCG supports (`max`) except
#: - `la57`: five levels of page tables make TLB misses slower, and help only beyond 64 TB of memory;
#: - `svm`: udev would load the KVM modules in the guest, which takes seconds.
TCG_CPU = "max,-la57,-svm"
#: MiB for translated code of one machine. A full buffer is thrown away as a whole: with 96 MiB a boot took 221 s.
#: Address space costs nothing until it is used.
TCG_BUFFER_MB = 1024


@dataclass(frozen=True)
class Accelerator:
    """Accelerator that runs the guest's processors.

    :ivar name: ``kvm`` or ``tcg``.
    :ivar reason: one line for messages; says why KVM is not used, if it is not.
    """

    name: Literal["kvm", "tcg"]
    reason: str

    @property
    def arguments(self) -> list[str]:
        """Options for QEMU."""
        if self.name == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", f"tcg,thread=multi,tb-size={TCG_BUFFER_MB}", "-cpu", TCG_CPU]


def qemu_version() -> str:
    """Return the first line of ``qemu-system-x86_64 --version``.

    :raises HubsmithError: QEMU is not installed.
    """
    return run([QEMU, "--version"], timeout=30).stdout.splitlines()[0]


def boots(accelerator: Accelerator, timeout: float = PROBE_TIMEOUT) -> tuple[bool, str]:
    """Check whether a guest boots under an accelerator.

    :param timeout: seconds that the guest may take.
    :returns: the result, and the reason in one line.
    :raises HarnessFailed: the firmware is not installed.
    """
    if not OVMF_CODE.exists():
        raise HarnessFailed(f"the UEFI firmware {OVMF_CODE} is not installed", hint="scripts/setup")
    with tempfile.TemporaryDirectory(prefix="hubsmith-probe-") as name:
        folder = Path(name)
        shutil.copyfile(OVMF_VARS, folder / "vars.fd")
        argv = [
            QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35", "-m", "256",
            "-smp", "2", *accelerator.arguments,
            "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}",
            "-drive", "if=pflash,unit=1,format=raw,file=vars.fd", "-serial", "file:console",
        ]  # fmt: skip
        with (folder / "log").open("wb") as output:
            guest = spawn(argv, cwd=folder, stdout=output, stderr=output)
        started = time.monotonic()
        try:
            while time.monotonic() - started < timeout:
                console = (folder / "console").read_bytes() if (folder / "console").exists() else b""
                if PROBE_MARK in console:
                    return True, "a guest boots"
                errors = (folder / "log").read_text(errors="replace")
                if guest.poll() is not None or "internal error" in errors:
                    return False, _reason(errors) or f"QEMU ended with exit code {guest.returncode}"
                time.sleep(0.05)
            return False, f"a guest did not boot within {timeout:.0f} s"
        finally:
            guest.kill()
            guest.wait()


def _reason(errors: str) -> str:
    lines = [line for line in errors.splitlines() if "warning" not in line]
    known = [line for line in lines if "emulation failure" in line or "internal error" in line]
    return (known or lines or [""])[0].removeprefix(f"{QEMU}: ").strip()


def detect() -> Accelerator:
    """Return the accelerator to use: ``$HUBSMITH_ACCEL`` (``kvm`` or ``tcg``), else KVM if a guest boots under it.

    The result of the probe is cached for this boot, QEMU version and user.

    :raises HubsmithError: QEMU or its firmware is not installed, or the variable names something else.
    """
    if chosen := os.environ.get(CHOICE):
        if chosen not in ("kvm", "tcg"):
            raise HubsmithError(f'unknown accelerator "{chosen}"', where=f"${CHOICE}", hint=f"{CHOICE}=tcg, or kvm")
        return Accelerator("kvm" if chosen == "kvm" else "tcg", f"${CHOICE} says so")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        why = "permission denied" if DEVICE.exists() else "not found"
        return _announce(Accelerator("tcg", f"{DEVICE}: {why}"))
    key = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "qemu": qemu_version()}
    cache = cache_dir() / "vm" / f"kvm-{os.geteuid()}.json"
    known = _read(cache)
    if known is None or known.get("key") != key:
        good, why = boots(Accelerator("kvm", ""))
        known = {"key": key, "good": good, "why": why}
        files.write(cache, files.canonical(known))
    if known["good"]:
        return Accelerator("kvm", str(known["why"]))
    return _announce(Accelerator("tcg", f"KVM is broken here: {known['why']}"))


def _read(cache: Path) -> dict[str, object] | None:
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) and {"key", "good", "why"} <= known.keys() else None


_announced = False


def _announce(accelerator: Accelerator) -> Accelerator:
    """Log once per process that machines will be slow, and why."""
    global _announced
    if not _announced:
        log.info("machines run without hardware acceleration, about ten times slower (%s)", accelerator.reason)
        _announced = True
    return accelerator


def require_tools() -> None:
    """Check that all programs and firmware files are installed.

    :raises HubsmithError: something is missing (the message lists everything), or QEMU is too old.
    """
    programs = (QEMU, "qemu-img", "xorriso", "ssh", "ssh-keygen", "setpriv")
    missing = [program for program in programs if shutil.which(program) is None]
    missing += [str(file) for file in (OVMF_CODE, OVMF_VARS) if not file.exists()]
    if missing:
        raise HubsmithError(f"not installed: {', '.join(missing)}", hint="scripts/setup")
    version = qemu_version()
    number = re.search(r"version (\d+)\.(\d+)", version)
    if number is None or tuple(map(int, number.groups())) < QEMU_MINIMUM:
        raise HubsmithError(f"{version}: at least {'.'.join(map(str, QEMU_MINIMUM))} is required", hint="scripts/setup")
