//! What must never reach a branch: bytes that no entry accounts for, and content that harms.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{World, needs};

fn world() -> World {
    World::new(&[
        ("src/a.txt", "a\n"),
        ("src/README", "r\n"),
        ("tests/one.rs", "#[test]\nfn one() {}\n"),
    ])
}

fn version_of(world: &World, text: &str) -> PathBuf {
    let file = world.path("wanted");
    fs::write(&file, text).unwrap();
    let sha = world
        .sh(&world.repo(), &format!("sha256sum {}", file.display()))
        .stdout;
    world
        .store()
        .join("versions")
        .join(&sha[..2])
        .join(&sha[2..64])
}

#[test]
fn a_version_that_is_not_what_the_ledger_names_is_refused() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo honest > src/a.txt; sync src/a.txt");
    let tip = world.tip("main");
    world.govfs(&["merge", "alice", "--dry-run"]).is(0);
    let version = version_of(&world, "honest\n");
    fs::set_permissions(&version, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&version, "hostil\n").unwrap();
    let refused = world.govfs(&["merge", "alice"]).is(4);
    assert!(refused.stderr.contains("src/a.txt"), "{refused:?}");
    fs::remove_file(&version).unwrap();
    let refused = world.govfs(&["merge", "alice"]).is(4);
    assert!(refused.stderr.contains("src/a.txt"), "{refused:?}");
    assert_eq!(world.tip("main"), tip);
    fs::write(&version, "honest\n").unwrap();
    world.govfs(&["merge", "alice"]).is(0);
}

#[test]
fn a_log_that_was_altered_is_refused() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo honest > src/a.txt");
    world.govfs(&["unmount", "alice"]).is(0);
    let log = world.store().join("sessions/alice-1/log.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    let tip = world.tip("main");
    let forged = [
        text.replacen("src/a.txt", "src/b.txt", 1),
        text.lines()
            .skip(1)
            .map(|line| format!("{line}\n"))
            .collect(),
        text.lines()
            .take(1)
            .map(|line| format!("{line}\n"))
            .collect(),
        String::new(),
    ];
    for forgery in forged {
        fs::write(&log, &forgery).unwrap();
        let refused = world.govfs(&["merge", "alice"]).is(4);
        assert!(refused.stderr.contains("alice-1"), "{refused:?}");
        assert_eq!(world.tip("main"), tip);
    }
    fs::write(&log, &text).unwrap();
    world.govfs(&["merge", "alice"]).is(0);
}

#[test]
fn bytes_put_beside_the_versions_go_nowhere() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo honest > src/a.txt");
    let session = world.store().join("sessions/alice-1");
    for place in ["work/planted", "scratch/planted", "git/planted", "planted"] {
        fs::write(session.join(place), "planted\n").unwrap();
    }
    world.govfs(&["merge", "alice"]).is(0);
    let names = world.names("main");
    assert!(
        !names.iter().any(|name| name.contains("planted")),
        "{names:?}"
    );
    assert_eq!(world.at("main", "src/a.txt"), "honest\n");
}

