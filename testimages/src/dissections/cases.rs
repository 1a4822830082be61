//! Runs with options: policies, filters, root hashes, and what the environment says.

use super::Case;

/// Policies that every image in [`HELD`] is held against.
const POLICIES: &[&str] = &[
    "*",
    "-",
    "~",
    "root=unprotected",
    "root=unprotected+absent",
    "root=verity",
    "root=signed",
    "root=verity+signed",
    "root=verity+signed+absent",
    "root=verity+signed+unprotected+absent:usr=verity+signed+absent",
    "root=encrypted",
    "root=encryptedwithintegrity+absent",
    "root=absent:usr=signed",
    "root=unused+absent:usr=verity",
    "root=verity+signed+encrypted+encryptedwithintegrity+unprotected+absent:usr=verity+signed+encrypted+encryptedwithintegrity+unprotected+absent",
    "root=signed+absent:usr=signed+absent",
    "root=unprotected:home=encrypted+absent",
    "root=unprotected:home=encryptedwithintegrity+absent",
    "root=unprotected:home=unprotected:esp=absent",
    "root=unprotected+read-only-on",
    "root=unprotected+read-only-off+growfs-off",
    "root=unprotected+growfs-on:home=growfs-off",
    "root=open+ext4",
    "root=squashfs+erofs",
    "=unprotected+absent",
    "root=unprotected:=absent",
    "root=unprotected:root-verity=absent",
    "root=verity:root-verity=unprotected:root-verity-sig=absent",
    "root=signed:root-verity-sig=unused+absent",
    "swap=encrypted+absent:=open",
];

/// Images with something for a policy to look at.
const HELD: &[&str] = &[
    "squashfs.raw",
    "luks2.raw",
    "luks2-integrity.raw",
    "root.raw",
    "usr.raw",
    "generic-home.raw",
    "all.raw",
    "flags.raw",
    "root-luks.raw",
    "home-luks.raw",
    "home-integrity.raw",
    "swap-luks.raw",
    "verity.raw",
    "verity-signed.raw",
    "verity-usr.raw",
    "verity-usr-root.raw",
    "tree-signed.raw",
    "mbr.raw",
    "unknown.raw",
];

const FILTERS: &[(&str, &str)] = &[
    ("versions.raw", "root=r_9"),
    ("versions.raw", "root=r_10*"),
    ("versions.raw", "root=r_9:home=h_2"),
    ("versions.raw", "root=x"),
    ("generic-two.raw", "root=os"),
    ("generic-two.raw", "root=o*"),
    ("labels.raw", "root=ein-gr?nes*"),
    ("labels.raw", "home=a.b\\:c\\=d"),
    ("squashfs.raw", "root=x"),
    ("squashfs.raw", "root=*"),
    (
        "verity-ab.raw",
        "root=r_1:root-verity=r_1:root-verity-sig=r_1",
    ),
    ("verity-ab.raw", "root=r_1"),
    ("verity-ab.raw", "root-verity-sig=none"),
    ("verity-signed.raw", "root-verity=none"),
    ("verity-labels.raw", "root=r_1"),
    ("verity-labels.raw", "root=r_1:root-verity=v_1"),
    (
        "verity-labels.raw",
        "root=r_1:root-verity=v_1:root-verity-sig=s_1",
    ),
    ("verity-labels.raw", "root-verity=v_1"),
    ("all.raw", "esp=x:home=h*"),
    ("mbr.raw", "root=x"),
    ("root.raw", "nonsense"),
    ("root.raw", "root=a:root=b"),
];

