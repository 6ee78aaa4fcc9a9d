//! Commits and trees as bytes, and a bounded cache of parsed trees.
//!
//! Owns: which names and modes of a tree are shown. What cannot be served (an
//! alias of `.git`, `.`, a slash, an over-long or repeated name) is left out, so
//! that a crafted tree shows less, never something dangerous.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::base::Oid;
use crate::domain::path::check_name;
use crate::domain::path::is_git_alias;

/// How many names one generation of the cache holds, about 100 bytes each.
const CACHE_NAMES: usize = 4096;

pub(super) struct CommitHeader {
    pub(super) tree: Oid,
    pub(super) time: i64,
}

/// Reads the tree and the committer's time out of a commit object.
pub(super) fn parse_commit(bytes: &[u8]) -> Option<CommitHeader> {
    let mut lines = bytes
        .split(|&b| b == b'\n')
        .take_while(|line| !line.is_empty());
    let tree = parse_hex(lines.next()?.strip_prefix(b"tree ")?)?;
    let committer = lines.find_map(|line| line.strip_prefix(b"committer "))?;
    let dates = &committer[committer.iter().rposition(|&b| b == b'>')? + 1..];
    let time = std::str::from_utf8(dates).ok()?.split_whitespace().next()?;
    Some(CommitHeader {
        tree,
        time: time.parse().ok()?,
    })
}

/// Reads 40 hex digits.
pub(super) fn parse_hex(text: &[u8]) -> Option<Oid> {
    let text = std::str::from_utf8(text).ok()?;
    let id = (text.len() == 40).then(|| git2::Oid::from_str(text).ok())??;
    Some(Oid(id.as_bytes().try_into().ok()?))
}

/// Reads a tree object into entries sorted by name bytes.
pub(super) fn parse_tree(mut bytes: &[u8]) -> Option<Vec<BaseEntry>> {
    let mut entries = Vec::with_capacity(bytes.len() / 32);
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&b| b == b' ')?;
        let mode = parse_mode(&bytes[..space])?;
        bytes = &bytes[space + 1..];
        let end = bytes.iter().position(|&b| b == 0)?;
        let name = &bytes[..end];
        let oid = bytes.get(end + 1..end + 21)?;
        bytes = &bytes[end + 21..];
        if check_name(name).is_ok() && !is_git_alias(name) {
            entries.push(BaseEntry {
                name: name.to_vec(),
                kind: kind_of(mode),
                oid: Oid(oid.try_into().ok()?),
            });
        }
    }
    // Git sorts directories as if their names ended in a slash.
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup_by(|later, first| later.name == first.name);
    Some(entries)
}

fn parse_mode(digits: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// Takes a mode as git does: odd permission bits are the nearer of 644 and 755,
/// an odd type is a submodule.
fn kind_of(mode: u32) -> BaseKind {
    match mode & 0o170_000 {
        0o100_000 => BaseKind::File {
            exec: mode & 0o100 != 0,
        },
        0o120_000 => BaseKind::Symlink,
        0o040_000 => BaseKind::Dir,
        _ => BaseKind::Submodule,
    }
}

/// Two generations: when the young one is full it becomes the old one, and what
/// is not asked for again is dropped with it.
#[derive(Default)]
pub(super) struct TreeCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Oid, Arc<[BaseEntry]>>,
    young_names: usize,
    old: HashMap<Oid, Arc<[BaseEntry]>>,
}

impl std::fmt::Debug for TreeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TreeCache({} trees)", self.0.lock().young.len())
    }
}

impl TreeCache {
    pub(super) fn get(&self, oid: &Oid) -> Option<Arc<[BaseEntry]>> {
        let mut cache = self.0.lock();
        if let Some(list) = cache.young.get(oid) {
            return Some(list.clone());
        }
        let list = cache.old.remove(oid)?;
        cache.insert(*oid, list.clone());
        Some(list)
    }

    pub(super) fn keep(&self, oid: Oid, list: Arc<[BaseEntry]>) -> Arc<[BaseEntry]> {
        self.0.lock().insert(oid, list.clone());
        list
    }
}

impl Generations {
    fn insert(&mut self, oid: Oid, list: Arc<[BaseEntry]>) {
        if self.young_names > CACHE_NAMES {
            self.old = std::mem::take(&mut self.young);
            self.young_names = 0;
        }
        self.young_names += list.len() + 1;
        self.young.insert(oid, list);
    }
}
