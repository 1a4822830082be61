//! `integritysetup`, `systemd-integritysetup` and `systemd-veritysetup` in a kernel that has the devices,
//! beside the integritysetup of this machine.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use testimages::guest::{Guest, SCRATCH};

/// What a command ended with and said.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    #[track_caller]
    fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    fn fails(self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(words), "{words}: {self:?}");
    }
}

/// Runs a line of the shell in the scratch folder; `our/TOOL` is this binary, `TOOL` the machine's own.
fn sh(line: &str) -> Done {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(SCRATCH)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let done = Done {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    };
    println!("$ {line}\n{done:?}");
    done
}

fn prepare() {
    let scratch = Path::new(SCRATCH);
    fs::create_dir(scratch.join("our")).unwrap();
    for name in [
        "integritysetup",
        "systemd-integritysetup",
        "systemd-veritysetup",
    ] {
        symlink(env!("CARGO_BIN_EXE_ddi"), scratch.join("our").join(name)).unwrap();
    }
    for (name, byte) in [("key", b'k'), ("other", b'o')] {
        let path = scratch.join(name);
        fs::write(&path, [byte; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A device of so many MiB; gives its node.
fn device(name: &str, mib: u64) -> String {
    sh(&format!("rm -f {name}; truncate -s {mib}M {name}")).good();
    sh(&format!("losetup -f --show {name}"))
        .good()
        .trim()
        .to_owned()
}

const KEY: &str = "-I hmac-sha256 --integrity-key-file key --integrity-key-size 32";
const JOURNAL: &str = "--journal-integrity hmac-sha256 --journal-integrity-key-file other \
                       --journal-integrity-key-size 32 --journal-crypt cbc-aes --journal-crypt-key-file other \
                       --journal-crypt-key-size 32";

#[test]
fn integritysetup_stands_in_for_the_machines_own() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(400)));
    prepare();
    let node = device("a", 16);
    each_opens_the_others(&node);
    modes_and_status(&node);
    sizes(&node);
    removals(&node);
    apart(&node);
    refusals(&node);
}

fn each_opens_the_others(node: &str) {
    for (format, open) in [
        ("", ""),
        ("-t 2 -s 2048 -I sha256", "-I sha256"),
        (&format!("{KEY} -s 4096 -j 200000")[..], KEY),
        (&format!("{KEY} {JOURNAL}"), &format!("{KEY} {JOURNAL}")[..]),
        ("--integrity-legacy-padding --integrity-legacy-hmac", ""),
    ] {
        for (first, second) in [
            ("our/integritysetup", "integritysetup"),
            ("integritysetup", "our/integritysetup"),
        ] {
            sh(&format!("{first} format -q {format} {node}")).good();
            sh(&format!("{first} open {open} {node} x")).good();
            sh("yes abcdefg | head -c 300000 | dd of=/dev/mapper/x bs=4096 conv=fsync").good();
            sh(&format!("{first} close x")).good();
            sh(&format!("{second} open {open} {node} x")).good();
            let sum = sh("cat /dev/mapper/x | tr -d '\\0' | cksum").good();
            assert_eq!(sum, sh("yes abcdefg | head -c 300000 | cksum").good());
            sh(&format!("{second} close x")).good();
        }
    }
}

/// What 2.6 and 2.8 say alike.
fn plain(text: &str) -> Vec<String> {
    let mut text = text.to_owned();
    for unit in [" [bytes]", " bytes", " [ms]", " ms", " sectors\n"] {
        text = text.replace(unit, if unit.ends_with('\n') { "\n" } else { "" });
    }
    let short = |line: &str| {
        line.split(" [512-byte")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    text.lines().map(short).collect()
}

fn modes_and_status(node: &str) {
    sh(&format!("our/integritysetup format -q {node}")).good();
    for options in [
        "",
        "-D",
        "-R",
        "-B --bitmap-sectors-per-bit 4096 --bitmap-flush-time 100",
        "--journal-watermark 30 --journal-commit-time 500 --buffer-sectors 16",
        "--integrity-recalculate",
        "--integrity-recalculate-reset --integrity-legacy-recalculate",
        "--allow-discards",
    ] {
        let mut told = Vec::new();
        for tool in ["our/integritysetup", "integritysetup"] {
            sh(&format!("{tool} open {options} {node} x")).good();
            told.push(sh("dmsetup table x").good());
            let ours = sh("our/integritysetup status x").good();
            let theirs = sh("integritysetup status x").good();
            assert_eq!(plain(&ours), plain(&theirs), "{options}");
            sh(&format!("{tool} close x")).good();
        }
        let words = |table: &str| {
            let mut words: Vec<_> = table.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!(words(&told[0]), words(&told[1]), "{options}");
    }
    let dump = sh(&format!("our/integritysetup dump {node}")).good();
    assert!(
        dump.contains("data size: 32328 [512-byte units] (16551936 [bytes])\n"),
        "{dump}"
    );
    assert!(
        dump.contains("flags: recalculating fix_padding fix_hmac \n"),
        "{dump}"
    );
    sh(&format!("our/integritysetup format -q {KEY} {node}")).good();
    sh(&format!("our/integritysetup open {KEY} {node} x")).good();
    let status = sh("our/integritysetup status x").good();
    assert!(
        status.contains("integrity: hmac(sha256)\n") && !status.contains("6b6b"),
        "{status}"
    );
    sh("our/integritysetup close x").good();
}

fn sizes(node: &str) {
    sh(&format!("our/integritysetup format -q {node}")).good();
    sh(&format!("our/integritysetup open {node} x")).good();
    sh("our/integritysetup resize --size 8000 x").good();
    assert_eq!(sh("blockdev --getsz /dev/mapper/x").good(), "8000\n");
    sh("our/integritysetup resize --device-size 2M x").good();
    assert_eq!(sh("blockdev --getsz /dev/mapper/x").good(), "4096\n");
    sh("our/integritysetup resize x").good();
    assert_eq!(sh("blockdev --getsz /dev/mapper/x").good(), "32328\n");
    sh(&format!("truncate -s 24M a; losetup -c {node}")).good();
    sh("our/integritysetup resize --wipe -q x").good();
    let size: u64 = sh("blockdev --getsz /dev/mapper/x")
        .good()
        .trim()
        .parse()
        .unwrap();
    assert!(size > 48_000, "{size}");
    sh("cat /dev/mapper/x | cksum").good();
    let large = sh("our/integritysetup resize --size 99999999 x");
    large.fails(1, "the kernel refuses its table");
    assert_eq!(
        sh("blockdev --getsz /dev/mapper/x").good().trim(),
        size.to_string()
    );
    sh("our/integritysetup close x").good();
    sh(&format!("truncate -s 16M a; losetup -c {node}")).good();
}

fn removals(node: &str) {
    sh(&format!("our/integritysetup format -q {node}")).good();
    sh(&format!("our/integritysetup open {node} x")).good();
    let used = "exec 3</dev/mapper/x";
    sh(&format!("{used}; our/integritysetup close x")).fails(5, "in use");
    let line = format!(
        "{used}; our/integritysetup close --deferred x && our/integritysetup close --cancel-deferred x && \
         our/integritysetup status x | head -n 1"
    );
    let told = sh(&line).good();
    assert!(
        told.contains("/dev/mapper/x is active and is in use.\n"),
        "{told}"
    );
    // It has outlived its last user.
    sh("our/integritysetup status x").good();
    sh(&format!("{used}; our/integritysetup close --deferred x")).good();
    assert!(
        sh("our/integritysetup status x")
            .out
            .contains("is inactive")
    );
}

fn apart(node: &str) {
    let data = device("b", 8);
    let other = format!("--data-device {data}");
    sh(&format!("our/integritysetup format -q {other} {node}")).good();
    sh(&format!("integritysetup open {other} {node} x")).good();
    let (ours, theirs) = (
        sh("our/integritysetup status x"),
        sh("integritysetup status x"),
    );
    assert_eq!(plain(&ours.good()), plain(&theirs.good()));
    sh("cat /dev/mapper/x | cksum").good();
    sh("our/integritysetup close x").good();
    sh(&format!("our/integritysetup open {other} {node} x")).good();
    sh("cat /dev/mapper/x | cksum && our/integritysetup close x").good();
}

fn refusals(node: &str) {
    sh("our/integritysetup close x").fails(4, "is not active");
    sh("our/integritysetup resize x").fails(4, "is not active");
    assert_eq!(sh("our/integritysetup status x").code, Some(4));
    sh(&format!(
        "our/integritysetup format -q {node}; our/integritysetup open {node} x"
    ))
    .good();
    sh(&format!("our/integritysetup open {node} x")).fails(5, "there is a device x already");
    sh(&format!("our/integritysetup format -q {node}")).fails(5, "in use");
    sh("our/integritysetup close x").good();
    sh(&format!("our/integritysetup open -I hmac-sha256 {node} x")).fails(1, "needs a key");
    // Tags of four bytes could be those of any algorithm.
    let line = format!("our/integritysetup open -I sha1 {node} x && ! cat /dev/mapper/x");
    sh(&line).good();
    sh("our/integritysetup close x").good();
    sh(&format!("our/integritysetup open -I nonsense {node} x"))
        .fails(1, "the kernel does not take");
    sh(&format!(
        "our/integritysetup format -q --integrity-inline {node}"
    ))
    .fails(1, "the kernel does not take");
    sh(&format!(
        "dd if=/dev/zero of={node} bs=4k count=1 conv=fsync; our/integritysetup open {node} x"
    ))
    .fails(1, "it has no superblock");
}

#[test]
fn volumes_of_tables_are_attached_and_detached() {
    testimages::in_guest!(Guest::Uml.limit(Duration::from_secs(400)));
    prepare();
    integrity_volumes();
    verity_volumes();
}

fn integrity_volumes() {
    let tool = "our/systemd-integritysetup";
    let node = device("a", 16);
    sh(&format!("integritysetup format -q {KEY} {node}")).good();
    sh(&format!(
        "{tool} attach v {node} key allow-discards,mode=bitmap,foo,journal-watermark=0%"
    ))
    .good();
    let table = sh("dmsetup table v").good();
    assert!(
        table.contains(" B ") && table.contains("allow_discards"),
        "{table}"
    );
    let again = sh(&format!("{tool} attach v {node} key"));
    assert!(again.err.contains("active already"), "{again:?}");
    again.good();
    sh("cat /dev/mapper/v | cksum").good();
    sh(&format!("{tool} detach v")).good();
    sh(&format!("{tool} detach v")).good();
    sh(&format!("{tool} attach v {node} -; cat /dev/mapper/v")).fails(1, "");
    sh(&format!(
        "{tool} attach v {node} other && ! cat /dev/mapper/v"
    ))
    .good();
    sh(&format!("{tool} detach v; chmod 644 key")).good();
    let open = sh(&format!("{tool} attach v {node} key"));
    assert!(open.err.contains("every user can read"), "{open:?}");
    open.good();
    sh(&format!("{tool} detach v")).good();
    sh(&format!("{tool} attach v {node} /nope")).fails(1, "cannot read the key from /nope");
    sh(&format!(
        "head -c 5000 /dev/zero > long; {tool} attach v {node} long"
    ))
    .fails(1, "more than 4096 bytes");
    sh(&format!(
        "{tool} attach v {node} key integrity-algorithm=crc32c"
    ))
    .fails(1, "takes no key");
    sh(&format!("{tool} attach a/v {node}")).fails(1, "cannot name a device");
    // A file in place of a device.
    sh("our/integritysetup format -q file 2>&1 || truncate -s 16M file && our/integritysetup format -q file").good();
    sh(&format!(
        "{tool} attach v $PWD/file && cat /dev/mapper/v | cksum && {tool} detach v"
    ))
    .good();
}

fn verity_volumes() {
    let tool = "our/systemd-veritysetup";
    sh("yes data | head -c 1M > d").good();
    let root =
        sh("veritysetup format --salt=00ff d h | sed -n 's/^Root hash:[[:space:]]*//p'").good();
    let root = root.trim();
    let attach =
        |root: &str, options: &str| sh(&format!("{tool} attach v $PWD/d $PWD/h {root} {options}"));
    let detach = || sh(&format!("cmp d /dev/mapper/v && {tool} detach v")).good();
    attach(root, "").good();
    let status = sh("veritysetup status v").good();
    assert!(
        status.contains("verified") && status.contains(root),
        "{status}"
    );
    assert!(attach(root, "").err.contains("active already"));
    detach();
    sh(&format!("{tool} detach v")).good();
    attach(
        root,
        "panic-on-corruption,ignore-zero-blocks,check-at-most-once,foo",
    )
    .good();
    let table = sh("dmsetup table v").good();
    for word in [
        "panic_on_corruption",
        "ignore_zero_blocks",
        "check_at_most_once",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    detach();
    fs::write(Path::new(SCRATCH).join("root"), format!("{root}\n")).unwrap();
    attach("$PWD/root", "-").good();
    detach();
    from_a_socket(root, &|| attach("$PWD/socket", "").good());
    detach();
    sh("veritysetup format --no-superblock --salt=- --hash=sha512 --data-block-size=1024 d n > told").good();
    let bare = sh("sed -n 's/^Root hash:[[:space:]]*//p' told").good();
    let options = "superblock=no,salt=-,hash=sha512,data-block-size=1K";
    sh(&format!(
        "{tool} attach v $PWD/d $PWD/n {} {options}",
        bare.trim()
    ))
    .good();
    detach();
    attach("zz", "").fails(1, "write a root hash in hex");
    attach("-", "").fails(1, "udev knows no root hash");
    attach(&"0".repeat(64), "").fails(1, "does not fit root hash");
    attach(root, "tpm2-measure-nvpcr=yes").fails(1, "NvPCR verity");
    attach(root, "hash-offset=5").fails(1, "hash-offset=5");
    sh(&format!("{tool} attach v /nope $PWD/h {root}")).fails(1, "/nope");
    sh(&format!("{tool} attach v $PWD/d $PWD/d {root}")).fails(1, "has no verity superblock");
    assert!(!Path::new("/dev/mapper/v").exists());
}

fn from_a_socket(root: &str, connect: &dyn Fn() -> String) {
    let listener = UnixListener::bind(Path::new(SCRATCH).join("socket")).unwrap();
    let text = format!("{root}\n");
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(text.as_bytes()).unwrap();
    });
    connect();
    server.join().unwrap();
}
