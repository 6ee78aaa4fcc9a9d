//! Repositories and stores in a state that nobody meant: branches renamed, history cut
//! off, ledgers taken away, other people's merges. Each is said, and nothing is stuck.

use std::fs;

use crate::common::House;

#[test]
fn a_plan_whose_commit_is_gone_is_stale_and_holds_nothing_up() {
    let house = House::new();
    let file = house.fix("gone", "[claims]\nfiles = [\"src\"]\n");
    house.git(&["commit", "-q", "--allow-empty", "-m", "to be thrown away"]);
    house.ok(&["plan", "add", &file]);
    house.git(&["reset", "-q", "--hard", "HEAD~1"]);
    house.git(&["commit", "-q", "--allow-empty", "-m", "instead"]);
    house.git(&["reflog", "expire", "--expire=now", "--all"]);
    house.git(&["gc", "-q", "--prune=now"]);
    let fresh = house.fix("fresh", "[claims]\nfiles = [\"docs\"]\n");
    house.ok(&["plan", "add", &fresh]);
    let listed = house.ok(&["queue", "list"]);
    assert!(listed.contains("no longer in the repository"), "{listed}");
    let next = house.ok(&["queue", "next", "--role", "agent"]);
    assert!(next.starts_with("fresh"), "{next}");
    house.fails(3, &["queue", "claim", "gone", "--owner", "al"]);
    house.ok(&["plan", "add", &file]);
    house.ok(&["queue", "claim", "gone", "--owner", "al"]);
    house.ok(&["replay"]);
}

#[test]
fn a_plan_is_judged_across_the_edge_of_a_shallow_clone() {
    let house = House::new();
    for n in 0..3 {
        house.commit("docs", &n.to_string());
    }
    let clone = house.path("clone");
    let at = clone.to_str().expect("a path");
    let url = format!("file://{}", house.root().display());
    house.git(&["clone", "-q", &url, at]);
    house.ok(&["-C", at, "init"]);
    let file = house.fix("a", "[claims]\nfiles = [\"src\"]\n");
    house.ok(&["-C", at, "plan", "add", &file]);
    house.commit("docs", "more");
    house.commit("docs", "and more");
    house.git(&["-C", at, "fetch", "-q", "--depth=1", "origin"]);
    house.git(&["-C", at, "reset", "-q", "--hard", "origin/main"]);
    // The commit that it was written for is still there, though no walk leads to it.
    let next = house.ok(&["-C", at, "queue", "next", "--role", "agent"]);
    assert!(next.starts_with('a'), "{next}");
    house.ok(&["-C", at, "queue", "claim", "a", "--owner", "al"]);
}

#[test]
fn a_charter_whose_branch_was_renamed_is_not_called_missing() {
    let house = House::new();
    house.ok(&["claim", "alice", "src"]);
    house.git(&["branch", "-m", "main", "master"]);
    let ran = house.fails(2, &["claim", "alice", "docs"]);
    assert!(ran.stderr.contains("there is no branch main"), "{ran:?}");
    assert!(
        ran.stderr.contains("git branch -m master main"),
        "the way back: {ran:?}"
    );
    house.git(&["branch", "-m", "master", "main"]);
    house.ok(&["claim", "alice", "docs"]);
}

#[test]
fn a_ledger_that_was_taken_away_is_not_begun_again_over_its_sessions() {
    let house = House::new();
    let store = house.root().join(".git/govfs");
    fs::create_dir_all(store.join("sessions/alice-1")).expect("a session");
    let kept = house.path("kept");
    fs::rename(store.join("ledger.db"), &kept).expect("taken away");
    for verb in ["status", "init", "claims"] {
        let ran = house.fails(4, &[verb]);
        assert!(ran.stderr.contains("is gone"), "{ran:?}");
    }
    fs::rename(&kept, store.join("ledger.db")).expect("put back");
    house.ok(&["verify"]);
}

#[test]
fn what_other_operators_merged_is_no_fault_where_their_ledger_is_named() {
    let house = House::new();
    house.ok(&["checkpoint"]);
    let other = format!("govfs-{}", "0".repeat(32));
    let text = format!(
        "merged\n\nGovfs-Checkpoint: {other} 3 {}=\n",
        "A".repeat(43)
    );
    house.git(&["commit", "-q", "--allow-empty", "-m", &text]);
    house.ok(&["export", "--ref"]);
    for way in ["--deep", "--ref"] {
        // It could as well be this one's, begun again.
        let ran = house.fails(4, &["verify", way]);
        let named = format!("--beside {other}");
        assert!(ran.stderr.contains(&named), "{ran:?}");
        let told = house.ok(&["verify", way, "--beside", &other]);
        assert!(told.contains(&other), "{told}");
    }
    // What is given by hand is held to be this ledger's.
    let foreign = house.path("foreign");
    fs::create_dir(&foreign).expect("a directory");
    let at = foreign.to_str().expect("a path");
    house.git(&["clone", "-q", house.root().to_str().expect("a path"), at]);
    house.ok(&["-C", at, "init"]);
    let note = house.path("note");
    let note = note.to_str().expect("a path");
    house.ok(&["-C", at, "checkpoint", "--out", note]);
    let ran = house.fails(4, &["verify", "--checkpoint", note]);
    assert!(ran.stderr.contains("another ledger"), "{ran:?}");
}

