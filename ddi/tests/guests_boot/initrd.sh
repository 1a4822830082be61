#!/bin/sh
# The first process of the machine: finds its root file system by the root hash on the kernel's
# command line, lets ddi repart make the disk what the definitions in it say, uses what came of it,
# and powers off.
PATH=/usr/sbin:/usr/bin:/applets
export PATH
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/cryptsetup /sysroot
modprobe -a virtio_pci virtio_blk loop dm-mod dm-verity
option() {
    sed -n "s/.* $1=\([^ ]*\).*/\1/p" /proc/cmdline
}
root=$(option roothash)
ln -s "$(option ddi)" /usr/bin/ddi

step() {
    echo "step: $*"
    "$@" 2>&1
    echo "status: $?"
}

step ddi dissect --mount --read-only --root-hash="$root" \
    --image-policy='root=verity:=ignore' /dev/vda /sysroot
step ddi repart --dry-run=no --root=/sysroot --key-file=/sysroot/etc/ddi-test.key
mkdir -p /run/var
step mount -t ext4 /dev/vda4 /run/var
step ddi growfs /run/var
step cat /run/var/kept
echo "var: $(df -k /run/var | awk 'END { print $2 }') KiB"
umount /run/var
step cryptsetup open --type luks2 --key-file /sysroot/etc/ddi-test.key /dev/vda5 home
mkdir -p /run/home
step mount -t ext4 -o ro /dev/mapper/home /run/home
echo "home: $(df -k /run/home | awk 'END { print $2 }') KiB"
umount /run/home
cryptsetup close home
echo "done"
poweroff -f
