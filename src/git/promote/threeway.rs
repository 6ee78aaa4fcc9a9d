//! The three-way merge, in memory, over the trees that differ.
//!
//! Owns: what becomes of each name when base, ours (the target's tip) and
//! theirs (the candidate) disagree. Reverting a merge is the same function with
//! the merge as base and its parent as theirs; moving a session's base is too.
//!
//! Decided here: a rename is a removal and an addition. A change on one side to
//! a file that the other side renamed is therefore a conflict, never a guess,
//! and its note says where the file went. Both sides renaming one file to
//! different names, or one renaming what the other removed, is a conflict too.
//!
//! Never consults merge drivers, attributes or an index.

use git2::{MergeFileInput, MergeFileOptions, ObjectType};

use super::renames::Renames;
use super::text::is_binary;
use super::tree::{Names, child};
use super::{Leaf, MODE_EXEC, MODE_PLAIN, MODE_TREE, Promote, Result, Stage};
use crate::domain::base::Oid;
use crate::domain::merge::{Conflict, ConflictKind, Side};
use crate::domain::path::RepoPath;

/// A larger file is not merged line by line: it is a conflict.
const TEXT_MAX: u64 = 64 << 20;

/// The three trees of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trio<T> {
    base: T,
    ours: T,
    theirs: T,
}

impl<T> Trio<T> {
    fn map<U>(self, part: impl Fn(T) -> U) -> Trio<U> {
        Trio {
            base: part(self.base),
            ours: part(self.ours),
            theirs: part(self.theirs),
        }
    }
}

/// What a three-way merge gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The merged tree; at a conflicting path it has ours.
    pub tree: Oid,
    /// By path; empty for a clean merge.
    pub conflicts: Vec<Conflict>,
    /// Paths whose content was merged line by line: neither side's bytes.
    pub blended: Vec<RepoPath>,
}

/// What the walk gathers on its way.
#[derive(Default)]
struct Walk {
    conflicts: Vec<Conflict>,
    blended: Vec<RepoPath>,
    /// Removed on both sides: fine, unless one was a rename.
    both_removed: Vec<RepoPath>,
}

impl Walk {
    fn conflict(&mut self, path: &RepoPath, kind: ConflictKind) {
        self.conflicts.push(Conflict {
            path: path.clone(),
            kind,
            note: None,
        });
    }
}

