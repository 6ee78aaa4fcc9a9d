//! The ledger's life beside a full disk, an anchor, a collection, and an export's provenance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::House;

mod common;

/// Sets a line of the charter and commits it.
fn rule(house: &House, from: &str, to: &str) {
    let path = house.root().join("governor.md");
    let text = fs::read_to_string(&path).expect("a charter");
    assert!(text.contains(from), "{from}");
    fs::write(&path, text.replace(from, to)).expect("edited");
    house.git(&["commit", "-q", "-am", "another rule"]);
}

#[test]
fn a_checkpoint_is_anchored_and_its_answer_is_in_the_entry() {
    let house = House::new();
    let kept = house.path("kept");
    let command = format!(
        "anchor = \"tee {} | head -n 2 | tail -n 1\"",
        kept.display()
    );
    rule(
        &house,
        "#anchor = \"ssh witness@example.org govfs-witness\"",
        &command,
    );
    let note = house.ok(&["checkpoint"]);
    assert_eq!(fs::read_to_string(&kept).expect("anchored"), note);
    let size = note.lines().nth(1).expect("a size");
    let entry = house.ok(&["log", "--op", "checkpoint", "-n", "1", "--json"]);
    assert!(
        entry.contains(&format!("\"anchor\":\"answered: {size}\"")),
        "{entry}"
    );
    house.ok(&["verify", "--deep"]);
    house.ok(&["replay"]);
}

#[test]
fn an_anchor_that_fails_is_a_warning_and_said_in_the_entry() {
    let house = House::new();
    rule(
        &house,
        "#anchor = \"ssh witness@example.org govfs-witness\"",
        "anchor = \"echo nobody there >&2; exit 7\"",
    );
    let ran = house.run(&["checkpoint"]);
    assert!(
        ran.status == 0 && ran.stderr.contains("not anchored"),
        "{ran:?}"
    );
    let entry = house.ok(&["log", "--op", "checkpoint", "-n", "1", "--json"]);
    assert!(
        entry.contains("\"anchor\":\"failed: ") && entry.contains("nobody there"),
        "{entry}"
    );
    house.ok(&["verify"]);
}

/// A file system of a few megabytes, gone with its guard.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(at)
            .output()
            .ok()?;
        done.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_leaves_the_ledger_valid_and_is_said() {
    let house = House::bare_of_charter();
    let Some(_small) = Small::mount(&house.root()) else {
        return; // an ordinary user cannot make a small file system
    };
    house.git(&["init", "-q", "-b", "main"]);
    house.ok(&["init"]);
    let filler = house.root().join(".git/filler");
    let mut refused = 0;
    for round in 0..40 {
        // One page more room each time, so that it gives out at another step.
        fs::write(&filler, vec![0; 4 << 20]).expect_err("full");
        let len = fs::metadata(&filler).expect("there").len();
        let file = fs::File::options().write(true).open(&filler).expect("open");
        file.set_len(len - 4096 * round.min(len / 4096))
            .expect("shorter");
        drop(file); // removed while open, it would still take its room
        let ran = house.run(&["claim", "alice", &format!("src/{round}")]);
        if ran.status != 0 {
            refused += 1;
            assert_eq!(ran.status, 1, "{ran:?}");
            let said = ran.stderr.contains("disk is full") || ran.stderr.contains("No space left");
            assert!(said, "{ran:?}");
        }
        fs::remove_file(&filler).expect("room again");
        let ran = house.run(&["verify", "--deep"]);
        assert_eq!(ran.status, 0, "round {round}: {ran:?}");
    }
    assert!(refused > 0, "the disk never was full");
    house.ok(&["claim", "alice", "room/again"]);
    house.ok(&["verify", "--deep"]);
    house.ok(&["replay"]);
}

/// Ends whatever a test left mounted.
struct Mounted<'a>(&'a House);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = self.0.run(&["unmount", "alice", "--force"]);
    }
}

/// A session that was merged, its log closed.
fn merged_house() -> Option<House> {
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        return None;
    }
    let house = House::new();
    house.commit("src/a", "one\ntwo\nthree\n");
    let dir = house.path("mnt");
    let guard = Mounted(&house);
    house.ok(&[
        "mount",
        "alice",
        &dir.display().to_string(),
        "--claim",
        "src",
    ]);
    for n in 0..50 {
        fs::write(dir.join("src/b"), format!("draft {n}\n")).expect("written");
    }
    fs::write(dir.join("src/a"), "one\ntwo!\nthree\n").expect("written");
    house.ok(&["unmount", "alice"]);
    house.ok(&["merge", "alice"]);
    drop(guard);
    Some(house)
}

