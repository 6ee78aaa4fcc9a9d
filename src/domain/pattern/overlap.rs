//! Whether two patterns cover a common path, and which.
//!
//! Owns: the exact decision by the product of two automata, on both levels. The
//! search over names follows two globs and [`Spelling`] byte by byte, breadth
//! first, so the name it finds is a shortest; the search over paths follows two
//! sequences of components, cheapest first, so a path within `PATH_MAX` is found
//! if there is one. No name longer than `NAME_MAX` takes part.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashSet;

use crate::domain::path::NAME_MAX;
use crate::domain::path::PATH_MAX;
use crate::domain::path::RepoPath;
use crate::domain::path::check_name;
use crate::domain::path::is_git_alias;
use crate::domain::pattern::glob::ByteSet;
use crate::domain::pattern::glob::Part;
use crate::domain::pattern::glob::Token;
use crate::domain::pattern::names::READABLE;
use crate::domain::pattern::names::Spelling;
use crate::domain::pattern::names::told_apart;

const ANYTHING: [Token; 1] = [Token::Star];

/// Returns a shortest path that some alternative of each side matches.
pub(super) fn overlap(one: &[Vec<Part>], two: &[Vec<Part>]) -> Option<RepoPath> {
    let mut best: Option<RepoPath> = None;
    for left in one {
        for right in two {
            if clearly_apart(left, right) {
                continue;
            }
            let Some(path) = shared_path(left, right) else {
                continue;
            };
            if best
                .as_ref()
                .is_none_or(|b| path.as_bytes().len() < b.as_bytes().len())
            {
                best = Some(path);
            }
        }
    }
    best
}

/// Compares the components before the first `**` and after the last: the cheap no.
fn clearly_apart(one: &[Part], two: &[Part]) -> bool {
    let fixed = |parts: &[Part]| !parts.iter().any(Part::is_deep);
    if fixed(one) && fixed(two) && one.len() != two.len() {
        return true;
    }
    let heads = one.iter().zip(two);
    let tails = one.iter().rev().zip(two.iter().rev());
    differ(heads) || differ(tails)
}

fn differ<'a>(pairs: impl Iterator<Item = (&'a Part, &'a Part)>) -> bool {
    pairs
        .take_while(|(a, b)| !a.is_deep() && !b.is_deep())
        .any(|(a, b)| names_apart(a, b))
}

/// Says that no name matches both, where that can be seen at once.
fn names_apart(one: &Part, two: &Part) -> bool {
    match (one, two) {
        (Part::Deep, _) | (_, Part::Deep) => false,
        (Part::Name(name), other) | (other, Part::Name(name)) => !other.takes(name),
        (Part::Glob(one), Part::Glob(two)) => {
            let clash = |(a, b): (&Token, &Token)| a.set().and(&b.set()).is_empty();
            let both = |(a, b): &(&Token, &Token)| **a != Token::Star && **b != Token::Star;
            one.iter().zip(two).take_while(both).any(clash)
                || (one.iter().rev().zip(two.iter().rev()))
                    .take_while(both)
                    .any(clash)
        }
    }
}

/// Returns a shortest name that both components match.
pub(super) fn shared_name(one: &Part, two: &Part) -> Option<Vec<u8>> {
    match (one, two) {
        (Part::Name(name), other) | (other, Part::Name(name)) => {
            (other.takes(name) && !is_git_alias(name)).then(|| name.to_vec())
        }
        (Part::Deep, Part::Deep) => Some(b"a".to_vec()),
        _ if names_apart(one, two) => None,
        (one, two) => NameSearch::new(tokens(one), tokens(two)).run(),
    }
}

fn tokens(part: &Part) -> &[Token] {
    match part {
        Part::Glob(tokens) => tokens,
        _ => &ANYTHING,
    }
}

/// Bytes that stand for all others, the most readable of each kind.
pub(super) fn representatives(extra: impl Iterator<Item = ByteSet>) -> Vec<u8> {
    let mut kind = [0_u16; 256];
    let fresh = |kind: &[u16; 256]| kind.iter().max().map_or(1, |max| max + 1);
    for set in told_apart().chain(extra) {
        let mut split: Vec<(u16, u16)> = Vec::new();
        for byte in READABLE {
            if !set.contains(byte) {
                continue;
            }
            let old = kind[usize::from(byte)];
            let known = split.iter().find(|(from, _)| *from == old);
            let new = known.map_or_else(|| fresh(&kind), |(_, new)| *new);
            split.push((old, new));
            kind[usize::from(byte)] = new;
        }
    }
    let mut seen = HashSet::new();
    let mut out = READABLE.to_vec();
    out.retain(|byte| seen.insert(kind[usize::from(*byte)]));
    out
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct NameState {
    one: u16,
    two: u16,
    spelling: Spelling,
}

/// Breadth-first search for a shortest name that two globs match.
struct NameSearch<'a> {
    one: &'a [Token],
    two: &'a [Token],
    seen: HashSet<NameState>,
    /// The states in the order they were reached, each with where it came from and by which byte.
    trail: Vec<(NameState, usize, u8)>,
}

impl<'a> NameSearch<'a> {
    fn new(one: &'a [Token], two: &'a [Token]) -> Self {
        Self {
            one,
            two,
            seen: HashSet::new(),
            trail: Vec::new(),
        }
    }

