//! Claims that ended, reads that went stale, and the other ends of a session.

use std::fs;

use govfs::app::clock;
use govfs::domain::event::{Decision, Draft, Event, Synced};
use govfs::domain::path::RepoPath;
use govfs::store::ledger::Ledger;

use super::{World, lines, needs};

fn world() -> World {
    World::new(&[
        ("src/a.txt", &lines()),
        ("src/b.txt", "b\n"),
        ("doc.md", "d\n"),
    ])
}

#[test]
fn a_claim_that_ended_counts_until_somebody_else_had_the_path() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src/a.txt", "src/b.txt"]);
    world.work(&dir, "echo 1 >> src/a.txt; echo 2 >> src/b.txt");
    world.govfs(&["release", "alice"]).is(0);
    world.govfs(&["claim", "bob", "src/b.txt"]).is(0);
    assert_eq!(
        world.refused(&["alice"]),
        [("claim-lost".into(), "src/b.txt".into())]
    );
    world.govfs(&["release", "bob"]).is(0);
    assert_eq!(
        world.refused(&["alice"]),
        [("claim-lost".into(), "src/b.txt".into())]
    );
    world.govfs(&["claim", "alice", "src/b.txt"]).is(0);
    world.govfs(&["merge", "alice"]).is(0);
    assert!(world.at("main", "src/a.txt").ends_with("1\n"));
    world.is_whole();
}

#[test]
fn a_file_read_under_a_claim_must_not_have_changed() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src/b.txt"]);
    world.govfs(&["claim", "alice", "doc.md", "--read"]).is(0);
    world.work(&dir, "cat doc.md > src/b.txt");
    world.commit(&[("doc.md", "other\n")], "people");
    assert_eq!(
        world.refused(&["alice"]),
        [("stale-read".into(), "doc.md".into())]
    );
    world.govfs(&["sync", "alice"]).is(0);
    assert_eq!(fs::read_to_string(dir.join("doc.md")).unwrap(), "other\n");
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(world.at("main", "src/b.txt"), "d\n");
    world.is_whole();
}

#[test]
fn sync_names_what_both_changed_and_moves_nothing() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(
        &dir,
        "echo 1 >> src/a.txt; mkdir src/deep; echo 2 > src/deep/x",
    );
    world.commit(&[("src/a.txt", "other\n")], "people");
    let refused = world.govfs(&["--json", "sync", "alice"]).is(3).json();
    assert_eq!(refused["conflicts"], serde_json::json!(["src/a.txt"]));
    world.work(&dir, "echo still >> src/a.txt");
    world.commit(&[("src/a.txt", &lines()), ("src/c.txt", "c\n")], "back");
    let done = world.govfs(&["--json", "sync", "alice"]).is(0).json();
    assert_eq!(done["base"].as_str().unwrap(), world.tip("main"));
    assert_eq!(fs::read_to_string(dir.join("src/c.txt")).unwrap(), "c\n");
    assert_eq!(fs::read_to_string(dir.join("src/deep/x")).unwrap(), "2\n");
    let status = world.sh(&dir, "git status --porcelain").is(0).stdout;
    assert_eq!(status, " M src/a.txt\n?? src/deep/\n");
    world.work(&dir, "echo after >> src/c.txt");
    world.govfs(&["merge", "alice"]).is(0);
    assert!(world.at("main", "src/a.txt").ends_with("1\nstill\n"));
    assert_eq!(world.at("main", "src/c.txt"), "c\nafter\n");
    world.is_whole();
}

#[test]
fn a_sync_that_was_refused_for_nothing_is_found_by_replay() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo 1 >> src/a.txt");
    let from = world.tip("main");
    world.commit(&[("src/a.txt", "other\n")], "people");
    world.govfs(&["sync", "alice"]).is(3);
    world.is_whole();
    // The same once more, with another reason.
    let count = world.entries("sync")[0]["count"].as_u64().unwrap();
    let forged = Synced {
        decision: Decision::Deny,
        from: from.parse().unwrap(),
        base: world.tip("main").parse().unwrap(),
        count,
        conflicts: vec![RepoPath::parse(b"src/b.txt").unwrap()],
    };
    let mut ledger = Ledger::open(&world.store()).unwrap();
    let mut turn = ledger.turn(&clock::now).unwrap();
    let draft = Draft::new(Event::Sync(forged)).by(&"alice".parse().unwrap());
    turn.append(&draft.within(Some(&"alice-1".parse().unwrap())))
        .unwrap();
    turn.commit().unwrap();
    drop(ledger);
    let found = world.govfs(&["replay"]).is(4);
    assert!(
        found.stderr.contains("src/a.txt is a conflict"),
        "{found:?}"
    );
}