#[test]
fn closed_logs_are_compressed_and_everything_reads_them() {
    let Some(house) = merged_house() else { return };
    let log = house.root().join(".git/govfs/sessions/alice-1/log.jsonl");
    let lines = fs::read_to_string(&log).expect("a log");
    let before = house.ok(&["log", "--json", "--session", "alice-1"]);
    assert!(
        house
            .ok(&["gc", "--dry-run"])
            .contains("would compress 1 write logs")
    );
    house.ok(&["gc"]);
    assert!(!log.exists() && log.with_extension("jsonl.gz").exists());
    assert_eq!(house.ok(&["log", "--json", "--session", "alice-1"]), before);
    assert_eq!(
        house.ok(&["show", "alice-1:0", "--json"]).trim(),
        lines.lines().next().expect("one")
    );
    house.ok(&["verify", "--deep"]);
    house.ok(&["prove", "alice-1:3"]);
    let out = house.path("out");
    house.ok(&["export", &out.display().to_string()]);
    assert_eq!(
        fs::read_to_string(out.join("sessions/alice-1.jsonl")).expect("exported"),
        lines
    );
    house.ok(&["verify", "--export", &out.display().to_string()]);
    // Nothing is left to do, so there is no entry either.
    let size = house.ok(&["log", "--json", "--op", "gc"]);
    house.ok(&["gc"]);
    assert_eq!(house.ok(&["log", "--json", "--op", "gc"]), size);
    let packed = log.with_extension("jsonl.gz");
    let mut bytes = fs::read(&packed).expect("packed");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&packed, bytes).expect("altered");
    house.fails(4, &["verify"]);
}

#[test]
fn what_gc_dropped_is_named_by_verify() {
    let Some(house) = merged_house() else { return };
    rule(&house, "keep-contents = \"90d\"", "keep-contents = \"1s\"");
    let versions = house.root().join(".git/govfs/versions");
    let old = Command::new("find")
        .arg(&versions)
        .args([
            "-type",
            "f",
            "-exec",
            "touch",
            "-d",
            "2 days ago",
            "{}",
            "+",
        ])
        .status();
    assert!(old.expect("find starts").success());
    house.ok(&["claim", "bob", "lib"]);
    // The session has to be over for longer than a second.
    let dropped = (0..1000).any(|_| !house.ok(&["gc"]).contains("dropped 0"));
    assert!(dropped, "nothing was dropped");
    let entry = house.ok(&["log", "--op", "gc", "-n", "1", "--json"]);
    let seq = entry
        .split("\"seq\":")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    let ran = house.run(&["verify", "--deep"]);
    let expected = format!("content dropped by entry {}", seq.expect("a number"));
    assert!(
        ran.status == 0 && (ran.stdout + &ran.stderr).contains(&expected),
        "{expected}"
    );
}

#[test]
fn provenance_carries_the_entry_and_its_proof() {
    let Some(house) = merged_house() else { return };
    let out = house.path("out");
    let dir = out.display().to_string();
    house.ok(&["export", &dir, "--provenance"]);
    house.ok(&["verify", "--export", &dir]);
    let read = |name: &str| -> serde_json::Value {
        let text = fs::read_to_string(out.join("provenance").join(name)).expect(name);
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).expect(name)
    };
    let commit = house.git(&["rev-parse", "main"]);
    let trace = read("agent-trace.jsonl");
    assert_eq!(trace["version"], "0.1.0");
    assert_eq!(trace["vcs"]["revision"], commit.as_str());
    let conversation = &trace["files"][0]["conversations"][0];
    assert_eq!(trace["files"][0]["path"], "src/a");
    assert_eq!(conversation["contributor"]["type"], "ai");
    assert_eq!(conversation["ranges"][0]["start_line"], 2);
    assert_eq!(conversation["ranges"][0]["end_line"], 2);
    let statement = read("in-toto.jsonl");
    assert_eq!(
        statement["subject"][0]["digest"]["gitCommit"],
        commit.as_str()
    );
    let proof = &statement["predicate"]["runDetails"]["byproducts"][0]["annotations"];
    let line = proof["line"].as_str().expect("a line");
    let ledger = fs::read_to_string(out.join("ledger.jsonl")).expect("a ledger");
    assert!(ledger.lines().any(|entry| entry == line) && line.contains(&commit));
    assert_eq!(proof["size"], ledger.lines().count());
    assert_eq!(trace["metadata"]["govfs"]["proof"], *proof);
}
