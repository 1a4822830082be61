# What the recipes of images share: trees, file systems, hash trees, signatures, and how to put a
# table together. Runs in the folder of the images, where systemd's tools are.
set -eu
umask 022
export SOURCE_DATE_EPOCH=1700000000
ROOT=4f68bce3-e8cd-4db1-96e7-fbcaf984b709 ROOTV=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5
ROOTS=41092b05-9fc8-4523-994f-2def0408b176 USR=8484680c-9521-48c6-9c11-b0720656f69e
USRV=77ff5f63-e7b6-4633-acf4-1565b864c0e6 USRS=e7bb33fb-06cf-4e81-8273-e543b413e2e2
ARM=b921b045-1df0-41c3-af44-4c6f280d3fae ARMUSR=b0e01050-ee5f-4390-949a-9101b17104e9
ARMV=df3300ce-d69f-4c92-978c-9bfb0f38d820 X86=44479540-f297-41b2-9af7-d131d5f0458a
HOME_=933ac7e1-2eb4-4f13-b844-0e14e2aef915 SRV=3b8f8425-20e0-4f3b-907f-1a25a76f98e8
VAR=4d21b016-b534-45c2-a9fb-5c16e091fd2d TMP=7ec6f557-3bc5-4aca-b293-16ef5df639d1
SWAP=0657fd6d-a4ab-43c4-84e5-0933c84b4f4f ESP=c12a7328-f81f-11d2-ba4b-00a0c93ec93b
XBOOTLDR=bc13c2ff-59e6-4262-a352-b275fd6f7172 GENERIC=0fc63daf-8483-4772-8e79-3d69d8477de4
USERHOME=773f91ef-66d4-49b5-bd83-d683bf40ad16 OTHER=a19d880f-05fc-4d3b-a006-743f0f84911e
RO=GUID:60 GROW=GUID:59 NOAUTO=GUID:63
export MTOOLS_SKIP_CHECK=1

# A disk in $1 from lines of type, label, attributes, UUID and contents, `-` for none. Partition N lies
# at N times 8 MiB and has 7 MiB; sectors have $2 bytes.
disk() {
    number=0 sector=${2:-512} name=$1
    truncate -s 0 "$name"
    { echo 'label: gpt'; echo 'label-id: 11111111-2222-3333-4444-555555555555'
      while read -r type label attributes uuid contents; do
        number=$((number + 1))
        case $contents in *.sig) size=16384 ;; *) size=7340032 ;; esac
        line="start=$((number * 8388608 / sector)), size=$((size / sector)), type=$type"
        [ "$label" = - ] || line="$line, name=\"$label\""
        [ "$attributes" = - ] || line="$line, attrs=\"$(echo "$attributes" | tr + ' ')\""
        [ "$uuid" = - ] && uuid=aaaaaaaa-0000-4000-8000-$(printf %012d $number)
        echo "$line, uuid=$uuid"
        [ "$contents" = - ] || dd if="$contents" of="$name" bs=1M seek=$((number * 8)) conv=notrunc,sparse status=none
      done
      truncate -s $(((number + 1) * 8388608)) "$name"
    } >"$name.table"
    sfdisk -q --no-reread --no-tell-kernel --sector-size "$sector" "$name" <"$name.table"
    rm "$name.table"
}

# A hash tree for $1 and what belongs to it: $1.hash, $1.roothash, $1.data and $1.tree (UUIDs), $1.p7s,
# $1.sig (signature partition).
verity() {
    veritysetup format --salt=11 --uuid=22222222-2222-4222-8222-222222222222 \
        --root-hash-file="$1.roothash" "$1" "$1.hash" >/dev/null
    hash=$(cat "$1.roothash")
    uuid() { echo "$1" | sed -E 's/(.{8})(.{4})(.{4})(.{4})(.{12})/\1-\2-\3-\4-\5/'; }
    uuid "$(echo "$hash" | cut -c1-32)" >"$1.data"
    uuid "$(echo "$hash" | cut -c33-64)" >"$1.tree"
    printf %s "$hash" >"$1.text"
    openssl smime -sign -nocerts -noattr -binary -in "$1.text" -inkey key.pem -signer cert.pem \
        -outform der -out "$1.p7s"
    printf '{"rootHash":"%s","signature":"%s"}' "$hash" "$(base64 -w0 "$1.p7s")" >"$1.sig"
    truncate -s 16384 "$1.sig"
}

