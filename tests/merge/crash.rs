//! A process that ends at any step between the intent and the end of a merge.

use std::fs;

use super::{World, can_mount};

const STEPS: [(&str, bool); 7] = [
    ("objects", false),
    ("intent", false),
    ("ref", true),
    ("recheck", true),
    ("follow", true),
    ("merge", true),
    ("none", true),
];

#[test]
fn the_next_command_finishes_or_undoes_what_a_crash_cut_short() {
    if !can_mount() {
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
        let entries = world.entries("merge");
        if moved {
            assert_eq!(entries.last().unwrap()["decision"], "allow", "{step}");
            assert_eq!(
                entries.last().unwrap()["commit"],
                world.tip("main").as_str()
            );
            assert_ne!(
                world.sh(&dir, "echo late > src/b.txt").code,
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
    if !can_mount() {
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
