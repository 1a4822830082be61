#!/bin/sh
# The first process of an emulated guest: mounts what a system has, and runs /command.
PATH=/usr/sbin:/usr/bin:/applets
export PATH

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/cryptsetup /run/ddi-test /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ip link set lo up
modprobe -a virtio_pci virtio_blk loop dm-mod
if [ -d /sys/firmware/efi ]; then
    mount -t efivarfs efivarfs /sys/firmware/efi/efivars
fi
mount -t ext4 /dev/vda /run/ddi-test && chmod 1777 /run/ddi-test

. /command
poweroff -f
