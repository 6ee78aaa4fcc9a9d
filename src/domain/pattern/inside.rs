//! Whether a pattern lies inside the union of others.
//!
//! Owns: the exact decision by determinising the others while following the
//! pattern. On the level of paths a state is one place in an alternative of the
//! pattern and the set of places in all others that the path so far leads to; an
//! edge is a *kind* of name: which of the others' components match it. The kinds
//! that exist, and a shortest name of each, are found by the same construction
//! over bytes. A path that leads the pattern to its end and none of the others to
//! theirs is a witness.
//!
//! Of two ways to the same place of the pattern only the one is followed that
//! leads fewer of the others along, if it is no longer: whatever escapes by the
//! other escapes by it. Steps are counted: beyond `STEPS_MAX` there is no answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::collections::HashMap;

use crate::domain::path::NAME_MAX;
use crate::domain::path::PATH_MAX;
use crate::domain::path::RepoPath;
use crate::domain::pattern::glob::ByteSet;
use crate::domain::pattern::glob::Part;
use crate::domain::pattern::glob::Token;
use crate::domain::pattern::names;
use crate::domain::pattern::names::Spelling;
use crate::domain::pattern::overlap;

/// How many steps one decision may take: comparisons of places, and states, which weigh more.
const STEPS_MAX: usize = 1 << 24;
const STATE_STEPS: usize = 64;

/// The decision would take too long.
#[derive(Debug)]
pub(super) struct TooHard;

/// A place: which of the others (alternative or component), and how far.
type Place = (u32, u32);

/// Returns a path that some alternative matches and none of `others` does.
pub(super) fn outside(
    alternatives: &[Vec<Part>],
    others: &[&[Part]],
) -> Result<Option<RepoPath>, TooHard> {
    let mut steps = 0;
    for parts in alternatives {
        let search = PathSearch {
            parts,
            others,
            kinds: HashMap::new(),
        };
        if let Some(path) = search.run(&mut steps)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PathState {
    part: usize,
    begun: bool,
    places: Vec<Place>,
}

struct PathSearch<'a> {
    parts: &'a [Part],
    others: &'a [&'a [Part]],
    /// The kinds of names at a place of the pattern, by the others' places.
    kinds: HashMap<(usize, Vec<Place>), Vec<Kind>>,
}

/// Which places a name leads on, and a shortest such name.
#[derive(Clone)]
struct Kind {
    next: Vec<Place>,
    name: Vec<u8>,
}