/// Other options and variables: image, options, environment.
const OTHERS: &[(&str, &str, &str)] = &[
    ("verity.raw", "--root-hash=$(cat os.squashfs.roothash)", ""),
    ("verity.raw", "--root-hash=$(cat os.erofs.roothash)", ""),
    ("verity.raw", "--usr-hash=$(cat os.squashfs.roothash)", ""),
    (
        "verity-signed.raw",
        "--root-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    (
        "verity-signed.raw",
        "--root-hash=$(cat os.squashfs.roothash) --root-hash-sig=$D/os.squashfs.p7s",
        "",
    ),
    (
        "verity-signed.raw",
        "--root-hash=$(cat os.squashfs.roothash) --root-hash-sig=base64:$(base64 -w0 os.squashfs.p7s)",
        "",
    ),
    (
        "verity-signed.raw",
        "--root-hash=$(cat os.squashfs.roothash) --root-hash-sig=$D/none",
        "",
    ),
    (
        "verity-signed.raw",
        "--root-hash-sig=$D/os.squashfs.p7s --usr-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    ("verity-ab.raw", "--root-hash=$(cat os.erofs.roothash)", ""),
    (
        "verity-ab.raw",
        "--root-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    (
        "verity-ab.raw",
        "--root-hash=$(cat usr.squashfs.roothash)",
        "",
    ),
    (
        "verity-ab.raw",
        "--usr-hash=$(cat usr.squashfs.roothash)",
        "",
    ),
    (
        "verity-usr.raw",
        "--usr-hash=$(cat usr.squashfs.roothash)",
        "",
    ),
    (
        "verity-usr.raw",
        "--root-hash=$(cat usr.squashfs.roothash)",
        "",
    ),
    (
        "verity-usr-root.raw",
        "--usr-hash=$(cat usr.squashfs.roothash)",
        "",
    ),
    (
        "verity-sig-zero.raw",
        "--root-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    ("root.raw", "--root-hash=$(cat os.squashfs.roothash)", ""),
    ("generic.raw", "--root-hash=$(cat os.squashfs.roothash)", ""),
    ("generic.raw", "--usr-hash=$(cat os.squashfs.roothash)", ""),
    ("root.raw", "--root-hash=00112233", ""),
    ("root.raw", "--root-hash=zz", ""),
    (
        "verity.raw",
        "--root-hash=00000000000000000000000000000000ffffffffffffffffffffffffffffffff",
        "",
    ),
    ("squashfs.raw", "--verity-data=$D/os.squashfs.hash", ""),
    (
        "squashfs.raw",
        "--verity-data=$D/os.squashfs.hash --root-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    (
        "squashfs.raw",
        "--verity-data=$D/os.squashfs.hash --usr-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    (
        "ext4.raw",
        "--verity-data=$D/os.squashfs.hash --root-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    ("root.raw", "--verity-data=$D/os.squashfs.hash", ""),
    (
        "squashfs.raw",
        "--root-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    ("tree.raw", "", "SYSTEMD_DISSECT_VERITY_SIDECAR=0"),
    ("tree-table.raw", "", "SYSTEMD_DISSECT_VERITY_SIDECAR=0"),
    ("hash-wrong.raw", "", "SYSTEMD_DISSECT_VERITY_SIDECAR=0"),
    ("hash-bad.raw", "", "SYSTEMD_DISSECT_VERITY_SIDECAR=no"),
    (
        "hash-beside.raw",
        "--root-hash=$(cat os.squashfs.roothash)",
        "",
    ),
    (
        "hash-beside.raw",
        "--usr-hash=$(cat usr.squashfs.roothash)",
        "",
    ),
    ("attribute.raw", "", "SYSTEMD_DISSECT_VERITY_SIDECAR=0"),
    ("verity.raw", "", "SYSTEMD_DISSECT_VERITY_GUESS=0"),
    ("verity-signed.raw", "", "SYSTEMD_DISSECT_VERITY_EMBEDDED=0"),
    (
        "verity-signed.raw",
        "",
        "SYSTEMD_DISSECT_VERITY_EMBEDDED=0 SYSTEMD_DISSECT_VERITY_GUESS=0",
    ),
    ("ext2.raw", "", "SYSTEMD_DISSECT_FILE_SYSTEMS=ext2:ext4"),
    ("root-ext2.raw", "", "SYSTEMD_DISSECT_FILE_SYSTEMS=ext2"),
    ("root.raw", "", "SYSTEMD_DISSECT_FILE_SYSTEMS=squashfs"),
    ("ext4.raw", "", "SYSTEMD_DISSECT_FILE_SYSTEMS=squashfs"),
    ("root.raw", "", "SYSTEMD_DISSECT_FSTYPE_ROOT=ext4"),
    ("root.raw", "", "SYSTEMD_DISSECT_FSTYPE_ROOT=xfs"),
    ("ext4.raw", "", "SYSTEMD_DISSECT_FSTYPE_ROOT=ext4"),
    ("all.raw", "", "SYSTEMD_DISSECT_FSTYPE_HOME=ext4"),
];

/// Policies that are none.
const NO_POLICIES: &[&str] = &[
    "root",
    "root=nonsense",
    "nonsense=open",
    "root=open:root=open",
    "@unknown",
    "",
    "root=:home=",
];

pub(super) fn cases() -> impl Iterator<Item = Case> {
    let case = |image, options, environment| Case {
        image,
        options,
        environment,
    };
    let leak = |text: String| &*text.leak();
    let both = ["--json=short", "--validate"];
    let policies = HELD.iter().flat_map(move |image| {
        POLICIES.iter().map(move |policy| {
            case(
                image,
                leak(format!("--validate '--image-policy={policy}'")),
                "",
            )
        })
    });
    let shown = HELD.iter().flat_map(move |image| {
        POLICIES.iter().step_by(4).map(move |policy| {
            case(
                image,
                leak(format!("--json=short '--image-policy={policy}'")),
                "",
            )
        })
    });
    let broken = NO_POLICIES.iter().map(move |policy| {
        case(
            "root.raw",
            leak(format!("--validate '--image-policy={policy}'")),
            "",
        )
    });
    let filters = FILTERS.iter().flat_map(move |(image, filter)| {
        both.map(|verb| case(image, leak(format!("{verb} '--image-filter={filter}'")), ""))
    });
    let others = OTHERS
        .iter()
        .flat_map(move |(image, options, environment)| {
            both.map(|verb| case(image, leak(format!("{verb} {options}")), environment))
        });
    policies
        .chain(shown)
        .chain(broken)
        .chain(filters)
        .chain(others)
}
