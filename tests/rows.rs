//! The rows of the threat table that the mount answers, tried from inside a sealed run by everybody who can start
//! one: root, root without `CAP_SYS_ADMIN`, an ordinary user. Beside each attack stands the legal operation.
//! The rows that the seal answers are in `seal/rows.rs`, layer by layer.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use common::sealed::{World, each, everybody, give};
use serde_json::Value;

/// Runs git as root in a repository that may be somebody else's.
fn git(world: &World, arguments: &[&str]) -> String {
    let mut all = vec!["-c", "safe.directory=*"];
    all.extend(arguments);
    world.house.git(&all)
}

/// A claimed directory, another one, and neighbours whose names begin alike.
fn prepared(world: &World) {
    let root = world.root();
    for (name, text) in [
        ("claimed/mine.txt", "mine\n"),
        ("claimed/sub/a", "a\n"),
        ("claimedX/file", "file\n"),
        ("claimed.txt", "text\n"),
        ("other/theirs.txt", "theirs\n"),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("written");
    }
    for dir in [".claude", ".config/systemd/user"] {
        fs::create_dir_all(world.house.home().join(dir)).expect("a directory");
    }
    fs::write(world.house.home().join(".claude/settings.json"), "{}").expect("written");
    fs::write(world.house.home().join(".bashrc"), "").expect("written");
    git(world, &["add", "-A"]);
    git(world, &["commit", "-q", "-m", "more"]);
    give(&world.house.path(""), world.user);
}

/// Returns the text of a script of `tests/seal`, for `python3 -c`: inside the seal this repository is not there.
fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/seal")
        .join(name);
    fs::read_to_string(path).expect("a script")
}

#[test]
fn every_attack_on_what_is_governed_is_refused_and_every_legal_operation_works() {
    everybody(|world| {
        prepared(world);
        let place = |name: &str| world.root().join(name).display().to_string();
        let (claimed, other) = (place("claimed"), place("other"));
        let script = script("rows.py");
        let ran = world.run(&[
            "run", "alice", "--claim", "claimed", "--", "python3", "-c", &script, &claimed, &other,
        ]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let found: Value = serde_json::from_str(&ran.stdout).expect("a document");
        let of = |kind: &str| found[kind].as_object().expect("results").clone();
        let worked: Vec<_> = of("attacks")
            .into_iter()
            .filter(|(_, worked)| *worked == true)
            .collect();
        assert!(
            worked.is_empty(),
            "attacks that worked: {worked:?}\n{ran:?}"
        );
        let failed: Vec<_> = of("legal")
            .into_iter()
            .filter(|(_, worked)| *worked != true)
            .collect();
        assert!(failed.is_empty(), "legal, but refused: {failed:?}\n{ran:?}");
        assert!(of("attacks").len() > 70 && of("legal").len() > 12);
        // Whatever a call said: no byte changed outside of the claim, in the layer or anywhere else.
        let after = world.sh(
            &[],
            "cat other/theirs.txt claimedX/file claimed.txt; ls other claimedX",
        );
        assert_eq!(
            after.stdout,
            "theirs\nfile\ntext\nclaimedX:\nfile\n\nother:\ntheirs.txt\n"
        );
        let diff = world.ok(&["diff", "alice", "--name-status"]);
        assert!(
            diff.lines().all(|line| line.contains("claimed/")) && !diff.is_empty(),
            "{diff}"
        );
        assert_eq!(git(world, &["status", "--porcelain"]), "");
        let settings = fs::read_to_string(world.house.home().join(".claude/settings.json"));
        assert_eq!(settings.expect("readable"), "{}");
        world.ok(&["verify", "--deep"]);
    });
}

/// A program in the seal that acts when it is told to.
struct Inside {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Inside {
    fn start(world: &World) -> Self {
        let script = script("held.py");
        let claimed = world.root().join("claimed").display().to_string();
        let mut child = world
            .govfs(&[
                "run", "alice", "--claim", "claimed", "--", "python3", "-c", &script, &claimed,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut inside = Self {
            child,
            input,
            output,
        };
        assert_eq!(inside.line(), "ready");
        inside
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Tries every held descriptor and mapping; returns those by which something was written.
    fn tries(&mut self) -> String {
        self.input.write_all(b"try\n").expect("told");
        self.line()
    }

    fn end(mut self) {
        drop(self.input);
        self.child.wait().expect("the end");
    }
}

const ALL: &str = "append create map mode rename truncate write";

#[test]
fn descriptors_and_mappings_held_across_a_release_write_nothing() {
    each(|world| {
        prepared(world);
        let mut inside = Inside::start(world);
        assert_eq!(inside.tries(), ALL, "the control: under the claim all work");
        world.ok(&["release", "alice", "claimed"]);
        assert_eq!(inside.tries(), "", "after the release");
        world.ok(&["claim", "alice", "claimed"]);
        assert_eq!(inside.tries(), ALL, "claimed anew");
        inside.end();
        world.ok(&["verify", "--deep"]);
    });
}

#[test]
fn descriptors_and_mappings_held_across_a_merge_write_nothing() {
    each(|world| {
        prepared(world);
        let mut inside = Inside::start(world);
        assert_eq!(inside.tries(), ALL);
        world.ok(&["merge", "alice"]);
        let merged = git(world, &["rev-parse", "main^{tree}"]);
        assert_eq!(inside.tries(), "", "after the merge");
        // Not under a later claim of the same agent either: that is another session.
        world.ok(&["claim", "alice", "claimed"]);
        assert_eq!(inside.tries(), "", "under a later claim");
        inside.end();
        assert_eq!(git(world, &["rev-parse", "main^{tree}"]), merged);
        world.ok(&["verify", "--deep"]);
    });
}

#[test]
fn descriptors_and_mappings_held_across_an_unmount_write_nothing() {
    each(|world| {
        prepared(world);
        let mut inside = Inside::start(world);
        assert_eq!(inside.tries(), ALL);
        world.ok(&["unmount", "alice", "--force"]);
        let before = world.ok(&["diff", "alice"]);
        assert_eq!(inside.tries(), "", "after the unmount");
        inside.end();
        assert_eq!(world.ok(&["diff", "alice"]), before);
        world.ok(&["verify", "--deep"]);
    });
}
