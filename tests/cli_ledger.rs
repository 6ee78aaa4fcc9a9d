//! The ledger through the program: identity, keys, checkpoints, exports, tampering.

use std::fs;
use std::process::Command;

use common::{House, screen};

mod common;

/// Runs a few commands, so that there is something to verify.
fn busy_house() -> House {
    let house = House::new();
    house.ok(&["claim", "alice", "src"]);
    house.fails(3, &["claim", "bob", "src/a"]);
    house.ok(&["release", "alice"]);
    house
}

#[test]
fn init_is_safe_to_repeat_and_commits_only_the_charter() {
    let house = House::bare_of_charter();
    fs::write(house.root().join("other"), "mine").expect("written");
    house.git(&["add", "other"]);
    house.fails(5, &["claims"]);
    house.ok(&["init"]);
    assert_eq!(
        house.git(&["show", "--name-only", "--format=", "HEAD"]),
        "governor.md"
    );
    assert_eq!(house.git(&["status", "--short"]), "A  other");
    let before = house.ok(&["log", "--json"]);
    house.ok(&["init"]);
    assert_eq!(house.ok(&["log", "--json"]), before);
    assert_eq!(house.git(&["rev-list", "--count", "HEAD"]), "1");
    let key = house.home().join(".config/govfs/key");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(key).expect("a key").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_charter_in_force_is_the_one_at_the_tip() {
    let house = House::new();
    let path = house.root().join("governor.md");
    let text = fs::read_to_string(&path).expect("a charter");
    fs::write(&path, text.replace("ttl = \"8h\"", "ttl = \"3h\"")).expect("edited");
    let ran = house.run(&["claim", "alice", "a"]);
    assert!(
        ran.status == 0 && ran.stderr.contains("not committed"),
        "{ran:?}"
    );
    let versions = |house: &House| {
        house
            .ok(&["log", "--op", "charter", "--json"])
            .lines()
            .count()
    };
    assert_eq!(versions(&house), 1);
    house.git(&["commit", "-q", "-am", "shorter"]);
    house.ok(&["claim", "alice", "b"]);
    assert_eq!(versions(&house), 2);
    fs::write(&path, text.replace("[claims]", "[claims]\nwishes = 3")).expect("broken");
    house.git(&["commit", "-q", "-am", "broken"]);
    let ran = house.fails(2, &["claim", "alice", "c"]);
    assert!(
        ran.stderr.contains("governor.md:") && ran.stderr.contains("wishes"),
        "{ran:?}"
    );
    house.fails(2, &["charter", "check"]);
    house.ok(&["verify", "--deep"]);
    house.git(&["rm", "-q", "governor.md"]);
    house.git(&["commit", "-q", "-m", "gone"]);
    let ran = house.fails(2, &["claim", "alice", "c"]);
    assert!(ran.stderr.contains("missing"), "{ran:?}");
}

#[test]
fn a_repository_whose_branch_has_another_name_works_at_once() {
    let house = House::bare_of_charter();
    house.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    house.ok(&["init"]);
    assert_eq!(house.git(&["rev-list", "--count", "trunk"]), "1");
    house.ok(&["claim", "alice", "src"]);
}

#[test]
fn a_copied_repository_goes_on_only_under_a_new_name() {
    let house = busy_house();
    let copy = house.path("copy");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(house.root())
        .arg(&copy)
        .status();
    assert!(copied.expect("cp").success());
    let at = copy.to_str().expect("a path");
    let ran = house.fails(3, &["-C", at, "claim", "alice", "x"]);
    assert!(ran.stderr.contains("--new-origin"), "{ran:?}");
    house.ok(&["-C", at, "verify", "--deep"]);
    house.fails(3, &["-C", at, "init"]);
    house.ok(&["-C", at, "init", "--new-origin"]);
    house.ok(&["-C", at, "claim", "alice", "x"]);
    house.ok(&["-C", at, "checkpoint"]);
    house.ok(&["-C", at, "verify", "--deep"]);
    house.ok(&["-C", at, "replay"]);
    house.ok(&["verify"]);
}

#[test]
fn a_second_operator_makes_a_key_and_the_break_of_custody_is_named() {
    let house = busy_house();
    let other = house.path("other-home");
    fs::create_dir(&other).expect("a home");
    let as_other = |arguments: &[&str]| {
        let output = house.command(arguments).env("HOME", &other).output();
        common::ran(output.expect("started"))
    };
    let ran = as_other(&["checkpoint"]);
    assert_eq!(
        (ran.status, ran.stderr.contains("no key here: govfs init")),
        (5, true),
        "{ran:?}"
    );
    assert_eq!(as_other(&["init"]).status, 0);
    assert_eq!(as_other(&["checkpoint"]).status, 0);
    let ran = as_other(&["verify"]);
    assert!(
        ran.status == 0 && ran.stdout.contains("break of custody"),
        "{ran:?}"
    );
}

#[test]
fn a_rotated_key_is_signed_by_the_one_before() {
    let house = busy_house();
    let kept = house.path("kept");
    house.ok(&["checkpoint", "--out", kept.to_str().expect("a path")]);
    house.ok(&["key", "rotate"]);
    house.ok(&["checkpoint"]);
    let ran = house.run(&["verify", "--checkpoint", kept.to_str().expect("a path")]);
    assert!(
        ran.status == 0 && !ran.stdout.contains("custody"),
        "{ran:?}"
    );
}

#[test]
fn a_ledger_rolled_back_is_found_by_a_checkpoint_held_elsewhere() {
    let house = busy_house();
    let store = house.root().join(".git/govfs");
    let names = ["ledger.db", "ledger.db-wal", "ledger.db-shm"];
    let old: Vec<_> = names
        .iter()
        .map(|name| fs::read(store.join(name)).ok())
        .collect();
    house.ok(&["claim", "alice", "more"]);
    let kept = house.path("kept");
    let kept = kept.to_str().expect("a path");
    house.ok(&["checkpoint", "--out", kept]);
    house.ok(&["verify", "--checkpoint", kept]);
    for (name, bytes) in names.iter().zip(old) {
        match bytes {
            Some(bytes) => fs::write(store.join(name), bytes).expect("rolled back"),
            None => drop(fs::remove_file(store.join(name))),
        }
    }
    let ran = house.fails(4, &["verify", "--checkpoint", kept]);
    assert!(ran.stderr.contains("rolled back"), "{ran:?}");
    // The copy under the state directory says so without being asked.
    house.fails(4, &["verify"]);
    fs::remove_dir_all(house.home().join(".local")).expect("removed");
    house.ok(&["verify"]);
}

#[test]
fn an_export_verifies_here_and_in_another_language() {
    let house = busy_house();
    let dir = house.path("export");
    let at = dir.to_str().expect("a path");
    house.ok(&["export", at]);
    let ran = house.run(&["verify", "--export", at]);
    assert!(
        ran.status == 0 && ran.stdout.contains("verified"),
        "{ran:?}"
    );
    let key = dir.join("key.pub");
    house.ok(&[
        "verify",
        "--export",
        at,
        "--key",
        key.to_str().expect("a path"),
    ]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/verify-export.py");
    let verdict = Command::new("python3")
        .arg(script)
        .arg(&dir)
        .output()
        .expect("python3");
    assert!(verdict.status.success(), "{verdict:?}");
    let ledger = fs::read_to_string(dir.join("ledger.jsonl")).expect("the ledger");
    let logged = house.ok(&["log", "--json"]);
    assert!(
        logged.starts_with(&ledger),
        "the export is the log's own lines"
    );
    assert_eq!(
        logged.lines().count(),
        ledger.lines().count() + 1,
        "its record comes after"
    );
    fs::write(
        dir.join("ledger.jsonl"),
        ledger.replacen("alice", "mallo", 1),
    )
    .expect("tampered");
    house.fails(4, &["verify", "--export", at]);
    house.ok(&["export", "--ref"]);
    house.ok(&["verify", "--ref"]);
}

#[test]
fn proofs_are_short_and_checked() {
    let house = busy_house();
    let (old, new) = (house.path("old"), house.path("new"));
    let (old, new) = (old.to_str().expect("a path"), new.to_str().expect("a path"));
    house.ok(&["checkpoint", "--out", old]);
    house.ok(&["claim", "carol", "x"]);
    house.ok(&["checkpoint", "--out", new]);
    let proof = house.json(&["prove", "3", "--checkpoint", old]);
    assert_eq!(proof["entry"]["index"], 3);
    assert!(proof["entry"]["proof"].as_array().expect("hashes").len() <= 4);
    house.ok(&["prove", "--consistency", old, new]);
    house.fails(2, &["prove", "--consistency", new, old]);
    house.fails(5, &["prove", "999"]);
}

#[test]
fn the_log_filters_and_its_json_is_the_hashed_lines() {
    let house = busy_house();
    let count = |arguments: &[&str]| house.ok(arguments).lines().count();
    assert_eq!(count(&["log", "--agent", "bob"]), 2);
    assert_eq!(count(&["log", "--denied"]), 1);
    assert_eq!(count(&["log", "--op", "claim", "--op", "release"]), 3);
    assert_eq!(count(&["log", "-n", "2"]), 2);
    assert_eq!(count(&["log", "--path", "src"]), 3);
    assert_eq!(count(&["log", "--until", "2000-01-01"]), 0);
    assert_eq!(count(&["log", "--since", "1h"]), count(&["log"]));
    let newest_first = house.ok(&["log", "--reverse", "--json", "-n", "1"]);
    assert!(newest_first.contains(r#""op":"release""#), "{newest_first}");
    assert!(
        newest_first.starts_with(r#"{"v":1,"seq":"#),
        "{newest_first}"
    );
    let shown = house.ok(&["show", "0"]);
    assert!(shown.contains("op       key"), "{shown}");
    house.fails(5, &["show", "999"]);
    house.fails(2, &["show", "x:y:z"]);
}

#[test]
fn completions_manual_pages_and_mistakes() {
    let house = House::new();
    assert!(house.ok(&["completions", "bash"]).contains("_govfs"));
    let dir = house.path("man");
    house.ok(&["man", dir.to_str().expect("a path")]);
    assert!(dir.join("govfs-claim.1").exists());
    let ran = house.fails(2, &["clami"]);
    assert!(ran.stderr.contains("'claim'"), "{}", screen(&ran));
    let outside = house.path("nowhere");
    fs::create_dir(&outside).expect("a directory");
    let ran = house.fails(5, &["-C", outside.to_str().expect("a path"), "log"]);
    assert!(
        ran.stderr.contains("not inside a git repository"),
        "{ran:?}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let house = busy_house();
    let shell = format!(
        "'{}' log | true; '{}' completions bash | head -n 1 >/dev/null",
        env!("CARGO_BIN_EXE_govfs"),
        env!("CARGO_BIN_EXE_govfs")
    );
    let output = house
        .hermetic("bash", &house.root())
        .args(["-o", "pipefail", "-c", &shell])
        .output();
    let output = output.expect("bash");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
