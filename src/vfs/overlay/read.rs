//! Requests that only look: lookup, attributes, listings, reading, forgetting.
//!
//! Owns: finding names across zones, what a listing contains and in which order,
//! and noticing an open for writing that the kernel is about to refuse (it asks
//! for the attributes once more). Never changes a file.

use std::os::fd::AsFd;

use crate::domain::gate::Tried;
use crate::domain::path::RepoPath;
use crate::domain::path::check_name;
use crate::domain::path::is_git_alias;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Idx;
use crate::vfs::nodes::Kind;
use crate::vfs::nodes::ORPHAN;
use crate::vfs::nodes::READ;
use crate::vfs::nodes::ROOT_INO;
use crate::vfs::nodes::Realm;
use crate::vfs::nodes::SHOWN;
use crate::vfs::nodes::SHOWN_W;
use crate::vfs::nodes::Tree;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::Found;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::attr::base_place;
use crate::vfs::overlay::denial::Doing;
use crate::vfs::overlay::denial::doing;
use crate::vfs::real::RealTree;
use crate::vfs::working::Body;

/// List positions from here on are of scratch entries in a governed directory.
const MIXED: u64 = 1 << 62;

/// One name of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: Vec<u8>,
    pub ino: u64,
    pub kind: FileKind,
    /// Where to go on after this name.
    pub next: u64,
    pub attr: Option<Attr>,
}

impl Overlay {
    /// Finds `name` in a directory; the kernel knows the inode from then on.
    pub fn lookup(&self, dir: u64, name: &[u8]) -> Result<Found> {
        check_name(name)?;
        match Realm::of(dir) {
            Realm::Tree => self.lookup_tree(dir, name),
            Realm::Scratch | Realm::Gitdir => {
                if Realm::of(dir) == Realm::Gitdir && self.gitdir_ino() == Some(dir) {
                    self.prepare_gitdir(name)?;
                }
                let attr = self.real(dir)?.lookup(dir, &self.real_path(dir)?, name)?;
                let lasting = self.remembers(dir, name);
                Ok(Found { attr, lasting })
            }
            Realm::Control => self.control.lookup(self, dir, name),
        }
    }

    fn lookup_tree(&self, dir: u64, name: &[u8]) -> Result<Found> {
        if dir == ROOT_INO && name == b".git" {
            return self.gitdir_root().map(Found::lasting);
        }
        if dir == ROOT_INO && name == b".govfs" {
            return self.control.root(self).map(Found::lasting);
        }
        if is_git_alias(name) {
            return Err(Error::NoEntry);
        }
        let idx = self.load(dir)?;
        let below = {
            let tree = self.tree.read();
            if tree.node(idx).is(ORPHAN) {
                return Err(Error::NoEntry);
            }
            if let Some(child) = tree.child(idx, name) {
                let attr = self.attr(&tree, child)?;
                tree.node(child).looked_up();
                return Ok(Found::lasting(attr));
            }
            tree.path(idx)?
        };
        self.scratch.lookup(dir, &below, name).map(Found::lasting)
    }

    /// Returns the tree on disk that serves `ino`.
    pub(super) fn real(&self, ino: u64) -> Result<&RealTree> {
        match Realm::of(ino) {
            Realm::Scratch => Ok(&self.scratch),
            Realm::Gitdir => self.gitdir.as_ref().ok_or(Error::Stale),
            Realm::Tree | Realm::Control => Err(Error::Stale),
        }
    }

    /// Returns where a scratch or gitdir inode is, relative to its tree's root.
    pub(super) fn real_path(&self, ino: u64) -> Result<RepoPath> {
        self.real(ino)?.path(ino, &|dir| self.tree_path(dir))
    }

    pub(super) fn tree_path(&self, ino: u64) -> Result<RepoPath> {
        let tree = self.tree.read();
        let idx = tree.by_ino(ino)?;
        tree.path(idx)
    }

