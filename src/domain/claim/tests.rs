//! The rules by table; [`House`] is a ledger in memory.

mod model;
mod waiting;

use super::*;
use crate::domain::command::{Command, decide, differs};
use crate::domain::digest::Digest;
use crate::domain::entry::leaf;
use crate::domain::event::{CharterSet, CharterSource, Entry};
use crate::domain::path::RepoPath;
use crate::domain::time::Timestamp;

const CHARTER: &str = include_str!("../../../governor.md");

/// A ledger in memory: decides, appends, folds.
struct House {
    state: State,
    seq: u64,
    now: Now,
    /// Every entry, for replay.
    entries: Vec<Entry>,
}

impl House {
    fn new() -> Self {
        let mut house = Self {
            state: State::default(),
            seq: 0,
            now: Now {
                ts: Timestamp(1_000_000_000),
                boot: "boot".to_owned(),
                boot_ms: 0,
            },
            entries: Vec::new(),
        };
        house.append(Draft::new(Event::Charter(CharterSet {
            sha256: Digest::of(CHARTER.as_bytes()),
            source: CharterSource::Init,
            text: CHARTER.to_owned(),
        })));
        assert!(house.state.law.is_some(), "the default charter parses");
        house
    }

    fn append(&mut self, draft: Draft) {
        let entry = Entry {
            seq: self.seq,
            ts: self.now.ts,
            leaf: leaf(&self.seq.to_be_bytes()),
            agent: draft.agent,
            session: draft.session,
            event: draft.event,
        };
        self.seq += 1;
        self.state.apply(&entry);
        self.entries.push(entry);
        self.now.ts.0 += 1;
    }

    fn run(&mut self, command: &Command) -> Option<Refusal> {
        for draft in decide_expiry(&self.state, &self.now) {
            self.append(draft);
        }
        let verdict = decide(&self.state, command, &self.now);
        verdict
            .drafts
            .into_iter()
            .for_each(|draft| self.append(draft));
        verdict.refusal
    }

    fn claim(&mut self, who: &str, mode: Mode, what: &[&str]) -> Option<Refusal> {
        self.run(&Command::Claim(ask(who, mode, what)))
    }

    fn release(&mut self, who: &str, what: &[&str]) -> Option<Refusal> {
        self.run(&Command::Release {
            agent: agent(who),
            patterns: patterns(what),
            cut: None,
        })
    }

    fn pass(&mut self, ms: u64) {
        self.now.boot_ms += ms;
        self.now.ts.0 += i64::try_from(ms).expect("fits") * 1_000_000;
    }

    /// Replays every entry from nothing.
    fn replay(&self) {
        let mut state = State::default();
        for entry in &self.entries {
            assert_eq!(differs(&state, entry), None, "{entry:?}");
            state.apply(entry);
        }
    }
}

fn agent(name: &str) -> AgentName {
    name.parse().expect("a name")
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .map(|text| Pattern::parse(text.as_bytes()).expect(text))
        .collect()
}

fn ask(who: &str, mode: Mode, what: &[&str]) -> Ask {
    Ask::new(agent(who), mode, patterns(what))
}

use Mode::{Read, Write};

#[test]
fn write_is_exclusive_and_read_is_shared() {
    for (first, second, conflict) in [
        (Write, Write, true),
        (Write, Read, true),
        (Read, Write, true),
        (Read, Read, false),
    ] {
        let mut house = House::new();
        assert_eq!(house.claim("alice", first, &["src"]), None);
        let refusal = house.claim("bob", second, &["src/a.rs"]);
        assert_eq!(refusal.is_some(), conflict, "{first:?} {second:?}");
        house.replay();
    }
}

