//! The queue, its reviews and the protected branch through the program: five ways to corrupt
//! history, each refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::House;

fn run(house: &House, agent: &str, id: &str, line: &str) {
    house.ok(&["run", agent, "--plan", id, "--", "sh", "-c", line]);
}

#[test]
fn an_edited_export_is_judged() {
    let house = House::with(&[("a.txt", "a\n")]);
    let file = house.fix("one", "[claims]\nfiles=[\"a.txt\"]\n");
    house.ok(&["plan", "add", &file]);
    house.ok(&["queue", "claim", "one", "--owner", "al"]);
    let export = house.ok(&["queue", "export"]);
    let head = house.git(&["rev-parse", "HEAD"]);
    let edits = [
        (
            "done by any commit",
            export.replace(
                "status: in_progress",
                &format!("status: done\n    commit: \"{head}\""),
            ),
        ),
        (
            "done by none",
            export.replace("status: in_progress", "status: done"),
        ),
        ("another owner", export.replace("owner: al", "owner: eve")),
        (
            "in progress without an owner",
            export.replace("    owner: al\n", ""),
        ),
        (
            "taken out under its owner",
            export.lines().take(3).collect::<Vec<_>>().join("\n") + "\ntasks: []\n",
        ),
        (
            "its text changed under its owner",
            export.replace("a.txt", "b.txt"),
        ),
    ];
    for (what, text) in edits {
        assert_ne!(text, export, "{what}");
        let path = house.path("edited.yaml");
        fs::write(&path, text).expect("a file");
        let ran = house.run(&["plan", "import", &path.to_string_lossy()]);
        assert_eq!(ran.status, 3, "{what}: {ran:?}");
        assert_eq!(house.ok(&["queue", "export"]), export, "{what}");
    }
    let path = house.path("same.yaml");
    fs::write(&path, &export).expect("a file");
    house.ok(&["plan", "import", &path.to_string_lossy()]);
    assert_eq!(house.ok(&["queue", "export"]), export);
    house.holds();
}

#[test]
fn a_merge_passes_the_plans_acceptance_checks_or_is_none() {
    let house = House::with(&[("a.txt", "a\n")]);
    let body = "[claims]\nfiles=[\"a.txt\"]\n[acceptance]\nchecks=[\"grep -q good a.txt\"]\n[postconditions]\ncommands=[\"test -f a.txt\"]\n";
    house.ok(&["plan", "add", &house.fix("one", body)]);
    run(&house, "al", "one", "echo bad > a.txt");
    house.fails(3, &["queue", "set-status", "one", "done"]);
    let ran = house.fails(3, &["merge", "al"]);
    assert!(ran.stdout.contains("grep -q good a.txt"), "{ran:?}");
    house.fails(
        3,
        &["queue", "set-status", "one", "done", "--commit", "HEAD"],
    );
    run(&house, "al", "one", "echo good > a.txt");
    house.ok(&["merge", "al"]);
    let shown = house.json(&["plan", "show", "one"]);
    assert_eq!(shown["state"], "done");
    assert_eq!(shown["commit"], house.git(&["rev-parse", "HEAD"]).as_str());
    house.ok(&["queue", "set-status", "one", "done"]);
    house.ok(&["queue", "git-check"]);
    // What a plan merged is undone with it where that is asked.
    let removed = house.json(&["plan", "remove", "one", "--revert"]);
    assert!(removed["commit"].is_string(), "{removed}");
    assert_eq!(house.git(&["show", "HEAD:a.txt"]), "a");
    house.ok(&["queue", "git-check"]);
    house.holds();
}

