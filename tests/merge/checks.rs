//! Acceptance checks on the candidate, before anything moves.

use std::fs;

use super::{World, needs};

const OFF: &str = "#[checks.tests]\n#command = \"cargo test --quiet\"\n#timeout = \"15m\"";

/// A repository whose charter wants this check.
fn world(command: &str, timeout: &str) -> World {
    let world = World::new(&[("src/b.txt", "b\n"), (".gitignore", "target/\n")]);
    let text = fs::read_to_string(world.repo().join("governor.md")).unwrap();
    let on = format!("[checks.tests]\ncommand = {command:?}\ntimeout = {timeout:?}");
    assert!(text.contains(OFF));
    world.commit(&[("governor.md", &text.replace(OFF, &on))], "checks");
    world
}

#[test]
fn a_check_sees_the_candidate_and_can_change_nothing_of_it() {
    if !needs::root() {
        return;
    }
    let script = "set -e; cat src/b.txt src/people.txt; ! echo x 2>/dev/null >> src/b.txt; mkdir -p target; echo y > target/built; cat target/built; git diff --cached --name-only HEAD; git status --porcelain; git ls-files | wc -l; echo done";
    let mut world = world(script, "30s");
    let dir = world.mount("alice", &["src/b.txt"]);
    world.work(&dir, "echo new > src/b.txt");
    world.commit(&[("src/people.txt", "people\n")], "people");
    let report = world.govfs(&["--json", "merge", "alice"]).is(0).json();
    let check = &report["checks"][0];
    assert_eq!(check["passed"], true, "{report}");
    let sha = check["output"].as_str().unwrap().to_owned();
    let kept = world
        .store()
        .join("versions")
        .join(&sha[..2])
        .join(&sha[2..]);
    let output = fs::read_to_string(kept).unwrap();
    assert_eq!(output, "new\npeople\ny\nsrc/b.txt\nM  src/b.txt\n4\ndone\n");
    assert!(!world.repo().join("target").exists());
    world.is_whole();
}

#[test]
fn a_check_that_fails_or_takes_too_long_stops_the_merge() {
    if !needs::root() {
        return;
    }
    for (script, timeout, status) in [("echo no; exit 7", "30s", 7), ("sleep 60", "1s", 124)] {
        let mut world = world(script, timeout);
        let dir = world.mount("alice", &["src"]);
        world.work(&dir, "echo new > src/b.txt");
        let tip = world.tip("main");
        assert_eq!(world.refused(&["alice"]), [("check".into(), String::new())]);
        assert_eq!(world.tip("main"), tip);
        let entry = world.entries("merge").pop().unwrap();
        assert_eq!(entry["checks"][0]["status"], status);
        world.work(&dir, "echo again > src/b.txt");
        world.is_whole();
    }
}
