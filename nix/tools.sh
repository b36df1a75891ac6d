# Runs in the Nix sandbox under busybox sh: extract every package into one merged-/usr root.
set -eu
export PATH=/no-such-folder
b() { "$busybox" "$@"; }

b mkdir -p "$out/usr/bin" "$out/usr/sbin" "$out/usr/lib" "$out/usr/lib64"
for name in bin sbin lib lib64; do b ln -s "usr/$name" "$out/$name"; done
# Mount points of the stages: the root itself is read-only in the store.
for name in dev proc sys tmp run build nix/store opt mnt var/tmp var/lib/dpkg; do b mkdir -p "$out/$name"; done

while read -r deb || [ -n "$deb" ]; do
    # A package's own ./bin and ./lib would collide with the symlinks above; Debian 13 ships none.
    member=$(b ar -t "$deb" | b grep '^data\.tar')
    case $member in
        *.xz) b ar -p "$deb" "$member" | b xz -d ;;
        *.gz) b ar -p "$deb" "$member" | b gunzip ;;
        *.tar) b ar -p "$deb" "$member" ;;
        *) echo "$deb: cannot unpack $member" >&2; exit 1 ;;
    esac | b tar -x -o -C "$out" -f -
done < "$debsPath"

# What maintainer scripts would have set up and the stages need.
b ln -sf bash "$out/usr/bin/sh"
for pair in awk:gawk fakeroot:fakeroot-sysv faked:faked-sysv; do
    [ -e "$out/usr/bin/${pair%%:*}" ] || b ln -s "${pair##*:}" "$out/usr/bin/${pair%%:*}"
done
b mkdir -p "$out/etc"
printf 'root:x:0:0:root:/root:/bin/sh\n_apt:x:0:0::/:/bin/sh\n' > "$out/etc/passwd"
printf 'root:x:0:\n' > "$out/etc/group"
# pip reads the certificates when it starts, although it will talk to nobody.
b mkdir -p "$out/etc/ssl/certs"
b cat "$out"/usr/share/ca-certificates/mozilla/*.crt > "$out/etc/ssl/certs/ca-certificates.crt"