#[test]
fn a_plan_has_one_owner_however_many_ask_at_once() {
    let house = House::new();
    house.ok(&[
        "plan",
        "add",
        &house.fix("one", "[claims]\nfiles=[\"a\"]\n"),
    ]);
    let names: Vec<String> = (0..12).map(|n| format!("agent-{n}")).collect();
    let children: Vec<_> = names
        .iter()
        .map(|name| house.spawn(&["queue", "claim", "one", "--owner", name]))
        .collect();
    let codes: Vec<i32> = children
        .into_iter()
        .map(|child| {
            child
                .wait_with_output()
                .expect("an end")
                .status
                .code()
                .expect("a status")
        })
        .collect();
    assert_eq!(
        codes.iter().filter(|code| **code == 0).count(),
        1,
        "{codes:?}"
    );
    assert!(codes.iter().all(|code| [0, 3].contains(code)), "{codes:?}");
    let owner = house.json(&["plan", "show", "one"])["owner"]
        .as_str()
        .expect("an owner")
        .to_owned();
    let other = names.iter().find(|name| **name != owner).expect("another");
    house.fails(3, &["run", other, "--plan", "one", "--", "true"]);
    // A script that asked for a document hears the refusal in one.
    let refused = house.json(&["queue", "claim", "one", "--owner", other]);
    assert_eq!(refused["schema"], "govfs/queue-claim/v1");
    assert_eq!(refused["kind"], "refused");
    assert_eq!(refused["rule"], "owned");
    let refused = house.json(&["queue", "set-status", "one", "done"]);
    assert_eq!(refused["schema"], "govfs/queue-set-status/v1");
    assert_eq!(refused["rule"], "not-merged");
    // Its paths are taken with it, and given back with it.
    house.fails(3, &["claim", other, "a"]);
    house.ok(&["queue", "set-status", "one", "todo"]);
    house.ok(&["claim", other, "a"]);
    house.holds();
}

#[test]
fn tests_are_not_dropped_to_turn_a_check_green() {
    let house = House::with(&[("a.txt", "a\n"), ("tests/test_a.py", "assert False\n")]);
    let body = "[claims]\nfiles=[\"a.txt\"]\ntests=[\"tests/test_a.py\"]\n[acceptance]\nchecks=[\"! test -s tests/test_a.py\"]\n";
    house.ok(&["plan", "add", &house.fix("one", body)]);
    for line in [
        "rm tests/test_a.py; echo b > a.txt",
        "git checkout -q tests 2>/dev/null; : > tests/test_a.py",
    ] {
        run(&house, "al", "one", line);
        let ran = house.fails(3, &["merge", "al"]);
        assert!(ran.stdout.contains("tests/test_a.py"), "{line}: {ran:?}");
    }
    house.holds();
}

