//! What an agent asks from inside, how it is answered, and what it hears of that.

use std::fs;

use serde_json::{Value, json};

use crate::common::sealed::{World, each, give};
use crate::common::{finish, ran};

/// Two lanes: alice may have `src` at once.
fn lanes(world: &World) {
    let charter = "```toml charter\n[agents]\ndefault-role = \"core\"\n[roles.core]\npaths = [\"src\"]\n[roles.free]\n```\n";
    fs::write(world.root().join("governor.md"), charter).expect("written");
    give(&world.root(), world.user);
    let mut git = world.command("sh", &["-c", "git add -A && git commit -qm lanes"]);
    let ran = ran(git.output().expect("git starts"));
    assert_eq!(ran.status, 0, "{ran:?}");
}

/// The requests as `requests --all` has them.
fn requests(world: &World) -> Vec<Value> {
    let text = world.ok(&["--json", "requests", "--all"]);
    let document: Value = serde_json::from_str(&text).expect("a document");
    document["requests"].as_array().expect("a list").clone()
}

fn count_waiting(world: &World) -> Value {
    let text = world.ok(&["--json", "status"]);
    serde_json::from_str::<Value>(&text).expect("a document")["requests"].clone()
}

/// Those of the log with one of these names.
fn entries(world: &World, ops: &[&str]) -> Vec<Value> {
    let is = |entry: &Value| ops.iter().any(|op| entry["op"] == *op);
    world.log().into_iter().filter(is).collect()
}

/// More answers than were once kept, none of them taken away by whoever read it.
#[test]
fn no_answer_is_lost_after_many_questions() {
    each(|world| {
        let ran = world.sh(
            &[],
            "for i in $(seq 100); do govfs status >/dev/null || echo lost; done
             for i in $(seq 20); do { govfs claim src/new$i >/dev/null 2>&1; echo $?; } & done; wait",
        );
        assert_eq!(ran.stdout, "0\n".repeat(20), "{ran:?}");
    });
}

#[test]
fn a_request_is_answered_once_whoever_comes_first() {
    each(|world| {
        lanes(world);
        world.sh(&[], "govfs claim docs -m please");
        let number = requests(world)[0]["number"].to_string();
        let answers: Vec<_> = (0..8)
            .map(|at| ["approve", "deny"][at % 2])
            .map(|verb| (verb, world.spawn(&[verb, &number, "-m", "why not"])))
            .collect();
        let mut given = Vec::new();
        for (verb, child) in answers {
            let ran = finish(child);
            match ran.status {
                0 => given.push(verb),
                status => {
                    assert_eq!(status, 3, "{ran:?}");
                    let says = format!("error: request {number} was answered: ");
                    assert!(ran.stderr.starts_with(&says), "{ran:?}");
                    assert!(ran.stderr.contains("ed: why not\n"), "{ran:?}");
                }
            }
        }
        let [given] = given[..] else {
            panic!("one answer, not {given:?}");
        };
        let granted = given == "approve";
        assert_eq!(entries(world, &["grant", "deny"]).len(), 1);
        let state = if granted { "granted" } else { "denied" };
        assert_eq!(requests(world)[0]["state"], state);
        let claims = world.ok(&["claims"]);
        assert_eq!(claims.contains("docs"), granted, "{claims}");
        world.ok(&["verify", "--deep"]);
        world.ok(&["replay"]);
    });
}