    /// Returns the attributes of an inode.
    pub fn getattr(&self, ino: u64, caller: Caller) -> Result<Attr> {
        match Realm::of(ino) {
            Realm::Tree => self.getattr_tree(ino, caller),
            Realm::Scratch | Realm::Gitdir => self.real(ino)?.attr(ino, &|dir| self.tree_path(dir)),
            Realm::Control => self.control.attr(self, ino),
        }
    }

    fn getattr_tree(&self, ino: u64, caller: Caller) -> Result<Attr> {
        let refused = {
            let tree = self.tree.read();
            let idx = tree.by_ino(ino)?;
            let node = tree.node(idx);
            // A `w` that was taken back is asked for anew by whoever comes first, also
            // by one that only looks.
            let taken_back = node.has_seen(SHOWN_W);
            let after_read = node.unsee(READ) || taken_back;
            let shown = node.has_seen(SHOWN);
            if !node.kind.is_file() || !shown || self.is_writable(&tree, idx) {
                return self.attr(&tree, idx);
            }
            (tree.path(idx)?, after_read)
        };
        self.notice_refusal(&refused.0, refused.1, caller);
        let tree = self.tree.read();
        self.attr(&tree, tree.by_ino(ino)?)
    }

    /// The kernel asked again for attributes that refuse a write: somebody is
    /// being refused, unless it only looks.
    fn notice_refusal(&self, path: &RepoPath, after_read: bool, caller: Caller) {
        let tried = match doing(caller.pid) {
            Doing::Looks => return,
            Doing::Unreadable if after_read || caller.pid == 0 => return,
            Doing::Unreadable => Tried::Unknown,
            Doing::Tries(tried) => tried,
            Doing::OpensToWrite => {
                if self.gate.attempt(path, &self.actors.brief(caller.pid)) {
                    return;
                }
                Tried::Open
            }
        };
        if let Err(refusal) = self.permit(tried, path, caller) {
            let _ = self.deny(tried, path, refusal, caller); // the kernel says EACCES itself
        }
    }

    /// Lists a directory from position `after` on; `each` says when it has enough.
    pub fn list(
        &self,
        ino: u64,
        after: u64,
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        match Realm::of(ino) {
            Realm::Tree => self.list_tree(ino, after, plus, each),
            Realm::Scratch | Realm::Gitdir => {
                let path = self.real_path(ino)?;
                self.real(ino)?.list(ino, &path, after, plus, each)
            }
            Realm::Control => self.control.list(self, ino, after, plus, each),
        }
    }

    fn list_tree(
        &self,
        ino: u64,
        after: u64,
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        let idx = self.load(ino)?;
        if self.list_dots(ino, idx, after, each) {
            return Ok(());
        }
        let path = {
            let tree = self.tree.read();
            if tree.node(idx).is(ORPHAN) {
                return Ok(());
            }
            if plus && after == 0 {
                tree.node(idx).listed();
            }
            // Positions 1, 2 and 3 are `.`, `..` and `.git`.
            let governed = u32::try_from(after.saturating_sub(3));
            for (position, child) in tree.list(idx, governed.unwrap_or(u32::MAX)) {
                let listed = self.listed(&tree, child, u64::from(position) + 3, plus);
                if each(listed) {
                    return Ok(());
                }
                if plus {
                    tree.node(child).looked_up();
                    tree.node(child).unsee(READ); // the attributes are valid again
                }
            }
            tree.path(idx)?
        };
        let taken = |name: &[u8]| self.tree.read().child(idx, name).is_some();
        self.scratch
            .list_mixed(ino, &path, after.max(MIXED), plus, &taken, each)
    }

    fn listed(&self, tree: &Tree, child: Idx, next: u64, plus: bool) -> Listed {
        let node = tree.node(child);
        // A blob that is not there (a partial clone) must not hide its neighbours.
        let attr = if plus {
            self.attr(tree, child).ok()
        } else {
            None
        };
        Listed {
            name: tree.name(child).to_vec(),
            ino: node.ino,
            kind: match node.kind {
                Kind::Dir | Kind::Submodule => FileKind::Directory,
                Kind::File | Kind::Exec => FileKind::Regular,
                Kind::Symlink => FileKind::Symlink,
            },
            next,
            attr,
        }
    }

