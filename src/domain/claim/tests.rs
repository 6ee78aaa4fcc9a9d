//! The rules by table, and random commands against the slow, obvious truth.

use proptest::prelude::*;

use super::wait::{self, Waiting};
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

fn queue(requests: &[(&str, &[&str])]) -> Vec<Waiting> {
    let waiting = |(ticket, (who, what)): (usize, &(&str, &[&str]))| Waiting {
        ticket: ticket as u64 + 1,
        agent: agent(who),
        mode: Write,
        patterns: patterns(what),
    };
    requests.iter().enumerate().map(waiting).collect()
}

#[test]
fn whoever_asked_first_comes_first() {
    let mut house = House::new();
    house.claim("alice", Write, &["x"]);
    let queue = queue(&[("bob", &["x"]), ("carol", &["x", "y"]), ("dave", &["y"])]);
    let ahead = |house: &House, at: usize| {
        let mine = &queue[at];
        let found = wait::ahead(&house.state, &queue, mine, Some(mine.ticket));
        found
            .into_iter()
            .map(|conflict| conflict.holder.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ahead(&house, 0), Vec::<String>::new());
    assert_eq!(ahead(&house, 1), ["bob"]);
    assert_eq!(ahead(&house, 2), ["carol"]);
    // Without waiting one may pass carol, who must wait anyway, but not bob once it is his turn.
    let passer = Waiting {
        ticket: 99,
        ..queue[2].clone()
    };
    assert!(wait::ahead(&house.state, &queue, &passer, None).is_empty());
    house.release("alice", &[]);
    let eve = Waiting {
        ticket: 99,
        agent: agent("eve"),
        mode: Write,
        patterns: patterns(&["x"]),
    };
    let found = wait::ahead(&house.state, &queue, &eve, None);
    assert_eq!(found[0].holder, agent("bob"));
}

#[test]
fn a_circle_of_waiting_agents_is_found() {
    let mut house = House::new();
    house.claim("alice", Write, &["a"]);
    house.claim("bob", Write, &["b"]);
    house.claim("carol", Write, &["c"]);
    let queue = queue(&[("alice", &["b"]), ("bob", &["c"])]);
    let carol = Waiting {
        ticket: 9,
        agent: agent("carol"),
        mode: Write,
        patterns: patterns(&["a"]),
    };
    let circle = wait::deadlock(&house.state, &queue, &carol);
    let names: Vec<_> = circle.iter().map(AgentName::as_str).collect();
    assert_eq!(names, ["carol", "alice", "bob", "carol"]);
    let dave = Waiting {
        ticket: 9,
        agent: agent("dave"),
        mode: Write,
        patterns: patterns(&["a"]),
    };
    assert!(wait::deadlock(&house.state, &queue, &dave).is_empty());
    let mut closing = ask("carol", Write, &["a"]);
    closing.deadlock = circle;
    assert_eq!(
        house.run(&Command::Claim(closing)).expect("refused").rule,
        "deadlock"
    );
    house.replay();
}

#[test]
fn who_waits_for_me_is_not_ahead_of_me() {
    let mut house = House::new();
    house.claim("alice", Write, &["x"]);
    let queue = queue(&[("bob", &["x", "y"])]);
    let alice = Waiting {
        ticket: 9,
        agent: agent("alice"),
        mode: Write,
        patterns: patterns(&["y"]),
    };
    assert!(wait::ahead(&house.state, &queue, &alice, Some(9)).is_empty());
}

/// Semantics decision: two patterns overlap where a path of at most three of the
/// components a, b, c is covered by both; these patterns speak of no others.
fn universe() -> Vec<RepoPath> {
    let mut paths = vec![RepoPath::root()];
    for at in 0.. {
        let Some(dir) = paths.get(at).cloned() else {
            break;
        };
        if dir.components().count() < 3 {
            paths.extend([b"a", b"b", b"c"].map(|name| dir.join(name).expect("a path")));
        }
    }
    paths.split_off(1)
}

const PATTERNS: [&str; 12] = [
    "a", "b", "a/b", "a/*", "*", "**", "**/c", "a/**", "b/{a,c}", "?/c", "[ab]/a", "c/a",
];

#[derive(Clone, Debug)]
enum Step {
    Claim(usize, Mode, Vec<usize>, u64),
    Release(usize, Option<usize>),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![3 => Just(Write), 1 => Just(Read)];
    let what = proptest::collection::vec(0..PATTERNS.len(), 1..4);
    let step = prop_oneof![
        5 => (0..4_usize, mode, what, 1..50_u64).prop_map(|(who, mode, what, ttl)| Step::Claim(who, mode, what, ttl)),
        2 => (0..4_usize, proptest::option::of(0..PATTERNS.len())).prop_map(|(who, what)| Step::Release(who, what)),
        1 => (0..30_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The model: who holds which pattern, in which mode, until when.
#[derive(Debug, Default)]
struct Model {
    held: Vec<(usize, Mode, usize, u64)>,
    time: u64,
}

impl Model {
    fn expire(&mut self) {
        let time = self.time;
        self.held.retain(|(.., until)| *until > time);
    }

    fn claim(&mut self, who: usize, mode: Mode, what: &[usize], ttl: u64) -> bool {
        self.expire();
        let clash = self.held.iter().any(|&(holder, held, theirs, _)| {
            holder != who
                && (mode == Write || held == Write)
                && what.iter().any(|&mine| both_cover(mine, theirs))
        });
        if clash {
            return false;
        }
        for &pattern in what {
            self.held.retain(|&(holder, held, theirs, _)| {
                (holder, held, theirs) != (who, mode, pattern)
            });
            self.held.push((who, mode, pattern, self.time + ttl));
        }
        true
    }
}

fn both_cover(mine: usize, theirs: usize) -> bool {
    let pattern = |at: usize| Pattern::parse(PATTERNS[at].as_bytes()).expect("a pattern");
    let (mine, theirs) = (pattern(mine), pattern(theirs));
    universe()
        .iter()
        .any(|path| mine.covers(path) && theirs.covers(path))
}

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

proptest! {
    #[test]
    fn random_commands_agree_with_the_model_and_replay(steps in steps()) {
        let mut house = House::new();
        let mut model = Model::default();
        for step in &steps {
            match step {
                Step::Claim(who, mode, what, ttl) => {
                    let texts: Vec<_> = what.iter().map(|&at| PATTERNS[at]).collect();
                    let mut ask = ask(NAMES[*who], *mode, &texts);
                    ask.ttl_ms = Some(*ttl);
                    let refusal = house.run(&Command::Claim(ask));
                    prop_assert_eq!(refusal.is_none(), model.claim(*who, *mode, what, *ttl), "{:?}", step);
                }
                Step::Release(who, what) => {
                    let texts: Vec<_> = what.iter().map(|&at| PATTERNS[at]).collect();
                    house.release(NAMES[*who], &texts);
                    model.expire();
                    let hit = |holder: usize, pattern: usize| holder == *who && what.is_none_or(|what| what == pattern);
                    model.held.retain(|&(holder, _, pattern, _)| !hit(holder, pattern));
                }
                Step::Pass(ms) => {
                    house.pass(*ms);
                    model.time += ms;
                }
            }
            let now = house.now.clone();
            let mut held: Vec<_> = house.state.claims.values()
                .filter(|claim| !claim.lease.is_over(&now))
                .map(|claim| (claim.agent.to_string(), claim.mode, claim.pattern.to_string()))
                .collect();
            held.sort();
            let time = model.time;
            let mut expected: Vec<_> = model.held.iter().filter(|(.., until)| *until > time)
                .map(|&(who, mode, what, _)| (NAMES[who].to_owned(), mode, PATTERNS[what].to_owned()))
                .collect();
            expected.sort();
            prop_assert_eq!(held, expected, "after {:?}", step);
        }
        house.replay();
    }
}

const LANES: &str = "```toml charter\n[agents]\ndefault-role = \"core\"\n\
    [roles.core]\npaths = [\"src\"]\n```\n";

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