#[test]
fn a_claim_is_all_or_nothing_and_lists_every_conflict() {
    let mut house = House::new();
    house.claim("alice", Write, &["src/a.rs"]);
    house.claim("carol", Write, &["docs/**"]);
    let refusal = house
        .claim("bob", Write, &["free", "src", "docs/x"])
        .expect("refused");
    let told: Vec<_> = refusal
        .conflicts
        .iter()
        .map(|c| format!("{} {} {} {}", c.pattern, c.holder, c.theirs, c.witness))
        .collect();
    assert_eq!(
        told,
        ["src alice src/a.rs src/a.rs", "docs/x carol docs/** docs/x"]
    );
    assert_eq!(house.state.claims_of(&agent("bob")).count(), 0);
    house.replay();
}

#[test]
fn claiming_what_one_holds_renews_it_under_its_id_and_generation() {
    let mut house = House::new();
    house.claim("alice", Write, &["src"]);
    let before = house.state.claims[&1].clone();
    house.pass(3_600_000);
    assert_eq!(house.claim("alice", Write, &["src", "docs"]), None);
    let after = &house.state.claims[&1];
    assert_eq!(
        (after.id, after.generation, after.since),
        (before.id, before.generation, before.since)
    );
    assert!(after.lease.from > before.lease.from);
    assert_eq!(house.state.claims[&2].generation, 2);
    house.replay();
}

#[test]
fn a_lease_that_is_over_ends_by_an_entry_and_frees_the_path() {
    let mut house = House::new();
    let mut short = ask("alice", Write, &["src"]);
    short.ttl_ms = Some(1000);
    assert_eq!(house.run(&Command::Claim(short)), None);
    house.pass(999);
    assert!(house.claim("bob", Write, &["src"]).is_some());
    house.pass(1);
    assert_eq!(house.claim("bob", Write, &["src"]), None);
    let expired = house
        .entries
        .iter()
        .filter(|entry| matches!(entry.event, Event::Expire(_)))
        .count();
    assert_eq!(expired, 1);
    assert_eq!(house.state.ended[&1].agent, agent("alice"));
    house.replay();
}

#[test]
fn the_wall_clock_may_jump_without_ending_a_lease() {
    let mut house = House::new();
    house.claim("alice", Write, &["src"]);
    house.now.ts.0 += 100 * 24 * 3_600_000_000_000;
    assert!(
        house.claim("bob", Write, &["src"]).is_some(),
        "the boot clock has not moved"
    );
    house.now.boot = "next boot".to_owned();
    house.now.boot_ms = 5;
    assert_eq!(
        house.claim("bob", Write, &["src"]),
        None,
        "after a reboot timestamps count"
    );
    house.replay();
}

#[test]
fn activity_renews_all_leases() {
    let mut house = House::new();
    house.claim("alice", Write, &["src"]);
    house.claim("alice", Read, &["docs"]);
    house.pass(7 * 3_600_000);
    assert_eq!(
        house.run(&Command::Renew {
            agent: agent("alice")
        }),
        None
    );
    house.pass(7 * 3_600_000);
    assert!(house.claim("bob", Write, &["src"]).is_some());
    assert!(house.claim("bob", Write, &["docs"]).is_some());
    house.replay();
}

#[test]
fn protected_paths_cannot_be_claimed_but_a_wider_pattern_can() {
    let mut house = House::new();
    let refusal = house
        .claim("alice", Write, &["governor.md"])
        .expect("refused");
    assert_eq!(refusal.rule, "protected");
    assert_eq!(house.claim("alice", Read, &["governor.md"]), None);
    house.release("alice", &[]);
    assert_eq!(house.claim("bob", Write, &["**"]), None);
    house.replay();
}

#[test]
fn releasing_needs_the_claims_own_pattern() {
    let mut house = House::new();
    house.claim("alice", Write, &["src", "docs"]);
    assert_eq!(
        house.release("alice", &["src/a"]).expect("refused").no,
        No::Missing
    );
    assert_eq!(
        house.release("nobody", &[]).expect("refused").no,
        No::Missing
    );
    assert_eq!(house.release("alice", &["src"]), None);
    assert_eq!(house.claim("bob", Write, &["src"]), None);
    assert_eq!(house.release("alice", &[]), None);
    assert_eq!(
        house.release("alice", &[]),
        None,
        "nothing left is no mistake"
    );
    assert_eq!(house.state.claims.len(), 1);
    house.replay();
}

