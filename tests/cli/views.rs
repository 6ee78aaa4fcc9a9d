//! What people look at: status, diff, log -p, snapshots, restores, blame; on real mounts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::needs;
use crate::common::{House, Ran, screen};

/// A house with files, and mounts that end with it.
struct World {
    house: House,
    mounts: Vec<(String, PathBuf)>,
}

impl Drop for World {
    fn drop(&mut self) {
        for (agent, dir) in &self.mounts {
            self.house.run(&["unmount", agent, "--force"]);
            let _ = Command::new("umount").arg("-l").arg("-q").arg(dir).status();
        }
    }
}

impl World {
    /// `None` for an ordinary user.
    fn new() -> Option<Self> {
        needs::root().then(|| {
            let house = House::bare_of_charter();
            house.commit("src/a.txt", "one\ntwo\nthree\n");
            house.commit("src/b.txt", "b\n");
            house.commit("docs/old.md", "old\n");
            fs::write(house.root().join("run.sh"), "#!/bin/sh\n").expect("a script");
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(house.root().join("run.sh"), mode).expect("executable");
            symlink("a.txt", house.root().join("src/link")).expect("a link");
            house.commit("other.txt", "other\n");
            house.ok(&["init"]);
            Self {
                house,
                mounts: Vec::new(),
            }
        })
    }

    fn mount(&mut self, agent: &str, claims: &[&str]) -> PathBuf {
        let dir = self.house.path(agent);
        let mut arguments = vec!["mount", agent, dir.to_str().expect("plain")];
        for claim in claims {
            arguments.extend(["--claim", claim]);
        }
        self.mounts.push((agent.to_owned(), dir.clone()));
        self.house.ok(&arguments);
        dir
    }

    /// Settles alice's session and returns the name of its last entry.
    fn settled(&self) -> String {
        self.house.ok(&["diff", "alice", "--stat"]);
        let log = self.house.ok(&["log", "--session", "alice-1", "--json"]);
        let last = log.lines().rev().find_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).expect("an entry");
            entry["path"].is_string().then(|| entry["seq"].clone())
        });
        format!("alice-1:{}", last.expect("a written entry"))
    }

    fn shows(&self, arguments: &[&str]) -> String {
        blot(&screen(&self.house.run(arguments)), self)
    }
}

/// Takes out what differs from run to run.
fn blot(text: &str, world: &World) -> String {
    let root = world.house.path("");
    let root = root.to_str().expect("plain").trim_end_matches('/');
    let text = text.replace(root, "HOUSE");
    let mut out = String::new();
    for line in text.lines() {
        let words = line.split(' ').map(|word| {
            let bare = word.trim_end_matches([',', ')']);
            let hex = bare.len() >= 8 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hex && bare.bytes().any(|byte| byte.is_ascii_digit()) {
                word.replace(bare, "HASH")
            } else {
                word.to_owned()
            }
        });
        let line = words.collect::<Vec<_>>().join(" ");
        let line = match line.split_once("(pid ") {
            Some((before, _)) => format!("{before}(pid PID)"),
            None => line,
        };
        let line = if line.starts_with("ledger ") {
            "SIZES".to_owned()
        } else {
            line
        };
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn tree_of(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("a name").path();
            let name = path.strip_prefix(dir).expect("below").display().to_string();
            if name == ".git" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("there");
            if meta.is_dir() {
                dirs.push(path);
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                found.push((name, 0, target.display().to_string().into_bytes()));
            } else {
                let exec = meta.permissions().mode() & 0o100;
                found.push((name, exec, fs::read(&path).expect("read")));
            }
        }
    }
    found.sort();
    found
}

/// One thing that a person does in a mount.
type Step = Box<dyn Fn(&Path)>;

