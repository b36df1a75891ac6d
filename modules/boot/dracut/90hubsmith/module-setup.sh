#!/bin/bash
# dracut module: state and the /etc overlay, mounted before the real root takes over.

check() { return 0; }

depends() {
    echo systemd systemd-repart
    return 0
}

install() {
    inst_multiple mkfs.xfs xfs_growfs xfs_repair mount umount mkdir cp cat sed sync lsblk cmp chmod mv rm fallocate readlink sleep journalctl
    inst_script "$moddir/hubsmith-state" /usr/lib/hubsmith/state
    inst_script "$moddir/hubsmith-disk" /usr/lib/hubsmith/disk
    inst_simple "$moddir/hubsmith-state.service" "$systemdsystemunitdir/hubsmith-state.service"
    inst_simple "$moddir/hubsmith-disk.service" "$systemdsystemunitdir/hubsmith-disk.service"
    inst_simple "$moddir/emergency.service" /etc/systemd/system/emergency.service
    inst_simple "$moddir/repart-in-root.conf" /etc/systemd/system/systemd-repart.service.d/hubsmith.conf
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target hubsmith-state.service
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target hubsmith-disk.service
}
