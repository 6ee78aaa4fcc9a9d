//! Claims through the program: who wins, who waits, what a refusal looks like.

use std::collections::BTreeMap;

use crate::common::{House, finish, screen};

#[test]
fn a_refusal_names_pattern_holder_and_a_path_that_both_cover() {
    let house = House::new();
    house.ok(&["claim", "alice", "src/**/*.rs", "docs"]);
    let ran = house.fails(3, &["claim", "bob", "src/a*/x.rs", "free", "docs/guide.md"]);
    insta::assert_snapshot!(screen(&ran), @r"
    src/a*/x.rs: alice holds src/**/*.rs, both cover src/a/x.rs
    docs/guide.md: alice holds docs, both cover docs/guide.md
    error: src/a*/x.rs is held by alice (src/**/*.rs)
    hint: work on other paths, or wait with --wait
    exit 3
    ");
    let told = house.json(&["claim", "bob", "docs/guide.md"]);
    assert_eq!(told["schema"], "govfs/claim/v1");
    assert_eq!(told["conflicts"][0]["holder"], "alice");
    assert_eq!(told["conflicts"][0]["witness"], "docs/guide.md");
    assert!(
        house.json(&["claims"])["claims"]
            .as_array()
            .expect("a list")
            .len()
            == 2
    );
}

#[test]
fn odd_input_gets_a_clear_error() {
    let house = House::new();
    let long = "x/".repeat(2100) + "y";
    for (pattern, word) in [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../up", ".."),
        ("a/../b", ".."),
        (".git/config", ".git"),
        ("sub/.GIT/hooks", ".GIT"),
        ("a//b", "//"),
        (long.as_str(), "4096"),
        ("src/[z", "["),
        ("trailing space ", "white space"),
        (" ", "white space"),
    ] {
        let ran = house.fails(2, &["claim", "alice", pattern]);
        assert!(
            ran.stderr.starts_with("error: pattern"),
            "{pattern:?}: {ran:?}"
        );
        assert!(ran.stderr.contains(word), "{pattern:?} {word:?}: {ran:?}");
    }
    house.fails(2, &["claim", "no name", "src"]);
    house.fails(2, &["claim", "alice"]);
    house.fails(2, &["claim", "alice", "src", "--ttl", "0s"]);
    house.fails(5, &["release", "nobody"]);
    house.ok(&["claim", "alice", r"meant\ "]);
}

#[test]
fn of_two_hundred_processes_each_path_has_exactly_one_winner() {
    let house = House::new();
    let areas = 10;
    let children: Vec<_> = (0..200)
        .map(|n| {
            let area = n % areas;
            let patterns = [
                format!("area{area}/**"),
                format!("*{area}/x"),
                format!("shared/{area}"),
            ];
            let agent = format!("agent-{n}");
            let mut arguments = vec!["claim", &agent];
            arguments.extend(patterns.iter().map(String::as_str));
            house.spawn(&arguments)
        })
        .collect();
    let mut winners = 0;
    for child in children {
        let ran = finish(child);
        assert!(matches!(ran.status, 0 | 3), "{ran:?}");
        assert!(
            !ran.stderr.contains("locked") && !ran.stderr.contains("busy"),
            "{ran:?}"
        );
        winners += i32::from(ran.status == 0);
    }
    assert_eq!(winners, areas);
    let told = house.json(&["claims"]);
    let mut holders: BTreeMap<String, u32> = BTreeMap::new();
    for claim in told["claims"].as_array().expect("a list") {
        *holders.entry(claim["agent"].to_string()).or_default() += 1;
    }
    assert!(
        holders.len() == 10 && holders.values().all(|&count| count == 3),
        "{holders:?}"
    );
    house.ok(&["verify", "--deep"]);
    house.ok(&["replay"]);
}

/// Looks until the ledger shows that `agent` was refused once: it waits now.
fn until_waiting(house: &House, agent: &str) {
    while house
        .run(&["log", "--agent", agent, "--op", "claim", "--denied"])
        .stdout
        .is_empty()
    {}
}

#[test]
fn waiters_are_served_in_the_order_of_asking() {
    let house = House::new();
    house.ok(&["claim", "alice", "src"]);
    let bob = house.spawn(&["claim", "bob", "src/a", "--wait"]);
    until_waiting(&house, "bob");
    let carol = house.spawn(&["claim", "carol", "src", "--wait"]);
    until_waiting(&house, "carol");
    house.ok(&["release", "alice"]);
    assert_eq!(finish(bob).status, 0);
    // Whoever does not wait cannot slip in before carol, who waits for bob alone.
    let held = house.json(&["claims"]);
    assert_eq!(held["claims"].as_array().expect("a list").len(), 1);
    house.ok(&["release", "bob"]);
    assert_eq!(finish(carol).status, 0);
    let refusals = house.ok(&["log", "--denied", "--json"]);
    assert_eq!(
        refusals.lines().count(),
        2,
        "a wait logs its refusal once: {refusals}"
    );
    house.ok(&["replay"]);
}

#[test]
fn waiting_ends_with_its_time() {
    let house = House::new();
    house.ok(&["claim", "alice", "src"]);
    let ran = house.fails(3, &["claim", "bob", "src", "--wait=0.05"]);
    assert!(ran.stderr.contains("held by alice"), "{ran:?}");
    house.ok(&["release", "alice"]);
    house.ok(&["claim", "carol", "src"]);
}

#[test]
fn a_waiter_that_was_killed_blocks_nobody() {
    let house = House::new();
    house.ok(&["claim", "alice", "src"]);
    let mut bob = house.spawn(&["claim", "bob", "src", "--wait"]);
    until_waiting(&house, "bob");
    bob.kill().expect("killed");
    bob.wait().expect("reaped");
    house.ok(&["release", "alice"]);
    house.ok(&["claim", "carol", "src"]);
}

#[test]
fn a_deadlock_is_refused_not_slept_through() {
    let house = House::new();
    house.ok(&["claim", "alice", "a"]);
    house.ok(&["claim", "bob", "b"]);
    let mut alice = house.spawn(&["claim", "alice", "b", "--wait"]);
    until_waiting(&house, "alice");
    let ran = house.fails(3, &["claim", "bob", "a", "--wait"]);
    assert!(ran.stderr.contains("bob -> alice -> bob"), "{ran:?}");
    house.ok(&["release", "bob"]);
    assert_eq!(alice.wait().expect("ends").code(), Some(0));
    house.ok(&["replay"]);
}

#[test]
fn a_lease_ends_by_itself_and_loudly() {
    let house = House::new();
    house.ok(&["claim", "alice", "src", "--ttl", "50ms"]);
    let bob = house.spawn(&["claim", "bob", "src", "--wait=20"]);
    assert_eq!(finish(bob).status, 0);
    let expired = house.ok(&["log", "--op", "expire", "--json"]);
    assert!(expired.contains(r#""agent":"alice""#), "{expired}");
    house.ok(&["replay"]);
    house.ok(&["verify", "--deep"]);
}

#[test]
fn why_says_what_the_gate_would() {
    let house = House::new();
    house.commit(".gitignore", "*.log\n");
    house.commit("src/a.rs", "fn a() {}\n");
    house.ok(&["claim", "alice", "src"]);
    house.ok(&["agent", "add", "bob"]);
    for (path, agent, zone, verdict, rule) in [
        ("src/a.rs", "alice", "governed", "allow", ""),
        ("src/a.rs", "bob", "governed", "deny", "held"),
        ("docs/x", "alice", "governed", "deny", "not-claimed"),
        ("build.log", "bob", "scratch", "allow", ""),
        ("governor.md", "alice", "governed", "deny", "protected"),
        (".git/config", "alice", "gitdir", "deny", "gitdir"),
        ("x/.GIT/y", "alice", "reserved", "deny", "reserved"),
        (".govfs/claims", "alice", "control", "deny", "control"),
    ] {
        let told = house.json(&["why", path, "--agent", agent]);
        let found = (
            told["zone"].as_str().unwrap_or_default(),
            told["verdict"].as_str().unwrap_or_default(),
            told["rule"].as_str().unwrap_or_default(),
        );
        assert_eq!(found, (zone, verdict, rule), "{path} {agent}: {told}");
    }
    house.fails(5, &["why", "src/a.rs", "--agent", "nobody"]);
}
