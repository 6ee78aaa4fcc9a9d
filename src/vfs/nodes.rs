//! The inode table: every governed name the kernel may speak of.
//!
//! Owns: nodes, their names and places, the order in which a directory lists
//! them, and inode numbers. A number comes from what the node *is* (its path in
//! the base, or the entry that made it), so it is the same after a forget and
//! after a remount. Invariants: a name is in a directory once; a node without a
//! place is an orphan; list positions never move while a directory is read; no
//! descriptor and no path is held per node. About 90 bytes a node with its name.
//! Never asks the gate, never touches a file.

mod arena;
mod node;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use hashbrown::HashTable;

use crate::domain::base::BaseEntry;
use crate::domain::base::Oid;
use crate::domain::path::PATH_MAX;
use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::working::Times;
use arena::Arena;
use node::INO_FIRST;
use node::INO_MASK;
use node::mix;

pub(crate) use node::{
    CHANGED, FROM_BASE, Kind, LOADED, More, Node, ORPHAN, READ, SHOWN, SHOWN_W, TRANSIENT,
    WAS_READ, hash_name,
};
pub use node::{ROOT_INO, Realm};

pub(crate) type Idx = u32;

pub(crate) const ROOT: Idx = 0;
const NOWHERE: Idx = u32::MAX;
const DEAD: Idx = u32::MAX;

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<Idx>,
    names: Arena,
    by_ino: HashTable<Idx>,
    by_name: HashTable<Idx>,
}

