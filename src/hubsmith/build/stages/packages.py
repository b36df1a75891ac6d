"""Stage `packages`: one tar of a root in which all locked Debian packages are installed and configured.

mmdebstrap runs the real dpkg, apt and maintainer scripts, under fakeroot: the Nix sandbox has a single uid, but the tar
must contain the right owners, modes and device nodes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

FAKEROOT_LIB = "usr/lib/x86_64-linux-gnu/libfakeroot"


def flat_repository(folder: Path, debs: list[dict[str, str]], suite: str) -> None:
    """Create an apt repository of the locked packages in one folder.

    mmdebstrap recognises the release by `Suite:`, and sets up merged-/usr accordingly.
    """
    folder.mkdir()
    for deb in debs:
        (folder / deb["file"]).symlink_to(deb["store"])
    with (folder / "Packages").open("wb") as index:
        subprocess.run(
            ["apt-ftparchive", "--md5=no", "--sha1=no", "--sha512=no", "packages", "."],
            cwd=folder,
            stdout=index,
            check=True,
        )
    release = subprocess.run(
        ["apt-ftparchive", "-o", f"APT::FTPArchive::Release::Suite={suite}", "release", "."],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    (folder / "Release").write_bytes(release.stdout)


def bootstrap(repository: Path, debs: list[dict[str, str]], suite: str, tar: Path) -> None:
    """Run mmdebstrap offline on the repository.

    While packages are configured, /dev and /proc are bind-mounted into the root. The folder of libfakeroot is there,
    too, because LD_PRELOAD names it for programs inside the root.
    """
    fakeroot = f'mkdir -p "$1/{FAKEROOT_LIB}" && cp -a /{FAKEROOT_LIB}/. "$1/{FAKEROOT_LIB}/"'
    # Only after base-files is unpacked: tar sets the time of /proc, which only that file system's owner may do. With
    # the build users of a multi-user Nix, that is another user.
    bind = 'for name in dev proc; do mount --rbind "/$name" "$1/$name" || exit 1; done'
    unbind = f'umount -l "$1/dev" "$1/proc" && rm -rf "$1/{FAKEROOT_LIB}"'
    # Services must not be started, and another stage makes the initrd.
    policy = 'printf "#!/bin/sh\\nexit 101\\n" > "$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"'
    no_initrd = 'mkdir -p "$1/etc/kernel" && printf "initrd_generator=none\\n" > "$1/etc/kernel/install.conf"'
    # Files with random content or timestamps. Images do not contain them, and without them this layer is reproducible.
    anonymous = (
        'cd "$1" && rm -rf etc/ssh/ssh_host_* var/lib/systemd/random-seed var/lib/systemd/credential.secret'
        " var/log/* var/cache/ldconfig etc/ssl/private/ssl-cert-snakeoil.key"
    )
    done = 'rm -f "$1/usr/sbin/policy-rc.d" "$1/etc/kernel/install.conf"'
    subprocess.run(
        [
            "fakeroot", "--", "mmdebstrap", "--mode=root", "--format=tar", "--variant=apt",
            "--skip=check/qemu,chroot/mount,check/chrootless", "--aptopt=APT::Sandbox::User \"root\"",
            "--aptopt=Acquire::Languages \"none\"", "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*",
            "--dpkgopt=path-exclude=/usr/share/lintian/*", "--dpkgopt=force-unsafe-io",
            f"--setup-hook={fakeroot}", f"--extract-hook={bind}",
            f"--essential-hook={policy}", f"--essential-hook={no_initrd}",
            f"--customize-hook={unbind}", f"--customize-hook={done}", f"--customize-hook={anonymous}",
            f"--include={','.join(deb['name'] for deb in debs)}",
            suite, str(tar), f"deb [trusted=yes] copy:{repository} ./",
        ],
        env={**os.environ, "FAKEROOTDONTTRYCHOWN": "1", "DEBIAN_FRONTEND": "noninteractive", "INITRD": "No"},
        check=True,
    )  # fmt: skip


def main() -> None:
    """Read the specification, write the tar to ``$out``."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    repository = Path("/build/repository")
    flat_repository(repository, spec["debs"], spec["suite"])
    bootstrap(repository, spec["debs"], spec["suite"], Path(os.environ["out"]))


if __name__ == "__main__":
    main()
