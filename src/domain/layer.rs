//! The layer: what a session changed, as a pure fold of its write log over the base.
//!
//! Owns: [`Layer`], the fold ([`Layer::fold`], [`Layer::apply`]) and its readings:
//! the changed paths ([`Layer::changes`]), what is left of atomic saves
//! ([`Layer::leftovers`]) and the whole tree ([`Layer::tree`]). A renamed
//! directory of the base is shown in its new place without a walk; the base is
//! asked only when somebody wants the paths beneath. Invariants: the same
//! entries give the same layer; a voided entry leaves no trace; a file's content
//! is what the last `version` or `recovered` said, unless a write followed.
//! Never reads a file.

pub mod account;
mod diff;
pub mod lineage;
mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::digest::Digest;
use crate::domain::logop::{Bytes, FileMode, LogOp};
use crate::domain::path::RepoPath;

pub use diff::{Change, Content, Standing, Status, TreeEntry, base_entry};
pub use place::base_mode;

/// What a session changed.
#[derive(Clone, Debug)]
pub struct Layer {
    root: Node,
    touched: BTreeSet<RepoPath>,
}

/// Something that stands in the tree: a part of the base, with changes of its own or without.
#[derive(Clone, Debug, Default)]
struct Node {
    /// What it shows of the base; for a directory its entries show through.
    base: Option<RepoPath>,
    children: BTreeMap<Vec<u8>, Slot>,
    /// Set for a file that was changed or made (and for attributes of a directory).
    file: Option<FileState>,
    /// Made by the session as a directory.
    made_dir: bool,
    transient: bool,
}

#[derive(Clone, Debug)]
enum Slot {
    /// The base has the name; the session does not.
    Gone,
    Here(Box<Node>),
}

#[derive(Clone, Debug, Default)]
struct FileState {
    mode: Option<FileMode>,
    bytes: Held,
    /// Changed since `bytes` was so.
    open: bool,
    mtime: Option<i64>,
    xattrs: BTreeMap<Bytes, Digest>,
}

#[derive(Clone, Debug, Default)]
enum Held {
    #[default]
    OfBase,
    /// Made by the session, and never settled yet.
    Nothing,
    Settled {
        sha256: Digest,
        size: u64,
    },
    Target(Bytes),
}

impl Default for Layer {
    fn default() -> Self {
        let root = Node {
            base: Some(RepoPath::root()),
            ..Node::default()
        };
        Self {
            root,
            touched: BTreeSet::new(),
        }
    }
}

/// Returns the entries that a later `void` undid.
pub fn voided<'a>(ops: impl IntoIterator<Item = &'a LogOp>) -> BTreeSet<u64> {
    ops.into_iter()
        .filter_map(|op| match op {
            LogOp::Void { entry, .. } => Some(*entry),
            _ => None,
        })
        .collect()
}

