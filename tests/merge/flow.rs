//! What merges, what conflicts, and what each leaves behind.

use std::fs;

use super::{World, lines, needs};

fn world() -> World {
    World::new(&[
        ("src/a.txt", &lines()),
        ("src/b.txt", "b\n"),
        ("run.sh", "#!/bin/sh\n"),
        ("old/x.txt", "x\n"),
        (".gitignore", "target/\n"),
    ])
}

#[test]
fn a_session_becomes_one_commit_and_its_claims_are_free() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let before = world.tip("main");
    let dir = world.mount("alice", &["src/a.txt", "gen"]);
    world.work(&dir, "sed -i s/^3$/three/ src/a.txt; mkdir -p gen/x; echo hi > gen/x/y; chmod +x gen/x/y; ln -s y gen/x/l; mkdir -p target; echo junk > target/t");
    let dry = world
        .govfs(&["--json", "merge", "alice", "--dry-run"])
        .is(0);
    assert_eq!(dry.json()["changes"].as_array().unwrap().len(), 3);
    assert_eq!(world.tip("main"), before, "a dry run moves nothing");
    assert!(world.entries("merge").is_empty());

    let report = world
        .govfs(&["--json", "merge", "alice", "-m", "Count in words"])
        .is(0)
        .json();
    assert_eq!(report["merged"], true);
    assert_eq!(report["schema"], "govfs/merge/v1");
    assert_eq!(report["commit"].as_str().unwrap(), world.tip("main"));
    assert_eq!(world.at("main", "gen/x/y"), "hi\n");
    assert!(world.at("main", "src/a.txt").contains("three"));
    assert!(
        !world
            .names("main")
            .iter()
            .any(|name| name.starts_with("target"))
    );
    let tree = world.git(&["ls-tree", "-r", "main", "gen"]);
    assert!(tree.contains("100755") && tree.contains("120000"), "{tree}");
    assert_eq!(
        world.git(&["log", "-1", "--format=%an %ae %cn %s"]),
        "alice alice@govfs.invalid op Count in words"
    );
    let trailers = world.git(&["log", "-1", "--format=%(trailers)"]);
    for key in [
        "Govfs-Agent: alice",
        "Govfs-Session: alice-1",
        "Govfs-Checkpoint: ",
    ] {
        assert!(trailers.contains(key), "{trailers}");
    }
    assert!(world.is_clean(), "the checkout follows");
    assert!(
        fs::read_to_string(world.repo().join("src/a.txt"))
            .unwrap()
            .contains("three")
    );
    assert_ne!(
        world.sh(&dir, "echo x >> src/a.txt").status,
        0,
        "closed to writing"
    );
    let claims = world.govfs(&["--json", "claims"]).is(0).json();
    assert_eq!(claims["claims"].as_array().unwrap().len(), 0);
    world.is_whole();
    world.govfs(&["unmount", "alice"]).is(0);

    let again = world.mount("alice", &["src/b.txt"]);
    assert!(
        fs::read_to_string(again.join("src/a.txt"))
            .unwrap()
            .contains("three")
    );
    world.work(&again, "echo more >> src/b.txt");
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(world.at("main", "src/b.txt"), "b\nmore\n");
    assert_eq!(world.entries("session").len(), 2);
}

#[test]
fn the_merge_entry_accounts_for_every_path() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src", "old"]);
    world.work(&dir, "echo new > src/new.txt; git mv src/b.txt src/c.txt 2>/dev/null || mv src/b.txt src/c.txt; rm old/x.txt; rmdir old");
    world.govfs(&["merge", "alice"]).is(0);
    let entries = world.entries("merge");
    let paths = entries[0]["paths"].as_array().unwrap().clone();
    let find = |name: &str| {
        let found = paths.iter().find(|path| path["path"] == name);
        found
            .unwrap_or_else(|| panic!("{name} in {paths:?}"))
            .clone()
    };
    let blob = |name: &str| world.git(&["rev-parse", &format!("main:{name}")]);
    assert_eq!(find("src/new.txt")["status"], "A");
    assert_eq!(find("src/new.txt")["result"], blob("src/new.txt").as_str());
    let sha = world
        .sh(&world.repo(), "sha256sum src/new.txt | cut -d' ' -f1")
        .stdout;
    assert_eq!(find("src/new.txt")["sha256"], sha.trim());
    assert_eq!(find("src/b.txt")["status"], "D");
    assert_eq!(find("src/c.txt")["status"], "R");
    assert_eq!(find("src/c.txt")["from"], "src/b.txt");
    assert_eq!(find("old/x.txt")["status"], "D");
    assert_eq!(paths[0]["status"], "D", "removals come first");
    assert!(
        !world.repo().join("old").exists(),
        "the checkout lost the directory"
    );
}

