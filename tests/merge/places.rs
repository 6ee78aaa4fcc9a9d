//! Repositories that are not one plain clone: linked worktrees, submodules, partial and shallow ones.

use std::fs;
use std::path::Path;

use super::{World, lines, needs};
use crate::common::House;

#[test]
fn a_linked_worktree_on_the_branch_follows_or_stops_the_merge() {
    if !needs::root() {
        return;
    }
    let mut world = World::new(&[("src/a.txt", "a\n"), ("src/b.txt", "b\n")]);
    world.git(&["checkout", "-q", "-b", "other"]);
    let linked = world.path("linked");
    let place = linked.to_str().unwrap();
    world.git(&["worktree", "add", "-q", place, "main"]);
    let dir = world.mount("alice", &["src/a.txt"]);
    world.work(&dir, "echo 1 > src/a.txt");
    fs::write(linked.join("src/a.txt"), "the operator's\n").unwrap();
    let tip = world.tip("main");
    let blocked = [("checkout".to_owned(), "src/a.txt".to_owned())];
    assert_eq!(world.refused(&["alice", "--dry-run"]), blocked);
    assert_eq!(world.refused(&["alice"]), blocked);
    assert_eq!(world.tip("main"), tip);
    world.git_in(&linked, &["checkout", "-q", "src/a.txt"]);
    fs::write(linked.join("src/b.txt"), "also the operator's\n").unwrap();
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(fs::read_to_string(linked.join("src/a.txt")).unwrap(), "1\n");
    let status = world.git_in(&linked, &["status", "--porcelain"]);
    assert_eq!(status.trim(), "M src/b.txt", "what is not in the way stays");
    assert!(world.is_clean(), "the other branch's checkout is untouched");
    world.is_whole();
}

#[test]
fn a_submodule_is_neither_taken_away_nor_filled() {
    if !needs::root() {
        return;
    }
    let mut world = World::new(&[("src/a.txt", "a\n")]);
    let inner = world.tip("main");
    let entry = format!("160000,{inner},lib");
    world.git(&["update-index", "--add", "--cacheinfo", &entry]);
    fs::create_dir(world.repo().join("lib")).unwrap();
    world.git(&["commit", "-q", "-m", "a submodule"]);
    let dir = world.mount("alice", &["src", "lib"]);
    world.work(&dir, "echo 1 > src/a.txt; echo x > lib/x");
    let rules = world.refused(&["alice"]);
    assert!(
        rules.iter().any(|(rule, _)| rule == "file-directory"),
        "{rules:?}"
    );
    world.work(&dir, "rm lib/x; mv lib src/lib");
    let rules = world.refused(&["alice"]);
    assert!(
        rules.contains(&("submodule".into(), "lib".into())),
        "{rules:?}"
    );
    world.work(&dir, "mv src/lib lib");
    world.govfs(&["merge", "alice"]).is(0);
    let kept = world.git(&["ls-tree", "main", "lib"]);
    assert!(kept.contains(&format!("160000 commit {inner}")), "{kept}");
    assert_eq!(world.at("main", "src/a.txt"), "1\n");
    world.is_whole();
}

#[test]
fn partial_and_shallow_clones_are_merged_into() {
    if !needs::root() {
        return;
    }
    for how in [&["--filter=blob:none"][..], &["--depth=1"]] {
        let world = World::bare_of_ledger(&[("src/a.txt", &lines()), ("src/b.txt", "b\n")]);
        world.commit(&[("src/c.txt", "c\n")], "second");
        world.git(&["config", "uploadpack.allowFilter", "true"]);
        let bare = world.path("clone.git");
        let from = format!("file://{}", world.repo().display());
        let mut args = vec!["clone", "-q", "--bare"];
        args.extend(how);
        args.extend([from.as_str(), bare.to_str().unwrap()]);
        world.git(&args);
        let at = bare.to_str().unwrap();
        world.govfs(&["-C", at, "init"]).is(0);
        let dir = world.path("mount-clone");
        let place = dir.to_str().unwrap();
        let mount = ["-C", at, "mount", "alice", place, "--claim", "src"];
        world.govfs(&mount).is(0);
        let made = world.sh(&dir, "set -e; mv src/b.txt src/d.txt; echo 31 >> src/a.txt");
        let merged = world.govfs(&["-C", at, "merge", "alice"]);
        let blamed = world.govfs(&["-C", at, "blame", "src/a.txt"]);
        let replayed = world.govfs(&["-C", at, "replay"]);
        world.govfs(&["-C", at, "unmount", "alice"]).is(0);
        made.is(0);
        merged.is(0);
        replayed.is(0);
        assert_eq!(blamed.is(0).stdout.lines().count(), 31);
        let text = world.git_in(&bare, &["show", "main:src/d.txt"]);
        assert_eq!(text, "b", "{how:?}");
    }
}

