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
use crate::domain::pattern::names::Spelling;
use crate::domain::pattern::names::TOLD_APART;

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
            let (one, two) = (&one.tokens, &two.tokens);
            one.iter().zip(two.iter()).take_while(both).any(clash)
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
        (Part::Glob(glob), Part::Deep) | (Part::Deep, Part::Glob(glob)) => {
            Some(glob.example.to_vec())
        }
        _ if names_apart(one, two) => None,
        (Part::Glob(one), Part::Glob(two)) => NameSearch::new(&one.tokens, &two.tokens).run(),
    }
}

/// Returns a shortest name that a glob matches.
pub(super) fn example(tokens: &[Token]) -> Option<Vec<u8>> {
    NameSearch::new(tokens, &[Token::Star]).run()
}

/// Returns a shortest path that one alternative matches.
pub(super) fn shortest(parts: &[Part]) -> Option<RepoPath> {
    shared_path(parts, &[Part::Deep])
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
    /// Whether spellings are followed; otherwise every name but the empty one will do.
    exact: bool,
    /// Which states were reached: places with a free spelling as a table, the few others apart.
    seen: Vec<bool>,
    spelled: HashSet<NameState>,
    /// The states in the order they were reached, each with where it came from and by which byte.
    trail: Vec<(NameState, usize, u8)>,
}

impl<'a> NameSearch<'a> {
    fn new(one: &'a [Token], two: &'a [Token]) -> Self {
        Self {
            one,
            two,
            exact: false,
            seen: vec![false; (one.len() + 1) * (two.len() + 1)],
            spelled: HashSet::new(),
            trail: Vec::new(),
        }
    }

    /// Looks for any name first, and minds reserved ones only when it hits upon one.
    fn run(mut self) -> Option<Vec<u8>> {
        let name = self.search()?;
        if check_name(&name).is_ok() && !is_git_alias(&name) {
            return Some(name);
        }
        let mut exact = Self::new(self.one, self.two);
        exact.exact = true;
        exact.search()
    }

    fn search(&mut self) -> Option<Vec<u8>> {
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
        if !self.is_new(state) {
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

    fn is_new(&mut self, state: NameState) -> bool {
        if !state.spelling.is_free() {
            return self.spelled.insert(state);
        }
        let at = usize::from(state.one) * (self.two.len() + 1) + usize::from(state.two);
        !std::mem::replace(&mut self.seen[at], true)
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
        let (one, two) = (state.one + past(one), state.two + past(two));
        let exact = self.exact;
        let mut go = |set: ByteSet| {
            if let Some(byte) = set.readable() {
                let spelling = if exact {
                    state.spelling.step(byte)
                } else {
                    Spelling::FREE
                };
                self.reach(NameState { one, two, spelling }, at, byte);
            }
        };
        if !exact || state.spelling.is_free() {
            return go(set);
        }
        let mut rest = set;
        for apart in &TOLD_APART {
            rest = rest.and(&apart.negate());
        }
        go(rest);
        for apart in &TOLD_APART {
            go(set.and(apart));
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