#[test]
fn whoever_has_no_key_or_an_open_one_is_told_what_to_do() {
    let house = House::new();
    let key = house.home().join(".config/govfs/key");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&key, mode(0o644)).expect("opened");
    let ran = house.fails(1, &["checkpoint"]);
    assert!(ran.stderr.contains("hint: chmod 600 "), "{ran:?}");
    fs::remove_file(&key).expect("removed");
    let ran = house.fails(5, &["checkpoint"]);
    assert!(ran.stderr.contains("no key here: govfs init"), "{ran:?}");
    assert!(ran.stderr.contains("hint: govfs init"), "{ran:?}");
}

#[test]
fn an_index_that_cannot_be_written_stops_init_before_anything_is_made() {
    let house = House::bare_of_charter();
    house.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    let untouched = |house: &House| {
        assert_eq!(house.git(&["rev-list", "--count", "HEAD"]), "1");
        assert!(!house.root().join(".git/govfs").exists());
        assert!(!house.root().join("governor.md").exists());
    };
    let lock = house.root().join(".git/index.lock");
    fs::write(&lock, "").expect("a lock");
    let ran = house.fails(1, &["init"]);
    assert!(ran.stderr.contains("holds the index"), "{ran:?}");
    untouched(&house);
    fs::remove_file(&lock).expect("removed");
    house.git(&["update-index", "--split-index"]);
    let ran = house.fails(6, &["init"]);
    assert!(ran.stderr.contains("--no-split-index"), "{ran:?}");
    untouched(&house);
    house.git(&["update-index", "--no-split-index"]);
    house.ok(&["init"]);
    assert_eq!(house.git(&["status", "--short"]), "");
}

#[test]
fn a_ledger_that_was_not_finished_is_called_so() {
    let house = House::bare_of_charter();
    let store = house.root().join(".git/govfs");
    drop(govfs::store::ledger::Ledger::create(&store).expect("an empty ledger"));
    let ran = house.fails(5, &["verify", "--deep"]);
    assert!(ran.stderr.contains("was not finished"), "{ran:?}");
    house.ok(&["init"]);
    house.ok(&["verify", "--deep"]);
}

#[test]
fn an_export_writes_over_nothing_but_an_export() {
    let house = House::new();
    let dir = house.path("mine");
    fs::create_dir(&dir).expect("a directory");
    fs::write(dir.join("README"), "precious").expect("written");
    let at = dir.to_str().expect("a path");
    let ran = house.fails(3, &["export", at]);
    assert!(ran.stderr.contains("is not empty"), "{ran:?}");
    let kept = fs::read_to_string(dir.join("README")).expect("still there");
    assert_eq!(kept, "precious");
    fs::remove_file(dir.join("README")).expect("removed");
    house.ok(&["export", at]);
    house.ok(&["claim", "alice", "src"]);
    house.ok(&["export", at]);
    house.ok(&["verify", "--export", at]);
    // Nor over that of another ledger.
    let other = House::new();
    other.fails(3, &["export", at]);
}

#[test]
fn objects_named_by_sha256_are_refused_by_name() {
    let house = House::new();
    let other = house.path("other").display().to_string();
    house.git(&["init", "-q", "--object-format=sha256", &other]);
    let ran = house.fails(6, &["-C", &other, "init"]);
    assert!(ran.stderr.contains("sha256"), "{ran:?}");
    assert!(ran.stderr.contains("hint: govfs reads"), "{ran:?}");
}

#[test]
fn a_branch_is_protected_under_its_own_name() {
    let house = House::new();
    house.git(&["branch", "-m", "main", "trunk"]);
    house.git(&["symbolic-ref", "refs/heads/main", "refs/heads/trunk"]);
    let ran = house.fails(3, &["protect"]);
    assert!(
        ran.stderr.contains("main is another name of trunk"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("hint: govfs protect trunk"), "{ran:?}");
    house.ok(&["protect", "trunk"]);
}

#[test]
fn the_log_of_nobody_is_not_there() {
    let house = House::new();
    house.ok(&["claim", "alice", "src"]);
    for nobody in [["--agent", "nosuch"], ["--session", "nosuch-1"]] {
        let ran = house.fails(5, &["log", nobody[0], nobody[1]]);
        assert!(ran.stderr.contains("error: there is no "), "{ran:?}");
    }
    // One who did nothing of the kind is there all the same.
    assert_eq!(house.ok(&["log", "--agent", "alice", "--denied"]), "");
}

#[test]
fn a_fault_of_an_export_names_nothing_that_cannot_be_done() {
    let house = House::new();
    let dir = house.path("export");
    let at = dir.to_str().expect("a path");
    house.ok(&["export", at]);
    let file = dir.join("ledger.jsonl");
    let text = fs::read_to_string(&file).expect("lines");
    fs::write(&file, text.replacen("\"seq\":0", "\"seq\":9", 1)).expect("tampered with");
    let ran = house.fails(4, &["verify", "--export", at]);
    let (_, hint) = ran.stderr.split_once("hint: ").expect("a hint");
    assert!(hint.starts_with("trust nothing in it: "), "{ran:?}");
}
