//! A process that ends at any step between the intent and the end of a merge.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{World, needs};
use crate::common::House;

const STEPS: [(&str, bool); 8] = [
    ("objects", false),
    ("locked", false),
    ("intent", false),
    ("ref", true),
    ("recheck", true),
    ("follow", true),
    ("merge", true),
    ("none", true),
];

#[test]
fn the_next_command_finishes_or_undoes_what_a_crash_cut_short() {
    if !needs::root() {
        return;
    }
    for (step, moved) in STEPS {
        let mut world = World::new(&[("src/b.txt", "b\n"), ("gone.txt", "g\n")]);
        let dir = world.mount("alice", &["src", "gone.txt"]);
        world.work(
            &dir,
            "echo 1 > src/b.txt; echo 2 > src/new.txt; rm gone.txt",
        );
        let before = world.tip("main");
        world.govfs_until(step, &["merge", "alice"]);
        assert_eq!(world.tip("main") != before, moved, "{step}");
        // Any command settles it.
        world.govfs(&["claims"]).is(0);
        for left in ["index.lock", "index.govfs", "index.govfs-lock"] {
            assert!(
                !world.repo().join(".git").join(left).exists(),
                "{step}: {left}"
            );
        }
        let entries = world.entries("merge");
        if moved {
            assert_eq!(entries.last().unwrap()["decision"], "allow", "{step}");
            assert_eq!(
                entries.last().unwrap()["commit"],
                world.tip("main").as_str()
            );
            assert_ne!(
                world.sh(&dir, "echo late > src/b.txt").status,
                0,
                "{step}: it is over"
            );
        } else {
            let undone = step == "intent";
            assert_eq!(entries.len(), usize::from(undone), "{step}");
            world.work(&dir, "echo more > src/more.txt");
            world.govfs(&["merge", "alice"]).is(0);
            assert_eq!(world.at("main", "src/more.txt"), "more\n");
        }
        assert_eq!(world.at("main", "src/b.txt"), "1\n", "{step}");
        assert!(
            world.is_clean(),
            "{step}: {}",
            world.git(&["status", "--porcelain"])
        );
        assert!(!world.repo().join("gone.txt").exists(), "{step}");
        assert_eq!(
            fs::read_to_string(world.repo().join("src/new.txt")).unwrap(),
            "2\n"
        );
        assert_eq!(
            world.git(&["rev-list", "--count", "main"]),
            "3",
            "{step}: exactly once"
        );
        world.is_whole();
    }
}

#[test]
fn a_revert_that_was_cut_short_is_finished_or_undone() {
    if !needs::root() {
        return;
    }
    for (step, moved) in [("intent", false), ("ref", true), ("follow", true)] {
        let mut world = World::new(&[("src/b.txt", "b\n")]);
        let dir = world.mount("alice", &["src"]);
        world.work(&dir, "echo 1 > src/b.txt");
        let entry = world.govfs(&["--json", "merge", "alice"]).is(0).json()["entry"].to_string();
        world.govfs_until(step, &["revert", &entry]);
        world.govfs(&["claims"]).is(0);
        assert_eq!(world.entries("revert").len(), usize::from(moved), "{step}");
        if !moved {
            world.govfs(&["revert", &entry]).is(0);
        }
        assert_eq!(world.at("main", "src/b.txt"), "b\n", "{step}");
        assert!(world.is_clean(), "{step}");
        world.is_whole();
    }
}