impl Stage {
    /// Merges `theirs` into `ours`, given what both came from.
    pub fn merge(&mut self, base: Option<Oid>, ours: Option<Oid>, theirs: Oid) -> Result<Merged> {
        let trees = Trio {
            base,
            ours,
            theirs: Some(theirs),
        };
        let mut walk = Walk::default();
        let tree = self.merge_dir(&RepoPath::root(), trees, &mut walk)?;
        let tree = match tree {
            Some(tree) => tree,
            None => self.write(ObjectType::Tree, b"")?,
        };
        note_renames(self.view(), trees, &mut walk)?;
        walk.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Merged {
            tree,
            conflicts: walk.conflicts,
            blended: walk.blended,
        })
    }

    fn merge_dir(
        &mut self,
        dir: &RepoPath,
        trees: Trio<Option<Oid>>,
        walk: &mut Walk,
    ) -> Result<Option<Oid>> {
        if trees.theirs == trees.base {
            return Ok(trees.ours);
        }
        let base = self.view().names_or_none(trees.base)?;
        let ours = self.view().names_or_none(trees.ours)?;
        let theirs = self.view().names_or_none(trees.theirs)?;
        let mut out = Names::clone(&ours);
        for name in changed_names(&base, &theirs) {
            let trio = Trio {
                base: base.get(name).copied(),
                ours: ours.get(name).copied(),
                theirs: theirs.get(name).copied(),
            };
            match self.merge_name(&child(dir, name)?, trio, walk)? {
                Some(leaf) => out.insert(name.to_vec(), leaf),
                None => out.remove(name),
            };
        }
        if out == *ours {
            return Ok(trees.ours.filter(|_| !out.is_empty()));
        }
        self.write_dir(&out)
    }

    /// Decides one name that theirs changed.
    fn merge_name(
        &mut self,
        path: &RepoPath,
        trio: Trio<Option<Leaf>>,
        walk: &mut Walk,
    ) -> Result<Option<Leaf>> {
        let Trio { base, ours, theirs } = trio;
        if ours == theirs {
            if let (None, Some(was)) = (ours, base) {
                self.removed_twice(path, was, walk)?;
            }
            return Ok(ours);
        }
        if ours == base {
            return Ok(theirs);
        }
        // A name may be a directory on one side and a file on the other: each
        // half is merged by itself, and both being left is the conflict.
        let directory = self.merge_dir(path, trio.map(tree_part), walk)?;
        let file = self.merge_file(path, trio.map(file_part), walk)?;
        match (directory, file) {
            (Some(_), Some(_)) => {
                walk.conflict(path, ConflictKind::FileDirectory);
                Ok(ours)
            }
            (None, file) => Ok(file),
            (Some(oid), None) => Ok(Some(Leaf {
                mode: MODE_TREE,
                oid,
            })),
        }
    }

    /// Decides the file, link or submodule at one name.
    fn merge_file(
        &mut self,
        path: &RepoPath,
        trio: Trio<Option<Leaf>>,
        walk: &mut Walk,
    ) -> Result<Option<Leaf>> {
        let Trio { base, ours, theirs } = trio;
        if ours == theirs {
            if base.is_some() && ours.is_none() {
                walk.both_removed.push(path.clone());
            }
            return Ok(ours);
        }
        if theirs == base {
            return Ok(ours);
        }
        if ours == base {
            return Ok(theirs);
        }
        match (ours, theirs) {
            (Some(left), Some(right)) => self.merge_files(path, base, left, right, walk),
            (None, _) => {
                walk.conflict(path, ConflictKind::Removed { by: Side::Ours });
                Ok(ours)
            }
            (_, None) => {
                walk.conflict(path, ConflictKind::Removed { by: Side::Theirs });
                Ok(ours)
            }
        }
    }

    fn merge_files(
        &mut self,
        path: &RepoPath,
        base: Option<Leaf>,
        ours: Leaf,
        theirs: Leaf,
        walk: &mut Walk,
    ) -> Result<Option<Leaf>> {
        if !ours.is_file() || !theirs.is_file() {
            walk.conflict(path, ConflictKind::Type);
            return Ok(Some(ours));
        }
        let base = base.filter(Leaf::is_file);
        let Some(mode) = merge_mode(base, ours, theirs) else {
            walk.conflict(path, ConflictKind::Mode);
            return Ok(Some(ours));
        };
        if ours.oid == theirs.oid || base.is_some_and(|base| base.oid == theirs.oid) {
            return Ok(Some(Leaf {
                mode,
                oid: ours.oid,
            }));
        }
        let Some(base) = base else {
            walk.conflict(path, ConflictKind::BothAdded);
            return Ok(Some(ours));
        };
        if base.oid == ours.oid {
            return Ok(Some(Leaf {
                mode,
                oid: theirs.oid,
            }));
        }
        self.merge_content(path, base, ours, theirs, walk)
            .map(|oid| Some(Leaf { mode, oid }))
    }

    fn merge_content(
        &mut self,
        path: &RepoPath,
        base: Leaf,
        ours: Leaf,
        theirs: Leaf,
        walk: &mut Walk,
    ) -> Result<Oid> {
        let view = self.view();
        for leaf in [base, ours, theirs] {
            if view.blob_size(leaf.oid)? > TEXT_MAX {
                walk.conflict(path, ConflictKind::Binary);
                return Ok(ours.oid);
            }
        }
        let contents = [
            view.blob(base.oid)?,
            view.blob(ours.oid)?,
            view.blob(theirs.oid)?,
        ];
        if contents.iter().any(|bytes| is_binary(bytes)) {
            walk.conflict(path, ConflictKind::Binary);
            return Ok(ours.oid);
        }
        if let Some(merged) = merge_text(&contents)? {
            walk.blended.push(path.clone());
            self.blob(&merged)
        } else {
            walk.conflict(path, ConflictKind::Content);
            Ok(ours.oid)
        }
    }

    /// Notes files that both sides removed, for a rename may hide behind one.
    fn removed_twice(&mut self, path: &RepoPath, was: Leaf, walk: &mut Walk) -> Result<()> {
        if was.is_tree() {
            for delta in self.view().diff(Some(was.oid), None)? {
                let inner = RepoPath::root();
                walk.both_removed.extend(delta.path.rebase(&inner, path));
            }
        } else {
            walk.both_removed.push(path.clone());
        }
        Ok(())
    }
}

