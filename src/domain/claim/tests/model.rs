//! Random commands against the slow, obvious truth.

use proptest::prelude::*;

use super::*;

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