#[test]
fn blame_follows_a_file_that_was_renamed_and_then_saved_anew() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    // Most of it is new, so nobody would know it by its content.
    world.work(
        &dir,
        "mv src/a.txt src/n.txt; sed '3,$s/.*/new/' src/n.txt > src/n.txt.tmp; mv src/n.txt.tmp src/n.txt",
    );
    world.govfs(&["merge", "alice"]).is(0);
    let blamed = world.govfs(&["--json", "blame", "src/n.txt"]).is(0).json();
    let lines = blamed["lines"].as_array().unwrap();
    let agents: Vec<_> = lines.iter().map(|line| &line["agent"]).collect();
    assert!(agents[..2].iter().all(|agent| agent.is_null()), "{blamed}");
    assert!(
        agents[2..].iter().all(|agent| *agent == "alice"),
        "{blamed}"
    );
}

#[test]
fn a_file_becomes_a_directory_and_a_directory_a_file() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let before = world.names("main");
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "rm src/b.txt; mkdir src/b.txt; echo 1 > src/b.txt/f");
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(world.at("main", "src/b.txt/f"), "1\n");
    assert!(world.repo().join("src/b.txt/f").is_file());
    world.govfs(&["unmount", "alice"]).is(0);
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "rm -r src/b.txt; echo 2 > src/b.txt");
    world.govfs(&["merge", "alice"]).is(0);
    assert_eq!(world.at("main", "src/b.txt"), "2\n");
    assert_eq!(world.names("main"), before);
    world.govfs(&["revert", "HEAD"]).is(0);
    world.govfs(&["revert", "HEAD~2"]).is(0);
    assert_eq!(world.at("main", "src/b.txt"), "b\n");
    assert!(world.is_clean());
    world.is_whole();
}

#[test]
fn unmerged_work_is_given_up_only_knowingly() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo 1 > src/b.txt");
    let refused = world.govfs(&["abandon", "alice"]).is(3);
    assert!(refused.stderr.contains("M src/b.txt"), "{refused:?}");
    world.work(&dir, "echo 2 > src/b.txt"); // as if nothing had been
    world.govfs(&["abandon", "alice", "--yes"]).is(0);
    assert_ne!(world.sh(&dir, "echo 3 > src/b.txt").status, 0);
    let claims = world.govfs(&["--json", "claims"]).is(0).json();
    assert_eq!(claims["claims"].as_array().unwrap().len(), 0);
    world.govfs(&["abandon", "alice"]).is(5);
    world.mount("bob", &["src"]);
    world.govfs(&["abandon", "bob"]).is(0);
    world.is_whole();
}

#[test]
fn a_revert_undoes_exactly_one_merge() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src"]);
    world.work(&dir, "echo 1 > src/b.txt; echo 2 > src/new.txt");
    let first = world.govfs(&["--json", "merge", "alice"]).is(0).json();
    let bob = world.mount("bob", &["doc.md", "src/a.txt"]);
    world.work(&bob, "echo bob > doc.md");
    let second = world.govfs(&["--json", "merge", "bob"]).is(0).json();
    let entry = first["entry"].to_string();
    let report = world.govfs(&["--json", "revert", &entry]).is(0).json();
    assert_eq!(report["commit"].as_str().unwrap(), world.tip("main"));
    assert_eq!(world.at("main", "src/b.txt"), "b\n");
    assert!(!world.names("main").contains(&"src/new.txt".to_owned()));
    assert_eq!(world.at("main", "doc.md"), "bob\n", "the later merge stays");
    assert!(world.is_clean());
    world.govfs(&["revert", &entry]).is(3);
    world.govfs(&["revert", "0"]).is(5);
    world
        .govfs(&["revert", second["commit"].as_str().unwrap()])
        .is(0);
    assert_eq!(world.at("main", "doc.md"), "d\n");
    world.is_whole();
}

