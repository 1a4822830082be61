#!/bin/bash
# dracut: `ddi repart` in the initrd, with the definitions of this system.
# shellcheck disable=SC2154 # initdir, systemdsystemunitdir: from dracut
# Sourced by dracut; only what every sh knows is used.

# Where definitions lie, and where the unit may be.
ddi_definitions="/etc/repart.d /usr/local/lib/repart.d /usr/lib/repart.d"
ddi_unit=ddi-repart.service

# Only where there is something to do: 255 means "when asked for by name".
check() {
    require_binaries ddi || return 1
    for folder in $ddi_definitions; do
        for file in "${dracutsysrootdir-}$folder"/*.conf; do
            [ -e "$file" ] && return 0
        done
    done
    return 255
}

depends() {
    echo systemd udev-rules
}

# What definitions name as Format=, one a line; ours are made without a program.
ddi_formats() {
    for folder in $ddi_definitions; do
        cat "${dracutsysrootdir-}$folder"/*.conf "${dracutsysrootdir-}$folder"/*.conf.d/*.conf 2>/dev/null
    done | sed -n 's/^[[:space:]]*Format[[:space:]]*=[[:space:]]*\([a-z0-9]*\)[[:space:]]*$/\1/p' | sort -u
}

installkernel() {
    hostonly='' instmods loop dm_mod dm_crypt dm_verity dm_integrity
}

install() {
    inst_multiple ddi
    for format in $(ddi_formats); do
        inst_multiple -o "mkfs.$format"
        case "$format" in
        ext2 | ext3 | ext4) inst_multiple -o debugfs resize2fs ;;
        xfs) inst_multiple -o xfs_db ;;
        f2fs) inst_multiple -o sload.f2fs ;;
        esac
    done
    inst_multiple -o /etc/mke2fs.conf
    for folder in $ddi_definitions; do
        for file in "${dracutsysrootdir-}$folder"/*.conf "${dracutsysrootdir-}$folder"/*.conf.d/*.conf; do
            [ -e "$file" ] && inst_simple "${file#"${dracutsysrootdir-}"}"
        done
    done
    for folder in "$systemdsystemunitdir" /usr/local/lib/systemd/system; do
        [ -e "${dracutsysrootdir-}$folder/$ddi_unit" ] || continue
        inst_simple "$folder/$ddi_unit"
        mkdir -p "$initdir$folder/initrd-root-fs.target.wants"
        ln -sf "../$ddi_unit" "$initdir$folder/initrd-root-fs.target.wants/$ddi_unit"
        return 0
    done
    derror "ddi-repart: $ddi_unit is not installed, so nothing will start it"
    return 1
}
