//! `io.systemd.Repart` and what is told to the service manager: the binary is started as systemd and
//! varlinkctl start it, and asked by a client of our own.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

mod common;

use common::{Scratch, is_root, partitions, repart, run};

/// Long enough for any machine; only what hangs waits for it.
const PATIENCE: Duration = Duration::from_secs(300);

const ESP: (&str, &str) = (
    "10-esp.conf",
    "Type=esp\nFormat=vfat\nSizeMinBytes=300M\nSizeMaxBytes=300M\n",
);
const SWAP: (&str, &str) = (
    "20-swap.conf",
    "Type=swap\nFormat=swap\nSizeMinBytes=20M\nSizeMaxBytes=20M\n",
);

/// The tool as a service manager starts it: descriptor 3 is the socket.
fn started(socket: OwnedFd) -> Child {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=varlink exec \"$0\" repart 3<&0 </dev/null",
    ]);
    shell.arg(env!("CARGO_BIN_EXE_ddi")).stdin(socket);
    shell.stderr(Stdio::null()).spawn().unwrap()
}

struct Client(BufReader<UnixStream>);

impl Client {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// A service that was started for this connection.
    fn of_its_own() -> (Self, Child) {
        let (near, far) = UnixStream::pair().unwrap();
        // varlinkctl leaves it like that.
        far.set_nonblocking(true).unwrap();
        (Self::new(near), started(far.into()))
    }

    fn ask(&mut self, method: &str, parameters: &Value, more: bool) -> io::Result<Vec<Value>> {
        let call = json!({"method": method, "parameters": parameters, "more": more});
        self.0.get_mut().write_all(format!("{call}\0").as_bytes())?;
        let mut answers = Vec::new();
        loop {
            let mut bytes = Vec::new();
            self.0.read_until(0, &mut bytes)?;
            if bytes.pop() != Some(0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let answer: Value = serde_json::from_slice(&bytes)?;
            let last = answer.get("continues") != Some(&true.into());
            answers.push(answer);
            if last {
                return Ok(answers);
            }
        }
    }

    /// `Run`, whose last answer is returned behind the phases before it.
    fn run(&mut self, parameters: &Value) -> (Vec<String>, Value) {
        let mut answers = self.ask("io.systemd.Repart.Run", parameters, true).unwrap();
        let last = answers.pop().unwrap();
        let phase = |answer: &Value| {
            let told = &answer["parameters"];
            let file = told["object"].as_str().map(Path::new);
            let file = file.map(|path| path.file_name().unwrap().to_str().unwrap());
            let mut text = told["phase"].as_str().unwrap().to_owned();
            if let Some(file) = file {
                text += &format!(" {file}");
            }
            if let Some(percent) = told["progress"].as_u64() {
                text += &format!(" {percent}%");
            }
            text
        };
        (answers.iter().map(phase).collect(), last)
    }
}

fn disk(scratch: &Scratch, name: &str, mib: u64) -> String {
    let path = scratch.path(name);
    let file = fs::File::create(&path).unwrap();
    file.set_len(mib << 20).unwrap();
    path.display().to_string()
}

/// Parameters of `Run` with the definitions in the folder.
fn parameters(node: &str, empty: &str, dry_run: bool, option: &str) -> Value {
    let folder = option.split_once('=').unwrap().1;
    json!({"node": node, "empty": empty, "dryRun": dry_run, "definitions": [folder],
        "seed": "11111111-2222-3333-4444-555555555555"})
}

#[test]
fn an_image_is_planned_built_and_left_alone() {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[ESP, SWAP]);
    let node = disk(&scratch, "disk.raw", 400);
    let ask = |empty, dry_run| parameters(&node, empty, dry_run, &definitions);
    let (mut client, mut server) = Client::of_its_own();

    let before = [
        "loading_definitions",
        "loading_table",
        "acquiring_partition_labels 10-esp.conf",
        "acquiring_partition_labels 20-swap.conf",
        "placing",
    ];
    // As systemd-repart 262 says: 1 MiB, what the partitions need, and the second table.
    let minimal = (321 << 20) + 33 * 512;
    let (phases, last) = client.run(&ask("allow", true));
    assert_eq!(phases, before);
    let sizes = json!({"minimalSizeBytes": minimal, "currentSizeBytes": 400 << 20});
    assert_eq!(last, json!({"parameters": sizes}));
    assert!(fs::read(&node).unwrap().iter().all(|byte| *byte == 0));

