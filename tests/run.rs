//! `govfs run` through the real program: as root, and as an ordinary user.

#[path = "run/asked.rs"]
mod asked;
mod common;
#[path = "run/covered.rs"]
mod covered;
#[path = "run/lives.rs"]
mod lives;
#[path = "run/operator.rs"]
mod operator;
#[path = "run/requests.rs"]
mod requests;

use std::fs;
use std::path::PathBuf;

use common::ran;
use common::sealed::{World, each};
use serde_json::Value;

#[test]
fn what_is_claimed_is_written_and_nothing_else() {
    each(|world| {
        let ran = world.sh(
            &["src/a.txt"],
            "echo mine > src/a.txt && cat src/a.txt; echo evil > src/b.txt || echo refused",
        );
        assert_eq!(ran.stdout, "mine\nrefused\n", "{ran:?}");
        assert!(ran.stderr.contains("M src/a.txt"), "{ran:?}");
        assert!(
            ran.stderr.contains("next: govfs claim alice src/b.txt"),
            "{ran:?}"
        );
        // The operator's own files are as they were.
        let read = |name: &str| fs::read_to_string(world.root().join(name)).expect("readable");
        assert_eq!(read("src/a.txt"), "a\n");
        assert_eq!(read("src/b.txt"), "b\n");
        world.ok(&["verify", "--deep"]);
    });
}

/// Root in a container of an ordinary user's has no other id to give the agent, and needs none; the machine's
/// own root in a namespace of its own is refused.
#[test]
fn root_of_an_ordinary_users_container_runs_an_agent_too() {
    each(|world| {
        let script =
            "id -u; echo x > src/a.txt; echo evil > src/b.txt; cat src/b.txt; cat ~/.ssh/id";
        let words = [
            &["-Ur", env!("CARGO_BIN_EXE_govfs")][..],
            &[
                "run",
                "alice",
                "--claim",
                "src/a.txt",
                "--",
                "sh",
                "-c",
                script,
            ],
        ];
        let ran = ran(world
            .command("unshare", &words.concat())
            .output()
            .expect("started"));
        if world.user.is_none() && nix::unistd::geteuid().is_root() {
            assert_eq!(ran.status, 6, "{ran:?}");
            return;
        }
        assert_eq!(ran.stdout, "0\nb\n", "{ran:?}");
        assert!(ran.stderr.contains("M src/a.txt"), "{ran:?}");
        world.ok(&["verify", "--deep"]);
    });
}

#[test]
fn a_session_goes_on_where_the_last_run_ended() {
    each(|world| {
        assert_eq!(world.sh(&["src"], "echo one > src/a.txt").status, 0);
        let ran = world.sh(&[], "cat src/a.txt; echo two >> src/a.txt; cat src/a.txt");
        assert_eq!(ran.stdout, "one\none\ntwo\n", "{ran:?}");
        let log = world.log();
        let count = |op: &str| log.iter().filter(|entry| entry["op"] == op).count();
        assert_eq!(count("session"), 1);
        assert_eq!(count("launch"), 2);
        assert_eq!(count("unmount"), 2);
    });
}