impl Tree {
    pub(crate) fn new(root: Oid) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            free: Vec::new(),
            names: Arena::default(),
            by_ino: HashTable::new(),
            by_name: HashTable::new(),
        };
        let name = tree.names.add(b"");
        tree.nodes.push(Node {
            ino: ROOT_INO,
            more: More::Dir(Box::default()),
            parent: NOWHERE,
            name,
            cookie: 0,
            lookups: AtomicU32::new(1),
            oid: root,
            kind: Kind::Dir,
            flags: FROM_BASE,
            seen: AtomicU8::new(0),
        });
        tree.by_ino
            .insert_unique(mix(ROOT_INO), ROOT, |_| mix(ROOT_INO));
        tree
    }

    pub(crate) fn node(&self, idx: Idx) -> &Node {
        &self.nodes[idx as usize]
    }

    pub(crate) fn node_mut(&mut self, idx: Idx) -> &mut Node {
        &mut self.nodes[idx as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    pub(crate) fn name(&self, idx: Idx) -> &[u8] {
        self.names.get(self.node(idx).name)
    }

    pub(crate) fn by_ino(&self, ino: u64) -> Result<Idx> {
        let found = self.by_ino.find(mix(ino), |&idx| self.node(idx).ino == ino);
        found.copied().ok_or(Error::Stale)
    }

    /// Finds a name in a directory whose entries were loaded.
    pub(crate) fn child(&self, dir: Idx, name: &[u8]) -> Option<Idx> {
        let hash = hash_name(u64::from(dir), name);
        let found = self.by_name.find(hash, |&idx| {
            self.node(idx).parent == dir && self.name(idx) == name
        });
        found.copied()
    }

    /// Finds a path as far as directories are loaded; the error is the first that is not.
    pub(crate) fn find(&self, path: &RepoPath) -> std::result::Result<Option<Idx>, Idx> {
        let mut at = ROOT;
        for name in path.components() {
            if !self.node(at).is(LOADED) && self.node(at).kind == Kind::Dir {
                return Err(at);
            }
            match self.child(at, name) {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Returns the path of a node that has a place.
    pub(crate) fn path(&self, idx: Idx) -> Result<RepoPath> {
        self.join_up(idx, |_| None)
    }

    /// Returns where the base has a node that came from it.
    pub(crate) fn base_path(&self, idx: Idx) -> Result<RepoPath> {
        self.join_up(idx, |node| match &node.more {
            More::Dir(dir) => dir.base_path.as_ref(),
            More::File(file) => file.base_path.get(),
            More::None => None,
        })
    }

    fn join_up<'a>(
        &'a self,
        idx: Idx,
        stop: impl Fn(&'a Node) -> Option<&'a RepoPath>,
    ) -> Result<RepoPath> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut at = idx;
        while at != ROOT {
            let node = self.node(at);
            if let Some(path) = stop(node) {
                parts.push(path.as_bytes());
                break;
            }
            if node.parent == NOWHERE {
                return Err(Error::NoEntry);
            }
            parts.push(self.name(at));
            at = node.parent;
        }
        if parts.is_empty() {
            return Ok(RepoPath::root());
        }
        parts.reverse();
        let bytes = parts.join(&b'/');
        if bytes.len() > PATH_MAX {
            return Err(Error::NameTooLong);
        }
        Ok(RepoPath::parse(&bytes)?)
    }

    /// Takes the base's entries of a directory in.
    pub(crate) fn load(&mut self, dir: Idx, entries: &[BaseEntry]) {
        if self.node(dir).is(LOADED) {
            return;
        }
        self.node_mut(dir).flags |= LOADED;
        let seed = self.node(dir).ino;
        if let More::Dir(more) = &mut self.node_mut(dir).more {
            more.expect(entries.len());
        }
        for entry in entries {
            let ino = self.free_ino(hash_name(seed, &entry.name));
            let kind = Kind::of_base(entry.kind);
            self.insert(dir, &entry.name, ino, kind, FROM_BASE, entry.oid);
        }
    }

    /// Returns the number of the node that entry `seq` makes.
    pub(crate) fn ino_of_entry(&self, seq: u64) -> u64 {
        self.free_ino(hash_name(seq, b"\0entry"))
    }

    fn free_ino(&self, hash: u64) -> u64 {
        let mut ino = (hash & INO_MASK).max(INO_FIRST);
        while self.by_ino(ino).is_ok() {
            ino = ((ino + 1) & INO_MASK).max(INO_FIRST);
        }
        ino
    }

    pub(crate) fn insert(
        &mut self,
        dir: Idx,
        name: &[u8],
        ino: u64,
        kind: Kind,
        flags: u8,
        oid: Oid,
    ) -> Idx {
        let node = Node {
            ino,
            more: if kind.is_dir() {
                More::Dir(Box::default())
            } else {
                More::None
            },
            parent: NOWHERE,
            name: self.names.add(b""),
            cookie: 0,
            lookups: AtomicU32::new(0),
            oid,
            kind,
            flags,
            seen: AtomicU8::new(0),
        };
        let idx = if let Some(idx) = self.free.pop() {
            self.nodes[idx as usize] = node;
            idx
        } else {
            self.nodes.push(node);
            // Four thousand million nodes would need hundreds of gigabytes first.
            Idx::try_from(self.nodes.len() - 1).unwrap_or(DEAD)
        };
        let nodes = &self.nodes;
        self.by_ino
            .insert_unique(mix(ino), idx, |&at| mix(nodes[at as usize].ino));
        self.attach(idx, dir, name);
        idx
    }

    /// Puts a node without a place into a directory.
    pub(crate) fn attach(&mut self, idx: Idx, dir: Idx, name: &[u8]) {
        let old = self.node(idx).name;
        self.names.drop_name(old);
        let name_at = self.names.add(name);
        let node = self.node_mut(idx);
        node.name = name_at;
        node.parent = dir;
        node.flags &= !ORPHAN;
        let cookie = match &mut self.node_mut(dir).more {
            More::Dir(more) => more.push(idx),
            _ => 0,
        };
        self.node_mut(idx).cookie = cookie;
        let (nodes, names) = (&self.nodes, &self.names);
        let hash = hash_name(u64::from(dir), name);
        self.by_name.insert_unique(hash, idx, |&at| {
            let node = &nodes[at as usize];
            hash_name(u64::from(node.parent), names.get(node.name))
        });
        self.sweep_names();
    }

    /// Takes a node out of its directory; its number and bytes stay.
    pub(crate) fn detach(&mut self, idx: Idx) {
        let (dir, cookie) = (self.node(idx).parent, self.node(idx).cookie);
        let hash = hash_name(u64::from(dir), self.name(idx));
        if let Ok(entry) = self.by_name.find_entry(hash, |&at| at == idx) {
            entry.remove();
        }
        if let More::Dir(more) = &mut self.node_mut(dir).more {
            more.remove(cookie);
        }
        let node = self.node_mut(idx);
        node.parent = NOWHERE;
        node.flags |= ORPHAN;
    }

    /// Forgets a node that has no place.
    pub(crate) fn free(&mut self, idx: Idx) {
        let (ino, name) = (self.node(idx).ino, self.node(idx).name);
        if let Ok(entry) = self.by_ino.find_entry(mix(ino), |&at| at == idx) {
            entry.remove();
        }
        self.names.drop_name(name);
        let node = self.node_mut(idx);
        node.more = More::None;
        node.flags = 0;
        node.parent = NOWHERE;
        self.free.push(idx);
    }

    /// Notes that a file is read; returns its directory where the kernel should ask for
    /// the listing again.
    pub(crate) fn read_one(&self, idx: Idx) -> Option<u64> {
        let dir = self.node(idx).parent;
        (dir != NOWHERE && self.node(dir).read_one()).then(|| self.node(dir).ino)
    }

    /// Counts lookups down; says whether the kernel no longer knows the node.
    pub(crate) fn forget(&self, idx: Idx, count: u64) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let node = self.node(idx);
        let old = (node.lookups)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                Some(now.saturating_sub(count))
            })
            .unwrap_or(0);
        old <= count
    }

    /// Returns the nodes of a directory after list position `after`, with theirs.
    pub(crate) fn list(&self, dir: Idx, after: u32) -> impl Iterator<Item = (u32, Idx)> + '_ {
        let order: &[(u32, Idx)] = match &self.node(dir).more {
            More::Dir(more) => &more.order,
            _ => &[],
        };
        let from = order.partition_point(|&(cookie, _)| cookie <= after);
        order[from..]
            .iter()
            .copied()
            .filter(|&(_, idx)| idx != DEAD)
    }

    pub(crate) fn is_empty_dir(&self, dir: Idx) -> bool {
        self.list(dir, 0).next().is_none()
    }

    /// Says whether `idx` is `dir` or stands somewhere beneath it.
    pub(crate) fn is_beneath(&self, idx: Idx, dir: Idx) -> bool {
        let mut at = idx;
        while at != NOWHERE {
            if at == dir {
                return true;
            }
            at = self.node(at).parent;
        }
        false
    }

    /// Remembers where the base has a node before it is moved.
    pub(crate) fn pin_base(&mut self, idx: Idx) -> Result<()> {
        if !self.node(idx).is(FROM_BASE) {
            return Ok(());
        }
        let path = self.base_path(idx)?;
        match &mut self.node_mut(idx).more {
            More::Dir(dir) => dir.base_path = Some(path),
            More::File(file) => {
                let _ = file.base_path.set(path); // set before: it never changes
            }
            More::None => {}
        }
        Ok(())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Idx> + '_ {
        let count = Idx::try_from(self.nodes.len()).unwrap_or(DEAD);
        (0..count).filter(|&idx| idx == ROOT || self.node(idx).parent != NOWHERE)
    }

    fn sweep_names(&mut self) {
        if !self.names.is_wasteful() {
            return;
        }
        let mut fresh = Arena::default();
        for node in &mut self.nodes {
            let name = self.names.get(node.name);
            node.name = fresh.add(name);
        }
        self.names = fresh;
    }

    /// Notes that the names in a directory changed at `now`.
    pub(crate) fn dir_times(&mut self, dir: Idx, now: i64) {
        if let More::Dir(more) = &mut self.node_mut(dir).more {
            let atime = more.times.map_or(now, |times| times.atime);
            more.times = Some(Times {
                mtime: now,
                ctime: now,
                atime,
            });
        }
    }

    pub(crate) fn set_dir_times(&mut self, dir: Idx, times: Times) {
        if let More::Dir(more) = &mut self.node_mut(dir).more {
            more.times = Some(times);
        }
    }
}