    let (phases, last) = client.run(&ask("require", false));
    assert_eq!(phases[..before.len()], before);
    assert_eq!(
        phases[before.len()..],
        [
            "wiping_disk",
            "wiping_disk",
            "formatting_partition 10-esp.conf",
            "formatting_partition 10-esp.conf 100%",
            "formatting_partition 20-swap.conf",
            "formatting_partition 20-swap.conf 100%",
            "adjusting_partition 10-esp.conf",
            "adjusting_partition 20-swap.conf",
            "writing_table",
        ]
    );
    assert_eq!(last, json!({"parameters": {}}));
    let found = partitions(repart().args([&definitions, common::SEED, &node]));
    let activity: Vec<_> = found.iter().map(|one| &one["activity"]).collect();
    assert_eq!(activity, ["unchanged", "unchanged"]);

    let image = fs::read(&node).unwrap();
    let (phases, last) = client.run(&ask("refuse", false));
    assert_eq!(phases, before);
    assert_eq!(last, json!({"parameters": {}}));
    assert!(fs::read(&node).unwrap() == image, "it was written to");
    let (_, last) = client.run(&ask("refuse", true));
    assert_eq!(last["parameters"]["partitionCount"], 2);
    assert_eq!(last["parameters"]["minimalSizeBytes"], minimal);
    let (_, last) = client.run(&ask("force", true));
    assert_eq!(last["parameters"].get("partitionCount"), None);
    assert_eq!(last["parameters"]["minimalSizeBytes"], minimal);
    let (_, last) = client.run(&json!({"empty": "force", "dryRun": true}));
    assert!(last["parameters"]["minimalSizeBytes"].is_u64(), "{last}");

    drop(client);
    assert!(server.wait().unwrap().success());
}

