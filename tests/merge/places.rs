//! Repositories that are not one plain clone: linked worktrees, submodules, partial and shallow ones.

use std::fs;

use super::{World, lines, needs};

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
