//! Many patterns, and which of them a new one can overlap.
//!
//! Owns: the ordering by literal prefix. Candidates for a pattern are those whose
//! prefix is its own, an ancestor of it, or beneath it; everything else is apart
//! without being looked at.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;

/// A multimap from patterns to `T` that finds overlaps.
#[derive(Clone, Debug)]
pub struct PatternIndex<T> {
    by_prefix: BTreeMap<Vec<u8>, Vec<(Pattern, T)>>,
}

impl<T> Default for PatternIndex<T> {
    fn default() -> Self {
        Self {
            by_prefix: BTreeMap::new(),
        }
    }
}

impl<T> PatternIndex<T> {
    pub fn insert(&mut self, pattern: Pattern, value: T) {
        let prefix = pattern.literal_prefix().as_bytes().to_vec();
        self.by_prefix
            .entry(prefix)
            .or_default()
            .push((pattern, value));
    }

    /// Returns all that may overlap `pattern`; those apart are mostly left out.
    pub fn candidates<'a>(
        &'a self,
        pattern: &Pattern,
    ) -> impl Iterator<Item = &'a (Pattern, T)> + use<'a, T> {
        let prefix = pattern.literal_prefix();
        let above: Vec<_> = std::iter::once(RepoPath::root())
            .chain(prefix.ancestors())
            .chain((!prefix.is_root()).then(|| prefix.clone()))
            .filter_map(|path| self.by_prefix.get(path.as_bytes()))
            .collect();
        let below = if prefix.is_root() {
            (Bound::Excluded(Vec::new()), Bound::Unbounded)
        } else {
            // Everything that begins with `prefix/`; `0` follows `/`.
            let from = [prefix.as_bytes(), b"/"].concat();
            let to = [prefix.as_bytes(), b"0"].concat();
            (Bound::Included(from), Bound::Excluded(to))
        };
        let below = self.by_prefix.range(below).map(|(_, list)| list);
        above.into_iter().chain(below).flatten()
    }

    /// Returns all that overlap `pattern`, in the order of their prefixes.
    pub fn overlapping<'a>(
        &'a self,
        pattern: &'a Pattern,
    ) -> impl Iterator<Item = &'a (Pattern, T)> {
        (self.candidates(pattern)).filter(|(held, _)| held.overlaps(pattern))
    }
}
