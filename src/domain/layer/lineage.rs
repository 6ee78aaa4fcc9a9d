//! Which file of the base each path goes back to.
//!
//! Owns: [`Lineage`], the reading of a log that follows files as people mean them. A
//! program that saves atomically makes a new file and puts it over the old one; to
//! the layer that is another file, to whoever asks where a line is from it is the
//! same one. Never reads a byte: whether anything is left of the old file is asked
//! by whoever compares.

use std::collections::BTreeMap;

use super::Layer;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;

/// The base's path of each path that came from another one, as far as entries were followed.
#[derive(Debug, Default)]
pub struct Lineage(BTreeMap<RepoPath, RepoPath>);

impl Lineage {
    /// Follows the next entry, which finds the layer as it was `before`. Entries that were
    /// voided are not handed in.
    pub fn follow(&mut self, op: &LogOp, before: &Layer) {
        match op {
            LogOp::Rename {
                path, to, exchange, ..
            } => rename(&mut self.0, before, (path, to), *exchange),
            LogOp::Unlink { path, .. } => drop(self.0.remove(path)),
            _ => {}
        }
    }

    /// Returns what is known, in the layer that all entries gave.
    pub fn end(self, layer: &Layer) -> BTreeMap<RepoPath, RepoPath> {
        let mut saved = self.0;
        for path in layer.touched() {
            if let Some(from) = layer.shows(path) {
                saved.entry(path.clone()).or_insert(from);
            }
        }
        saved.retain(|path, from| path != from);
        saved
    }
}

/// Moves what was saved along; a file of the session's own goes on from what it replaces.
fn rename(
    saved: &mut BTreeMap<RepoPath, RepoPath>,
    layer: &Layer,
    (path, to): (&RepoPath, &RepoPath),
    exchange: bool,
) {
    let moved = take(saved, path);
    let back = take(saved, to);
    let is_new = layer.shows(path).is_none() && !moved.contains_key(path);
    if exchange {
        put(saved, &back, to, path);
    }
    let replaced = || back.get(to).cloned().or_else(|| layer.shows(to));
    if is_new && let Some(from) = replaced() {
        saved.insert(to.clone(), from);
    }
    put(saved, &moved, path, to);
}

fn take(saved: &mut BTreeMap<RepoPath, RepoPath>, at: &RepoPath) -> BTreeMap<RepoPath, RepoPath> {
    let (taken, rest) = std::mem::take(saved)
        .into_iter()
        .partition(|(path, _)| path.starts_with(at));
    *saved = rest;
    taken
}

fn put(
    saved: &mut BTreeMap<RepoPath, RepoPath>,
    moved: &BTreeMap<RepoPath, RepoPath>,
    from: &RepoPath,
    to: &RepoPath,
) {
    let rebased = moved
        .iter()
        .filter_map(|(path, origin)| Some((path.rebase(from, to)?, origin.clone())));
    saved.extend(rebased);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::logop::{Actor, FileMode};

    fn path(text: &str) -> RepoPath {
        RepoPath::parse(text.as_bytes()).expect("a path")
    }

    fn rename(from: &str, to: &str, exchange: bool) -> LogOp {
        LogOp::Rename {
            path: path(from),
            to: path(to),
            exchange,
            claim: 1,
            by: Actor::default(),
        }
    }

    fn create(at: &str) -> LogOp {
        LogOp::Create {
            path: path(at),
            mode: FileMode::Plain,
            claim: 1,
            by: Actor::default(),
        }
    }

    fn write(at: &str) -> LogOp {
        LogOp::Write {
            path: path(at),
            offset: 0,
            len: 0,
            sha256: crate::domain::digest::Digest::of(b""),
            claim: 1,
            by: Actor::default(),
        }
    }

    #[test]
    fn a_file_is_followed_through_renames_and_saves() {
        for (what, ops, expected) in [
            ("nothing moved", vec![write("a")], vec![]),
            (
                "renamed and written in place",
                vec![rename("a", "b", false), write("b")],
                vec![("b", "a")],
            ),
            (
                "renamed, then saved atomically twice",
                vec![
                    rename("a", "b", false),
                    create("b.tmp"),
                    rename("b.tmp", "b", false),
                    create(".b.2"),
                    rename(".b.2", "b", false),
                ],
                vec![("b", "a")],
            ),
            (
                "saved, then renamed",
                vec![
                    create("a.tmp"),
                    rename("a.tmp", "a", false),
                    rename("a", "b", false),
                ],
                vec![("b", "a")],
            ),
            (
                "saved in a directory that moves",
                vec![
                    rename("d/a", "d/b", false),
                    create("d/t"),
                    rename("d/t", "d/b", false),
                    rename("d", "e", false),
                    write("e/b"),
                ],
                vec![("e", "d"), ("e/b", "d/a")],
            ),
            (
                "saved by exchange",
                vec![rename("a", "b", false), create("t"), rename("t", "b", true)],
                vec![("b", "a"), ("t", "a")],
            ),
            (
                "removed and made anew: another file",
                vec![
                    create("t"),
                    rename("t", "a", false),
                    rename("a", "b", false),
                    LogOp::Unlink {
                        path: path("b"),
                        claim: 1,
                        by: Actor::default(),
                    },
                    create("b"),
                ],
                vec![],
            ),
        ] {
            let expected: BTreeMap<RepoPath, RepoPath> = expected
                .into_iter()
                .map(|(path_, from)| (path(path_), path(from)))
                .collect();
            let (mut layer, mut lineage) = (Layer::default(), Lineage::default());
            for op in &ops {
                lineage.follow(op, &layer);
                layer.apply(op);
            }
            assert_eq!(lineage.end(&layer), expected, "{what}");
        }
    }
}