#[test]
fn a_protected_branch_moves_through_govfs_or_by_leave() {
    let house = House::with(&[("a.txt", "a\n")]);
    let hook = house.root().join(".git/hooks/reference-transaction");
    fs::create_dir_all(hook.parent().expect("a parent")).expect("hooks");
    let trace = house.path("trace");
    let own = format!("#!/bin/sh\necho \"$1\" >> {}\n", trace.display());
    fs::write(&hook, &own).expect("a hook");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("a mode");
    house.ok(&["protect"]);
    let git = |who: &str, arguments: &[&str]| {
        let mut command = house.hermetic("git", &house.root());
        command
            .args(arguments)
            .env("GIT_COMMITTER_NAME", who)
            .output()
            .expect("git starts")
    };
    let empty = ["commit", "--allow-empty", "-qm", "around"];
    let refused = git("eve", &empty);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("main is protected") && said.contains("govfs merge"),
        "{said}"
    );
    assert!(
        !git("eve", &["update-ref", "-d", "refs/heads/main"])
            .status
            .success()
    );
    let head = house.git(&["rev-parse", "main"]);
    assert!(
        !git("eve", &["update-ref", "-d", "refs/heads/main", &head])
            .status
            .success()
    );
    // Housekeeping moves nothing, and is let be; what it packed is protected as well.
    for housekeeping in [
        &["pack-refs", "--all"][..],
        &["gc", "-q"],
        &["pack-refs", "--all"],
    ] {
        let done = git("eve", housekeeping);
        assert!(done.status.success(), "{housekeeping:?}: {done:?}");
    }
    for old in [&head[..], ""] {
        let words = ["update-ref", "-d", "refs/heads/main", old];
        let words = if old.is_empty() {
            &words[..3]
        } else {
            &words[..]
        };
        assert!(!git("eve", words).status.success(), "{words:?}");
    }
    assert!(!git("eve", &empty).status.success());
    assert_eq!(house.git(&["rev-parse", "main"]), head);
    assert!(git("eve", &["branch", "other"]).status.success());
    assert!(
        fs::read_to_string(&trace)
            .expect("a trace")
            .contains("prepared"),
        "the hook that was there still runs"
    );
    // Through govfs it moves.
    house.work("al", "a.txt", "echo b > a.txt");
    house.ok(&["merge", "al"]);
    house.ok(&["queue", "git-check"]);
    // A charter with leave comes by whoever has it already, so protection ends for it.
    house.ok(&["protect", "--off"]);
    assert_eq!(fs::read_to_string(&hook).expect("the hook"), own);
    house.charter("[merge]\ntarget = \"main\"\npeople = [\"alice\"]");
    let before = house.fails(3, &["queue", "git-check"]);
    assert!(before.stdout.contains("around-govfs"), "{before:?}");
    house.ok(&["protect"]);
    assert!(git("alice", &empty).status.success());
    assert!(!git("eve", &empty).status.success());
    let log = house.ok(&["--json", "log", "--op", "protect"]);
    assert!(log.lines().any(|line| line.contains("alice")), "{log}");
    let after = house.fails(3, &["queue", "git-check"]);
    assert_eq!(
        after.stdout.matches("around-govfs").count(),
        1,
        "only the charter's commit: {after:?}"
    );
    house.ok(&["protect", "--off"]);
    house.fails(5, &["protect", "--off"]);
    house.holds();
}

#[test]
fn lanes_review_exactly_one_candidate() {
    let house = House::with(&[("src/a.txt", "a\n"), ("docs/x.md", "x\n")]);
    house.charter("[agents]\ndefault-role = \"core\"\n[roles.core]\npaths = [\"src\"]\n[roles.D-arch]\npaths = [\"docs\"]\n[roles.E-governance]\npaths = [\"docs\"]\n[reviews]\nrequired = 0\nengine-diversity = \"off\"\n[[reviews.rules]]\npaths = [\"src/**\", \"docs/**\"]\nroles = [\"D-arch\", \"E-governance\"]",
    );
    house.ok(&["agent", "add", "dee", "--role", "D-arch"]);
    house.ok(&["agent", "add", "eve", "--role", "E-governance"]);
    house.work("al", "src/a.txt", "echo b > src/a.txt");
    house.fails(3, &["merge", "al"]);
    house.ok(&["review", "request", "al"]);
    let own = house.fails(3, &["review", "approve", "al", "--as", "al"]);
    assert!(
        own.stderr.contains("may not review its own change"),
        "{own:?}"
    );
    house.fails(5, &["review", "approve", "al", "--as", "nobody"]);
    house.ok(&["review", "approve", "al", "--as", "dee"]);
    house.fails(3, &["merge", "al"]);
    house.ok(&["review", "approve", "al", "--as", "eve"]);
    house.ok(&["merge", "al", "--dry-run"]);
    // Any change makes both void.
    house.ok(&["run", "al", "--", "sh", "-c", "echo c > src/a.txt"]);
    let ran = house.fails(3, &["merge", "al"]);
    assert!(
        ran.stdout.contains("D-arch") && ran.stdout.contains("E-governance"),
        "{ran:?}"
    );
    house.ok(&["review", "reject", "al", "--as", "dee", "-m", "unclear"]);
    house.ok(&["review", "approve", "al", "--as", "eve"]);
    let ran = house.fails(3, &["merge", "al"]);
    assert!(ran.stdout.contains("unclear"), "{ran:?}");
    house.ok(&["review", "approve", "al", "--as", "dee"]);
    house.ok(&["merge", "al"]);
    // A reviewing lane's own change is the other one's to review.
    house.work("dee", "docs/x.md", "echo y > docs/x.md");
    house.fails(3, &["merge", "dee"]);
    house.ok(&["review", "approve", "dee", "--as", "eve"]);
    house.ok(&["merge", "dee"]);
    house.holds();
}