#[test]
fn an_empty_house_says_what_to_do_next() {
    let Some(world) = World::new() else { return };
    insta::assert_snapshot!(world.shows(&["status"]), @r"
    no agents yet: govfs run AGENT --claim PATH -- COMMAND, or govfs mount AGENT --claim PATH
    SIZES
    exit 0
    ");
    world.house.fails(5, &["diff", "alice"]);
    world.house.fails(5, &["snapshot", "alice"]);
}

#[test]
fn status_and_diff_tell_what_a_live_session_changed_deletions_first() {
    let Some(mut world) = World::new() else {
        return;
    };
    let at = world.mount("alice", &["src", "docs/old.md", "run.sh"]);
    insta::assert_snapshot!(world.shows(&["diff", "alice"]), @r"
    alice-1 changes nothing
    exit 0
    ");
    fs::write(at.join("src/a.txt"), "one\n2\nthree\n").expect("claimed");
    fs::write(at.join("src/new.txt"), "new\n").expect("claimed");
    fs::rename(at.join("src/b.txt"), at.join("src/c.txt")).expect("claimed");
    fs::remove_file(at.join("docs/old.md")).expect("claimed");
    fs::set_permissions(at.join("run.sh"), fs::Permissions::from_mode(0o644)).expect("claimed");
    fs::write(at.join("other.txt"), "evil\n").expect_err("not claimed");
    insta::assert_snapshot!(world.shows(&["diff", "alice"]), @r"
    diff --git a/docs/old.md b/docs/old.md
    deleted file mode 100644
    --- a/docs/old.md
    +++ /dev/null
    @@ -1 +0,0 @@
    -old
    diff --git a/src/b.txt b/src/b.txt
    deleted file mode 100644
    --- a/src/b.txt
    +++ /dev/null
    @@ -1 +0,0 @@
    -b
    diff --git a/run.sh b/run.sh
    old mode 100755
    new mode 100644
    diff --git a/src/a.txt b/src/a.txt
    --- a/src/a.txt
    +++ b/src/a.txt
    @@ -1,3 +1,3 @@
     one
    -two
    +2
     three
    diff --git a/src/b.txt b/src/c.txt
    rename from src/b.txt
    rename to src/c.txt
    diff --git a/src/new.txt b/src/new.txt
    new file mode 100644
    --- /dev/null
    +++ b/src/new.txt
    @@ -0,0 +1 @@
    +new
    exit 0
    ");
    insta::assert_snapshot!(world.shows(&["diff", "alice", "--stat", "src"]), @r"
     src/b.txt              |    1 -
     src/a.txt              |    2 +-
     src/b.txt => src/c.txt |    0
     src/new.txt            |    1 +
     4 files changed, 2 inserted(+), 2 deleted(-)
    exit 0
    ");
    let names = world
        .house
        .ok(&["diff", "alice", "--name-status", "**/*.txt"]);
    assert_eq!(
        names,
        "D\tsrc/b.txt\nM\tsrc/a.txt\nR\tsrc/b.txt\tsrc/c.txt\nA\tsrc/new.txt\n"
    );
    let told = world.shows(&["status"]);
    let told = told.replace("7h59m", "8h");
    insta::assert_snapshot!(told, @r"
    alice  alice-1  on main at HASH  tier C
      mount      HOUSE/alice (pid PID)
      claims     src, 8h left
                 docs/old.md, 8h left
                 run.sh, 8h left
      changes    6 files: D docs/old.md, D src/b.txt, M run.sh, M src/a.txt, R src/c.txt, A src/new.txt
      refusals   1, the newest: truncate other.txt, not-claimed (alice-1:7)
    SIZES
    exit 0
    ");
    let json = world.house.json(&["status"]);
    assert_eq!(json["schema"], "govfs/status/v1");
    let one = &json["sessions"][0];
    assert_eq!(
        (&one["agent"], &one["session"]),
        (&"alice".into(), &"alice-1".into())
    );
    assert_eq!((&one["state"], &one["tier"]), (&"open".into(), &"C".into()));
    assert_eq!((&one["changes"], &one["denials"]), (&6.into(), &1.into()));
    assert_eq!(one["claims"].as_array().map(Vec::len), Some(3));
    assert_eq!(one["mount"], at.to_str().expect("plain"));
    assert!(one["pid"].is_u64() && one["base"].is_string(), "{one}");

    // Put back by hand, a file is no change.
    fs::write(at.join("src/a.txt"), "one\ntwo\nthree\n").expect("claimed");
    let names = world
        .house
        .ok(&["diff", "alice", "--name-status", "src/a.txt"]);
    assert_eq!(names, "");
    world.house.ok(&["release", "alice", "src"]);
    let told = world.shows(&["status"]);
    assert!(
        told.contains("unclaimed  src/b.txt src/c.txt src/new.txt"),
        "{told}"
    );
}

#[test]
fn the_log_shows_each_settled_change_through_atomic_saves() {
    let Some(mut world) = World::new() else {
        return;
    };
    let at = world.mount("alice", &["src"]);
    fs::write(at.join("src/a.txt.tmp"), "one\ntwo\nfour\n").expect("claimed");
    fs::rename(at.join("src/a.txt.tmp"), at.join("src/a.txt")).expect("claimed");
    let entry = world.settled();
    fs::remove_file(at.join("src/b.txt")).expect("claimed");
    let log = world.house.ok(&["log", "--session", "alice-1", "-p"]);
    let patch: Vec<&str> = log
        .lines()
        .filter(|line| !line.contains("alice "))
        .collect();
    insta::assert_snapshot!(patch.join("\n"), @r"
    diff --git a/src/a.txt b/src/a.txt
    --- a/src/a.txt
    +++ b/src/a.txt
    @@ -1,3 +1,3 @@
     one
     two
    -three
    +four
    diff --git a/src/b.txt b/src/b.txt
    deleted file mode 100644
    --- a/src/b.txt
    +++ /dev/null
    @@ -1 +0,0 @@
    -b
    ");
    let shown = world.house.ok(&["show", &entry, "-p"]);
    assert!(shown.contains("-three\n+four\n"), "{shown}");
}

#[test]
fn following_the_log_sees_a_live_session_and_ends_with_its_reader() {
    let Some(mut world) = World::new() else {
        return;
    };
    let mut follower = world.house.spawn(&["log", "--follow", "--json", "-n", "1"]);
    let mut lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("\"op\":\"charter\""), "{first}");
    let at = world.mount("alice", &["src"]);
    fs::write(at.join("src/new.txt"), "new\n").expect("claimed");
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        let entry: serde_json::Value =
            serde_json::from_str(&line.expect("text")).expect("an entry");
        let op = entry["op"].as_str().expect("a name").to_owned();
        seen.push(op.clone());
        if op == "version" {
            break;
        }
    }
    let wanted = [
        "agent", "claim", "session", "mount", "create", "write", "version",
    ];
    assert_eq!(seen, wanted);
    drop(lines);
    assert!(follower.wait().expect("it ends").success());
}

#[test]
fn every_settled_state_can_be_rebuilt() {
    let Some(mut world) = World::new() else {
        return;
    };
    let at = world.mount("alice", &["src", "docs", "run.sh", "lib"]);
    let mut states = vec![("alice-1:0".to_owned(), None)];
    let steps: Vec<Step> = vec![
        Box::new(|at| fs::write(at.join("src/a.txt"), "first\n").expect("written")),
        Box::new(|at| fs::write(at.join("src/a.txt"), "second\n").expect("written")),
        Box::new(|at| fs::rename(at.join("src"), at.join("lib")).expect("renamed")),
        Box::new(|at| symlink("/etc/passwd", at.join("lib/out")).expect("linked")),
        Box::new(|at| {
            fs::write(at.join("docs/new"), "#!/bin/sh\n").expect("written");
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(at.join("docs/new"), mode).expect("mode");
        }),
        Box::new(|at| fs::remove_dir_all(at.join("lib")).expect("removed")),
    ];
    for step in &steps {
        step(&at);
        states.push((world.settled(), Some(tree_of(&at))));
    }
    for (number, (entry, tree)) in states.iter().enumerate() {
        let out = world.house.path(&format!("then-{number}"));
        let out_text = out.to_str().expect("plain");
        let ran = world
            .house
            .run(&["snapshot", "alice", "--at", entry, "--out", out_text]);
        let Some(tree) = tree else { continue };
        assert_eq!(ran.status, 0, "{entry}: {ran:?}");
        assert_eq!(&tree_of(&out), tree, "{entry}");
        let again = ["snapshot", "alice", "--at", entry, "--out", out_text];
        world.house.fails(3, &again);
    }
    let json = world.house.json(&["snapshot", "alice"]);
    let dir = json["dir"].as_str().expect("a directory");
    assert!(dir.contains("/snapshots/alice-1-"), "{json}");
    world
        .house
        .fails(5, &["snapshot", "alice", "--at", "alice-1:999"]);
    world
        .house
        .fails(2, &["snapshot", "alice", "--at", "alice-1"]);
}

#[test]
fn an_altered_version_is_named_and_leaves_nothing_behind() {
    let Some(mut world) = World::new() else {
        return;
    };
    let at = world.mount("alice", &["src"]);
    fs::write(at.join("src/a.txt"), "honest\n").expect("claimed");
    let entry = world.settled();
    let shown = world.house.json(&["diff", "alice"]);
    let sha256 = shown["changes"][0]["sha256"].as_str().expect("a hash");
    let kept = world.house.root().join(".git/govfs/versions");
    let kept = kept.join(&sha256[..2]).join(&sha256[2..]);
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).expect("mode");
    fs::write(&kept, "planted").expect("planted");
    let out = world.house.path("altered");
    let out_text = out.to_str().expect("plain");
    let named = |ran: Ran| assert!(ran.stderr.contains("src/a.txt"), "{ran:?}");
    let snapshot = ["snapshot", "alice", "--at", &entry, "--out", out_text];
    named(world.house.fails(4, &snapshot));
    assert!(!out.exists());
    let left = fs::read_dir(world.house.path("")).expect("the house");
    let left = left.filter(|name| {
        let name = name.as_ref().expect("a name").file_name();
        name.to_string_lossy().starts_with(".govfs-snapshot")
    });
    assert_eq!(left.count(), 0);
    named(world.house.fails(4, &["diff", "alice"]));
    named(
        world
            .house
            .fails(4, &["restore", "alice", "src/a.txt", "--at", &entry]),
    );
}

#[test]
fn a_restore_is_a_governed_write_with_and_without_a_mount() {
    let Some(mut world) = World::new() else {
        return;
    };
    let at = world.mount("alice", &["src", "run.sh"]);
    fs::write(at.join("src/a.txt"), "first\n").expect("claimed");
    let first = world.settled();
    fs::write(at.join("src/a.txt"), "second\n").expect("claimed");
    fs::remove_file(at.join("src/link")).expect("claimed");
    fs::remove_file(at.join("run.sh")).expect("claimed");
    let house = &world.house;
    for mounted in [true, false] {
        for path in ["src/a.txt", "src/link", "run.sh"] {
            house.ok(&["restore", "alice", path, "--at", &first]);
        }
        let names = house.ok(&["diff", "alice", "--name-status"]);
        assert_eq!(names, "M\tsrc/a.txt\n", "mounted: {mounted}");
        let patch = house.ok(&["diff", "alice"]);
        assert!(patch.contains("+first\n"), "mounted: {mounted}: {patch}");
        if mounted {
            assert_eq!(fs::read(at.join("src/a.txt")).expect("read"), b"first\n");
            fs::write(at.join("src/a.txt"), "third\n").expect("claimed");
            fs::remove_file(at.join("src/link")).expect("claimed");
            fs::remove_file(at.join("run.sh")).expect("claimed");
            house.ok(&["unmount", "alice"]);
        }
    }
    house.fails(5, &["restore", "alice", "src/none", "--at", &first]);
    house.fails(2, &["restore", "alice", "src", "--at", &first]);
    house.ok(&["verify", "--deep"]);
    house.ok(&["release", "alice"]);
    let ran = house.fails(3, &["restore", "alice", "src/a.txt", "--at", &first]);
    assert!(ran.stderr.contains("not-claimed"), "{ran:?}");
    let denied = house.ok(&["log", "--denied", "--session", "alice-1"]);
    assert!(denied.contains("src/a.txt"), "{denied}");
    house.ok(&["verify", "--deep"]);
}

#[test]
fn a_dead_servers_mount_is_cleared_away_by_status() {
    let Some(mut world) = World::new() else {
        return;
    };
    let at = world.mount("alice", &["src"]);
    fs::write(at.join("src/a.txt"), "kept\n").expect("claimed");
    let pid = world.house.json(&["status"])["sessions"][0]["pid"].clone();
    let pid = i32::try_from(pid.as_i64().expect("a pid")).expect("a pid");
    let pid = nix::unistd::Pid::from_raw(pid);
    fs::metadata(&at).expect("the kernel remembers how the root looks, whoever dies");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
    while nix::sys::statfs::statfs(&at).is_ok() {
        std::thread::yield_now(); // the kernel takes a moment to notice
    }
    let told = world.shows(&["status"]);
    assert!(
        told.contains("its server died; govfs mount alice recovers it"),
        "{told}"
    );
    assert!(
        fs::read_dir(&at)
            .expect("an empty directory")
            .next()
            .is_none()
    );
    let json = world.house.json(&["status"]);
    assert!(json["sessions"][0]["mount"].is_null(), "{json}");
    let at = world.mount("alice", &[]);
    assert_eq!(
        fs::read(at.join("src/a.txt")).expect("recovered"),
        b"kept\n"
    );
}

#[test]
fn lines_from_before_show_their_commit_and_author() {
    let Some(world) = World::new() else { return };
    world.house.commit("src/a.txt", "one\n2\nthree\n");
    let json = world.house.json(&["blame", "src/a.txt"]);
    let lines = json["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), 3);
    let tip = world.house.git(&["rev-parse", "HEAD"]);
    assert_eq!(lines[1]["commit"], tip.as_str());
    assert_ne!(lines[0]["commit"], lines[1]["commit"]);
    for line in lines {
        assert_eq!(line["author"], "op");
        assert!(line["agent"].is_null() && line["entry"].is_null(), "{line}");
    }
    let screen = world.shows(&["blame", "src/a.txt"]);
    assert!(screen.contains(" 2) 2\n"), "{screen}");
    world.house.fails(5, &["blame", "src/none"]);
}