#[test]
fn what_cannot_be_done_has_the_reference_s_names() {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[ESP, SWAP]);
    let bare = disk(&scratch, "bare.raw", 400);
    let small = disk(&scratch, "small.raw", 300);
    let full = disk(&scratch, "full.raw", 400);
    let table = "label: gpt\nsize=200M, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n";
    let mut sfdisk = Command::new("sfdisk");
    let mut sfdisk = sfdisk
        .args(["--quiet", &full])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    sfdisk
        .stdin
        .take()
        .unwrap()
        .write_all(table.as_bytes())
        .unwrap();
    assert!(sfdisk.wait().unwrap().success());
    let (mut client, mut server) = Client::of_its_own();
    let minimal = (321_u64 << 20) + 33 * 512;
    let own = "io.systemd.Repart";
    for (node, empty, name, told) in [
        (
            &bare,
            "refuse",
            format!("{own}.ConflictingDiskLabelPresent"),
            json!({}),
        ),
        (
            &full,
            "require",
            format!("{own}.ConflictingDiskLabelPresent"),
            json!({}),
        ),
        (
            &small,
            "force",
            format!("{own}.DiskTooSmall"),
            json!({"minimalSizeBytes": minimal, "currentSizeBytes": 300 << 20}),
        ),
        (
            &full,
            "allow",
            format!("{own}.InsufficientFreeSpace"),
            json!({"minimalSizeBytes": minimal + (200 << 20), "currentSizeBytes": 400 << 20,
                "needFreeBytes": 320 << 20}),
        ),
    ] {
        for dry_run in [true, false] {
            let (_, last) = client.run(&parameters(node, empty, dry_run, &definitions));
            assert_eq!(
                last,
                json!({"error": name, "parameters": told}),
                "{node} {empty}"
            );
        }
    }
    let (_, last) = client.run(&parameters("/nonexistent.raw", "allow", true, &definitions));
    assert_eq!(last["error"], "io.systemd.System");
    assert_eq!(last["parameters"]["errnoName"], "ENOENT");
    let told = last["parameters"]["message"].as_str().unwrap();
    assert!(told.contains("/nonexistent.raw"), "{told}");
    // A member of a volume group is what no run gives up unasked, nor says it would.
    let member = disk(&scratch, "member.raw", 400);
    let mut bytes = vec![0; 1024];
    bytes[512..544].copy_from_slice(b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001");
    bytes[544..576].copy_from_slice(b"abcdefabcdabcdabcdabcdabcdabcdef");
    fs::File::options()
        .write(true)
        .open(&member)
        .unwrap()
        .write_all(&bytes)
        .unwrap();
    for dry_run in [true, false] {
        let (_, last) = client.run(&parameters(&member, "force", dry_run, &definitions));
        let told = last["parameters"]["message"].as_str().unwrap();
        assert!(told.contains("would be lost: LVM2_member"), "{told}");
    }
    let bad = scratch.definitions(&[("10-esp.conf", "Type=nonsense\n")]);
    let (_, last) = client.run(&parameters(&bare, "allow", true, &bad));
    assert_eq!(last["parameters"]["errnoName"], "EINVAL");
    let told = last["parameters"]["message"].as_str().unwrap();
    assert!(told.contains("10-esp.conf:2"), "{told}");
    drop(client);
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_listening_socket_serves_several_until_the_last_has_left() {
    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let connect = || Client::new(UnixStream::connect(&path).unwrap());
    let mut clients = [connect(), connect(), connect()];
    let mut server = started(listener.into());
    // One sends what is no call, and is let go; one leaves in the middle of a message.
    clients[0].0.get_mut().write_all(b"[]\0").unwrap();
    let get_info = "org.varlink.service.GetInfo";
    assert!(clients[0].ask(get_info, &json!({}), false).is_err());
    let mut torn = UnixStream::connect(&path).unwrap();
    torn.write_all(b"{\"method\":").unwrap();
    drop(torn);
    for client in &mut clients[1..] {
        let answers = client.ask(get_info, &json!({}), false).unwrap();
        assert_eq!(
            answers[0]["parameters"]["interfaces"],
            json!(["io.systemd", "io.systemd.Repart", "org.varlink.service"])
        );
    }
    if is_root() {
        let answers = std::thread::scope(|scope| {
            let stranger = scope.spawn(|| {
                let user = rustix::process::Uid::from_raw(12345);
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
                let wanted = json!({"empty": "allow", "dryRun": true});
                connect().ask("io.systemd.Repart.Run", &wanted, false)
            });
            stranger.join().unwrap().unwrap()
        });
        assert_eq!(answers[0]["error"], "org.varlink.service.PermissionDenied");
    }
    // The same as on the command line, whatever disks this machine has.
    let listed = run(repart().args(["--list-devices", "--json=short"]));
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let list = "io.systemd.Repart.ListCandidateDevices";
    let answers = clients[1].ask(list, &json!({}), true).unwrap();
    let nodes = |all: &[Value], at: &str| -> Vec<Value> {
        let node = |one: &Value| one.pointer(at).cloned();
        all.iter().filter_map(node).collect()
    };
    assert_eq!(nodes(&answers, "/parameters/node"), nodes(&listed, "/node"));
    if listed.is_empty() {
        assert_eq!(answers[0]["error"], "io.systemd.Repart.NoCandidateDevices");
    }
    let answers = clients[1]
        .ask(list, &json!({"subscribe": true}), true)
        .unwrap();
    assert_eq!(answers[0]["parameters"], json!({"parameter": "subscribe"}));
    drop(clients);
    assert!(server.wait().unwrap().success());
}

#[test]
fn standard_input_and_a_path_are_served_as_well() {
    let calls = [
        r#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.systemd.Repart"}}"#,
        r#"{"method":"io.systemd.Repart.ListCandidateDevices"}"#,
        r#"{"method":"io.systemd.Repart.Run","oneway":true}"#,
        r#"{"method":"io.systemd.Repart.Run"}"#,
        r#"{"method":"io.systemd.Repart.Stop"}"#,
    ];
    let mut tool = Command::new(env!("CARGO_BIN_EXE_ddi"));
    tool.arg0("systemd-repart")
        .env("SYSTEMD_VARLINK_LISTEN", "-");
    let tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut tool = tool.unwrap();
    let text = calls.map(|call| format!("{call}\0")).concat();
    tool.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text
        .split_terminator('\0')
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let description = answers[0]["parameters"]["description"].as_str().unwrap();
    assert!(description.contains("\nmethod Run("), "{description}");
    let errors: Vec<_> = answers[1..].iter().map(|one| &one["error"]).collect();
    let own = |name: &str| format!("org.varlink.service.{name}");
    assert_eq!(
        errors,
        [
            &own("ExpectedMore"),
            &own("InvalidParameter"),
            &own("MethodNotFound")
        ]
    );

    let scratch = Scratch::new();
    let path = scratch.path("socket");
    let mut tool = Command::new(env!("CARGO_BIN_EXE_ddi"));
    tool.arg("repart").env("SYSTEMD_VARLINK_LISTEN", &path);
    let notified = scratch.path("notify");
    let manager = UnixDatagram::bind(&notified).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tool = tool.env("NOTIFY_SOCKET", &notified).spawn().unwrap();
    assert!(heard(&manager).starts_with("READY=1\n"));
    let mut client = Client::new(UnixStream::connect(&path).unwrap());
    assert!(
        client
            .ask("org.varlink.service.GetInfo", &json!({}), false)
            .is_ok()
    );
    drop(client);
    assert!(tool.wait().unwrap().success());
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_ddi"));
    wrong.arg("repart").env("SYSTEMD_VARLINK_LISTEN", "nowhere");
    let said = common::fails(&mut wrong, 1);
    assert!(
        said.contains("\"nowhere\" is no address to listen at"),
        "{said}"
    );
}

fn heard(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let count = manager.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

#[test]
fn the_service_manager_hears_what_a_run_does() {
    let scratch = Scratch::new();
    let definitions = scratch.definitions(&[SWAP]);
    let node = disk(&scratch, "disk.raw", 30);
    let notified = scratch.path("notify");
    let manager = UnixDatagram::bind(&notified).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let phases = |arguments: &[&str]| {
        let mut tool = repart();
        tool.args([&definitions, common::SEED, "--pretty=no"]);
        tool.args(arguments).env("NOTIFY_SOCKET", &notified);
        let mut tool = tool.spawn().unwrap();
        let mut phases = Vec::new();
        let ended = loop {
            let text = heard(&manager);
            match text.strip_prefix("EXIT_STATUS=") {
                Some(code) => break code.to_owned(),
                None => phases.extend(text.split_once("\nX_SYSTEMD_").map(|one| one.1.to_owned())),
            }
        };
        let code = tool.wait().unwrap().code().unwrap();
        assert_eq!(ended, code.to_string());
        (phases, code)
    };
    let (told, code) = phases(&["--empty=allow", "--dry-run=no", &node]);
    let wanted = [
        "loading-definitions",
        "loading-table",
        "acquiring-partition-labels",
        "placing",
        "wiping-disk",
        "wiping-disk",
        "formatting-partition",
        "formatting-partition\nX_SYSTEMD_PHASE_PROGRESS=100",
        "adjusting-partition",
        "writing-table",
    ];
    assert_eq!(told, wanted.map(|phase| format!("PHASE={phase}")));
    assert_eq!(code, 0);
    let (told, code) = phases(&["--empty=require", "--dry-run=no", &node]);
    assert_eq!((told.len(), code), (4, 77));
    // Nobody listens any more, which is nobody's business.
    drop(manager);
    run(repart()
        .args([&definitions, common::SEED, &node])
        .env("NOTIFY_SOCKET", &notified));
}

/// With `DDI_PEER_ROOT` (`make peer-test`): varlinkctl of that systemd runs the binary as it runs
/// systemd-repart, and finds nothing wrong with what it hears.
#[test]
fn the_peer_s_varlinkctl_is_served() {
    let Some(root) = std::env::var_os("DDI_PEER_ROOT") else {
        return;
    };
    let root = root.to_str().unwrap();
    let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
    let scratch = Scratch::new();
    let tool = scratch.path("systemd-repart").display().to_string();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ddi"), &tool).unwrap();
    let varlinkctl = |arguments: &[&str]| {
        let mut command = Command::new(format!("{root}/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(format!("{libraries}:{libraries}/systemd"));
        command
            .arg(format!("{root}/usr/bin/varlinkctl"))
            .args(arguments);
        command
    };
    let said = run(&mut varlinkctl(&["info", &tool]));
    assert!(said.contains("io.systemd.Repart"), "{said}");
    for name in ["io.systemd", "io.systemd.Repart", "org.varlink.service"] {
        // It is parsed, and printed again.
        let text = run(&mut varlinkctl(&["introspect", &tool, name]));
        fs::write(scratch.path("idl"), text).unwrap();
        let idl = scratch.path("idl").display().to_string();
        run(&mut varlinkctl(&["validate-idl", &idl]));
    }
    let definitions = scratch.definitions(&[SWAP]);
    let node = disk(&scratch, "disk.raw", 30);
    for dry_run in [true, false] {
        let given = parameters(&node, "allow", dry_run, &definitions).to_string();
        let call = [
            "call",
            "--json=short",
            &tool,
            "io.systemd.Repart.Run",
            &given,
        ];
        let said = run(&mut varlinkctl(&call));
        assert_eq!(said.contains("minimalSizeBytes"), dry_run, "{said}");
    }
    let given = parameters(&node, "require", false, &definitions).to_string();
    let mut call = varlinkctl(&["call", "--more", &tool, "io.systemd.Repart.Run", &given]);
    let said = common::fails(&mut call, 1);
    assert!(said.contains("ConflictingDiskLabelPresent"), "{said}");
}
