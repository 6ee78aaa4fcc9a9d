//! The rows of the threat table that the seal answers, each with the legal operation beside it, and each layer
//! left out once to show that it counts.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::SocketAddr;

use govfs::sandbox::Layer;

use crate::attack::Segment;
use crate::bench::Bench;
use crate::bench::Caller;
use crate::bench::without;
use crate::cases::each;

fn refused(bench: &Bench, attack: &[&str]) {
    assert!(
        !bench.attack(attack, |job| job.network = true),
        "{:?}: {attack:?} worked",
        bench.caller
    );
}

fn allowed(bench: &Bench, attack: &[&str]) {
    assert!(
        bench.attack(attack, |job| job.network = true),
        "{:?}: {attack:?} was refused",
        bench.caller
    );
}

pub(crate) fn writes_outside() {
    each(|bench| {
        let outside = [
            "home/plain",
            "elsewhere/file",
            "home/.ssh/id",
            "store/ledger.db",
            "repo/real.txt",
            "bin/helper",
        ];
        for name in outside {
            let path = bench.text(name);
            for attack in ["write", "chmod", "times", "remove", "lock"] {
                // A read lock on what may be read harms nobody but a database, and that is hidden.
                if attack != "lock"
                    || !matches!(name, "home/plain" | "elsewhere/file" | "bin/helper")
                {
                    refused(bench, &[attack, &path]);
                }
            }
            refused(bench, &["rename", &path, &format!("{path}2")]);
            refused(bench, &["link", &path, &bench.text("home/writable/link")]);
        }
        for path in [
            "/etc/evil",
            "/usr/evil",
            "/dev/evil",
            "/evil",
            "/proc/evil",
            "/run/govfs/bin/evil",
        ] {
            refused(bench, &["create", path]);
        }
        refused(bench, &["create", &bench.text("home/evil")]);
        refused(bench, &["write", "/run/govfs/bin/govfs"]);
        refused(bench, &["write", &bench.text("repo/other.txt")]);
        refused(bench, &["write", "/proc/sys/kernel/core_pattern"]);
        refused(bench, &["write", "/proc/self/oom_score_adj"]);
        assert_eq!(
            fs::read_to_string(bench.path("elsewhere/file")).expect("the file"),
            "secret\n"
        );
    });
}

pub(crate) fn writes_inside() {
    each(|bench| {
        allowed(bench, &["write", &bench.text("repo/claimed.txt")]);
        for attack in ["write", "chmod", "times", "lock", "remove"] {
            allowed(bench, &[attack, &bench.text("home/writable/file")]);
            fs::write(bench.path("home/writable/file"), "").expect("a file");
            bench.own(&bench.path("home/writable/file"));
        }
        for path in ["/tmp/x", "/var/tmp/x", "/dev/shm/x", "/run/x"] {
            allowed(bench, &["create", path]);
        }
        allowed(bench, &["read", &bench.text("elsewhere/file")]);
        allowed(bench, &["write", "/dev/null"]);
    });
}

pub(crate) fn set_id_bits() {
    each(|bench| {
        refused(bench, &["set-id", &bench.text("home/writable/file")]);
        refused(bench, &["set-id-create", &bench.text("home/writable/new")]);
        refused(bench, &["device", &bench.text("home/writable/null")]);
        refused(bench, &["device", "/tmp/null"]);
        allowed(bench, &["create", &bench.text("home/writable/new2")]);
    });
    let bench = Bench::new(Caller::User);
    let path = bench.text("home/writable/file");
    assert!(
        bench.attack(&["set-id", &path], without(&[Layer::Seccomp])),
        "seccomp is what stops set-id bits"
    );
}

pub(crate) fn other_processes() {
    each(|bench| {
        let pid = std::process::id().to_string();
        for attack in [
            "see", "memory", "signal", "ptrace", "prlimit", "affinity", "vm-read",
        ] {
            refused(bench, &[attack, &pid]);
        }
        refused(bench, &["first-memory"]);
        for attack in ["ptrace", "prlimit", "affinity", "vm-read"] {
            refused(bench, &[attack, "1"]);
        }
        for attack in ["see", "memory", "signal", "prlimit", "affinity"] {
            allowed(
                bench,
                &[
                    attack,
                    if matches!(attack, "see" | "memory") {
                        "self"
                    } else {
                        "0"
                    },
                ],
            );
        }
        let seen = bench.attack(&["see", &pid], without(&[Layer::PidNamespace]));
        assert!(
            seen,
            "{:?}: the pid namespace is what hides processes",
            bench.caller
        );
    });
}