#[test]
fn both_sides_are_merged_line_by_line_and_a_conflict_changes_nothing() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let alice = world.mount("alice", &["src/a.txt"]);
    let bob = world.mount("bob", &["src/b.txt"]);
    world.work(&alice, "sed -i s/^3$/three/ src/a.txt");
    world.work(&bob, "echo bob > src/b.txt");
    world.commit(
        &[("src/a.txt", &lines().replace("28\n", "twenty-eight\n"))],
        "people",
    );
    world.govfs(&["merge", "alice"]).is(0);
    let text = world.at("main", "src/a.txt");
    assert!(
        text.contains("three") && text.contains("twenty-eight"),
        "{text}"
    );

    world.commit(&[("src/b.txt", "people\n")], "people again");
    let tip = world.tip("main");
    assert_eq!(
        world.refused(&["bob"]),
        [("conflict".into(), "src/b.txt".into())]
    );
    assert_eq!(world.tip("main"), tip);
    assert!(world.is_clean());
    world.work(&bob, "echo still >> src/b.txt"); // thawed, under the same claim
    let denied = world.entries("merge").pop().unwrap();
    assert_eq!(denied["decision"], "deny");
    world.is_whole();
}

#[test]
fn what_nobody_changed_frees_its_claims_and_ends() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    world.mount("alice", &["src"]);
    let tip = world.tip("main");
    let report = world.govfs(&["--json", "merge", "alice"]).is(0).json();
    assert_eq!(report["merged"], false);
    assert_eq!(world.tip("main"), tip);
    let claims = world.govfs(&["--json", "claims"]).is(0).json();
    assert_eq!(claims["claims"].as_array().unwrap().len(), 0);
    world.govfs(&["merge", "alice"]).is(5);
    world.is_whole();
}

#[test]
fn conversions_are_undone_by_the_bases_attributes() {
    if !needs::root() {
        return;
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9\nsize 11\n";
    let mut world = World::new(&[
        (
            ".gitattributes",
            "*.txt text eol=crlf\n*.bin filter=lfs -text\n*.u16 working-tree-encoding=UTF-16LE\n",
        ),
        ("a.txt", "one\ntwo\n"),
        ("big.bin", pointer),
    ]);
    let dir = world.mount("alice", &["a.txt", "big.bin", "new.bin"]);
    assert_eq!(fs::read(dir.join("a.txt")).unwrap(), b"one\r\ntwo\r\n");
    world.work(
        &dir,
        "printf 'three\\r\\n' >> a.txt; head -c 5000 /dev/zero > new.bin",
    );
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(world.at("main", "a.txt"), "one\ntwo\nthree\n");
    let stored = world.at("main", "new.bin");
    assert!(
        stored.starts_with("version https://git-lfs") && stored.contains("size 5000"),
        "{stored}"
    );
    let oid = stored
        .lines()
        .find_map(|line| line.strip_prefix("oid sha256:"))
        .unwrap()
        .to_owned();
    let place = world.repo().join(format!(
        ".git/lfs/objects/{}/{}/{oid}",
        &oid[..2],
        &oid[2..4]
    ));
    assert_eq!(fs::metadata(place).unwrap().len(), 5000);
    assert_eq!(world.at("main", "big.bin"), pointer, "untouched");
    assert_eq!(
        fs::read(world.repo().join("a.txt")).unwrap(),
        b"one\r\ntwo\r\nthree\r\n"
    );
    assert!(world.is_clean() || world.git(&["status", "--porcelain"]).contains("new.bin"));
    world.is_whole();
}

#[test]
fn the_message_is_the_operators_or_the_sessions_own() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo 1 > src/b.txt; git commit -qam 'Make it one'; echo 2 > src/b.txt; git commit -qam 'Make it two\n\nGovfs-Agent: mallory'");
    world.govfs(&["merge", "alice"]).is(0);
    let body = world.git(&["log", "-1", "--format=%B"]);
    assert!(body.contains("* Make it one\n* Make it two"), "{body}");
    assert!(!body.contains("mallory"), "{body}");
}