    /// Lists `.`, `..` and, in the root, `.git`; says whether the listing is full.
    fn list_dots(
        &self,
        ino: u64,
        idx: Idx,
        after: u64,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> bool {
        let parent = {
            let tree = self.tree.read();
            let parent = tree.node(idx).parent;
            if ino == ROOT_INO || tree.node(idx).is(ORPHAN) {
                ino
            } else {
                tree.node(parent).ino
            }
        };
        let gitdir = self.gitdir_ino().filter(|_| ino == ROOT_INO);
        let dots: [(&[u8], Option<u64>); 3] =
            [(b".", Some(ino)), (b"..", Some(parent)), (b".git", gitdir)];
        for (next, (name, ino)) in (1..).zip(dots) {
            let Some(ino) = ino.filter(|_| next > after) else {
                continue;
            };
            let attr = if name == b".git" {
                self.gitdir_root().ok()
            } else {
                None
            };
            let full = each(Listed {
                name: name.to_vec(),
                ino,
                kind: FileKind::Directory,
                next,
                attr,
            });
            if full {
                return true;
            }
        }
        false
    }

    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>> {
        if Realm::of(ino) != Realm::Tree {
            return self.real(ino)?.readlink(&self.real_path(ino)?);
        }
        let (path, entry) = {
            let tree = self.tree.read();
            let idx = tree.by_ino(ino)?;
            let node = tree.node(idx);
            if node.kind != Kind::Symlink {
                return Err(Error::Invalid);
            }
            if let Some(target) = node.file().and_then(|file| file.target.get()) {
                return Ok(target.clone());
            }
            base_place(&tree, idx)?
        };
        Ok(self.base.read(&path, &entry)?)
    }

    /// Reads up to `size` bytes and hands them to `answer`.
    pub fn read<T>(
        &self,
        ino: u64,
        offset: u64,
        size: u32,
        answer: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        match Realm::of(ino) {
            Realm::Tree => self.read_tree(ino, offset, size, answer),
            Realm::Scratch | Realm::Gitdir => {
                let file = self
                    .real(ino)?
                    .file(ino, &|dir| self.tree_path(dir), false)?;
                Ok(answer(&super::content::read_at(&file, offset, size)?))
            }
            Realm::Control => Ok(answer(&self.control.read(ino, offset, size)?)),
        }
    }

    /// Notes that the kernel dropped `count` lookups of an inode.
    pub fn forget(&self, ino: u64, count: u64) {
        match Realm::of(ino) {
            Realm::Tree => {
                let gone = {
                    let tree = self.tree.read();
                    let Ok(idx) = tree.by_ino(ino) else { return };
                    tree.forget(idx, count) && tree.node(idx).is(ORPHAN)
                };
                if gone {
                    self.drop_orphan(ino);
                }
            }
            Realm::Scratch | Realm::Gitdir => {
                if let Ok(real) = self.real(ino) {
                    real.forget(ino, count);
                }
            }
            Realm::Control => self.control.forget(ino, count),
        }
    }

    /// Forgets a node that has no name and that the kernel does not know.
    pub(super) fn drop_orphan(&self, ino: u64) {
        let mut tree = self.tree.write();
        let Ok(idx) = tree.by_ino(ino) else { return };
        if tree.node(idx).is(ORPHAN) && !tree.node(idx).known() {
            let file = tree.node(idx).file().cloned();
            tree.free(idx);
            drop(tree);
            self.dirty.lock().remove(&ino);
            self.reads.drop_blob(ino);
            if file.is_some_and(|file| file.lock().body == Body::Working) {
                self.work.remove(ino);
            } else {
                self.work.close(ino); // a settled file has no other name
            }
        }
    }

    /// Returns what the file system that keeps the working files says of itself.
    pub fn statfs(&self) -> Result<rustix::fs::StatVfs> {
        Ok(rustix::fs::fstatvfs(self.work.fd().as_fd()).map_err(std::io::Error::from)?)
    }
}
