//! The ledger's life beside a full disk, an anchor, a collection, and an export's provenance.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::needs;
use crate::common::{House, Ran, ran};
use govfs::app::clock;
use govfs::domain::entry::{Line, leaf};
use govfs::domain::event::{Decision, Draft, Entry, Event, Finding};
use govfs::store::ledger::Ledger;

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

    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", &format!("remount,{how}")]).arg(&self.0);
        assert!(done.status().expect("mount").success(), "{how}");
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

/// Every verb that only reads, and what it is given.
const READING: [&[&str]; 9] = [
    &["log"],
    &["show", "2"],
    &["claims"],
    &["why", "src/a"],
    &["status"],
    &["verify", "--deep"],
    &["replay"],
    &["agent", "list"],
    &["prove", "1"],
];

#[test]
fn a_read_only_disk_can_be_read_and_refuses_the_rest() {
    let house = House::bare_of_charter();
    let Some(small) = Small::mount(&house.root()) else {
        return; // an ordinary user cannot make a small file system
    };
    house.git(&["init", "-q", "-b", "main"]);
    house.ok(&["init"]);
    house.ok(&["claim", "alice", "src", "--ttl", "1ms"]);
    house.ok(&["checkpoint"]);
    small.remount("ro");
    reads_and_refuses(&house, &|arguments| house.run(arguments));
    let out = house.path("out");
    let out = out.to_str().expect("a path");
    let ran = house.fails(0, &["export", out]);
    assert!(ran.stderr.contains("not recorded"), "{ran:?}");
    house.ok(&["verify", "--export", out]);
    small.remount("rw");
    house.ok(&["claim", "bob", "src"]);
}

