//! Overlapping claims of plans that may run at the same time.
//!
//! Two claims can overlap only if the literal prefix of one equals or is an
//! ancestor of the other's, so each claim is held against those that stand under
//! an ancestor of its own prefix. Of these pairs, the ones that a dependency
//! orders are dropped by a bit test; the rest are decided exactly.

use std::collections::HashMap;

use crate::domain::dag::graph::Graph;
use crate::domain::dag::{Fact, Finding, OVERLAPS_MAX};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::plan::Plan;

/// How many components one pass over the graph computes the reach of: 16 384
/// columns are 32 MB for as many plans.
const COLUMNS: usize = 16_384;

struct Claim<'a> {
    owner: usize,
    list: &'static str,
    at: usize,
    pattern: &'a Pattern,
    write: bool,
}

/// Claims that have the same literal prefix.
struct Shelf {
    claims: Vec<u32>,
    /// Any two plans here are ordered by a dependency, so no two need a look.
    chain: bool,
}

/// Returns the overlaps, and whether there are more than are listed.
pub(super) fn find(graph: &Graph<'_>) -> (Vec<Finding>, bool) {
    let claims = gather(graph);
    let mut shelves: HashMap<&RepoPath, Shelf> = HashMap::new();
    for (number, claim) in claims.iter().enumerate() {
        let shelf = shelves.entry(claim.pattern.literal_prefix());
        let shelf = shelf.or_insert_with(|| Shelf {
            claims: Vec::new(),
            chain: false,
        });
        shelf.claims.push(u32::try_from(number).unwrap_or(u32::MAX));
    }
    let mut found = Vec::new();
    for start in (0..graph.component_count()).step_by(COLUMNS) {
        let reach = Reach::new(graph, start);
        if graph.component_count() <= COLUMNS {
            for shelf in shelves.values_mut() {
                shelf.chain = is_chain(shelf, &claims, graph, &reach);
            }
        }
        for (number, claim) in claims.iter().enumerate() {
            look(graph, &claims, &shelves, &reach, number, claim, &mut found);
            if found.len() > OVERLAPS_MAX {
                break;
            }
        }
    }
    let more = found.len() > OVERLAPS_MAX;
    found.truncate(OVERLAPS_MAX);
    (found, more)
}

fn gather<'a>(graph: &Graph<'a>) -> Vec<Claim<'a>> {
    let mut out = Vec::new();
    for owner in 0..graph.len() {
        let member = *graph.member(owner);
        if member.done {
            continue;
        }
        let writes = member.plan.claims.writes();
        let reads = member.plan.claims.read.iter().enumerate();
        let reads = reads.map(|(at, pattern)| (("claims.read", at, pattern), false));
        let all = writes.map(|claim| (claim, true)).chain(reads);
        out.extend(all.map(|((list, at, pattern), write)| Claim {
            owner,
            list,
            at,
            pattern,
            write,
        }));
    }
    out
}

/// Says whether the plans on a shelf form one line of dependencies. Reaching is
/// transitive, so neighbours in the order of components are enough.
fn is_chain(shelf: &Shelf, claims: &[Claim<'_>], graph: &Graph<'_>, reach: &Reach) -> bool {
    let component = |number: &u32| graph.component_of(claims[*number as usize].owner);
    let mut line: Vec<usize> = shelf.claims.iter().map(component).collect();
    line.sort_unstable();
    line.dedup();
    line.len() > 2 && line.windows(2).all(|pair| reach.has(pair[1], pair[0]))
}

/// Holds one claim against those under its prefix and under its prefix's ancestors.
fn look(
    graph: &Graph<'_>,
    claims: &[Claim<'_>],
    shelves: &HashMap<&RepoPath, Shelf>,
    reach: &Reach,
    number: usize,
    claim: &Claim<'_>,
    found: &mut Vec<Finding>,
) {
    let prefix = claim.pattern.literal_prefix();
    let mine = graph.component_of(claim.owner);
    let root = RepoPath::root();
    let above = (!prefix.is_root()).then_some(root);
    let above = above.into_iter().chain(prefix.ancestors());
    let same = shelves.get(prefix).filter(|shelf| !shelf.chain);
    let same = same.map(|shelf| (shelf, true));
    let above = above.filter_map(|path| shelves.get(&path).map(|shelf| (shelf, false)));
    for (shelf, own) in same.into_iter().chain(above) {
        for &other in &shelf.claims {
            let other = other as usize;
            if own && other >= number {
                break; // each pair once; the numbers on a shelf ascend
            }
            let theirs = &claims[other];
            if theirs.owner == claim.owner || !(claim.write || theirs.write) {
                continue;
            }
            if reach.orders(mine, graph.component_of(theirs.owner)) {
                continue;
            }
            if let Some(witness) = claim.pattern.overlap(theirs.pattern) {
                found.push(finding(graph, claim, theirs, witness));
                if found.len() > OVERLAPS_MAX {
                    return;
                }
            }
        }
    }
}

/// Told from the plan whose id sorts first.
fn finding(graph: &Graph<'_>, one: &Claim<'_>, two: &Claim<'_>, witness: RepoPath) -> Finding {
    let (one, two) = if one.owner < two.owner {
        (one, two)
    } else {
        (two, one)
    };
    let plan: &Plan = graph.member(one.owner).plan;
    let other = &graph.member(two.owner).plan.id;
    let verb = |claim: &Claim<'_>| if claim.write { "" } else { " (read)" };
    let message = format!(
        "{}{} overlaps {}{} of plan {other}, which may run at the same time: both cover {witness}",
        one.pattern,
        verb(one),
        two.pattern,
        verb(two)
    );
    let key = format!("{}[{}]", one.list, one.at);
    Finding::new(plan, "overlap", &key, message).with(Fact::Overlap {
        other: other.clone(),
        mine: one.pattern.clone(),
        theirs: two.pattern.clone(),
        witness,
    })
}

/// Which components lead to which, for a block of components beginning at `start`.
struct Reach {
    start: usize,
    words: usize,
    bits: Vec<u64>,
}

impl Reach {
    fn new(graph: &Graph<'_>, start: usize) -> Self {
        let count = graph.component_count();
        let columns = COLUMNS.min(count - start);
        let words = columns.div_ceil(64);
        let mut bits = vec![0_u64; words * count];
        // A component's number is higher than those it depends on: one pass does.
        for number in start..count {
            let (done, rest) = bits.split_at_mut(number * words);
            let row = &mut rest[..words];
            graph.component_edges(number, |on| {
                let other = &done[on * words..(on + 1) * words];
                for (word, more) in row.iter_mut().zip(other) {
                    *word |= more;
                }
                if (start..start + columns).contains(&on) {
                    row[(on - start) / 64] |= 1 << ((on - start) % 64);
                }
            });
        }
        Self { start, words, bits }
    }

    /// Says whether `from` depends on `to`.
    fn has(&self, from: usize, to: usize) -> bool {
        let column = to - self.start;
        self.bits[from * self.words + column / 64] >> (column % 64) & 1 == 1
    }

    /// Says whether the two are ordered, or not for this block to say: a pair
    /// belongs to the block that holds its lower number.
    fn orders(&self, one: usize, two: usize) -> bool {
        let (low, high) = (one.min(two), one.max(two));
        let here = (self.start..self.start + self.words * 64).contains(&low);
        !here || low == high || self.has(high, low)
    }
}