    fn run(mut self) -> Option<Vec<u8>> {
        let start = NameState {
            one: 0,
            two: 0,
            spelling: Spelling::START,
        };
        self.reach(start, 0, 0);
        let (mut level, mut end) = (0, self.trail.len());
        let mut at = 0;
        while at < self.trail.len() && level <= NAME_MAX {
            let (state, ..) = self.trail[at];
            if self.is_end(state) {
                return Some(self.spell(at, level));
            }
            self.advance(at, state);
            at += 1;
            if at == end {
                level += 1;
                end = self.trail.len();
            }
        }
        None
    }

    fn is_end(&self, state: NameState) -> bool {
        usize::from(state.one) == self.one.len()
            && usize::from(state.two) == self.two.len()
            && state.spelling.is_name()
    }

    /// Notes a state and those that a star matching nothing makes of it.
    fn reach(&mut self, state: NameState, from: usize, byte: u8) {
        if !self.seen.insert(state) {
            return;
        }
        self.trail.push((state, from, byte));
        let NameState { one, two, .. } = state;
        if self.one.get(usize::from(one)) == Some(&Token::Star) {
            self.reach(
                NameState {
                    one: one + 1,
                    ..state
                },
                from,
                byte,
            );
        }
        if self.two.get(usize::from(two)) == Some(&Token::Star) {
            self.reach(
                NameState {
                    two: two + 1,
                    ..state
                },
                from,
                byte,
            );
        }
    }

    fn advance(&mut self, at: usize, state: NameState) {
        let (Some(one), Some(two)) = (
            self.one.get(usize::from(state.one)),
            self.two.get(usize::from(state.two)),
        ) else {
            return;
        };
        let set = one.set().and(&two.set());
        let past = |token: &Token| u16::from(*token != Token::Star);
        let mut tried = HashSet::new();
        for byte in READABLE {
            if !set.contains(byte) {
                continue;
            }
            let spelling = state.spelling.step(byte);
            if tried.insert(spelling) {
                let next = NameState {
                    one: state.one + past(one),
                    two: state.two + past(two),
                    spelling,
                };
                self.reach(next, at, byte);
            }
            if state.spelling.is_free() {
                return;
            }
        }
    }

    fn spell(&self, mut at: usize, len: usize) -> Vec<u8> {
        let mut name = Vec::with_capacity(len);
        for _ in 0..len {
            let (_, from, byte) = self.trail[at];
            name.push(byte);
            at = from;
        }
        name.reverse();
        name
    }
}

/// How a state was reached: from where, and by which name (none: a `**` was passed over).
type Step = Option<(usize, Option<Vec<u8>>)>;

/// Cheapest-first search for a shortest path that two alternatives match.
fn shared_path(one: &[Part], two: &[Part]) -> Option<RepoPath> {
    let width = two.len() + 1;
    let index = |i: usize, j: usize, begun: bool| (i * width + j) * 2 + usize::from(begun);
    let mut came: Vec<Step> = vec![None; (one.len() + 1) * width * 2];
    let mut cost = vec![usize::MAX; came.len()];
    let mut heap = BinaryHeap::from([Reverse((0, 0, 0, false))]);
    cost[0] = 0;
    while let Some(Reverse((so_far, i, j, begun))) = heap.pop() {
        let here = index(i, j, begun);
        if so_far > cost[here] {
            continue;
        }
        if begun && i == one.len() && j == two.len() {
            return walk_back(&came, here);
        }
        let mut go = |i: usize, j: usize, begun: bool, name: Option<Vec<u8>>| {
            let total = so_far + name.as_ref().map_or(0, |name| name.len() + 1);
            let there = index(i, j, begun);
            if total <= PATH_MAX + 1 && total < cost[there] {
                cost[there] = total;
                came[there] = Some((here, name));
                heap.push(Reverse((total, i, j, begun)));
            }
        };
        let (left, right) = (one.get(i), two.get(j));
        if left.is_some_and(Part::is_deep) {
            go(i + 1, j, begun, None);
        }
        if right.is_some_and(Part::is_deep) {
            go(i, j + 1, begun, None);
        }
        if let (Some(left), Some(right)) = (left, right)
            && let Some(name) = shared_name(left, right)
        {
            let past = |part: &Part| usize::from(!part.is_deep());
            go(i + past(left), j + past(right), true, Some(name));
        }
    }
    None
}

fn walk_back(came: &[Step], mut at: usize) -> Option<RepoPath> {
    let mut names = Vec::new();
    while let Some((from, name)) = &came[at] {
        names.extend(name.as_deref());
        at = *from;
    }
    names.reverse();
    RepoPath::parse(&names.join(&b'/')).ok()
}

/// Makes a found path look like one that people write, where `fits` still holds:
/// the shortest name for `*.rs` is `.rs`, and `a.rs` says more.
pub(super) fn readable(path: RepoPath, fits: impl Fn(&RepoPath) -> bool) -> RepoPath {
    let mut names: Vec<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
    let mut best = path;
    for at in 0..names.len() {
        if !names[at].starts_with(b".") {
            continue;
        }
        let plain = names[at].clone();
        names[at].insert(0, b'a');
        let better = check_name(&names[at])
            .and_then(|()| RepoPath::parse(&names.join(&b'/')))
            .ok()
            .filter(&fits);
        match better {
            Some(better) => best = better,
            None => names[at] = plain,
        }
    }
    best
}