fn tree_part(leaf: Option<Leaf>) -> Option<Oid> {
    leaf.filter(Leaf::is_tree).map(|leaf| leaf.oid)
}

fn file_part(leaf: Option<Leaf>) -> Option<Leaf> {
    leaf.filter(|leaf| !leaf.is_tree())
}

/// Returns the names that theirs changed; all others stay as ours has them.
fn changed_names<'a>(base: &'a Names, theirs: &'a Names) -> Vec<&'a [u8]> {
    let changed = base
        .iter()
        .filter(|(name, leaf)| theirs.get(*name) != Some(*leaf))
        .map(|(name, _)| name.as_slice());
    let added = theirs
        .keys()
        .filter(|name| !base.contains_key(*name))
        .map(Vec::as_slice);
    changed.chain(added).collect()
}

fn merge_mode(base: Option<Leaf>, ours: Leaf, theirs: Leaf) -> Option<u32> {
    let exec = match (base, ours.is_exec(), theirs.is_exec()) {
        (_, left, right) if left == right => left,
        (Some(base), left, right) if left == base.is_exec() => right,
        (Some(_), left, _) => left,
        (None, ..) => return None,
    };
    Some(if exec { MODE_EXEC } else { MODE_PLAIN })
}

/// Merges three texts; `None` where they conflict.
fn merge_text(contents: &[Vec<u8>; 3]) -> Result<Option<Vec<u8>>> {
    let mut inputs = [
        MergeFileInput::new(),
        MergeFileInput::new(),
        MergeFileInput::new(),
    ];
    for (input, content) in inputs.iter_mut().zip(contents) {
        input.content(content);
    }
    let [base, ours, theirs] = &inputs;
    let mut options = MergeFileOptions::new();
    let result = git2::merge_file(base, ours, theirs, Some(&mut options))?;
    Ok(result.is_automergeable().then(|| result.content().to_vec()))
}

/// Says of each conflict over a removed file where it went, and finds renames
/// that collide although each side's removal is the same.
fn note_renames(view: &Promote, trees: Trio<Option<Oid>>, walk: &mut Walk) -> Result<()> {
    let removed = |conflict: &Conflict| matches!(conflict.kind, ConflictKind::Removed { .. });
    if walk.both_removed.is_empty() && !walk.conflicts.iter().any(removed) {
        return Ok(());
    }
    let ours = Renames::between(view, trees.base, trees.ours)?;
    let theirs = Renames::between(view, trees.base, trees.theirs)?;
    for conflict in &mut walk.conflicts {
        let side = match conflict.kind {
            ConflictKind::Removed { by: Side::Ours } => &ours,
            ConflictKind::Removed { by: Side::Theirs } => &theirs,
            _ => continue,
        };
        let target = side.target(view, &conflict.path)?;
        conflict.note = target.map(|target| format!("renamed to {target}"));
    }
    for path in std::mem::take(&mut walk.both_removed) {
        let left = ours.target(view, &path)?;
        let right = theirs.target(view, &path)?;
        if left != right {
            let said = |target: Option<RepoPath>| {
                target.map_or_else(|| "removed".to_owned(), |to| format!("renamed to {to}"))
            };
            let note = format!("{} on the branch, {} here", said(left), said(right));
            walk.conflicts.push(Conflict {
                path,
                kind: ConflictKind::Rename,
                note: Some(note),
            });
        }
    }
    Ok(())
}