# systemd-repart with the definitions on standard input, one `FILE: lines` each, `;` between lines.
repart() {
    name=$1 && shift
    rm -rf repart.d && mkdir repart.d
    while IFS= read -r line; do
        { echo '[Partition]'; echo "${line#*: }" | tr ';' '\n'; } >"repart.d/${line%%:*}.conf"
    done
    systemd-repart --definitions=repart.d --offline=yes --empty=create --size=auto --dry-run=no \
        --seed=11111111-2222-3333-4444-555555555555 --private-key=key.pem --certificate=cert.pem \
        "$@" "$name" >/dev/null 2>&1
}

tree() { # NAME, then lines `PATH TEXT`
    while read -r path text; do
        mkdir -p "$1/$(dirname "$path")"
        printf '%b' "$text" >"$1/$path"
    done
}

inputs() {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=peer \
        -days 3650 2>/dev/null
    tree os <<'END'
usr/lib/os-release ID=debian\nVERSION_ID="13"\nNAME='Some OS'\nIMAGE_ID=os\nIMAGE_VERSION=3\n# a comment\nPORTABLE_PREFIXES="a b"\n
etc/machine-id 11112222333344445555666677778888\n
etc/machine-info PRETTY_HOSTNAME="The Box"\nDEPLOYMENT=test\n
etc/hostname thebox\n
usr/lib/systemd/systemd x
usr/bin/tool x
efi/.keep x
home/.keep x
END
    tree usr <<'END'
lib/os-release ID=debian\nVERSION_ID=12\n
bin/tool x
END
    tree esp <<'END'
EFI/BOOT/BOOTX64.EFI x
END
    tree home <<'END'
lennart/secret x
END
    tree initrd <<'END'
etc/initrd-release ID=debian\nVERSION_ID=13\n
usr/lib/os-release ID=debian\n
END
    chmod 755 os/usr/lib/systemd/systemd
    mksquashfs os os.squashfs -quiet -no-progress -all-root >/dev/null
    mksquashfs usr usr.squashfs -quiet -no-progress -all-root >/dev/null
    mksquashfs home home.squashfs -quiet -no-progress -all-root >/dev/null
    mksquashfs initrd initrd.squashfs -quiet -no-progress -all-root >/dev/null
    mkfs.erofs --quiet --all-root -U 33333333-3333-4333-8333-333333333333 os.erofs os
    for name in os home; do
        truncate -s 7M "$name.ext4"
        mkfs.ext4 -q -d "$name" -U 44444444-4444-4444-8444-444444444444 "$name.ext4"
    done
    truncate -s 7M small.ext2 small.ext3 && mkfs.ext2 -q small.ext2 && mkfs.ext3 -q small.ext3
    truncate -s 7M esp.vfat && mkfs.vfat -i 12345678 esp.vfat >/dev/null
    mcopy -i esp.vfat -s esp/EFI ::
    truncate -s 7M swap && mkswap -q -U 55555555-5555-4555-8555-555555555555 swap 2>/dev/null
    truncate -s 7M luks1 luks2 luks2i
    printf x | cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 luks1 -
    printf x | cryptsetup luksFormat -q --type luks2 --luks2-metadata-size 16k \
        --luks2-keyslots-size 512k --pbkdf pbkdf2 --pbkdf-force-iterations 1000 luks2 -
    # The same with a segment that says it is authenticated: only the header is read.
    sed 's/"encryption":"aes-xts-plain64","sector_size"/"integrity":{"type":"hmac(sha256)"},&/' luks2 |
        head -c 7M >luks2i
    for name in os usr; do verity $name.squashfs; done
    verity home.squashfs && verity os.erofs
}
