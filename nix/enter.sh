# Runs in the Nix sandbox under busybox sh: enter the tools root as a root-like user and start one stage.
#
# The sandbox maps one uid (1000). bubblewrap, called through its own loader, makes a nested user namespace in which that
# uid is 0 with all capabilities, so that bind and tmpfs mounts and chroot work. /build is the scratch folder.
set -eu
# Modes of what stages make depend on it. Nix sets the same; another caller may not.
umask 022
# A daemon that was told so (Debian's nix-setup-systemd does) builds without its sandbox, and a user cannot change that.
if [ "$NIX_BUILD_TOP" != /build ]; then
    echo "this build is not in Nix's sandbox; mend: sandbox = true in the daemon's /etc/nix/nix.conf, and restart it" >&2
    exit 1
fi
"$busybox" mkdir -p "$TMPDIR/scratch" "$TMPDIR/tmp"
"$busybox" cp "$specPath" "$TMPDIR/scratch/spec.json"
lib="$tools/usr/lib/x86_64-linux-gnu"
exec "$tools/usr/lib64/ld-linux-x86-64.so.2" --library-path "$lib" "$tools/usr/bin/bwrap" \
    --unshare-user --unshare-pid --uid 0 --gid 0 --cap-add ALL \
    --ro-bind "$tools" / --dev /dev --proc /proc --bind /nix/store /nix/store \
    --bind "$TMPDIR/tmp" /tmp --bind "$TMPDIR/tmp" /var/tmp --tmpfs /run --tmpfs /opt --bind "$TMPDIR/scratch" /build \
    --chdir /build --clearenv \
    --setenv PATH /usr/sbin:/usr/bin --setenv HOME /build --setenv LC_ALL C.UTF-8 --setenv TZ UTC \
    --setenv out "$out" --setenv SOURCE_DATE_EPOCH "$epoch" --setenv PYTHONDONTWRITEBYTECODE 1 --setenv PYTHONPATH "${sources:-}" \
    --setenv PYTHONUNBUFFERED 1 --setenv NIX_BUILD_CORES "${NIX_BUILD_CORES:-1}" \
    /usr/bin/python3 "$script" /build/spec.json