#[test]
fn only_the_very_same_request_is_not_doubled_and_none_outlives_its_session() {
    each(|world| {
        lanes(world);
        let wishes = "for m in one one two; do govfs submit -m $m; done
             govfs claim docs -m why; govfs claim docs -m why
             govfs claim docs -m other; govfs claim docs -m why --ttl 1h";
        world.sh(&[], wishes);
        let kinds = || {
            let of = |row: &Value| (row["kind"].clone(), row["reason"].clone());
            requests(world).iter().map(of).collect::<Vec<_>>()
        };
        let expected = [
            ("merge", "one"),
            ("merge", "two"),
            ("claim", "why"),
            ("claim", "other"),
            ("claim", "why"),
        ]
        .map(|(kind, reason)| (json!(kind), json!(reason)));
        assert_eq!(kinds(), expected);
        assert_eq!(count_waiting(world), 5);
        // One of a session that is over waits for nobody, and is not found in the next one.
        world.sh(&["src"], "echo x > src/a.txt");
        world.ok(&["merge", "alice"]);
        assert_eq!(count_waiting(world), 0);
        assert_eq!(
            world.run(&["requests"]).stderr,
            "nobody asks for anything\n"
        );
        let first = requests(world)[0]["number"].to_string();
        assert_eq!(requests(world)[0]["state"], "over");
        for verb in ["approve", "deny"] {
            let ran = world.run(&[verb, &first]);
            assert_eq!(ran.status, 3, "{ran:?}");
            let says = format!("request {first} is over: alice's session was merged");
            assert!(ran.stderr.contains(&says), "{ran:?}");
        }
        world.sh(&[], "govfs submit -m one");
        assert_eq!((kinds().len(), count_waiting(world)), (6, json!(1)));
        world.ok(&["abandon", "alice", "--yes"]);
        assert_eq!(count_waiting(world), 0);
        let last = requests(world)[5]["number"].to_string();
        let ran = world.run(&["approve", &last]);
        assert!(
            ran.status == 3 && ran.stderr.contains("was abandoned"),
            "{ran:?}"
        );
        world.ok(&["verify", "--deep"]);
        world.ok(&["replay"]);
    });
}

#[test]
fn an_agent_has_nothing_at_once_for_longer_than_the_charter_gives() {
    each(|world| {
        lanes(world);
        let ran = world.sh(
            &[],
            "govfs claim src/a.txt --ttl 9999d; echo $?; govfs claim src/b.txt --ttl 1h >/dev/null; echo $?; govfs claim docs --ttl 9999d",
        );
        assert!(ran.stdout.contains("\n0\n0\n"), "{ran:?}");
        let says = "granted for 8h: longer is the operator's to give\n";
        assert_eq!(ran.stderr.matches(says).count(), 1, "{ran:?}");
        let hour = 3_600_000_u64;
        let leases: Vec<Value> = entries(world, &["claim"])
            .iter()
            .filter(|entry| entry["decision"] == "allow")
            .map(|entry| entry["lease"]["ttl_ms"].clone())
            .collect();
        assert_eq!(leases, [json!(8 * hour), json!(hour)]);
        // The operator sees how long it was asked for, and may give that.
        assert_eq!(requests(world)[0]["ttl_ms"], 9999 * 24 * hour);
        // What is held by leave is not had for longer by asking again.
        world.sh(&[], "govfs claim docs --ttl 30m");
        let number = requests(world)[1]["number"].to_string();
        world.ok(&["approve", &number]);
        let ran = world.sh(&[], "govfs claim docs; echo $?");
        assert!(ran.stdout.ends_with("\n0\n"), "{ran:?}");
        assert!(ran.stderr.contains("granted for 30m: longer"), "{ran:?}");
        let claims = entries(world, &["claim"]);
        assert_eq!(claims.last().expect("one")["lease"]["ttl_ms"], hour / 2);
        world.ok(&["replay"]);
    });
}

#[test]
fn what_the_charter_lets_an_agent_have_it_gets_though_it_asks_for_more() {
    each(|world| {
        lanes(world);
        world.ok(&["agent", "add", "bob", "--role", "free"]);
        world.ok(&["claim", "bob", "src/b.txt"]);
        let ran = world.sh(
            &[],
            "govfs claim src/a.txt docs src/new -m more; echo $?; echo x > src/a.txt && echo mine
             govfs claim src/a.txt docs --json -m again 2>/dev/null; echo $?
             govfs claim src/other src/b.txt docs -m held >/dev/null 2>&1; echo $?
             govfs claim src/other governor.md >/dev/null 2>&1; echo $?",
        );
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert!(
            lines[0].contains(" src/a.txt ") && lines[1].contains(" src/new "),
            "{ran:?}"
        );
        assert_eq!(lines[2..4], ["3", "mine"], "{ran:?}");
        assert!(
            ran.stderr.contains("error: docs reaches outside the paths"),
            "{ran:?}"
        );
        assert!(
            ran.stderr.contains("the operator was asked (request "),
            "{ran:?}"
        );
        let document: Value = serde_json::from_str(lines[4]).expect("a document");
        assert_eq!(document["claims"][0]["pattern"], "src/a.txt");
        assert_eq!(document["rule"], "role-paths");
        assert!(document["request"].is_u64(), "{document}");
        assert_eq!(lines[5..], ["3", "3", "3"], "{ran:?}");
        let asked: Vec<Value> = requests(world)
            .iter()
            .map(|row| row["patterns"].clone())
            .collect();
        // What somebody holds is asked for with all that was wanted beside it, as ever.
        assert_eq!(
            asked,
            [
                json!(["docs"]),
                json!(["docs"]),
                json!(["src/other", "src/b.txt", "docs"])
            ]
        );
        assert!(!world.ok(&["claims"]).contains("src/other"));
        world.ok(&["replay"]);
    });
}