/// A repository whose git directory is `home/d.git`, its checkout, and a linked one.
fn kept_apart() -> (House, [std::path::PathBuf; 3]) {
    let house = House::empty();
    let [home, co, linked] = ["home", "repo", "linked"].map(|name| house.path(name));
    let git_dir = format!("--separate-git-dir={}", home.join("d.git").display());
    house.git(&["init", "-q", "-b", "main", &git_dir]);
    house.commit("f", "same");
    house.commit("g", "same");
    let place = linked.to_str().unwrap();
    house.git(&["worktree", "add", "-q", place, "-b", "lw"]);
    for name in ["f", "g"] {
        fs::write(home.join(name), "same").unwrap();
    }
    (house, [home, co, linked])
}

#[test]
fn a_git_directory_kept_apart_has_no_checkout_around_it() {
    if !needs::root() {
        return;
    }
    let govfs = |house: &House, dir: &Path, args: &[&str]| {
        let mut all = vec!["-C", dir.to_str().unwrap()];
        all.extend(args);
        house.run(&all)
    };
    let work = ["sh", "-c", "rm f; echo new > g; echo h > h"];
    for from_linked in [true, false] {
        let (house, [home, co, linked]) = kept_apart();
        let here = if from_linked { &linked } else { &co };
        govfs(&house, here, &["init"]).is(0);
        let mut run = vec!["run", "alice"];
        for claim in ["f", "g", "h"] {
            run.extend(["--claim", claim]);
        }
        run.push("--");
        run.extend(work);
        govfs(&house, here, &run).is(0);
        govfs(&house, here, &["merge", "alice"]).is(0);
        for name in ["f", "g"] {
            assert_eq!(fs::read_to_string(home.join(name)).unwrap(), "same");
        }
        assert!(!home.join("h").exists() && !home.join("governor.md").exists());
        assert_eq!(house.git(&["show", "main:h"]), "h");
        if !from_linked {
            assert_eq!(house.git(&["status", "--porcelain"]), "", "it followed");
            assert_eq!(fs::read_to_string(co.join("g")).unwrap(), "new\n");
        }
        // Inside the git directory nothing says where the checkout is.
        let git_dir = home.join("d.git");
        let refused = govfs(&house, &git_dir, &["status"]).is(6);
        assert!(refused.stderr.contains("core.worktree"), "{refused:?}");
        house.git(&["config", "core.worktree", co.to_str().unwrap()]);
        govfs(&house, &git_dir, &["status"]).is(0);
        govfs(&house, &git_dir, &["verify", "--deep"]).is(0);
    }
}

#[test]
fn another_repository_in_the_place_of_a_linked_worktree_is_left_alone() {
    if !needs::root() {
        return;
    }
    let mut world = World::new(&[("a.txt", "a\n")]);
    let linked = world.path("linked");
    let place = linked.to_str().unwrap();
    world.git(&["checkout", "-q", "-b", "other"]);
    world.git(&["worktree", "add", "-q", place, "main"]);
    fs::rename(&linked, world.path("moved")).unwrap();
    world.git(&["init", "-q", "-b", "main", place]);
    fs::write(linked.join("a.txt"), "a\n").unwrap();
    let dir = world.mount("alice", &["a.txt"]);
    world.work(&dir, "echo 1 > a.txt");
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(world.at("main", "a.txt"), "1\n");
    assert_eq!(fs::read_to_string(linked.join("a.txt")).unwrap(), "a\n");
}