#[test]
fn a_lane_that_is_reviewed_needs_each_of_its_reviewers() {
    let house = House::with(&[("src/a.txt", "a\n"), ("docs/x.md", "x\n")]);
    house.charter("[agents]\ndefault-role = \"core\"\n[roles.core]\npaths = [\"src\"]\nreviewed-by = [\"arch\"]\n[roles.arch]\npaths = [\"docs\"]\nreviews = [\"gov\"]\n[roles.gov]\npaths = [\"policies\"]\nreviews = [\"arch\"]\n[reviews]\nengine-diversity = \"require\"",
    );
    house.ok(&["agent", "add", "al", "--engine", "claude"]);
    house.ok(&[
        "agent", "add", "dee", "--role", "arch", "--engine", "claude",
    ]);
    house.ok(&["agent", "add", "dan", "--role", "arch", "--engine", "codex"]);
    house.ok(&["agent", "add", "eve", "--role", "gov"]);
    house.work("al", "src/a.txt", "echo b > src/a.txt");
    let ran = house.fails(3, &["merge", "al"]);
    assert!(ran.stdout.contains("lane arch must approve"), "{ran:?}");
    let asked = house.json(&["review", "request", "al"]);
    assert_eq!(
        asked["reviewers"],
        serde_json::json!(["dan", "dee"]),
        "{asked}"
    );
    house.fails(3, &["review", "approve", "al", "--as", "eve"]);
    house.ok(&["review", "approve", "al", "--as", "dee"]);
    let ran = house.fails(3, &["merge", "al"]);
    assert!(ran.stdout.contains("another engine"), "{ran:?}");
    house.ok(&["review", "approve", "al", "--as", "dan"]);
    house.ok(&["merge", "al"]);
    house.holds();
}

#[test]
fn next_hands_over_between_lanes_and_says_why() {
    let house = House::with(&[("a.txt", "a\n"), ("b.txt", "b\n")]);
    house.charter("[agents]\ndefault-role = \"A\"\n[roles.A]\npaths = [\"a.txt\"]\n[roles.B]\npaths = [\"b.txt\"]",
    );
    let one = house.fix("one", "role=\"A\"\n[claims]\nfiles=[\"a.txt\"]\n");
    let two = house.fix(
        "two",
        "role=\"B\"\ndependencies=[\"one\"]\n[claims]\nfiles=[\"b.txt\"]\n",
    );
    house.ok(&["plan", "add", &one, &two]);
    let next = house.json(&["queue", "next", "--role", "B"]);
    assert!(next["plan"].is_null(), "{next}");
    assert_eq!(next["passed"][0]["obstacles"][0]["rule"], "waits");
    run(&house, "al", "one", "echo x > a.txt");
    house.ok(&["merge", "al"]);
    let next = house.json(&["queue", "next", "--role", "B"]);
    assert_eq!(next["plan"], "two");
    assert!(
        next["reasons"]
            .to_string()
            .contains("handed over by role A"),
        "{next}"
    );
    house.ok(&["agent", "add", "bo", "--role", "B"]);
    house.ok(&["queue", "claim", "two", "--owner", "bo"]);
    let brief = house.ok(&["role", "brief", "B", "--agent", "bo"]);
    for word in ["bo", "two", "b.txt", "governor.md"] {
        assert!(brief.contains(word), "{word}: {brief}");
    }
    house.fails(5, &["role", "brief", "nobody"]);
    house.fails(5, &["queue", "next", "--role", "nobody"]);
    house.holds();
}