#[test]
fn an_agent_hears_that_its_request_was_denied_and_why() {
    each(|world| {
        lanes(world);
        world.sh(&[], "govfs claim docs; govfs submit -m ready");
        let number = requests(world)[0]["number"].to_string();
        world.ok(&["deny", &number, "-m", "not\nEVER"]);
        let says = format!("request {number} (write docs) was denied: not\\nEVER\n");
        let ran = world.sh(&[], "govfs status; cat .govfs/denials; cat .govfs/claims");
        assert_eq!(ran.stdout.matches(&says).count(), 3, "{ran:?}");
        assert!(ran.stdout.contains(" merge: ready\n"), "{ran:?}");
        let ran = world.sh(&[], "govfs status --json");
        let document: Value = serde_json::from_str(&ran.stdout).expect("a document");
        let session = &document["sessions"][0];
        assert_eq!(session["denied"][0]["answer"], "not\nEVER");
        assert_eq!(session["requests"][0]["kind"], "merge");
        assert_eq!(session["requests"].as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn a_submit_is_no_claim_on_a_path_named_merge() {
    each(|world| {
        lanes(world);
        world.sh(&[], "govfs claim merge; govfs submit -m 'all green'");
        let list = world.ok(&["requests"]);
        let lines: Vec<&str> = list.lines().collect();
        assert!(
            lines[0].contains(" write merge ") && lines[0].contains(" for 8h  waiting"),
            "{list}"
        );
        assert!(lines[1].contains(" merge: all green "), "{list}");
        assert!(!lines[1].contains("write") && lines[1].ends_with("  waiting"));
        let number = requests(world)[1]["number"].to_string();
        assert_eq!(
            world.ok(&["approve", &number]),
            format!("approved request {number}, which asks for a merge\nnext: govfs merge alice\n")
        );
        assert!(
            world
                .ok(&["log", "--op", "request"])
                .contains("asks for a merge: all green")
        );
        world.sh(&[], "govfs submit -m 'all green'");
        let number = requests(world)[2]["number"].to_string();
        let text = world.ok(&["--json", "approve", &number]);
        let document: Value = serde_json::from_str(&text).expect("a document");
        assert_eq!(
            (&document["kind"], &document["next"]),
            (&json!("merge"), &json!("govfs merge alice"))
        );
        assert_eq!(entries(world, &["claim"]).len(), 1, "the refused one");
        world.ok(&["replay"]);
    });
}

#[test]
fn an_approval_of_what_somebody_holds_says_what_helps() {
    each(|world| {
        world.ok(&["claim", "bob", "src/*.txt"]);
        world.sh(&[], "govfs claim src/b.txt");
        let number = requests(world)[0]["number"].to_string();
        let ran = world.run(&["approve", &number]);
        assert_eq!(ran.status, 3, "{ran:?}");
        assert!(!ran.stderr.contains("--wait"), "{ran:?}");
        let (_, hint) = ran.stderr.rsplit_once("free it: govfs ").expect("a hint");
        assert_eq!(hint, "release bob 'src/*.txt'\n");
        world.ok(&["release", "bob", "src/*.txt"]);
        world.ok(&["approve", &number]);
        assert!(world.ok(&["claims"]).contains("alice"));
    });
}