/// One agent with a wide claim; each script leaves one thing that no merge takes.
#[test]
fn harmful_content_is_refused_by_name() {
    if !needs::root() {
        return;
    }
    let cases: &[(&str, &[&str])] = &[
        ("ln -s /etc/passwd wide/l", &["symlink-absolute"]),
        ("ln -s ../../outside wide/l", &["symlink-escape"]),
        ("ln -s ../.git/config wide/l", &["symlink-git"]),
        ("ln -s l wide/l", &["symlink-circle"]),
        (
            "printf x > \"$(printf 'wide/a\\nb')\"",
            &["control-character"],
        ),
        (
            "printf x > \"$(printf 'wide/a\\342\\200\\256b')\"",
            &["bidi-character"],
        ),
        (
            "echo x > wide/Name; echo x > wide/name",
            &["case-collision"],
        ),
        (
            "printf x > \"$(printf 'wide/e\\314\\201')\"; printf x > \"$(printf 'wide/\\303\\251')\"",
            &["normalisation-collision"],
        ),
        (
            "mkdir -p wide/r/objects wide/r/refs; echo 'ref: refs/heads/main' > wide/r/HEAD; echo x > wide/r/config; echo x > wide/r/objects/keep; echo x > wide/r/refs/keep",
            &["embedded-repository"],
        ),
        (
            "echo '* filter=evil' > wide/.gitattributes",
            &["git-control", "sensitive"],
        ),
        ("echo x > wide/.gitmodules", &["git-control", "sensitive"]),
        (
            "mkdir -p .github/workflows; echo x > .github/workflows/ci.yml",
            &["sensitive"],
        ),
        ("echo x > wide/-rf", &["option-like"]),
        ("rm tests/one.rs", &["dropped-test"]),
        ("printf '\\n' > tests/one.rs", &["emptied-test"]),
    ];
    let mut seen = Vec::new();
    for (script, rules) in cases {
        let mut world = world();
        let dir = world.mount("alice", &["**"]);
        world.work(&dir, "mkdir -p wide");
        let made = world.sh(&dir, &format!("set -e; {script}"));
        let tip = world.tip("main");
        if made.status != 0 {
            // The mount itself refused it, which is as good.
            seen.push(format!("{script:?} was refused by the mount"));
            continue;
        }
        let dry = world
            .govfs(&["--json", "merge", "alice", "--dry-run"])
            .json();
        if dry["changes"] == serde_json::json!([]) {
            // It was taken for what an atomic save leaves behind: named, and not merged.
            assert_ne!(dry["leftovers"], serde_json::json!([]), "{script}");
            seen.push(format!("{script:?} is left over"));
            continue;
        }
        let found = world.refused(&["alice"]);
        let told =
            |one: &serde_json::Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let dry: Vec<_> = dry["refusals"].as_array().unwrap().iter().collect();
        let dry: Vec<_> = dry
            .iter()
            .map(|one| (told(one, "rule"), told(one, "path")))
            .collect();
        assert_eq!(dry, found, "{script}: a dry run says the same");
        assert!(
            found.iter().any(|(rule, _)| rules.contains(&rule.as_str())),
            "{script}: {found:?}"
        );
        assert_eq!(world.tip("main"), tip);
        seen.push(format!("{script:?}: {found:?}"));
    }
    assert_eq!(seen.len(), cases.len());
}

/// Bytes put into a working file before it settles are hashed with the others: the
/// version is whole, and only the writes tell that they are foreign.
#[test]
fn a_byte_put_into_a_file_before_it_settles_is_refused() {
    if !needs::root() {
        return;
    }
    let long: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    for killed in [false, true] {
        let mut world = World::new(&[("src/long.txt", &long)]);
        let dir = world.mount("alice", &["src"]);
        let session = world.store().join("sessions/alice-1");
        let pid = world.entries("mount")[0]["pid"].to_string();
        let last_is_a_write = || {
            let log = fs::read_to_string(session.join("log.jsonl")).unwrap();
            let last = log.lines().rfind(|line| line.contains("long.txt"));
            last.is_some_and(|line| line.contains("\"op\":\"write\""))
        };
        loop {
            let write = "printf X | dd of=src/long.txt bs=1 seek=5000 conv=notrunc status=none";
            world.work(&dir, write);
            if killed {
                world.work(&world.repo(), &format!("kill -9 {pid}"));
            }
            for entry in fs::read_dir(session.join("work")).unwrap() {
                let path = entry.unwrap().path();
                let mut bytes = fs::read(&path).unwrap();
                bytes[70_000] = b'!';
                fs::write(&path, bytes).unwrap();
            }
            if last_is_a_write() {
                break; // it was not settled before the byte came
            }
            assert!(!killed, "the machine is too slow for this test");
        }
        let tip = world.tip("main");
        let refused = world.govfs(&["merge", "alice"]).is(4);
        assert!(refused.stderr.contains("src/long.txt"), "{refused:?}");
        world.govfs(&["merge", "alice", "--dry-run"]).is(4);
        assert_eq!(world.tip("main"), tip);
        if killed {
            let again = world.path("mount-again");
            world
                .govfs(&["mount", "alice", again.to_str().unwrap()])
                .is(0);
            world.work(&again, "echo honest > src/long.txt");
            world.govfs(&["merge", "alice"]).is(0);
            world.govfs(&["unmount", "alice"]).is(0);
        } else {
            world.work(&dir, "echo honest > src/long.txt");
            world.govfs(&["merge", "alice"]).is(0);
        }
        assert_eq!(world.at("main", "src/long.txt"), "honest\n");
    }
}