pub(crate) fn other_views() {
    each(|bench| {
        let repo = bench.text("repo");
        for attack in ["umount", "mount", "remount", "open-tree"] {
            for path in [repo.as_str(), "/", "/proc", "/tmp", "/dev"] {
                refused(bench, &[attack, path]);
            }
        }
        for attack in ["unshare-user", "unshare-mount", "clone-user", "clone3"] {
            refused(bench, &[attack]);
        }
        refused(bench, &["chroot", "/tmp"]);
        // Without seccomp the mounts are still locked, and Landlock still forbids changing them.
        for attack in ["umount", "mount", "remount"] {
            assert!(
                !bench.attack(&[attack, &repo], without(&[Layer::Seccomp])),
                "{:?} {attack}",
                bench.caller
            );
            assert!(
                !bench.attack(
                    &[attack, &repo],
                    without(&[Layer::Seccomp, Layer::Landlock])
                ),
                "{:?} {attack}",
                bench.caller
            );
        }
        assert!(
            bench.attack(&["clone-user"], without(&[Layer::Seccomp])),
            "{:?}: seccomp is what stops nested namespaces",
            bench.caller
        );
    });
}

pub(crate) fn kernel_surface() {
    let calls = [
        "io-uring",
        "bpf",
        "userfaultfd",
        "perf",
        "keyctl",
        "shm",
        "mq",
        "handle",
        "vsock",
        "int80",
        "x32",
    ];
    each(|bench| {
        for call in calls {
            refused(bench, &[call]);
        }
        for call in ["io-uring", "keyctl", "shm", "int80"] {
            assert!(
                bench.attack(&[call], without(&[Layer::Seccomp])),
                "{:?}: {call} is seccomp's",
                bench.caller
            );
        }
    });
}