#[test]
fn exit_statuses_and_signals_are_the_programs() {
    each(|world| {
        for (script, status) in [
            ("exit 0", 0),
            ("exit 3", 3),
            ("exit 125", 125),
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
        ] {
            let ran = world.sh(&[], script);
            assert_eq!(ran.status, status, "{script}: {ran:?}");
        }
        let ran = world.run(&["run", "alice", "--", "/no/such/program"]);
        assert_eq!(ran.status, 125, "{ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    });
}

#[test]
fn streams_pass_through_and_stdout_is_the_programs_alone() {
    each(|world| {
        let script = "cat; echo x > src/a.txt; echo err >&2";
        let mut child = world.spawn_sh(&["src/a.txt"], script);
        common::tell(&mut child, "in\n");
        let ran = common::finish(child);
        assert_eq!(ran.stdout, "in\n", "{ran:?}");
        assert!(ran.stderr.starts_with("err\n"), "{ran:?}");
    });
}

#[test]
fn the_callers_directory_is_kept_and_pwd_says_so() {
    each(|world| {
        let mut command = world.govfs(&[
            "-C",
            "src",
            "run",
            "alice",
            "--",
            "sh",
            "-c",
            "pwd; echo $PWD; env pwd; ls",
        ]);
        command
            .env("PWD", "/somewhere/else")
            .env("OLDPWD", "/nowhere");
        let ran = ran(command.output().expect("the program starts"));
        let here = world.root().join("src");
        let here = here.display();
        assert_eq!(
            ran.stdout,
            format!("{here}\n{here}\n{here}\na.txt\nb.txt\n"),
            "{ran:?}"
        );
    });
}

#[test]
fn the_repository_its_ledger_keys_and_secrets_are_absent() {
    each(|world| {
        let store = world.root().join(".git/govfs");
        assert!(store.is_dir(), "the control: it is there outside");
        let script = format!(
            "for path in {store} {keys} ~/.local/state/govfs ~/.ssh/id; do test -e $path && echo there: $path; done; cat ~/.profile; touch ~/x 2>/dev/null || echo read-only",
            store = store.display(),
            keys = world.house.home().join(".config/govfs").display(),
        );
        let ran = world.sh(&[], &script);
        assert_eq!(ran.stdout, "profile\nread-only\n", "{ran:?}");
    });
}

#[test]
fn the_report_says_what_was_changed_and_refused() {
    each(|world| {
        let file = world.house.path("home/report.json");
        let script = "echo x > src/a.txt; rm docs/guide.md; echo y > src/new; exit 4";
        let ran = world.run(&[
            "run",
            "alice",
            "--claim",
            "src",
            "--report",
            &file.display().to_string(),
            "--",
            "sh",
            "-c",
            script,
        ]);
        assert_eq!(ran.status, 4, "{ran:?}");
        let report: Value =
            serde_json::from_slice(&fs::read(file).expect("a report")).expect("a document");
        assert_eq!(report["schema"], "govfs/run/v1");
        assert_eq!(report["status"], 4);
        assert_eq!(report["tier"], "A");
        let changes = report["changes"].to_string();
        assert_eq!(
            changes,
            r#"[{"path":"src/a.txt","status":"M"},{"path":"src/new","status":"A"}]"#
        );
        assert_eq!(report["denials"][0]["rule"], "not-claimed");
        assert_eq!(
            report["denials"][0]["command"],
            "govfs claim alice docs/guide.md"
        );
    });
}

#[test]
fn claims_are_made_given_up_and_asked_for_inside() {
    each(|world| {
        world.ok(&["claim", "bob", "src/b.txt"]);
        let ran = world.sh(
            &[],
            "govfs claim src/a.txt >/dev/null && echo x > src/a.txt && echo claimed
             govfs claim src/b.txt -m 'need it' >/dev/null 2>&1; echo $?
             govfs why src/b.txt --json
             govfs release src/a.txt
             echo y > src/a.txt || echo refused
             govfs claim bob docs >/dev/null 2>&1; echo $?
             govfs submit -m ready >/dev/null; echo $?
             govfs log >/dev/null 2>&1; echo $?",
        );
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let why: Value = serde_json::from_str(lines[2]).expect("a document");
        assert_eq!(
            (&why["verdict"], &why["holder"]),
            (&"deny".into(), &"bob".into())
        );
        assert_eq!(lines[..2], ["claimed", "3"], "{ran:?}");
        assert_eq!(
            lines[3..],
            ["released src/a.txt", "refused", "3", "0", "5"],
            "{ran:?}"
        );
        let requests: Value =
            serde_json::from_str(&world.ok(&["--json", "requests"])).expect("a document");
        let requests = requests["requests"].as_array().expect("a list");
        assert_eq!(requests.len(), 2, "{requests:?}");
        assert_eq!(requests[0]["reason"], "need it");
        assert_eq!(requests[1]["reason"], "ready");
        world.ok(&["verify", "--deep"]);
    });
}

#[test]
fn ordinary_programs_work() {
    each(|world| {
        let ran = world.sh(
            &["src", "docs"],
            "git status --short && echo x > src/a.txt && git diff --stat && git add -A && git commit -qm change && git log --oneline | wc -l
             python3 -c 'open(\"src/p.txt\",\"w\").write(\"p\"); import tempfile; print(tempfile.TemporaryFile().write(b\"abc\"))'
             sed -i s/guide/handbook/ docs/guide.md && cat docs/guide.md
             ls /tmp | grep -v ^repo | wc -l; cat /proc/self/status | grep -c ^NoNewPrivs",
        );
        assert!(ran.stdout.contains("1 file changed"), "{ran:?}");
        assert!(ran.stdout.contains("\n3\n3\nhandbook\n"), "{ran:?}");
    });
}

#[test]
fn a_worktree_that_claude_code_asks_for_is_a_governed_mount() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new(None);
    let hook = |verb: &str, more: &[&str], event: String| {
        let mut arguments = vec!["hook", verb];
        arguments.extend(more);
        let mut child = world.spawn(&arguments);
        common::tell(&mut child, &event);
        common::finish(child)
    };
    let event = serde_json::json!({
        "session_id": "412cbaa3", "transcript_path": "/t.jsonl", "cwd": world.root(),
        "hook_event_name": "WorktreeCreate", "name": "bold-oak-a3f2",
    });
    let made = hook("worktree-create", &["--claim", "src"], event.to_string());
    assert_eq!(made.status, 0, "{made:?}");
    let place = PathBuf::from(made.stdout.trim_end());
    assert!(
        place.is_absolute() && place.join("src/a.txt").exists(),
        "{made:?}"
    );
    fs::write(place.join("src/a.txt"), "claude\n").expect("claimed");
    let event = serde_json::json!({
        "session_id": "412cbaa3", "cwd": place, "hook_event_name": "WorktreeRemove", "worktree_path": place,
    });
    let gone = hook("worktree-remove", &[], event.to_string());
    assert_eq!((gone.status, gone.stdout.as_str()), (0, ""), "{gone:?}");
    assert!(!place.exists(), "the place was govfs's own");
    let ran = world.run(&["run", "bold-oak-a3f2", "--", "cat", "src/a.txt"]);
    assert_eq!(ran.stdout, "claude\n", "{ran:?}");
    let again = hook("worktree-remove", &[], event.to_string());
    assert_eq!(again.status, 5, "{again:?}");
    assert_eq!(hook("worktree-create", &[], "{}".into()).status, 2);
    world.nothing_is_left();
}

#[test]
fn an_interactive_program_has_a_terminal() {
    each(|world| {
        let govfs = env!("CARGO_BIN_EXE_govfs");
        let line =
            format!("{govfs} run alice -- sh -c 'test -t 0 && test -t 1 && stty size && tty'");
        let mut command = world.command("script", &["-qec", &line, "/dev/null"]);
        let ran = ran(command
            .env("TERM", "xterm")
            .output()
            .expect("script starts"));
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.stdout.contains("/dev/pts/"), "{ran:?}");
    });
}

#[test]
fn doctor_shows_every_layer_with_its_evidence() {
    each(|world| {
        let found = world.run(&["--json", "doctor"]);
        let document: Value = serde_json::from_str(&found.stdout).expect("a document");
        let whole = document["tier"] == "A";
        assert_eq!(found.status, if whole { 0 } else { 6 }, "{found:?}");
        for layer in document["layers"].as_array().expect("layers") {
            assert!(
                !layer["evidence"].as_str().expect("evidence").is_empty(),
                "{layer}"
            );
        }
        let file = world.house.path("home/bundle.json");
        world.run(&["doctor", "--bundle", &file.display().to_string()]);
        let bundle = fs::read_to_string(file).expect("a bundle");
        assert!(
            bundle.contains("\"version\"")
                && !bundle.contains("alice")
                && !bundle.contains(&*world.house.home().to_string_lossy()),
            "{bundle}"
        );
    });
}

#[test]
fn a_report_goes_to_a_socket_as_well_as_to_a_file() {
    each(|world| {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let mut command = world.govfs(&["run", "alice", "--report", "0", "--", "true"]);
        let status = command.stdin(std::os::fd::OwnedFd::from(far)).status();
        drop(command); // and with it the other end
        assert!(status.expect("started").success());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut near, &mut text).expect("read");
        let report: Value = serde_json::from_str(&text).expect("a document");
        assert_eq!(report["schema"], "govfs/run/v1");
    });
}