#[test]
fn a_revert_says_which_later_merges_stand_on_it() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let mut entries = Vec::new();
    for (agent, text) in [("alice", "one"), ("bob", "two")] {
        let dir = world.mount(agent, &["src/b.txt"]);
        world.work(&dir, &format!("echo {text} > src/b.txt"));
        entries.push(world.govfs(&["--json", "merge", agent]).is(0).json()["entry"].to_string());
    }
    let tip = world.tip("main");
    let refused = world.govfs(&["revert", &entries[0]]).is(3);
    let later = format!("merge {} of bob", entries[1]);
    assert!(
        refused.stderr.contains(&later) && refused.stderr.contains("src/b.txt"),
        "{refused:?}"
    );
    assert_eq!(world.tip("main"), tip);
    world.govfs(&["claim", "carol", "src/b.txt"]).is(0);
    world.govfs(&["revert", &entries[1]]).is(3);
    world.govfs(&["release", "carol"]).is(0);
    world.govfs(&["revert", &entries[1]]).is(0);
    world.govfs(&["revert", &entries[0]]).is(0);
    assert_eq!(world.at("main", "src/b.txt"), "b\n");
}

#[test]
fn a_file_that_was_only_read_is_advice_and_no_refusal() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src/b.txt"]);
    world.work(&dir, "cat doc.md > src/b.txt");
    world.commit(
        &[("doc.md", "other\n"), ("src/a.txt", "unread\n")],
        "people",
    );
    let seen = |report: &serde_json::Value| {
        let lines = report["advice"].as_array().unwrap().iter();
        let seen = lines.filter(|line| line["rule"] == "seen-read");
        seen.map(|line| line["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let dry = world.govfs(&["--json", "merge", "alice", "--dry-run"]);
    assert_eq!(seen(&dry.is(0).json()), ["doc.md"]);
    world.govfs(&["unmount", "alice"]).is(0);
    let report = world.govfs(&["--json", "merge", "alice"]).is(0).json();
    assert_eq!(seen(&report), ["doc.md"], "it outlives the mount");
    assert_eq!(report["merged"], true);
    world.is_whole();
}

#[test]
fn blame_names_the_write_that_brought_each_line() {
    if !needs::root() {
        return;
    }
    let mut world = world();
    let dir = world.mount("alice", &["src", "moved"]);
    world.work(&dir, "sed -i 1i'one' src/a.txt; sync src/a.txt; (cat src/a.txt; echo three) > src/.a.txt.swp; mv src/.a.txt.swp src/a.txt; mkdir moved; mv src/a.txt moved/c.txt");
    let entry = world.govfs(&["--json", "merge", "alice"]).is(0).json()["entry"].clone();
    let bob = world.mount("bob", &["moved"]);
    world.work(&bob, "echo four >> moved/c.txt");
    world.govfs(&["merge", "bob"]).is(0);
    let report = world
        .govfs(&["--json", "blame", "moved/c.txt"])
        .is(0)
        .json();
    let all = report["lines"].as_array().unwrap();
    let lines: Vec<_> = [0, 1, 31, 32].iter().map(|&at| &all[at]).collect();
    let texts: Vec<&str> = lines
        .iter()
        .map(|line| line["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["one\n", "1\n", "three\n", "four\n"]);
    assert_eq!(lines[0]["entry"], entry);
    assert_eq!(
        lines[1]["entry"],
        serde_json::Value::Null,
        "it was there before"
    );
    let op = |line: &serde_json::Value| {
        let name = line["write"].as_str().unwrap();
        let shown = world.govfs(&["--json", "show", name]).is(0).json();
        (
            shown["op"].as_str().unwrap().to_owned(),
            shown["path"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(op(lines[0]), ("version".into(), "src/a.txt".into()));
    assert_eq!(op(lines[3]), ("version".into(), "moved/c.txt".into()));
    assert_ne!(
        lines[0]["write"], lines[2]["write"],
        "a later save brought the third"
    );
    assert_eq!(lines[3]["agent"], "bob");
}
