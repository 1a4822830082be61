//! The images: a name, which is the file's, and the lines of the shell that make it.

/// Name and recipe of each.
pub(super) const IMAGES: &[(&str, &str)] = &[
    // Bare file systems and containers.
    ("ext4.raw", "cp os.ext4 ext4.raw"),
    ("squashfs.raw", "cp os.squashfs squashfs.raw"),
    ("erofs.raw", "cp os.erofs erofs.raw"),
    ("initrd.img", "cp initrd.squashfs initrd.img"),
    ("usr-tree.raw", "cp usr.squashfs usr-tree.raw"),
    (
        "btrfs.raw",
        "truncate -s 110M btrfs.raw; mkfs.btrfs -q --rootdir os -U 66666666-6666-4666-8666-666666666666 btrfs.raw",
    ),
    (
        "xfs.raw",
        "truncate -s 300M xfs.raw; mkfs.xfs -q -i nrext64=0,exchange=0 -n parent=0 -m uuid=77777777-7777-4777-8777-777777777777 xfs.raw",
    ),
    ("vfat.raw", "cp esp.vfat vfat.raw"),
    ("ext2.raw", "cp small.ext2 ext2.raw"),
    ("ext3.raw", "cp small.ext3 ext3.raw"),
    ("swap.raw", "cp swap swap.raw"),
    ("luks1.raw", "cp luks1 luks1.raw"),
    ("luks2.raw", "cp luks2 luks2.raw"),
    ("luks2-integrity.raw", "cp luks2i luks2-integrity.raw"),
    ("hashes-only.raw", "cp os.squashfs.hash hashes-only.raw"),
    ("zero.raw", "truncate -s 8M zero.raw"),
    ("nothing.raw", "truncate -s 0 nothing.raw"),
    ("text.raw", "seq 1 9999 >text.raw"),
    (
        "two-in-one.raw",
        "cp os.ext4 two-in-one.raw; dd if=os.squashfs of=two-in-one.raw bs=96 count=1 conv=notrunc status=none",
    ),
    // One partition of each kind.
    (
        "root.raw",
        "disk root.raw <<END\n$ROOT root_1 - - os.ext4\nEND",
    ),
    (
        "usr.raw",
        "disk usr.raw <<END\n$USR usr_1 - - usr.squashfs\nEND",
    ),
    (
        "generic.raw",
        "disk generic.raw <<END\n$GENERIC data - - os.ext4\nEND",
    ),
    (
        "generic-grow.raw",
        "disk generic-grow.raw <<END\n$GENERIC data $GROW - os.ext4\nEND",
    ),
    (
        "generic-ro.raw",
        "disk generic-ro.raw <<END\n$GENERIC data $RO - os.squashfs\nEND",
    ),
    (
        "generic-hidden.raw",
        "disk generic-hidden.raw <<END\n$GENERIC data $NOAUTO - os.ext4\nEND",
    ),
    (
        "generic-two.raw",
        "disk generic-two.raw <<END\n$GENERIC os - - os.ext4\n$GENERIC other - - home.ext4\nEND",
    ),
    (
        "generic-home.raw",
        "disk generic-home.raw <<END\n$GENERIC os - - os.ext4\n$HOME_ - - - home.ext4\nEND",
    ),
    (
        "generic-usr.raw",
        "disk generic-usr.raw <<END\n$GENERIC os - - os.ext4\n$USR - - - usr.squashfs\nEND",
    ),
    (
        "home.raw",
        "disk home.raw <<END\n$HOME_ - - - home.ext4\nEND",
    ),
    (
        "unknown.raw",
        "disk unknown.raw <<END\n$OTHER x - - os.ext4\n$USERHOME y - - home.ext4\nEND",
    ),
    ("table-only.raw", "disk table-only.raw <<END\nEND"),
    (
        "empty-root.raw",
        "disk empty-root.raw <<END\n$ROOT root - - -\nEND",
    ),
    (
        "empty-label.raw",
        "disk empty-label.raw <<END\n$ROOT _empty - - -\n$ROOT r_1 - - os.ext4\nEND",
    ),
    (
        "all.raw",
        "disk all.raw <<END\n$ESP esp - - esp.vfat\n$XBOOTLDR boot - - esp.vfat\n$SWAP swap - - swap\n\
         $ROOT r_1 - - os.ext4\n$HOME_ home $GROW - home.ext4\n$SRV srv - - home.squashfs\n\
         $VAR var - - home.ext4\n$TMP tmp $RO - home.ext4\nEND",
    ),
    (
        "flags.raw",
        "disk flags.raw <<END\n$ROOT r $RO+$GROW - os.ext4\n$HOME_ h $RO - home.ext4\n$SRV s $NOAUTO - home.ext4\n\
         $VAR v $GROW - home.squashfs\n$ESP e $NOAUTO - esp.vfat\n$XBOOTLDR x $RO+$GROW - esp.vfat\n$SWAP w $RO - swap\nEND",
    ),
    (
        "esp-off.raw",
        "disk esp-off.raw <<END\n$ROOT r - - os.ext4\n$ESP e NoBlockIOProtocol - esp.vfat\nEND",
    ),
    (
        "root-hidden.raw",
        "disk root-hidden.raw <<END\n$ROOT r $NOAUTO - os.ext4\n$ROOT s - - os.squashfs\nEND",
    ),
    (
        "esp-root.raw",
        "disk esp-root.raw <<END\n$ESP e - - esp.vfat\n$ROOT r - - os.squashfs\nEND",
    ),
    (
        "swap-luks.raw",
        "disk swap-luks.raw <<END\n$ROOT r - - os.ext4\n$SWAP w - - luks2\nEND",
    ),
    (
        "swap-empty.raw",
        "disk swap-empty.raw <<END\n$ROOT r - - os.ext4\n$SWAP w - - -\nEND",
    ),
    (
        "root-ext2.raw",
        "disk root-ext2.raw <<END\n$ROOT r - - small.ext2\nEND",
    ),
    (
        "root-swap.raw",
        "disk root-swap.raw <<END\n$ROOT r - - swap\nEND",
    ),
    (
        "root-luks.raw",
        "disk root-luks.raw <<END\n$ROOT r $GROW - luks2\n$HOME_ - - - home.ext4\nEND",
    ),
    (
        "home-luks.raw",
        "disk home-luks.raw <<END\n$ROOT r - - os.ext4\n$HOME_ - - - luks1\nEND",
    ),
    (
        "home-integrity.raw",
        "disk home-integrity.raw <<END\n$ROOT r - - os.ext4\n$HOME_ - - - luks2i\nEND",
    ),
    (
        "root-two.raw",
        "disk root-two.raw <<END\n$ROOT r - - two-in-one.raw\nEND",
    ),
    // Versions and architectures.
    (
        "versions.raw",
        "disk versions.raw <<END\n$ROOT r_9 - - os.ext4\n$ROOT r_10 - - os.squashfs\n$ROOT r_10~rc1 - - os.ext4\n\
         $HOME_ h_1 - - home.ext4\n$HOME_ h_2 - - home.squashfs\nEND",
    ),
    (
        "equal-labels.raw",
        "disk equal-labels.raw <<END\n$ROOT r - - os.squashfs\n$ROOT r - - os.ext4\n$USR - - - usr.squashfs\n$USR - - - home.ext4\nEND",
    ),
    (
        "foreign.raw",
        "disk foreign.raw <<END\n$ARM r_1 - - os.squashfs\nEND",
    ),
    (
        "foreign-better.raw",
        "disk foreign-better.raw <<END\n$ARM r_9 - - home.squashfs\n$X86 r_8 - - home.ext4\n$ROOT r_1 - - os.squashfs\nEND",
    ),
    (
        "secondary.raw",
        "disk secondary.raw <<END\n$ARM r_9 - - home.squashfs\n$X86 r_1 - - os.squashfs\nEND",
    ),
    (
        "foreign-usr.raw",
        "disk foreign-usr.raw <<END\n$ROOT r - - os.ext4\n$ARMUSR u - - usr.squashfs\nEND",
    ),
    (
        "root-usr.raw",
        "disk root-usr.raw <<END\n$ROOT r - - os.ext4\n$USR u - - usr.squashfs\nEND",
    ),
    // Labels.
    (
        "labels.raw",
        "disk labels.raw <<END\n$ROOT ein-grünes-Wurzelwerk - - os.ext4\n$HOME_ a.b:c=d - - home.ext4\nEND",
    ),
    // Sectors and tables.
    (
        "sectors-4096.raw",
        "disk sectors-4096.raw 4096 <<END\n$ROOT r_1 - - os.squashfs\n$HOME_ - - - home.squashfs\nEND",
    ),
    (
        "sectors-1024.raw",
        "disk sectors-1024.raw 1024 <<END\n$ROOT r_1 - - os.squashfs\nEND",
    ),
    (
        "sectors-2048.raw",
        "disk sectors-2048.raw 2048 <<END\n$ROOT r_1 - - os.squashfs\nEND",
    ),
    (
        "backup-only.raw",
        "cp root.raw backup-only.raw; dd if=/dev/zero of=backup-only.raw bs=512 seek=1 count=1 conv=notrunc status=none",
    ),
    ("cut.raw", "head -c 9M root.raw >cut.raw"),
    (
        "mbr.raw",
        "truncate -s 32M mbr.raw; printf 'label: dos\\nlabel-id: 0x12345678\\nstart=16384,size=14336,type=83,bootable\\n' |\n\
         sfdisk -q mbr.raw; dd if=os.ext4 of=mbr.raw bs=1M seek=8 conv=notrunc status=none",
    ),
    (
        "mbr-plain.raw",
        "truncate -s 32M mbr-plain.raw; printf 'label: dos\\nlabel-id: 0x12345678\\nstart=16384,size=14336,type=83\\n' |\n\
         sfdisk -q mbr-plain.raw; dd if=os.ext4 of=mbr-plain.raw bs=1M seek=8 conv=notrunc status=none",
    ),
    (
        "mbr-boot.raw",
        "truncate -s 32M mbr-boot.raw; printf 'label: dos\\nlabel-id: 0x12345678\\nstart=16384,size=14336,type=ea\\n\
         start=32768,size=14336,type=83,bootable\\n' | sfdisk -q mbr-boot.raw\n\
         dd if=esp.vfat of=mbr-boot.raw bs=1M seek=8 conv=notrunc status=none\n\
         dd if=os.squashfs of=mbr-boot.raw bs=1M seek=16 conv=notrunc status=none",
    ),
    (
        "mbr-logical.raw",
        "truncate -s 64M mbr-logical.raw; printf 'label: dos\\nlabel-id: 0x12345678\\nstart=2048,size=2048,type=83\\n\
         start=8192,size=90000,type=5\\nstart=16384,size=14336,type=83,bootable\\nstart=49152,size=14336,type=ea\\n' |\n\
         sfdisk -q mbr-logical.raw; dd if=os.squashfs of=mbr-logical.raw bs=1M seek=8 conv=notrunc status=none\n\
         dd if=esp.vfat of=mbr-logical.raw bs=1M seek=24 conv=notrunc status=none",
    ),
    (
        "mbr-two.raw",
        "truncate -s 32M mbr-two.raw; printf 'label: dos\\nstart=16384,size=14336,type=83,bootable\\n\
         start=32768,size=14336,type=83\\n' | sfdisk -q mbr-two.raw\n\
         dd if=os.squashfs of=mbr-two.raw bs=1M seek=8 conv=notrunc status=none",
    ),
    (
        "gpt-over-ext4.raw",
        "cp os.ext4 gpt-over-ext4.raw; truncate -s 32M gpt-over-ext4.raw; printf 'label: gpt\\nstart=4096,size=1792,type=%s\\n' $ROOT |\n\
         sfdisk -q -w never -W never --sector-size 4096 gpt-over-ext4.raw; dd if=os.squashfs of=gpt-over-ext4.raw bs=1M seek=16 conv=notrunc status=none",
    ),
    // Verity.
    (
        "verity.raw",
        "disk verity.raw <<END\n$ROOT r_1 - $(cat os.squashfs.data) os.squashfs\n$ROOTV r_1 - $(cat os.squashfs.tree) os.squashfs.hash\nEND",
    ),
    (
        "verity-signed.raw",
        "disk verity-signed.raw <<END\n$ROOT r_1 - $(cat os.squashfs.data) os.squashfs\n$ROOTV r_1 - $(cat os.squashfs.tree) os.squashfs.hash\n\
         $ROOTS r_1 - - os.squashfs.sig\nEND",
    ),
    (
        "verity-usr.raw",
        "disk verity-usr.raw <<END\n$USR u_1 - $(cat usr.squashfs.data) usr.squashfs\n$USRV u_1 - $(cat usr.squashfs.tree) usr.squashfs.hash\n\
         $USRS u_1 - - usr.squashfs.sig\nEND",
    ),
    (
        "verity-usr-root.raw",
        "disk verity-usr-root.raw <<END\n$USR u_1 - $(cat usr.squashfs.data) usr.squashfs\n$USRV u_1 - $(cat usr.squashfs.tree) usr.squashfs.hash\n\
         $ROOT r - - os.ext4\nEND",
    ),
    (
        "verity-labels.raw",
        "disk verity-labels.raw <<END\n$ROOT r_1 - $(cat os.squashfs.data) os.squashfs\n$ROOTV v_1 - $(cat os.squashfs.tree) os.squashfs.hash\n$ROOTS s_1 - - os.squashfs.sig\nEND",
    ),
    (
        "verity-erofs.raw",
        "disk verity-erofs.raw <<END\n$ROOT r_1 - $(cat os.erofs.data) os.erofs\n$ROOTV r_1 - $(cat os.erofs.tree) os.erofs.hash\nEND",
    ),
    (
        "verity-ab.raw",
        "disk verity-ab.raw <<END\n$ROOT r_2 - $(cat os.squashfs.data) os.squashfs\n$ROOTV r_2 - $(cat os.squashfs.tree) os.squashfs.hash\n\
         $ROOTS r_2 - - os.squashfs.sig\n$ROOT r_1 - $(cat os.erofs.data) os.erofs\n$ROOTV r_1 - $(cat os.erofs.tree) os.erofs.hash\n\
         $ROOTS r_1 - - os.erofs.sig\nEND",
    ),
    (
        "verity-wrong-uuid.raw",
        "disk verity-wrong-uuid.raw <<END\n$ROOT r_1 - - os.squashfs\n$ROOTV r_1 - - os.squashfs.hash\nEND",
    ),
    (
        "verity-no-data.raw",
        "disk verity-no-data.raw <<END\n$ROOTV r_1 - - os.squashfs.hash\nEND",
    ),
    (
        "verity-no-hash.raw",
        "disk verity-no-hash.raw <<END\n$ROOT r_1 - - os.squashfs\n$ROOTS r_1 - - os.squashfs.sig\nEND",
    ),
    (
        "verity-hash-hidden.raw",
        "disk verity-hash-hidden.raw <<END\n$ROOT r_1 - - os.squashfs\n$ROOTV r_1 $NOAUTO - os.squashfs.hash\nEND",
    ),
    (
        "verity-both.raw",
        "disk verity-both.raw <<END\n$ROOT r - - os.squashfs\n$ROOTV r - - os.squashfs.hash\n$USR u - - usr.squashfs\n$USRV u - - usr.squashfs.hash\nEND",
    ),
    (
        "verity-root-usr.raw",
        "disk verity-root-usr.raw <<END\n$ROOT r - - os.squashfs\n$ROOTV r - - os.squashfs.hash\n$USR u - - usr.squashfs\nEND",
    ),
    (
        "verity-foreign-hash.raw",
        "disk verity-foreign-hash.raw <<END\n$ROOT r - - os.squashfs\n$ARMV r - - os.squashfs.hash\nEND",
    ),
    (
        "verity-sig-zero.raw",
        "disk verity-sig-zero.raw <<END\n$ROOT r_1 - $(cat os.squashfs.data) os.squashfs\n$ROOTV r_1 - $(cat os.squashfs.tree) os.squashfs.hash\n$ROOTS r_1 - - -\nEND",
    ),
    (
        "verity-ext4.raw",
        "head -c 7M os.ext4 >v.ext4; verity v.ext4; disk verity-ext4.raw <<END\n$ROOT r_1 $GROW $(cat v.ext4.data) v.ext4\n$ROOTV r_1 - $(cat v.ext4.tree) v.ext4.hash\nEND",
    ),
    // Beside the image.
    (
        "tree.raw",
        "cp os.squashfs tree.raw; cp os.squashfs.hash tree.verity; cp os.squashfs.roothash tree.roothash",
    ),
    (
        "tree-signed.raw",
        "cp os.squashfs tree-signed.raw; cp os.squashfs.hash tree-signed.verity; cp os.squashfs.roothash tree-signed.roothash; cp os.squashfs.p7s tree-signed.roothash.p7s",
    ),
    (
        "tree-no-hash.raw",
        "cp os.squashfs tree-no-hash.raw; cp os.squashfs.hash tree-no-hash.verity",
    ),
    (
        "tree-table.raw",
        "cp root.raw tree-table.raw; cp os.squashfs.hash tree-table.verity",
    ),
    (
        "hash-beside.raw",
        "cp verity-ab.raw hash-beside.raw; cp os.erofs.roothash hash-beside.roothash",
    ),
    (
        "hash-wrong.raw",
        "cp verity.raw hash-wrong.raw; cp os.erofs.roothash hash-wrong.roothash",
    ),
    (
        "hash-bad.raw",
        "cp root.raw hash-bad.raw; echo xyz >hash-bad.roothash",
    ),
    (
        "hash-plain.raw",
        "cp root.raw hash-plain.raw; cp os.erofs.roothash hash-plain.roothash",
    ),
    (
        "usrhash.raw",
        "cp verity-usr.raw usrhash.raw; cp usr.squashfs.roothash usrhash.usrhash",
    ),
    (
        "usrhash-root.raw",
        "cp root.raw usrhash-root.raw; cp usr.squashfs.roothash usrhash-root.usrhash",
    ),
    (
        "p7s-empty.raw",
        "cp verity.raw p7s-empty.raw; cp os.squashfs.roothash p7s-empty.roothash; : >p7s-empty.roothash.p7s",
    ),
    (
        "attribute.raw",
        "cp verity-ab.raw attribute.raw; setfattr -n user.verity.roothash -v \"$(cat os.erofs.roothash)\" attribute.raw",
    ),
    // Extensions.
    (
        "ext.sysext.raw",
        "tree ext <<'END'\nusr/lib/extension-release.d/extension-release.ext ID=debian\\nSYSEXT_SCOPE=\"system initrd\"\\nVERSION_ID=13\\n\n\
         etc/extension-release.d/extension-release.ext ID=_any\\n\nEND\nmksquashfs ext ext.sysext.raw -quiet -no-progress -all-root >/dev/null",
    ),
    ("other-name.raw", "cp ext.sysext.raw other-name.raw"),
    ("ext.raw.img", "cp ext.sysext.raw ext.raw.img"),
    (
        "portable-ext_7.raw",
        "tree pext <<'END'\nusr/lib/extension-release.d/extension-release.portable-ext ID=debian\\nSYSEXT_SCOPE=portable\\n\nusr/bin/x x\nEND\n\
         mksquashfs pext portable-ext_7.raw -quiet -no-progress -all-root >/dev/null",
    ),
    (
        "two-releases.raw",
        "tree two <<'END'\nusr/lib/extension-release.d/extension-release.a ID=debian\\n\nusr/lib/extension-release.d/extension-release.b ID=debian\\n\nEND\n\
         mksquashfs two two-releases.raw -quiet -no-progress -all-root >/dev/null",
    ),
    (
        "bad-release.raw",
        "tree bad <<'END'\nusr/lib/os-release ID=\"x\\nFOO\\n=3\\nNAME=a b\\nX='q'z\n\
         etc/machine-id uninitialized\\n\netc/hostname -bad-\\n\nEND\n\
         mksquashfs bad bad-release.raw -quiet -no-progress -all-root >/dev/null",
    ),
    (
        "links.raw",
        "tree links <<'END'\nusr/lib/real ID=linked\\n\nx/machine-id 99992222333344445555666677778888\\n\nEND\n\
         mkdir -p links/etc; ln -s /usr/lib/real links/etc/os-release; ln -s ../x/machine-id links/etc/machine-id\n\
         ln -s ../../../../../../etc/hostname links/etc/hostname\n\
         mksquashfs links links.raw -quiet -no-progress -all-root >/dev/null",
    ),
    // By systemd-repart.
    (
        "repart-signed.raw",
        "repart repart-signed.raw <<'END'\n10-root: Type=root;Format=squashfs;CopyFiles=/var/tmp/ddi-peer-dissect/os:/;Verity=data;VerityMatchKey=r;Minimize=best\n\
         20-v: Type=root-verity;Verity=hash;VerityMatchKey=r;Minimize=best\n30-s: Type=root-verity-sig;Verity=signature;VerityMatchKey=r\nEND",
    ),
    (
        "repart-os.raw",
        "repart repart-os.raw <<'END'\n00-esp: Type=esp;Format=vfat;SizeMinBytes=34M;SizeMaxBytes=34M;CopyFiles=/var/tmp/ddi-peer-dissect/esp:/\n\
         10-root: Type=root;Format=ext4;CopyFiles=/var/tmp/ddi-peer-dissect/os:/;SizeMinBytes=16M;SizeMaxBytes=16M;GrowFileSystem=yes\n\
         20-home: Type=home;Format=ext4;SizeMinBytes=16M;SizeMaxBytes=16M\n30-swap: Type=swap;Format=swap;SizeMinBytes=8M;SizeMaxBytes=8M\nEND",
    ),
    (
        "repart-4096.raw",
        "repart repart-4096.raw --sector-size=4096 <<'END'\n10-root: Type=root;Format=erofs;CopyFiles=/var/tmp/ddi-peer-dissect/os:/;Verity=data;VerityMatchKey=r;Minimize=best\n\
         20-v: Type=root-verity;Verity=hash;VerityMatchKey=r;Minimize=best\nEND",
    ),
];