/// The toolchain is the operator's own and may be closed to others, so that it is named.
#[test]
fn cargo_builds_tests_and_runs_a_crate() {
    let world = World::new(None);
    fs::write(world.root().join(".gitignore"), "/target\n").expect("written");
    let committed = "git add .gitignore && git -c user.name=n -c user.email=e commit -qm ignore";
    let made = world.command("sh", &["-c", committed]).output();
    assert!(made.expect("git starts").status.success());
    let tools = PathBuf::from(env!("CARGO"));
    let tools = tools.parent().expect("a directory");
    let toolchain = tools.parent().expect("a toolchain").display().to_string();
    let script = format!(
        r#"PATH="{}:$PATH"; mkdir -p src
printf '[package]\nname = "small"\nversion = "0.1.0"\nedition = "2021"\n' > Cargo.toml
printf 'pub fn two() -> u32 {{ 2 }}\n#[test]\nfn is_two() {{ assert_eq!(two(), 2); }}\n' > src/lib.rs
printf 'fn main() {{ println!("{{}}", small::two()); }}\n' > src/main.rs
cargo test --offline 2>&1 | grep -c '^test is_two ... ok'; cargo run --offline --quiet; git status --short"#,
        tools.display()
    );
    let claims = ["--claim", "Cargo.*", "--claim", "src/*"];
    let mut arguments = vec!["run", "alice", "--rw", &toolchain];
    arguments.extend(claims);
    arguments.extend(["--", "sh", "-c", &script]);
    let ran = world.run(&arguments);
    assert_eq!((ran.status, &ran.stdout[..4]), (0, "1\n2\n"), "{ran:?}");
    assert!(ran.stdout.contains("?? Cargo.lock"), "{ran:?}");
    assert!(!ran.stdout.contains("target"), "{ran:?}");
    world.nothing_is_left();
}

#[test]
fn a_login_shell_finds_govfs_too() {
    each(|world| {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/bin:/bin; export PATH";
        let script =
            format!("{path}; govfs why src/b.txt | head -1; ls /usr/local/bin | grep -cx govfs");
        let ran = world.sh(&[], &script);
        assert!(
            ran.stdout.contains("src/b.txt") && ran.stdout.ends_with("\n1\n"),
            "{ran:?}"
        );
    });
}