/// Returns the system calls that a merge makes from its intent on, as strace
/// counts them: the name, and how many of it the process had made by then.
fn calls_from_the_intent(world: &World, agent: &str) -> Vec<(String, usize)> {
    let trace = world.path("trace");
    let out = trace.to_str().unwrap();
    let words = ["-f", "-s", "5000", "-o", out];
    world.traced(&words, &["merge", agent]).is(0);
    let text = fs::read(&trace).unwrap();
    let mut seen = std::collections::BTreeMap::<(String, String), usize>::new();
    let (mut intended, mut found) = (false, Vec::new());
    for line in String::from_utf8_lossy(&text).lines() {
        let Some((process, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        let name: String = rest
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect();
        if name.is_empty() || !rest[name.len()..].starts_with('(') || name.starts_with("exit") {
            continue;
        }
        let count = seen.entry((process.to_owned(), name.clone())).or_default();
        *count += 1;
        intended |= line.contains("merge-intent");
        if intended {
            found.push((name, *count));
        }
    }
    assert!(found.len() > 100, "{} calls", found.len());
    found
}

#[test]
fn a_kill_at_any_system_call_leaves_it_finished_or_undone() {
    const ROUNDS: usize = 6;
    if !needs::root() {
        return;
    }
    needs::program("strace");
    let mut world = World::new(&[("src/b.txt", "b\n"), ("gone.txt", "g\n")]);
    let mut calls = Vec::new();
    for round in 0..=ROUNDS {
        let agent = format!("a{round}");
        let part = format!("part{round}");
        let dir = world.mount(&agent, &[&part]);
        world.work(
            &dir,
            &format!("mkdir {part}; for n in 1 2 3; do echo {round} > {part}/$n; done"),
        );
        world.govfs(&["unmount", &agent]).is(0);
        if round == 0 {
            calls = calls_from_the_intent(&world, &agent);
            continue;
        }
        let before = world.tip("main");
        let (name, count) = &calls[round * (calls.len() - 1) / ROUNDS];
        let at = format!("inject={name}:signal=KILL:when={count}");
        let only = format!("trace={name}");
        let words = ["-f", "-o", "/dev/null", "-e", &only, "-e", &at];
        world.traced(&words, &["merge", &agent]);
        world.govfs(&["claims"]).is(0);
        let mine = |entry: &serde_json::Value| entry["agent"] == agent.as_str();
        let entries: Vec<_> = world.entries("merge").into_iter().filter(mine).collect();
        let allowed = entries.iter().any(|entry| entry["decision"] == "allow");
        assert_eq!(
            world.tip("main") != before,
            allowed,
            "{name} {count}: {entries:?}"
        );
        if !allowed {
            world.govfs(&["merge", &agent]).is(0);
        }
        assert_eq!(world.at("main", &format!("{part}/3")), format!("{round}\n"));
        assert!(world.is_clean(), "{name} {count}");
    }
    world.git(&["fsck", "--strict", "--no-dangling"]);
    world.is_whole();
}

/// A small file system; it is gone before the directory that it stands on.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_disk_that_fills_after_the_branch_moved_is_not_said_to_have_changed_nothing() {
    const FREE: u64 = 500 << 10;
    if !needs::root() {
        return;
    }
    let house = House::empty();
    let root = house.root();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
    assert!(mount.arg(&root).status().unwrap().success());
    let _small = Small(root.clone());
    house.git(&["init", "-q", "-b", "main"]);
    house.commit("a.txt", "a\n");
    house.ok(&["init"]);
    house.work("alice", "big", "head -c 300k /dev/urandom > big");
    let stat = nix::sys::statvfs::statvfs(&root).unwrap();
    let filler = root.join(".git/filler");
    let len = stat.blocks_available() * stat.fragment_size() - FREE;
    fs::write(&filler, vec![0; usize::try_from(len).unwrap()]).unwrap();

    // There is room for the object, and none for the file of the checkout.
    let said = house.fails(1, &["merge", "alice"]).stderr;
    let tip = house.git(&["rev-parse", "main"]);
    assert!(said.contains(&format!("main moved to {tip}")), "{said}");
    let file = root.join("big").display().to_string();
    assert!(said.contains(&file), "{said}");
    assert!(!said.contains("nothing was"), "{said}");
    let left = root.join(".govfs-checkout.tmp");
    assert!(!left.exists(), "half a file stays in the checkout");
    house.fails(1, &["merge", "alice"]);
    let said = house.fails(0, &["claims"]).stderr;
    assert!(said.contains("no room for the files"), "{said}");

    fs::remove_file(&filler).unwrap();
    house.ok(&["claims"]);
    assert_eq!(house.git(&["rev-parse", "main"]), tip);
    assert_eq!(house.git(&["status", "--porcelain"]), "", "it followed");
    assert_eq!(fs::metadata(file).unwrap().len(), 300 << 10);
    house.holds();
}