#[test]
fn an_entry_that_was_changed_does_not_replay() {
    let mut house = House::new();
    house.claim("alice", Write, &["src"]);
    house.claim("bob", Write, &["src/a"]);
    let mut state = State::default();
    for mut entry in house.entries {
        if let Event::Claim(body) = &mut entry.event
            && body.decision == Decision::Deny
        {
            body.decision = Decision::Allow;
            assert!(differs(&state, &entry).is_some());
            return;
        }
        state.apply(&entry);
    }
    panic!("no refusal was recorded");
}

const LANES: &str = "```toml charter\n[agents]\ndefault-role = \"core\"\n\
    [roles.core]\npaths = [\"src\"]\n```\n";

#[test]
fn what_is_within_the_role_is_parted_from_what_needs_leave() {
    let mut house = House::new();
    house.append(Draft::new(Event::Charter(CharterSet {
        sha256: Digest::of(LANES.as_bytes()),
        source: CharterSource::Init,
        text: LANES.to_owned(),
    })));
    house.claim("a", Write, &["src/x"]);
    let parts = |mode, what: &[&str]| part(&house.state, &ask("a", mode, what));
    let (lets, beyond) = parts(Write, &["docs", "src/a", "**", "src"]).expect("parted");
    assert_eq!(
        (lets, beyond),
        (patterns(&["src/a", "src"]), patterns(&["docs", "**"]))
    );
    // What nobody gives spoils the rest, as it does a claim.
    assert_eq!(parts(Write, &["src/a", "governor.md"]), None);
    let (lets, beyond) = parts(Read, &["docs", "src/a"]).expect("parted");
    assert_eq!((lets.len(), beyond.len()), (2, 0), "everybody may read");
}

#[test]
fn an_approved_request_goes_beyond_the_role_and_nothing_else_does() {
    let mut house = House::new();
    house.append(Draft::new(Event::Charter(CharterSet {
        sha256: Digest::of(LANES.as_bytes()),
        source: CharterSource::Init,
        text: LANES.to_owned(),
    })));
    let rule = |refusal: Option<Refusal>| refusal.map(|refusal| refusal.rule);
    assert_eq!(rule(house.claim("a", Write, &["docs"])), Some("role-paths"));
    let number = house.seq;
    let asked = crate::domain::event::Requested {
        mode: Write,
        patterns: patterns(&["docs", "governor.md"]),
        ttl_ms: 60_000,
        reason: String::new(),
    };
    house.append(Draft::new(Event::Request(asked)).by(&agent("a")));
    let mut approved = |who: &str, mode, what: &[&str]| {
        let mut ask = ask(who, mode, what);
        ask.leave = Some(number);
        rule(house.run(&Command::Claim(ask)))
    };
    assert_eq!(
        approved("b", Write, &["docs"]),
        Some("role-paths"),
        "another agent's"
    );
    assert_eq!(
        approved("a", Write, &["docs/x"]),
        Some("role-paths"),
        "another path"
    );
    assert_eq!(approved("a", Write, &["governor.md"]), Some("protected"));
    assert_eq!(approved("a", Write, &["docs"]), None);
    let grant = crate::domain::event::Answered {
        request: number,
        reason: String::new(),
    };
    house.append(Draft::new(Event::Grant(grant)).by(&agent("a")));
    // What it holds it may renew; once it is given up, it has to be asked for again.
    assert_eq!(rule(house.claim("a", Write, &["docs"])), None);
    let held = house.state.claims.values().next().expect("held");
    assert_eq!(held.leave, Some(number));
    house.release("a", &[]);
    let mut again = ask("a", Write, &["docs"]);
    again.leave = Some(number);
    assert_eq!(rule(house.run(&Command::Claim(again))), Some("role-paths"));
    house.replay();
}
