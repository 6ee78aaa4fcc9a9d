//! Which removed file became which added one.
//!
//! Owns: the pairing, first by identical content, then by the share of lines in
//! common. It only explains conflicts and follows lines through history; a
//! merge never acts on it. Bounded: at most [`COMPARED_MAX`] contents a question.

use std::collections::{BTreeMap, HashMap};

use super::text::is_binary;
use super::{Delta, Leaf, Promote, Result, Status};
use crate::domain::base::Oid;
use crate::domain::path::RepoPath;

/// Contents compared for one question.
const COMPARED_MAX: usize = 200;
/// A larger file is only recognised by identical content.
const COMPARED_SIZE_MAX: u64 = 1 << 20;
/// Per cent of the larger file's bytes that must stand in both, as git asks.
const ALIKE_PERCENT: usize = 50;

/// The removed and added files between two trees.
pub(super) struct Renames {
    removed: HashMap<RepoPath, Leaf>,
    added: Vec<(RepoPath, Leaf)>,
}

impl Renames {
    pub(super) fn between(view: &Promote, old: Option<Oid>, new: Option<Oid>) -> Result<Self> {
        Ok(Self::of(view.diff(old, new)?))
    }

    pub(super) fn of(deltas: Vec<Delta>) -> Self {
        let mut out = Self {
            removed: HashMap::new(),
            added: Vec::new(),
        };
        for delta in deltas {
            match (delta.status, delta.old, delta.new) {
                (Status::Deleted, Some(leaf), _) => {
                    out.removed.insert(delta.path, leaf);
                }
                (Status::Added, _, Some(leaf)) => out.added.push((delta.path, leaf)),
                _ => {}
            }
        }
        out
    }

    /// Returns where the removed file `path` went.
    pub(super) fn target(&self, view: &Promote, path: &RepoPath) -> Result<Option<RepoPath>> {
        let Some(&leaf) = self.removed.get(path) else {
            return Ok(None);
        };
        let added = self.added.iter().map(|(path, leaf)| (path, *leaf));
        best(view, path, leaf, added)
    }

    /// Returns where the added file `path` came from.
    pub(super) fn source(&self, view: &Promote, path: &RepoPath) -> Result<Option<RepoPath>> {
        let Some((_, leaf)) = self.added.iter().find(|(added, _)| added == path) else {
            return Ok(None);
        };
        let removed = self.removed.iter().map(|(path, leaf)| (path, *leaf));
        best(view, path, *leaf, removed)
    }
}

impl Promote {
    /// Returns where each removed file of `wanted` went among `deltas`, as far as contents say.
    pub fn moves<'a>(
        &self,
        deltas: &[Delta],
        wanted: impl Iterator<Item = &'a RepoPath>,
    ) -> Result<BTreeMap<RepoPath, RepoPath>> {
        let renames = Renames::of(deltas.to_vec());
        let mut out = BTreeMap::new();
        for path in wanted {
            if let Some(target) = renames.target(self, path)? {
                out.insert(path.clone(), target);
            }
        }
        Ok(out)
    }
}

/// Returns the candidate most like `leaf`: identical first, then by name, then by lines.
fn best<'a>(
    view: &Promote,
    path: &RepoPath,
    leaf: Leaf,
    candidates: impl Iterator<Item = (&'a RepoPath, Leaf)>,
) -> Result<Option<RepoPath>> {
    if !leaf.is_file() {
        return Ok(None);
    }
    let mut candidates: Vec<_> = candidates.filter(|(_, other)| other.is_file()).collect();
    candidates.sort_by_key(|(other, found)| {
        let strange = other.name() != path.name();
        (found.oid != leaf.oid, strange, (*other).clone())
    });
    if let Some((other, found)) = candidates.first()
        && found.oid == leaf.oid
    {
        return Ok(Some((*other).clone()));
    }
    let Some(content) = comparable(view, leaf)? else {
        return Ok(None);
    };
    let mut best: Option<(usize, &RepoPath)> = None;
    for (other, found) in candidates.into_iter().take(COMPARED_MAX) {
        let Some(bytes) = comparable(view, found)? else {
            continue;
        };
        let score = alike(&content, &bytes);
        if score >= ALIKE_PERCENT && best.is_none_or(|(top, _)| score > top) {
            best = Some((score, other));
        }
    }
    Ok(best.map(|(_, path)| path.clone()))
}

fn comparable(view: &Promote, leaf: Leaf) -> Result<Option<Vec<u8>>> {
    if view.blob_size(leaf.oid)? > COMPARED_SIZE_MAX {
        return Ok(None);
    }
    let bytes = view.blob(leaf.oid)?;
    Ok((!bytes.is_empty() && !is_binary(&bytes)).then_some(bytes))
}

/// Returns how many per cent of the larger text's bytes stand in lines that both have.
fn alike(one: &[u8], two: &[u8]) -> usize {
    let mut lines: HashMap<&[u8], usize> = HashMap::new();
    for line in one.split_inclusive(|&b| b == b'\n') {
        *lines.entry(line).or_default() += 1;
    }
    let mut shared = 0;
    for line in two.split_inclusive(|&b| b == b'\n') {
        if let Some(left) = lines.get_mut(line).filter(|left| **left > 0) {
            *left -= 1;
            shared += line.len();
        }
    }
    shared * 100 / one.len().max(two.len()).max(1)
}

#[cfg(test)]
mod tests {
    use super::alike;

    #[test]
    fn likeness_counts_shared_lines() {
        assert_eq!(alike(b"a\nb\n", b"a\nb\n"), 100);
        assert_eq!(alike(b"a\nb\n", b"a\nc\n"), 50);
        assert_eq!(alike(b"a\na\n", b"a\nx\n"), 50);
        assert_eq!(alike(b"", b""), 0);
    }
}