pub(crate) fn sockets() {
    each(|bench| {
        let path = bench.path("elsewhere/socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("an open socket");
        let text = bench.text("elsewhere/socket");
        refused(bench, &["unix", &text]);
        assert!(
            bench.attack(&["unix", &text], |job| job.unix_sockets = true),
            "{:?}: a read-only bind does not stop connect; the filter does",
            bench.caller
        );
        let path = bench.path("elsewhere/datagrams");
        let _receiver = std::os::unix::net::UnixDatagram::bind(&path).expect("a socket");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("an open socket");
        let text = bench.text("elsewhere/datagrams");
        refused(bench, &["unix-pair", &text]);
        assert!(
            bench.attack(&["unix-pair", &text], |job| job.unix_sockets = true),
            "{:?}: one of a pair reaches a path; the filter stops it",
            bench.caller
        );
        let name = format!("govfs-seal-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let _abstract = std::os::unix::net::UnixListener::bind_addr(&address).expect("a socket");
        let open = |job: &mut crate::helper::Job, layers: &[Layer]| {
            job.network = true;
            job.unix_sockets = true;
            job.without = layers.to_vec();
        };
        refused(bench, &["abstract", &name]);
        assert!(
            !bench.attack(&["abstract", &name], |job| open(job, &[])),
            "{:?}: landlock scopes",
            bench.caller
        );
        assert!(
            bench.attack(&["abstract", &name], |job| open(job, &[Layer::Landlock])),
            "{:?}",
            bench.caller
        );
    });
}

pub(crate) fn network() {
    each(|bench| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address").to_string();
        assert!(
            !bench.attack(&["tcp", &address], |job| job.network = false),
            "{:?}: no network",
            bench.caller
        );
        allowed(bench, &["tcp", &address]);
        let script = "import socket\ns = socket.create_server(('127.0.0.1', 0))\n\
            socket.create_connection(s.getsockname())\nprint('ok')";
        assert_eq!(
            bench.answer(&bench.job(&["python3", "-c", script])),
            "ok\n",
            "the loopback inside works"
        );
    });
}

pub(crate) fn shared_memory() {
    let key = 0x6f76_0000 | i32::try_from(std::process::id() & 0xffff).expect("a key");
    let _segment = Segment::new(key);
    each(|bench| {
        let attack = ["shm-open", &key.to_string()];
        refused(bench, &attack);
        assert!(
            !bench.attack(&attack, without(&[Layer::Seccomp])),
            "{:?}: the ipc namespace alone",
            bench.caller
        );
        assert!(
            !bench.attack(&attack, without(&[Layer::IpcNamespace])),
            "{:?}: seccomp alone",
            bench.caller
        );
        let layers = [Layer::Seccomp, Layer::IpcNamespace];
        assert!(
            bench.attack(&attack, without(&layers)),
            "{:?}: neither",
            bench.caller
        );
    });
}

pub(crate) fn privileges() {
    each(|bench| {
        refused(bench, &["capabilities"]);
        assert!(
            bench.attack(&["capabilities"], without(&[Layer::Privileges])),
            "{:?}",
            bench.caller
        );
        let status = bench.answer(&bench.shell("grep -E 'Seccomp:|NoNewPrivs:' /proc/self/status"));
        assert_eq!(status, "NoNewPrivs:\t1\nSeccomp:\t2\n");
    });
}

pub(crate) fn layers_of_writing() {
    let bench = Bench::new(Caller::User);
    let path = bench.text("elsewhere/file");
    let tried = |attack: &str, layers: &[Layer]| {
        bench.attack(&[attack, &path], |job| {
            // What is shown again around a hidden path is read-only by itself.
            job.hidden.clear();
            job.without = layers.to_vec();
        })
    };
    assert!(!tried("write", &[Layer::ReadOnly]), "landlock alone");
    assert!(
        !tried("write", &[Layer::Landlock]),
        "the read-only view alone"
    );
    assert!(
        tried("chmod", &[Layer::ReadOnly]),
        "landlock does not see chmod; the view does"
    );
    assert!(
        tried("write", &[Layer::ReadOnly, Layer::Landlock]),
        "neither"
    );
}

pub(crate) fn layer_of_hiding() {
    each(|bench| {
        for attack in ["read", "lock", "exists"] {
            let path = bench.text("store/ledger.db");
            refused(bench, &[attack, &path]);
            assert!(
                bench.attack(&[attack, &path], without(&[Layer::Hidden])),
                "{:?} {attack}",
                bench.caller
            );
        }
    });
}

pub(crate) fn own_uid() {
    let bench = Bench::new(Caller::Root);
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let path = bench.path("elsewhere/file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a closed file");
    let text = bench.text("elsewhere/file");
    refused(&bench, &["read", &text]);
    let shared = bench.attack(&["read", &text], |job| job.outside = Some(0));
    assert!(shared, "the agent's own uid is what closes root's files");
}

pub(crate) fn descriptors() {
    each(|bench| {
        let run = |layers: &[Layer]| {
            let mut job = bench.job(&["govfs", "--attack", "descriptors"]);
            job.without = layers.to_vec();
            let command = bench.command(&job);
            let mut wrapped = std::process::Command::new("sh");
            wrapped
                .args(["-c", "exec 9</etc/passwd; exec \"$@\"", "sh"])
                .arg(command.get_program());
            wrapped
                .args(command.get_args())
                .stdin(std::process::Stdio::null());
            wrapped.output().expect("a run").status.code()
        };
        assert_eq!(
            run(&[]),
            Some(10),
            "{:?}: inherited descriptors are closed",
            bench.caller
        );
        assert_eq!(run(&[Layer::Descriptors]), Some(0), "{:?}", bench.caller);
    });
}

pub(crate) fn terminal_typing() {
    each(|bench| {
        refused(bench, &["type-into-terminal"]);
        assert!(
            bench.attack(&["type-into-terminal"], without(&[Layer::Seccomp])),
            "{:?}",
            bench.caller
        );
    });
}
