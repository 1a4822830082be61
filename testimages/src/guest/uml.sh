#!/bin/sh
# The first process of a User Mode Linux guest. Its folder on the host holds `command`, the script to
# run, and `lib/modules`.
here=${0%/*}
PATH=/usr/sbin:/sbin:/usr/bin:/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/cryptsetup /run/ddi-test /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
mount -t ext4 /dev/ubda /run/ddi-test && chmod 1777 /run/ddi-test

# dm-crypt does not load without its ciphers, so these come first.
modprobe -d "$here" -a aes_generic cbc xts essiv sha256_generic sha512_generic hmac af_alg \
    algif_skcipher
modprobe -d "$here" -a loop dm-mod dm-verity dm-crypt dm-integrity dm-flakey dm-log-writes \
    dm-snapshot vfat nls_ascii nls_cp437 nls_iso8859-1 squashfs erofs overlay isofs

. "$here/command"
busybox poweroff -f
