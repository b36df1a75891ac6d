"""Which accelerator a machine gets: KVM where a guest really boots under it, else multi-threaded TCG.

That ``/dev/kvm`` can be opened says little: under some nested virtualisation every guest dies with an emulation
failure moments later, or `-cpu host` aborts QEMU. So a guest is booted: OVMF without any disk, on two processors,
goes from real mode through paging to long mode and reports on the serial console that it found nothing to boot.
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

#: Seconds for the probe. Under KVM it takes about 1 s, under TCG on two busy cores 5 to 10 s.
PROBE_TIMEOUT = 20.0
#: What OVMF's boot manager prints when it is done with its work and has nothing to boot.
PROBE_MARK = b"BdsDxe"

#: The oldest QEMU that may be used (decision 0012).
QEMU_MINIMUM = (9, 0)

#: The processor under TCG. `max` is all that TCG can do, less
#: - `la57`: five levels of page tables make every miss of the TLB dearer and serve only beyond 64 TB of memory;
#: - `svm`: udev would load KVM into the guest, whose modules take seconds to unpack and verify.
TCG_CPU = "max,-la57,-svm"
#: MiB for translated code of one machine. A boot of systemd and cloud-init outgrows the default of 1/4 of its memory
#: never, but a full buffer is thrown away as a whole; 1 GiB of address space costs nothing until it is used.
#: With 96 MiB the same boot took 221 s.
TCG_BUFFER_MB = 1024


@dataclass(frozen=True)
class Accelerator:
    """What runs the guest's processors, and why this one.

    :ivar name: ``kvm`` or ``tcg``.
    :ivar reason: one line for people; why KVM is not used, when it is not.
    """

    name: Literal["kvm", "tcg"]
    reason: str

    @property
    def arguments(self) -> list[str]:
        """The options of QEMU."""
        if self.name == "kvm":
            return ["-accel", "kvm", "-cpu", "host"]
        return ["-accel", f"tcg,thread=multi,tb-size={TCG_BUFFER_MB}", "-cpu", TCG_CPU]


def qemu_version() -> str:
    """The first line of ``qemu-system-x86_64 --version``.

    :raises HubsmithError: QEMU is not installed.
    """
    return run([QEMU, "--version"], timeout=30).stdout.splitlines()[0]


def boots(accelerator: Accelerator, timeout: float = PROBE_TIMEOUT) -> tuple[bool, str]:
    """Whether a guest boots under this accelerator, and in one line why not.

    :param timeout: seconds that the guest may take.
    :raises HarnessFailed: the firmware is not installed, so that nothing can be said.
    """
    if not OVMF_CODE.exists():
        raise HarnessFailed(f"the UEFI firmware {OVMF_CODE} is not installed", mend="scripts/setup")
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
    """The accelerator of this machine: what ``$HUBSMITH_ACCEL`` names (``kvm`` or ``tcg``), else KVM if a guest boots
    under it. The probe's answer is kept for this boot, this QEMU and this user.

    :raises HubsmithError: QEMU or its firmware is not installed, or the variable names something else.
    """
    if chosen := os.environ.get(CHOICE):
        if chosen not in ("kvm", "tcg"):
            raise HubsmithError(f'unknown accelerator "{chosen}"', where=f"${CHOICE}", mend=f"{CHOICE}=tcg, or kvm")
        return Accelerator("kvm" if chosen == "kvm" else "tcg", f"${CHOICE} says so")
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        why = "this user may not open it" if DEVICE.exists() else "there is none"
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
    """Say once per process that things will be slow, and why."""
    global _announced
    if not _announced:
        log.info("machines run without hardware acceleration, about ten times slower (%s)", accelerator.reason)
        _announced = True
    return accelerator


def require_tools() -> None:
    """Everything that the harness starts is installed.

    :raises HubsmithError: something is missing (the message names all of it), or QEMU is too old.
    """
    programs = (QEMU, "qemu-img", "xorriso", "ssh", "ssh-keygen", "setpriv")
    missing = [program for program in programs if shutil.which(program) is None]
    missing += [str(file) for file in (OVMF_CODE, OVMF_VARS) if not file.exists()]
    if missing:
        raise HubsmithError(f"not installed: {', '.join(missing)}", mend="scripts/setup")
    version = qemu_version()
    number = re.search(r"version (\d+)\.(\d+)", version)
    if number is None or tuple(map(int, number.groups())) < QEMU_MINIMUM:
        raise HubsmithError(f"{version}: at least {'.'.join(map(str, QEMU_MINIMUM))} is needed", mend="scripts/setup")
