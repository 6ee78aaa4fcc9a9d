//! Beginnings and ends: second runs of a session, killed launchers, what is left behind, lower tiers, what is missing.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use govfs::sandbox;
use govfs::sandbox::Layer;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::bench::Bench;
use crate::bench::Caller;
use crate::cases::each;

/// Whether a process with this word in its command line is there.
fn running(word: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| {
            line.split(|byte| *byte == 0)
                .any(|part| part == word.as_bytes())
        })
}

/// Waits until something with this word runs: a shell may speak before what it started has begun.
fn begun(word: &str) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if running(word) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// Waits until nothing with this word runs any more.
fn gone(word: &str) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if !running(word) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// A duration for `sleep` that no other process here uses.
fn mark(bench: &Bench) -> String {
    let room = bench.text("x").bytes().fold(7_u32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(byte.into())
    });
    format!("{}.{}", 50_000 + std::process::id() % 10_000, room)
}

/// Counts what these tests and a probe mount; others may have mounts of their own meanwhile.
fn mounts() -> usize {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let probe = |line: &str| line.contains(" /tmp ") && line.contains("fuse.govfs");
    text.lines()
        .filter(|line| line.contains("govfs-seal-") || probe(line))
        .count()
}

pub(crate) fn killed_launcher() {
    each(|bench| {
        let mark = mark(bench);
        let job = bench.shell(&format!(
            "setsid sleep {mark} & sleep {mark} & echo ready; wait"
        ));
        let mut child = bench
            .command(&job)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a run");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        assert!(begun(&mark), "{:?}", bench.caller);
        child.kill().expect("a kill");
        child.wait().expect("an end");
        assert!(
            gone(&mark),
            "{:?}: processes outlive a killed launcher",
            bench.caller
        );
        assert!(
            gone(&bench.text("bin/helper")),
            "{:?}: the first process outlives it",
            bench.caller
        );
    });
    assert_eq!(mounts(), 0);
}

pub(crate) fn session_ends_with_program() {
    each(|bench| {
        let mark = mark(bench);
        let job = bench.shell(&format!("setsid sleep {mark} & (sleep {mark} &) ; exit 3"));
        assert_eq!(bench.run(&job).status.code(), Some(3), "{:?}", bench.caller);
        assert!(
            !running(&mark),
            "{:?}: a detached process outlives the program",
            bench.caller
        );
    });
}

pub(crate) fn forwarded_signals() {
    each(|bench| {
        let script = "trap 'echo term; exit 9' TERM; trap 'echo hup; exit 8' USR1; echo ready; while :; do sleep 0.02; done";
        for (signal, wanted) in [(Signal::SIGTERM, 9), (Signal::SIGUSR1, 8)] {
            let command = &mut bench.command(&bench.shell(script));
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a run");
            let mut lines = BufReader::new(child.stdout.take().expect("output")).lines();
            assert_eq!(lines.next().expect("a line").expect("text"), "ready");
            kill(Pid::from_raw(child.id().cast_signed()), signal).expect("a signal");
            assert_eq!(
                child.wait().expect("an end").code(),
                Some(wanted),
                "{:?} {signal}",
                bench.caller
            );
        }
    });
}

pub(crate) fn hundred_launches() {
    each(|bench| {
        let before = mounts();
        let mut job = bench.shell("echo x >> claimed.txt");
        job.repeat = 100;
        job.measure = true;
        let output = bench.run(&job);
        assert!(
            output.status.success(),
            "{:?}: {}",
            bench.caller,
            String::from_utf8_lossy(&output.stderr)
        );
        let figures = String::from_utf8_lossy(&output.stderr);
        assert!(figures.starts_with("sealed p50"), "{figures}");
        if std::env::var_os("GOVFS_SEAL_FIGURES").is_some() {
            fs::write(
                format!("/tmp/govfs-seal-figures-{:?}", bench.caller),
                figures.as_bytes(),
            )
            .expect("a note");
        }
        assert_eq!(mounts(), before, "{:?}: mounts are left", bench.caller);
        assert!(
            gone(&bench.text("bin/helper")),
            "{:?}: processes are left",
            bench.caller
        );
        let mut left: Vec<_> = fs::read_dir(bench.path(""))
            .expect("the room")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["bin", "copies", "elsewhere", "home", "repo", "store"],
            "{:?}",
            bench.caller
        );
    });
}

pub(crate) fn second_run_joins() {
    each(|bench| {
        let wait_for =
            |word: &str| format!("until grep -q {word} claimed.txt; do sleep 0.02; done");
        let mut job = bench.shell(&format!(
            "echo first >> claimed.txt; {}; cat claimed.txt",
            wait_for("second")
        ));
        job.second = vec![
            "sh".into(),
            "-c".into(),
            format!("{}; echo second >> claimed.txt", wait_for("first")),
        ];
        assert_eq!(
            bench.answer(&job),
            "claimed\nfirst\nsecond\n",
            "{:?}",
            bench.caller
        );
    });
}