/// Runs every reading verb, and one that writes.
fn reads_and_refuses(house: &House, run: &dyn Fn(&[&str]) -> Ran) {
    for arguments in READING {
        let ran = run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {ran:?}");
    }
    assert_eq!(run(&["claims"]).stdout, "", "its time is over");
    let size = house.root().join(".git/govfs/ledger.db");
    let before = fs::read(&size).expect("a ledger");
    let ran = run(&["claim", "bob", "lib"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("nothing was recorded"), "{ran:?}");
    assert_eq!(fs::read(&size).expect("a ledger"), before);
}

#[test]
fn an_ordinary_user_reads_a_store_that_he_may_not_write() {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let house = House::new();
    house.ok(&["claim", "alice", "src", "--ttl", "1ms"]);
    house.ok(&["checkpoint"]);
    let store = house.root().join(".git/govfs");
    let own = |who: &str| {
        let top = house.root();
        let top = top.parent().expect("a house");
        let done = Command::new("chown").args(["-R", who]).arg(top).status();
        assert!(done.expect("chown").success());
    };
    let may = |mode: &str| {
        let done = Command::new("chmod")
            .args(["-R", mode])
            .arg(&store)
            .status();
        assert!(done.expect("chmod").success());
    };
    own("65534:65534");
    let run = |arguments: &[&str]| {
        let mut command = house.command(arguments);
        let output = command.uid(NOBODY).gid(NOBODY).output();
        ran(output.expect("the program starts"))
    };
    may("a-w");
    reads_and_refuses(&house, &run);
    // Folded back, so that no log lies beside it, as in a copy of the file alone.
    may("u+w");
    let python = "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute('SELECT 1 FROM entry')";
    let mut fold = Command::new("python3");
    let done = fold
        .args(["-c", python])
        .arg(store.join("ledger.db"))
        .status();
    assert!(done.expect("python3").success());
    assert!(!store.join("ledger.db-wal").exists());
    own("65534:65534");
    may("a-w");
    reads_and_refuses(&house, &run);
    may("u+w");
    own("0:0");
}

/// Says the format of the store that it is made to have.
fn set_format(house: &House, format: i64) {
    let python = "import sqlite3,sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version='+sys.argv[2])";
    let ledger = house.root().join(".git/govfs/ledger.db");
    let mut set = Command::new("python3");
    let set = set
        .args(["-c", python])
        .arg(&ledger)
        .arg(format.to_string());
    assert!(set.status().expect("python3").success());
}

/// Answers one caller as a server of an older govfs would.
fn old_server(dir: &Path, format: u64) -> std::thread::JoinHandle<()> {
    fs::create_dir_all(dir).expect("a session");
    let socket = UnixListener::bind(dir.join("sock")).expect("a socket");
    std::thread::spawn(move || {
        let (mut stream, _) = socket.accept().expect("somebody asks");
        let mut asked = String::new();
        let mut lines = BufReader::new(stream.try_clone().expect("a handle"));
        lines.read_line(&mut asked).expect("a question");
        assert!(asked.contains("hello"), "{asked}");
        let hello = serde_json::json!({
            "answer": "hello", "format": format, "version": "0.0.9", "pid": 4711, "uid": 0,
            "session": "old-1", "at": "", "sealed": true,
        });
        writeln!(stream, "{hello}").expect("answered");
    })
}

#[test]
fn nothing_is_brought_forward_under_a_live_older_server() {
    let house = House::new();
    house.ok(&["claim", "alice", "src"]);
    let format = govfs::store::ledger::FORMAT;
    set_format(&house, format - 1);
    let session = house.root().join(".git/govfs/sessions/old-1");
    let server = old_server(&session, format.unsigned_abs() - 1);
    let ran = house.fails(6, &["claims"]);
    for word in ["session old-1", "process 4711", "govfs 0.0.9", "hint: "] {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
    server.join().expect("it was asked");
    // It has ended: the socket that it left behind hinders nobody.
    let claims = house.json(&["claims"]);
    assert_eq!(claims["claims"][0]["pattern"], "src", "{claims}");
    house.ok(&["verify", "--deep"]);
}

#[test]
fn an_older_govfs_refuses_a_newer_store() {
    let house = House::new();
    set_format(&house, govfs::store::ledger::FORMAT + 1);
    for arguments in [
        &["claims"][..],
        &["claim", "alice", "src"],
        &["verify"],
        &["init"],
    ] {
        let ran = house.fails(6, arguments);
        assert!(ran.stderr.contains("newer govfs"), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_verdict_about_a_merge_is_given_again() {
    let Some(house) = merged_house() else { return };
    let report = house.json(&["replay"]);
    assert_eq!(report["merges"], 1, "{report}");
    let mut ledger = Ledger::open(&house.root().join(".git/govfs")).expect("a ledger");
    let mut merged = None;
    let lines = ledger.lines().expect("lines");
    let mut each = |_: u64, bytes: &[u8]| {
        let line = Line::parse(bytes).expect("a line");
        if line.op == "merge" {
            merged = Some(Entry::from_line(&line, leaf(bytes)).expect("an entry"));
        }
        Ok(true)
    };
    lines.forward(0, &mut each).expect("read");
    drop(lines);
    let Some(Entry {
        agent,
        session,
        event: Event::Merge(mut body),
        ..
    }) = merged
    else {
        panic!("no merge");
    };
    body.decision = Decision::Deny;
    body.commit = None;
    body.refusals = vec![Finding {
        rule: "review".to_owned(),
        path: None,
        reason: "nobody looked".to_owned(),
        hint: String::new(),
    }];
    let event = Event::Merge(body);
    let mut turn = ledger.turn(&clock::now).expect("a turn");
    let forged = Draft {
        agent,
        session,
        event,
    };
    let seq = turn.append(&forged).expect("appended").seq;
    turn.commit().expect("committed");
    let ran = house.fails(4, &["replay"]);
    let word = format!("entry {seq}: judged again it is not refused by review");
    assert!(ran.stderr.contains(&word), "{ran:?}");
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
    if !needs::root() {
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
    let changes = || house.ok(&["log", "-p", "--session", "alice-1"]);
    let patches = changes();
    let version = lines.lines().position(|line| line.contains("\"version\""));
    let version = format!("alice-1:{}", version.expect("one settled"));
    let patch = house.ok(&["show", "-p", &version]);
    assert!(
        patch.contains("+draft 49") || patch.contains("+two!"),
        "{patch}"
    );
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
    assert_eq!(changes(), patches);
    assert_eq!(house.ok(&["show", "-p", &version]), patch);
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
    let kept = house.git(&["for-each-ref", "refs/govfs/keep"]);
    assert!(kept.contains("alice-1"), "{kept}");
    // The session has to be over for longer than a second.
    let dropped = (0..1000).any(|_| !house.ok(&["gc"]).contains("dropped 0"));
    assert!(dropped, "nothing was dropped");
    let kept = house.git(&["for-each-ref", "refs/govfs/keep"]);
    assert!(!kept.contains("alice-1"), "{kept}");
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
