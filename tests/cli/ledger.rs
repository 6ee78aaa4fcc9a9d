//! The ledger through the program: identity, keys, checkpoints, exports, tampering.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{House, ran, screen};
use govfs::app::clock;
use govfs::domain::checkpoint::Checkpoint;
use govfs::domain::entry::leaf;
use govfs::domain::event::{Checkpointed, Draft, Event};
use govfs::domain::proof::Tree;
use govfs::store::keys::Keys;
use govfs::store::ledger::Ledger;

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
fn an_edit_of_the_charter_is_named_until_it_is_committed() {
    let house = House::new();
    let named = |arguments: &[&str]| {
        let ran = house.fails(0, arguments);
        ran.stderr.contains("not committed")
    };
    let path = house.root().join("governor.md");
    let text = fs::read_to_string(&path).expect("a charter");
    fs::write(&path, text.replace("ttl = \"8h\"", "ttl = \"2h\"")).expect("edited");
    assert!(named(&["claims"]) && named(&["log"]));
    house.git(&["commit", "-q", "-am", "shorter"]);
    // Whether a command has brought it into force yet or not.
    assert!(!named(&["claims"]) && !named(&["claim", "alice", "src"]) && !named(&["claims"]));
    fs::write(&path, &text).expect("edited back");
    assert!(named(&["status"]));
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
        ran(output.expect("started"))
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

/// A note about the first `size` entries, signed by whatever key `home` keeps.
fn note_by(house: &House, home: &Path, size: u64) -> PathBuf {
    let mut ledger = Ledger::open(&house.root().join(".git/govfs")).expect("a ledger");
    let origin = ledger.state(&[]).expect("read").meta.origin;
    let origin = origin.expect("an origin");
    let mut tree = Tree::new();
    let lines = ledger.lines().expect("lines");
    let mut each = |seq: u64, bytes: &[u8]| {
        if seq < size {
            tree.push(leaf(bytes));
        }
        Ok(true)
    };
    lines.forward(0, &mut each).expect("read");
    let keys = Keys::new(home.join(".config/govfs"));
    let pair = keys.load(&origin).expect("keys").expect("a key");
    let root = tree.root();
    let checkpoint = Checkpoint { origin, size, root };
    let path = house.path("note");
    fs::write(&path, checkpoint.sign(&pair.current)).expect("written");
    path
}

#[test]
fn a_key_that_was_handed_over_signs_nothing_later_and_a_new_one_nothing_before() {
    let house = busy_house();
    let before = house.path("home-before");
    let mut copy = Command::new("cp");
    let copied = copy.arg("-a").arg(house.home()).arg(&before).status();
    assert!(copied.expect("cp").success());
    house.ok(&["key", "rotate"]);
    let rotation = house.ok(&["log", "--op", "key", "-n", "1", "--json"]);
    let rotation: serde_json::Value = serde_json::from_str(&rotation).expect("an entry");
    let rotation = rotation["seq"].as_u64().expect("a number");
    house.ok(&["claim", "bob", "lib"]);
    let verify = |home: &Path, size: u64| {
        let note = note_by(&house, home, size);
        house.run(&["verify", "--checkpoint", note.to_str().expect("a path")])
    };
    for (home, size, status) in [
        (&before, rotation, 0),
        (&before, rotation + 1, 4),
        (&house.home(), rotation + 1, 0),
        (&house.home(), rotation, 4),
    ] {
        let ran = verify(home, size);
        assert_eq!(ran.status, status, "{size} of {rotation}: {ran:?}");
        let said = ran.stderr.contains("not in force then");
        assert_eq!(said, status == 4, "{ran:?}");
    }
    let with_old = |arguments: &[&str]| {
        let output = house.command(arguments).env("HOME", &before).output();
        ran(output.expect("started"))
    };
    let ran = with_old(&["checkpoint"]);
    assert!(
        ran.status == 5 && ran.stderr.contains("govfs init"),
        "{ran:?}"
    );
    assert_eq!(with_old(&["init"]).status, 0);
    assert_eq!(with_old(&["checkpoint"]).status, 0);
    let ran = house.fails(0, &["verify"]);
    assert!(ran.stdout.contains("break of custody"), "{ran:?}");
}

#[test]
fn an_entry_that_states_an_older_root_is_held_to_it() {
    for (wrong, status) in [(false, 0), (true, 4)] {
        let house = busy_house();
        let mut ledger = Ledger::open(&house.root().join(".git/govfs")).expect("a ledger");
        let meta = ledger.state(&[]).expect("read").meta;
        let first = ledger.lines().expect("lines").line(0).expect("read");
        let mut tree = Tree::new();
        tree.push(leaf(&first.expect("an entry")));
        let root = if wrong { leaf(b"else") } else { tree.root() };
        // As an anchored one is: others were appended while the anchor answered.
        let stated = Checkpointed {
            origin: meta.origin.expect("an origin"),
            size: 1,
            root,
            anchor: Some("answered: yes".to_owned()),
        };
        let mut turn = ledger.turn(&clock::now).expect("a turn");
        let entry = turn.append(&Draft::new(Event::Checkpoint(stated)));
        let entry = entry.expect("appended").seq;
        turn.commit().expect("committed");
        let ran = house.fails(status, &["verify"]);
        let named = ran.stderr.contains(&format!("entry {entry}: it states"));
        assert_eq!(named, wrong, "{ran:?}");
    }
}

#[test]
fn a_fresh_clone_verifies_the_ref_and_every_trailer() {
    let house = busy_house();
    let note = house.ok(&["checkpoint"]);
    let stated: Vec<&str> = note.lines().take(3).collect();
    let anchored = |root: &str| {
        let (origin, size) = (stated[0], stated[1]);
        let text = format!("merged\n\nGovfs-Checkpoint: {origin} {size} {root}\n");
        house.git(&["commit", "-q", "--allow-empty", "-m", &text]);
    };
    let in_clone = |name: &str| {
        let clone = house.path(name);
        let at = clone.to_str().expect("a path");
        house.git(&["clone", "-q", house.root().to_str().expect("a path"), at]);
        house.fails(5, &["-C", at, "verify", "--ref"]);
        let spec = "refs/govfs/ledger:refs/govfs/ledger";
        house.git(&["-C", at, "fetch", "-q", "origin", spec]);
        house.run(&["-C", at, "verify", "--ref"])
    };
    anchored(stated[2]);
    house.ok(&["export", "--ref"]);
    let ran = in_clone("clone");
    assert!(ran.status == 0 && ran.stdout.contains('1'), "{ran:?}");
    assert_eq!(house.fails(0, &["verify"]).stderr, "");
    anchored(&format!("{}=", "A".repeat(43)));
    house.ok(&["export", "--ref"]);
    let ran = in_clone("again");
    assert!(ran.status == 4 && ran.stderr.contains("trailer"), "{ran:?}");
    assert_eq!(house.fails(4, &["verify"]).stdout, "");
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
fn whatever_fails_says_what_to_try_and_is_a_document_for_those_who_asked_for_one() {
    let house = busy_house();
    for (status, schema, arguments) in [
        (2, "claim", &["claim", "alice"][..]),
        (2, "claim", &["claim", "alice", "/abs"]),
        (3, "claim", &["claim", "bob", "governor.md"]),
        (5, "release", &["release", "nobody"]),
        (5, "why", &["why", "a", "--agent", "nobody"]),
        (2, "why", &["why", "../a"]),
        (5, "verify", &["verify", "--ref"]),
        (5, "verify", &["verify", "--export", "/nowhere"]),
        (5, "replay", &["replay", "--to", "999"]),
        (5, "prove", &["prove", "999"]),
        (5, "prove", &["prove", "--consistency", "1", "999"]),
        (2, "prove", &["prove", "--consistency", "3", "1"]),
        (1, "export", &["export", "/proc/nowhere"]),
        (5, "charter", &["charter", "check", "/nowhere"]),
        (2, "key", &["key"]),
        (5, "approve", &["approve", "1"]),
        (5, "merge", &["merge", "nobody"]),
        (5, "plan-show", &["plan", "show", "none"]),
        (2, "queue-list", &["queue", "list", "--state", "odd"]),
        (2, "completions", &["completions", "odd"]),
        (5, "claims", &["-C", "/", "claims"]),
    ] {
        let ran = house.fails(status, &[&["--json"], arguments].concat());
        let said = ran.stderr.starts_with("error: ") && ran.stderr.contains("\nhint: ");
        assert!(said, "{arguments:?}: {ran:?}");
        let document: serde_json::Value = serde_json::from_str(&ran.stdout).expect("a document");
        assert_eq!(document["schema"], format!("govfs/{schema}/v1"), "{ran:?}");
        assert_eq!(
            document["exit"].as_i64().unwrap_or(i64::from(status)),
            i64::from(status)
        );
    }
    // Their stdout is hashed lines and nothing else.
    for arguments in [
        &["log", "--op", "odd"][..],
        &["show", "999"],
        &["log", "--since", "odd"],
    ] {
        let ran = house.run(&[&["--json"], arguments].concat());
        assert!(
            ran.status != 0 && ran.stdout.is_empty(),
            "{arguments:?}: {ran:?}"
        );
        assert!(ran.stderr.contains("\nhint: "), "{ran:?}");
    }
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