#[test]
fn another_branch_a_bare_repository_and_none() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    world.git(&["branch", "next"]);
    let main = world.tip("main");
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo 1 > src/b.txt");
    world.govfs(&["merge", "alice", "--into", "nowhere"]).is(5);
    world.govfs(&["merge", "alice", "--into", "next"]).is(0);
    assert_eq!(world.tip("main"), main);
    assert_eq!(world.at("next", "src/b.txt"), "1\n");
    assert_eq!(world.at("main", "src/b.txt"), "b\n");
    world.is_whole();
}

#[test]
fn a_bare_repository_is_merged_into_without_a_checkout() {
    if !needs::root() {
        return;
    }
    let world = World::bare_of_ledger(&[("src/b.txt", "b\n")]);
    let bare = world.path("bare.git");
    world.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let bare = bare.to_str().unwrap().to_owned();
    world.govfs(&["-C", &bare, "init"]).is(0);
    let dir = world.path("mount-bare");
    world
        .govfs(&[
            "-C",
            &bare,
            "mount",
            "alice",
            dir.to_str().unwrap(),
            "--claim",
            "src",
        ])
        .is(0);
    world.work(&dir, "echo 1 > src/b.txt");
    let done = world.govfs(&["-C", &bare, "merge", "alice"]);
    let _ = world.govfs(&["-C", &bare, "unmount", "alice", "--force"]);
    done.is(0);
    assert_eq!(
        world.git_in(std::path::Path::new(&bare), &["show", "main:src/b.txt"]),
        "1"
    );
}

#[test]
fn a_checkout_that_would_lose_something_stops_the_merge_before_anything_moves() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo 1 > src/b.txt; echo 2 > src/new.txt");
    let tip = world.tip("main");
    fs::write(world.repo().join("src/b.txt"), "mine\n").unwrap();
    fs::write(world.repo().join("src/new.txt"), "mine too\n").unwrap();
    let mut refused = world.refused(&["alice"]);
    refused.sort();
    let rule = |path: &str| ("checkout".to_owned(), path.to_owned());
    assert_eq!(refused, [rule("src/b.txt"), rule("src/new.txt")]);
    assert_eq!(world.refused(&["alice", "--dry-run"]).len(), 2);
    assert_eq!(world.tip("main"), tip);
    assert_eq!(
        fs::read_to_string(world.repo().join("src/b.txt")).unwrap(),
        "mine\n"
    );
    world.git(&["checkout", "-q", "src/b.txt"]);
    fs::remove_file(world.repo().join("src/new.txt")).unwrap();
    world.govfs(&["merge", "alice"]).is(0);
    assert!(world.is_clean());
}

#[test]
fn two_merges_at_once_come_one_after_the_other() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let mut dirs = Vec::new();
    for n in 0..4 {
        let agent = format!("agent{n}");
        let dir = world.mount(&agent, &[&format!("part{n}")]);
        world.work(&dir, &format!("mkdir -p part{n}; echo {n} > part{n}/f"));
        dirs.push(agent);
    }
    let children: Vec<_> = dirs
        .iter()
        .map(|agent| world.govfs_command(&["merge", agent]).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for n in 0..4 {
        assert_eq!(world.at("main", &format!("part{n}/f")), format!("{n}\n"));
    }
    assert_eq!(world.git(&["rev-list", "--count", "main"]), "6");
    assert!(world.is_clean());
    world.is_whole();
}

#[test]
fn a_server_that_was_killed_leaves_nothing_unmerged() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo unsettled > src/b.txt");
    let mounts = world.entries("mount");
    let pid = mounts[0]["pid"].as_i64().unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(world.at("main", "src/b.txt"), "unsettled\n");
    world.is_whole();
}

#[test]
fn a_file_that_was_saved_many_times_is_accounted_for() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src/b.txt"]);
    world.work(
        &dir,
        "for n in $(seq 40); do echo $n >> src/b.txt; sync src/b.txt; done",
    );
    world.govfs(&["merge", "alice"]).is(0);
    let text = world.at("main", "src/b.txt");
    assert_eq!(text.lines().count(), 41);
    world.is_whole();
}