impl PathSearch<'_> {
    fn run(mut self, steps: &mut usize) -> Result<Option<RepoPath>, TooHard> {
        let places = (0..self.others.len()).filter_map(|at| Some((u32::try_from(at).ok()?, 0)));
        let start = PathState {
            part: 0,
            begun: false,
            places: self.closure(places.collect()),
        };
        let mut came: Trail = BTreeMap::from([(start.clone(), (0, None))]);
        let mut heap = BinaryHeap::from([Reverse((0, start))]);
        let mut fewest = Fewest::new();
        while let Some(Reverse((cost, state))) = heap.pop() {
            if came.get(&state).is_some_and(|(best, _)| cost > *best) {
                continue;
            }
            let key = (state.part, state.begun);
            if self.all_beneath(&state.places) || !fewest.admit(key, &state.places, steps)? {
                continue;
            }
            if state.begun && self.is_end(state.part) && !self.ends(&state.places) {
                return Ok(walk_back(&came, state));
            }
            for (next, name) in self.edges(&state, steps)? {
                let total = cost + name.len() + 1;
                if total > PATH_MAX + 1 || came.get(&next).is_some_and(|(best, _)| *best <= total) {
                    continue;
                }
                came.insert(next.clone(), (total, Some((state.clone(), name))));
                heap.push(Reverse((total, next)));
            }
        }
        Ok(None)
    }

    fn is_end(&self, part: usize) -> bool {
        self.parts[part..].iter().all(Part::is_deep)
    }

    /// Says whether one of the others matches what led here.
    fn ends(&self, places: &[Place]) -> bool {
        (places.iter()).any(|&(other, at)| self.others[other as usize].len() == at as usize)
    }

    /// Says whether one of the others matches whatever follows.
    fn all_beneath(&self, places: &[Place]) -> bool {
        places.iter().any(|&(other, at)| {
            let rest = self.others[other as usize].get(at as usize..);
            matches!(rest, Some([Part::Deep]))
        })
    }

    /// Adds the places that a `**` matching nothing leads to.
    fn closure(&self, places: BTreeSet<Place>) -> Vec<Place> {
        let mut all = places.clone();
        for (other, mut at) in places {
            while self.part_at((other, at)).is_some_and(Part::is_deep) {
                at += 1;
                all.insert((other, at));
            }
        }
        all.into_iter().collect()
    }

    fn part_at(&self, (other, at): Place) -> Option<&Part> {
        self.others[other as usize].get(at as usize)
    }

    fn edges(
        &mut self,
        state: &PathState,
        steps: &mut usize,
    ) -> Result<Vec<(PathState, Vec<u8>)>, TooHard> {
        let mut out = Vec::new();
        // Passing over the pattern's own `**` changes nothing of the others' places.
        for part in state.part..self.parts.len() {
            let deep = self.parts[part].is_deep();
            for kind in self.kinds(part, &state.places, steps)? {
                let next = PathState {
                    part: part + usize::from(!deep),
                    begun: true,
                    places: kind.next,
                };
                out.push((next, kind.name));
            }
            if !deep {
                break;
            }
        }
        Ok(out)
    }

    /// Returns where the names that `part` of the pattern matches lead the others.
    fn kinds(
        &mut self,
        part: usize,
        places: &[Place],
        steps: &mut usize,
    ) -> Result<Vec<Kind>, TooHard> {
        let key = (part, places.to_vec());
        if let Some(known) = self.kinds.get(&key) {
            return Ok(known.clone());
        }
        let mut parts: Vec<&Part> = Vec::new();
        for &place in places {
            if let Some(part) = self.part_at(place)
                && !part.is_deep()
                && !parts.contains(&part)
            {
                parts.push(part);
            }
        }
        let found = names_by_kind(&self.parts[part], &parts, steps)?;
        let mut kinds: Vec<Kind> = Vec::new();
        for (matched, name) in found {
            let mut next = BTreeSet::new();
            for &place in places {
                match self.part_at(place) {
                    Some(Part::Deep) => _ = next.insert(place),
                    Some(part) if matched.iter().any(|&at| parts[at] == part) => {
                        next.insert((place.0, place.1 + 1));
                    }
                    _ => {}
                }
            }
            let next = self.closure(next);
            kinds.push(Kind { next, name });
        }
        self.kinds.insert(key, kinds.clone());
        Ok(kinds)
    }
}

fn count(steps: &mut usize, more: usize) -> Result<(), TooHard> {
    *steps += more;
    if *steps > STEPS_MAX {
        return Err(TooHard);
    }
    Ok(())
}

/// The sets of places that led somewhere, by where; none of a list holds another.
struct Fewest<K>(HashMap<K, Vec<Vec<Place>>>);

impl<K: Eq + std::hash::Hash> Fewest<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Notes a set that was reached at `key`, unless one that lies within it was reached before.
    fn admit(&mut self, key: K, places: &[Place], steps: &mut usize) -> Result<bool, TooHard> {
        let known = self.0.entry(key).or_default();
        count(steps, STATE_STEPS + known.len())?;
        if known.iter().any(|fewer| is_within(fewer, places)) {
            return Ok(false);
        }
        known.push(places.to_vec());
        Ok(true)
    }
}

/// Says whether every place of the sorted `fewer` is in the sorted `more`.
fn is_within(fewer: &[Place], more: &[Place]) -> bool {
    let mut rest = more.iter();
    fewer.len() <= more.len() && fewer.iter().all(|place| rest.any(|other| other == place))
}

type Trail = BTreeMap<PathState, (usize, Option<(PathState, Vec<u8>)>)>;

fn walk_back(came: &Trail, mut state: PathState) -> Option<RepoPath> {
    let mut names = Vec::new();
    while let Some((_, Some((from, name)))) = came.get(&state) {
        names.push(name.as_slice());
        state = from.clone();
    }
    names.reverse();
    RepoPath::parse(&names.join(&b'/')).ok()
}

#[derive(Clone)]
struct NameState {
    at: usize,
    spelling: Spelling,
    places: Vec<Place>,
}

/// The sets of others that some name matches exactly, each with a shortest such name.
type Found = Vec<(Vec<usize>, Vec<u8>)>;

/// Returns, for each set of `others` that some name of `own` matches exactly, a
/// shortest such name.
fn names_by_kind(own: &Part, others: &[&Part], steps: &mut usize) -> Result<Found, TooHard> {
    let matched = |name: &[u8]| {
        (0..others.len())
            .filter(|&at| others[at].takes(name))
            .collect()
    };
    if let Part::Name(name) = own {
        return Ok(vec![(matched(name), name.to_vec())]);
    }
    if others.is_empty() {
        let name = overlap::shared_name(own, &Part::Deep);
        return Ok(name.into_iter().map(|name| (Vec::new(), name)).collect());
    }
    let tokens = |part: &Part| -> Vec<Token> {
        match part {
            Part::Name(name) => name.iter().map(|&byte| Token::Byte(byte)).collect(),
            Part::Glob(glob) => glob.tokens.to_vec(),
            Part::Deep => vec![Token::Star],
        }
    };
    let own = tokens(own);
    let others: Vec<Vec<Token>> = others.iter().map(|part| tokens(part)).collect();
    NameSearch::new(&own, &others).run(steps)
}

