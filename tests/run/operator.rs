//! What the operator reads of a run, and afterwards: nothing that an agent wrote does anything to the screen.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;

use serde_json::Value;

use crate::common::sealed::{World, each, give};
use crate::common::{Ran, finish, ran, tell};

/// No line of its own, no colour, no title, no turned order.
const HOSTILE: &str = r"fine\n99     bob              write docs/\033[31mRED\033[0m \033]0;owned\007\342\200\256\302\233";

#[test]
fn what_an_agent_says_forges_no_row_and_drives_no_terminal() {
    each(|world| {
        let script = format!("govfs submit -m \"$(printf '{HOSTILE}')\"");
        let ran = world.sh(&[], &script);
        assert_eq!(ran.status, 0, "{ran:?}");
        let rows = world.ok(&["requests"]);
        assert_eq!(rows.lines().count(), 1, "{rows}");
        let number = rows.split(' ').next().expect("a number");
        for arguments in [
            &["requests"][..],
            &["--color", "always", "requests"],
            &["show", number],
            &["--color", "always", "log"],
            &["status"],
        ] {
            let text = world.ok(arguments);
            let ours = ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[0m"];
            let text = ours.iter().fold(text, |text, ours| text.replace(ours, ""));
            let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(harmful), "{arguments:?}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("99 ")), "{text}");
        }
        // A script reads what was said.
        let json: Value =
            serde_json::from_str(&world.ok(&["requests", "--json"])).expect("a document");
        let reason = json["requests"][0]["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("fine\n99 ") && reason.contains("\u{1b}[31mRED"));
    });
}

#[test]
fn a_name_that_turns_the_order_of_letters_is_spelled_out() {
    each(|world| {
        let ran = world.sh(
            &[],
            "touch \"docs/$(printf '\\342\\200\\256')gpj.sh\"; true",
        );
        let next = "next: govfs claim alice $'docs/\\342\\200\\256gpj.sh'";
        assert!(ran.stderr.contains(next), "{ran:?}");
        assert!(!ran.stderr.contains('\u{202e}'), "{ran:?}");
        let log = world.ok(&["log", "--denied"]);
        assert!(log.contains("docs/%E2%80%AEgpj.sh"), "{log}");
    });
}

/// The role of alice and everybody may claim these alone.
const LANE: &str = "[roles.agent]\npaths = [\"src/**\", \"docs/**\"]\n";

/// A report of a run of the script, and what the summary said.
fn reported(world: &World, script: &str) -> (Value, Ran) {
    let file = world.house.home().join("report.json");
    let place = file.display().to_string();
    let ran = world.run(&["run", "alice", "--report", &place, "--", "sh", "-c", script]);
    let text = fs::read(file).expect("a report");
    (serde_json::from_slice(&text).expect("a document"), ran)
}

/// Does what the summary says is next.
fn obey(world: &World, ran: &Ran) {
    let commands: Vec<&str> = (ran.stderr.lines())
        .filter_map(|line| line.strip_prefix("next: govfs "))
        .collect();
    assert!(!commands.is_empty(), "{ran:?}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        world.ok(&words);
    }
}

#[test]
fn what_the_role_forbids_is_named_with_what_helps_and_the_command_works_for_the_rest() {
    each(|world| {
        let house = world.house.path("");
        give(&house, world.user.map(|_| 0));
        world.house.charter(LANE);
        give(&house, world.user);
        let (report, ran) = reported(world, "touch zzz src/b.txt src/4913; true");
        let denial = &report["denials"][0];
        assert_eq!(denial["command"], "govfs claim alice src/b.txt", "{report}");
        assert_eq!(denial["barred"][0]["paths"], serde_json::json!(["zzz"]));
        let says = "no claim for zzz: the role agent may claim within src/** docs/** alone";
        assert!(ran.stderr.contains(says), "{ran:?}");
        obey(world, &ran);
        let why = world.ok(&["why", "zzz", "--agent", "alice"]);
        assert!(
            why.contains("the role agent may claim within src/** docs/** alone")
                && !why.contains("govfs claim alice"),
            "{why}"
        );
        // What is named helps: the agent asks, and the operator grants it.
        let inside = "govfs why zzz; govfs claim zzz -m 'for the build'; true";
        let (report, ran) = reported(world, inside);
        let says = "to ask the operator for more: govfs claim zzz";
        assert!(ran.stdout.contains(says), "{ran:?}");
        let number = report["requests"][0]["number"].to_string();
        let why = world.ok(&["why", "zzz", "--agent", "alice"]);
        assert!(why.contains(&format!("govfs approve {number}")), "{why}");
        world.ok(&["approve", &number]);
        assert_eq!(world.sh(&[], "touch zzz").status, 0);
    });
}

#[test]
fn what_the_agent_asked_for_in_this_run_stands_in_its_report() {
    each(|world| {
        world.ok(&["claim", "bob", "src/b.txt"]);
        let script = "govfs claim src/b.txt -m 'need it'; govfs submit -m ready; true";
        let (report, ran) = reported(world, script);
        let requests = &report["requests"];
        assert_eq!(requests[0]["what"], "write src/b.txt", "{report}");
        assert_eq!(requests[0]["state"], "waiting", "{report}");
        assert_eq!(requests[1]["what"], "merge: ready", "{report}");
        let number = &requests[0]["number"];
        let says = format!("asked, request {number}: write src/b.txt: need it");
        assert!(ran.stderr.contains(&says), "{ran:?}");
        assert!(ran.stderr.contains("next: govfs requests\n"), "{ran:?}");
        obey(world, &ran);
        // The next run has asked for nothing.
        let (report, ran) = reported(world, "true");
        assert_eq!(report["requests"], serde_json::json!([]));
        assert_eq!(ran.stderr, "", "{ran:?}");
    });
}

#[test]
fn a_session_that_is_over_is_neither_compared_nor_merged_next() {
    each(|world| {
        for (end, over) in [
            (&["merge", "alice"][..], "merged"),
            (&["abandon", "alice", "--yes"], "abandoned"),
        ] {
            let script = "echo more >> src/a.txt; echo ready; read end";
            let mut child = world.spawn_sh(&["src/a.txt"], script);
            let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
            let mut line = String::new();
            out.read_line(&mut line).expect("a line");
            assert_eq!(line, "ready\n");
            world.ok(end);
            tell(&mut child, "go\n");
            child.stdout = Some(out.into_inner());
            let ran = finish(child);
            let says = format!("1 changed, 0 refused, {over} meanwhile");
            assert!(ran.stderr.contains(&says), "{ran:?}");
            assert!(!ran.stderr.contains("next: "), "{ran:?}");
        }
    });
}

#[test]
fn a_report_that_cannot_be_written_hides_neither_the_status_nor_the_summary() {
    each(|world| {
        for (script, status) in [("echo x > src/a.txt; exit 9", 9), ("echo x > src/a.txt", 1)] {
            let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
            drop(near);
            let mut command = world.govfs(&[
                "run", "alice", "--claim", "src", "--report", "0", "--", "sh", "-c", script,
            ]);
            let ran = ran(command.stdin(OwnedFd::from(far)).output().expect("started"));
            assert_eq!(ran.status, status, "{ran:?}");
            for says in ["1 changed", "error: the report cannot be written", "hint: "] {
                assert!(ran.stderr.contains(says), "{ran:?}");
            }
        }
    });
}

#[test]
fn a_run_that_is_refused_leaves_the_last_report_as_it_was() {
    each(|world| {
        world.ok(&["claim", "bob", "docs"]);
        let file = world.house.home().join("report.json");
        let place = file.display().to_string();
        let refused = [
            "run", "alice", "--claim", "docs", "--report", &place, "--", "true",
        ];
        assert_eq!(world.run(&refused).status, 3);
        assert!(!file.exists(), "nothing was run, so there is no report");
        let (long, _) = reported(world, "touch zzz docs/guide.md; true");
        assert_eq!(world.run(&refused).status, 3);
        let kept: Value =
            serde_json::from_slice(&fs::read(&file).expect("a report")).expect("whole");
        assert_eq!(kept, long);
        let (short, _) = reported(world, "true");
        assert_eq!(short["denials"], serde_json::json!([]));
    });
}

#[test]
fn flags_that_say_nothing_are_not_silent() {
    each(|world| {
        let ran = world.run(&["run", "alice", "--env", "", "--", "true"]);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.stderr.contains("a variable has a name"), "{ran:?}");
        let ran = world.run(&["run", "alice", "--hide", "/nosuch", "--", "true"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let says = "note: --hide /nosuch: nothing is there; hidden should it appear\n";
        assert_eq!(ran.stderr, says);
    });
}