impl Layer {
    /// Folds a whole log; what a `void` names is left out.
    pub fn fold<'a>(entries: impl IntoIterator<Item = (u64, &'a LogOp)> + Clone) -> Self {
        let void = voided(entries.clone().into_iter().map(|(_, op)| op));
        let mut layer = Self::default();
        for (seq, op) in entries {
            if !void.contains(&seq) {
                layer.apply(op);
            }
        }
        layer
    }

    /// Folds one entry in. Entries that were voided must not be handed in.
    pub fn apply(&mut self, op: &LogOp) {
        self.touch(op);
        match op {
            LogOp::Write { path, .. } | LogOp::Truncate { path, .. } | LogOp::Hole { path, .. } => {
                self.file(path).open = true;
            }
            LogOp::Create {
                path, mode, claim, ..
            } => self.make(path, *mode, Held::Nothing, *claim == 0),
            LogOp::Symlink {
                path,
                target,
                claim,
                ..
            } => {
                let target = Held::Target(target.clone());
                self.make(path, FileMode::Symlink, target, *claim == 0);
            }
            LogOp::Mkdir { path, .. } => {
                let made = Node {
                    made_dir: true,
                    ..Node::default()
                };
                self.put(path, made);
            }
            LogOp::Rename {
                path,
                to,
                exchange,
                claim,
                ..
            } => self.rename(path, to, *exchange, *claim == 0),
            LogOp::Unlink { path, .. } | LogOp::Rmdir { path, .. } => {
                self.take(path);
            }
            LogOp::Mode { path, mode, .. } => self.file(path).mode = Some(*mode),
            LogOp::Times { path, mtime, .. } => self.file(path).mtime = Some(*mtime),
            LogOp::Xattr {
                path, name, sha256, ..
            } => {
                let xattrs = &mut self.file(path).xattrs;
                match sha256 {
                    Some(sha256) => xattrs.insert(name.clone(), *sha256),
                    None => xattrs.remove(name),
                };
            }
            LogOp::Version {
                path,
                size,
                mode,
                sha256,
            } => {
                let file = self.file(path);
                file.mode = Some(*mode);
                file.settle(*size, *sha256);
            }
            LogOp::Recovered {
                path, size, sha256, ..
            } => {
                self.file(path).settle(*size, *sha256);
            }
            LogOp::Denied { .. } | LogOp::Void { .. } => {}
        }
    }

    /// Gives a file that has not settled the bytes that a later entry tells of it.
    pub fn settle(&mut self, path: &RepoPath, size: u64, sha256: Digest) {
        let mut node = &mut self.root;
        for name in path.components() {
            let Some(Slot::Here(next)) = node.children.get_mut(name) else {
                return;
            };
            node = next;
        }
        if let Some(file) = &mut node.file
            && file.is_open()
        {
            file.settle(size, sha256);
        }
    }

    /// Returns every path that some entry named: what a watcher has to look at again.
    pub fn touched(&self) -> &BTreeSet<RepoPath> {
        &self.touched
    }

    /// Returns the path of the base whose bytes or names show at `path`, if any can.
    fn shows(&self, path: &RepoPath) -> Option<RepoPath> {
        let mut base = self.root.base.clone();
        let mut node = Some(&self.root);
        for name in path.components() {
            node = match node.and_then(|node| node.children.get(name)) {
                Some(Slot::Gone) => return None,
                Some(Slot::Here(next)) => {
                    base.clone_from(&next.base);
                    Some(next.as_ref())
                }
                None => {
                    base = base.and_then(|base| base.join(name).ok());
                    None
                }
            };
        }
        base
    }

    fn touch(&mut self, op: &LogOp) {
        for path in paths_of(op).into_iter().flatten() {
            if !self.touched.contains(path) {
                self.touched.insert(path.clone());
            }
        }
    }

    fn make(&mut self, path: &RepoPath, mode: FileMode, bytes: Held, transient: bool) {
        let file = FileState {
            mode: Some(mode),
            bytes,
            ..FileState::default()
        };
        let node = Node {
            file: Some(file),
            transient,
            ..Node::default()
        };
        self.put(path, node);
    }

    fn rename(&mut self, from: &RepoPath, to: &RepoPath, exchange: bool, transient: bool) {
        let mut moved = self.take(from);
        if exchange {
            let other = self.take(to);
            self.put(from, other);
        }
        moved.transient = transient;
        self.put(to, moved);
    }

    /// Returns the node at `path`, made to stand on its own if it was untouched.
    fn node(&mut self, path: &RepoPath) -> &mut Node {
        let mut node = &mut self.root;
        for name in path.components() {
            let below = node.base.as_ref().and_then(|base| base.join(name).ok());
            let slot = node
                .children
                .entry(name.to_vec())
                .or_insert_with(|| Slot::Here(Box::new(Node::of(below))));
            if matches!(slot, Slot::Gone) {
                *slot = Slot::Here(Box::default());
            }
            let Slot::Here(next) = slot else {
                unreachable!("the slot was filled above")
            };
            node = next;
        }
        node
    }

    fn file(&mut self, path: &RepoPath) -> &mut FileState {
        self.node(path).file.get_or_insert_with(FileState::default)
    }

    fn put(&mut self, path: &RepoPath, node: Node) {
        let Some(dir) = path.parent() else { return };
        let children = &mut self.node(&dir).children;
        children.insert(path.name().to_vec(), Slot::Here(Box::new(node)));
    }

    /// Takes what stands at `path` out of the tree.
    fn take(&mut self, path: &RepoPath) -> Node {
        let Some(dir) = path.parent() else {
            return Node::default();
        };
        let name = path.name();
        let dir = self.node(&dir);
        let below = dir.base.as_ref().and_then(|base| base.join(name).ok());
        let old = if below.is_some() {
            dir.children.insert(name.to_vec(), Slot::Gone)
        } else {
            dir.children.remove(name)
        };
        match old {
            Some(Slot::Here(node)) => *node,
            Some(Slot::Gone) => Node::default(),
            None => Node::of(below),
        }
    }
}

impl FileState {
    fn is_open(&self) -> bool {
        self.open || matches!(self.bytes, Held::Nothing)
    }

    fn settle(&mut self, size: u64, sha256: Digest) {
        self.bytes = Held::Settled { sha256, size };
        self.open = false;
    }
}

impl Node {
    fn of(base: Option<RepoPath>) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }
}

/// Returns the paths that an entry names.
pub fn paths_of(op: &LogOp) -> [Option<&RepoPath>; 2] {
    match op {
        LogOp::Rename { path, to, .. } => [Some(path), Some(to)],
        LogOp::Write { path, .. }
        | LogOp::Create { path, .. }
        | LogOp::Mkdir { path, .. }
        | LogOp::Symlink { path, .. }
        | LogOp::Unlink { path, .. }
        | LogOp::Rmdir { path, .. }
        | LogOp::Truncate { path, .. }
        | LogOp::Hole { path, .. }
        | LogOp::Mode { path, .. }
        | LogOp::Times { path, .. }
        | LogOp::Xattr { path, .. }
        | LogOp::Version { path, .. }
        | LogOp::Recovered { path, .. } => [Some(path), None],
        LogOp::Denied { .. } | LogOp::Void { .. } => [None, None],
    }
}