/// Breadth-first search over bytes; `places` are `(which of the others, how far)`.
struct NameSearch<'a> {
    own: &'a [Token],
    others: &'a [Vec<Token>],
    kinds: Vec<ByteSet>,
    fewest: Fewest<(usize, Spelling)>,
    trail: Vec<(NameState, usize, u8)>,
}

impl<'a> NameSearch<'a> {
    fn new(own: &'a [Token], others: &'a [Vec<Token>]) -> Self {
        let tokens = own.iter().chain(others.iter().flatten());
        Self {
            own,
            others,
            kinds: names::kinds(tokens.map(Token::set)),
            fewest: Fewest::new(),
            trail: Vec::new(),
        }
    }

    fn run(mut self, steps: &mut usize) -> Result<Found, TooHard> {
        let mut places = BTreeSet::new();
        for other in 0..self.others.len() {
            self.enter(&mut places, (u32::try_from(other).map_err(|_| TooHard)?, 0));
        }
        let start = NameState {
            at: 0,
            spelling: Spelling::START,
            places: places.into_iter().collect(),
        };
        self.reach(start, (0, 0), steps)?;
        let mut found = BTreeMap::new();
        let (mut at, mut level, mut end) = (0, 0, self.trail.len());
        while at < self.trail.len() && level <= NAME_MAX {
            let state = self.trail[at].0.clone();
            if state.at == self.own.len() && state.spelling.is_name() {
                let name = || self.spell(at, level);
                found.entry(self.matched(&state)).or_insert_with(name);
            }
            self.advance(at, &state, steps)?;
            at += 1;
            if at == end {
                level += 1;
                end = self.trail.len();
            }
        }
        Ok(found.into_iter().collect())
    }

    fn matched(&self, state: &NameState) -> Vec<usize> {
        let ended = |&&(other, at): &&Place| self.others[other as usize].len() == at as usize;
        (state.places.iter().filter(ended))
            .map(|&(other, _)| other as usize)
            .collect()
    }

    /// Adds a place and those that a star matching nothing leads to.
    fn enter(&self, places: &mut BTreeSet<Place>, (other, mut at): Place) {
        places.insert((other, at));
        while self.others[other as usize].get(at as usize) == Some(&Token::Star) {
            at += 1;
            places.insert((other, at));
        }
    }

    fn reach(
        &mut self,
        state: NameState,
        (from, byte): (usize, u8),
        steps: &mut usize,
    ) -> Result<(), TooHard> {
        let key = (state.at, state.spelling);
        if !self.fewest.admit(key, &state.places, steps)? {
            return Ok(());
        }
        self.trail.push((state.clone(), from, byte));
        if self.own.get(state.at) == Some(&Token::Star) {
            let at = state.at + 1;
            return self.reach(NameState { at, ..state }, (from, byte), steps);
        }
        Ok(())
    }

    fn advance(
        &mut self,
        here: usize,
        state: &NameState,
        steps: &mut usize,
    ) -> Result<(), TooHard> {
        let Some(token) = self.own.get(state.at) else {
            return Ok(());
        };
        let set = token.set();
        let at = state.at + usize::from(*token != Token::Star);
        for kind in 0..self.kinds.len() {
            let Some(byte) = self.kinds[kind].and(&set).readable() else {
                continue;
            };
            let mut places = BTreeSet::new();
            for &(other, at) in &state.places {
                let token = self.others[other as usize].get(at as usize);
                if let Some(token) = token.filter(|token| token.set().contains(byte)) {
                    let at = at + u32::from(*token != Token::Star);
                    self.enter(&mut places, (other, at));
                }
            }
            let next = NameState {
                at,
                spelling: state.spelling.step(byte),
                places: places.into_iter().collect(),
            };
            self.reach(next, (here, byte), steps)?;
        }
        Ok(())
    }

    fn spell(&self, mut at: usize, len: usize) -> Vec<u8> {
        let mut name = Vec::with_capacity(len);
        for _ in 0..len {
            name.push(self.trail[at].2);
            at = self.trail[at].1;
        }
        name.reverse();
        name
    }
}