pub(crate) fn repository_under_private_directories() {
    for base in ["/tmp", "/var/tmp", "/run"] {
        for caller in Caller::all() {
            if base == "/run" && !nix::unistd::geteuid().is_root() {
                continue;
            }
            let bench = Bench::below(caller, Path::new(base));
            let room = bench.text("");
            let mut job = bench.shell(&format!("pwd; cat claimed.txt; ls {base} {room}"));
            job.home = None;
            job.writable.clear();
            let name = Path::new(&room)
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let beside = if base == "/run" { "govfs\n" } else { "" };
            let wanted = format!(
                "{}\nclaimed\n{base}:\n{beside}{name}\n\n{room}:\nrepo\n",
                bench.text("repo")
            );
            assert_eq!(bench.answer(&job), wanted, "{caller:?} below {base}");
        }
    }
}

pub(crate) fn closed_ancestors() {
    each(|bench| {
        fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o700))
            .expect("a closed room");
        let alone = bench.shell("pwd; cat claimed.txt");
        let mut beside_home = alone.clone();
        beside_home.argv[2].push_str("; cat $HOME/plain; echo new > $HOME/writable/file");
        let mut alone = alone;
        alone.home = None;
        alone.writable.clear();
        for (job, more) in [(alone, ""), (beside_home, "secret\n")] {
            assert_eq!(
                bench.answer(&job),
                format!("{}\nclaimed\n{more}", bench.text("repo")),
                "{:?}",
                bench.caller
            );
        }
        fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o755))
            .expect("an open room");
    });
}

pub(crate) fn directory_kept() {
    each(|bench| {
        let mut job = bench.shell("pwd; echo $PWD");
        for (cwd, wanted) in [
            ("repo", "repo"),
            ("repo/not/in/the/mount", "repo"),
            ("elsewhere", "elsewhere"),
        ] {
            job.cwd = Some(bench.path(cwd));
            let wanted = bench.text(wanted);
            assert_eq!(
                bench.answer(&job),
                format!("{wanted}\n{wanted}\n"),
                "{:?} {cwd}",
                bench.caller
            );
        }
    });
}

pub(crate) fn copies_and_binds() {
    each(|bench| {
        fs::create_dir_all(bench.path("copies/cache")).expect("a copy");
        fs::create_dir_all(bench.path("home/cache")).expect("a cache");
        bench.own(&bench.path("copies"));
        bench.own(&bench.path("home/cache"));
        let mut job = bench.shell(&format!(
            "echo mine > {home}/cache/file && cat /run/govfs/objects/ledger.db && ! echo > /run/govfs/objects/x",
            home = bench.text("home")
        ));
        job.copies = vec![(bench.path("copies/cache"), bench.path("home/cache"))];
        job.readonly = vec![(bench.path("store"), "/run/govfs/objects".into())];
        job.hidden.retain(|path| !path.ends_with("store"));
        assert_eq!(bench.answer(&job), "secret\n", "{:?}", bench.caller);
        assert!(
            !bench.path("home/cache/file").exists(),
            "{:?}: the operator's own is untouched",
            bench.caller
        );
        if bench.caller != Caller::LesserRoot {
            assert!(
                bench.path("copies/cache/file").exists(),
                "{:?}",
                bench.caller
            );
        }
    });
}

pub(crate) fn governed_paths_are_never_writable() {
    each(|bench| {
        for (path, why) in [
            ("", "contains the repository"),
            ("repo", "contains the repository"),
            ("store", "is hidden"),
        ] {
            let mut job = bench.shell("true");
            job.writable = vec![bench.path(path)];
            let output = bench.run(&job);
            assert_eq!(output.status.code(), Some(125), "{:?} {path}", bench.caller);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(why), "{:?} {path}: {said}", bench.caller);
        }
    });
}

pub(crate) fn missing_device() {
    if !nix::unistd::geteuid().is_root()
        || fs::metadata("/dev/fuse").is_ok_and(|device| device.permissions().mode() & 0o006 != 0)
    {
        return;
    }
    let bench = Bench::new(Caller::User);
    let job = serde_json::to_string(&bench.shell("echo started")).expect("a job");
    let output = Command::new("setpriv")
        .args(["--reuid", "48213", "--regid", "48213", "--clear-groups"])
        .arg(bench.path("bin/helper"))
        .args(["--helper", &job])
        .output()
        .expect("a run");
    assert_eq!(output.status.code(), Some(125));
    assert!(
        output.stdout.is_empty(),
        "nothing starts under less than the tier asked for"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("/dev/fuse: cannot be used") && said.contains("chmod 0666 /dev/fuse"),
        "{said}"
    );
}

pub(crate) fn missing_program() {
    each(|bench| {
        let output = bench.run(&bench.job(&["no-such-program"]));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{:?}", bench.caller);
        assert!(
            said.contains("program: cannot run no-such-program: No such file"),
            "{said}"
        );
    });
}

/// The host's own directory is never shown for want of the mount.
pub(crate) fn mount_elsewhere() {
    each(|bench| {
        let mut job = bench.shell("echo evil > mine.txt");
        job.raised_at = Some(bench.path("home"));
        let output = bench.run(&job);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{:?}", bench.caller);
        assert!(said.contains("mount does not stand at"), "{said}");
        assert!(!bench.path("repo/mine.txt").exists());
    });
}

pub(crate) fn lower_tiers() {
    each(|bench| {
        if bench.caller == Caller::LesserRoot {
            return;
        }
        let pid = std::process::id().to_string();
        let attack = |tier: &str, attack: &[&str]| {
            bench.attack(attack, |job| {
                tier.clone_into(&mut job.tier);
                // Without a mount namespace the program is found where it lies.
                job.argv[0] = bench.text("bin/helper");
                job.directory = Some(bench.path("elsewhere"));
                job.repo = bench.path("elsewhere");
                job.hidden.clear();
            })
        };
        let plain = bench.text("home/plain");
        for (what, tried) in [
            ("write", plain.as_str()),
            ("signal", &pid),
            ("ptrace", &pid),
            ("shm", ""),
            ("set-id", &plain),
        ] {
            assert!(
                !attack("B", &[what, tried]),
                "{:?}: {what} in tier B",
                bench.caller
            );
        }
        assert!(
            attack("B", &["write", &bench.text("elsewhere/file")]),
            "{:?}",
            bench.caller
        );
        assert!(
            attack("B", &["see", &pid]),
            "{:?}: tier B does not hide processes, and says so",
            bench.caller
        );
        assert!(
            attack("C", &["write", &plain]),
            "{:?}: tier C enforces nothing",
            bench.caller
        );
        let mark = mark(bench);
        let mut job = bench.shell(&format!("setsid sleep {mark} & (sleep {mark} &) ; exit 3"));
        "B".clone_into(&mut job.tier);
        job.repo = bench.path("elsewhere");
        job.directory = Some(bench.path("elsewhere"));
        assert_eq!(bench.run(&job).status.code(), Some(3), "{:?}", bench.caller);
        assert!(
            !running(&mark),
            "{:?}: a detached process outlives the program in tier B",
            bench.caller
        );
    });
}

pub(crate) fn probing() {
    let findings = sandbox::probe::probe().expect("findings");
    let layer = |layer: Layer| {
        findings
            .layers
            .iter()
            .find(|tried| tried.layer == layer)
            .expect("a layer")
    };
    for tried in &findings.layers {
        assert!(!tried.evidence.is_empty(), "{tried:?}");
        assert!(tried.ok || tried.fix.is_some(), "{tried:?}");
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(findings.tier, Some(sandbox::Tier::A), "{findings:#?}");
    }
    assert!(layer(Layer::Seccomp).ok, "{findings:#?}");
    assert_eq!(mounts(), 0, "a probe leaves no mount behind");
}

pub(crate) fn real_programs() {
    each(|bench| {
        let python = "import multiprocessing, socket, subprocess, threading, tempfile, ctypes\n\
            a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n\
            assert ctypes.CDLL(None).inotify_init() >= 0\n\
            t = threading.Thread(target=lambda: None); t.start(); t.join()\n\
            tempfile.NamedTemporaryFile().write(b'x')\n\
            with multiprocessing.Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]\n\
            assert subprocess.check_output(['echo', 'hi']) == b'hi\\n'\n\
            print('python')";
        let git = "cd /tmp && git init -q x && cd x && git config user.email a@b && git config user.name a && \
            echo a > a && git add a && git commit -qm a && git gc -q && git log --oneline | wc -l";
        for (argv, wanted) in [
            (vec!["python3", "-c", python], "python\n"),
            (vec!["sh", "-c", git], "1\n"),
            (vec!["bash", "-c", "echo $((1 + 1)) | cat <(cat)"], "2\n"),
            (
                vec![
                    "node",
                    "-e",
                    "require('child_process').execSync('true'); console.log('node')",
                ],
                "node\n",
            ),
            (vec!["perl", "-e", "print \"perl\\n\""], "perl\n"),
        ] {
            assert_eq!(
                bench.answer(&bench.job(&argv)),
                wanted,
                "{:?} {}",
                bench.caller,
                argv[0]
            );
        }
    });
}
