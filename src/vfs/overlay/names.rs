//! Names made and removed: create, mkdir, symlink, unlink, rmdir, link, mknod.
//!
//! Owns: sending a new name to its zone, and the change of the tree that follows
//! the entry. Invariants: decision, entry and change of the tree are one step
//! under the tree's write lock; what a name is (governed, transient) is fixed
//! when it is made; a transient file is removed by where it came from, never by
//! its name.

use std::sync::Arc;

use crate::domain::base::Oid;
use crate::domain::gate::Refusal;
use crate::domain::gate::Tried;
use crate::domain::logop::Bytes;
use crate::domain::logop::FileMode;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;
use crate::domain::path::check_name;
use crate::domain::zone;
use crate::domain::zone::Zone;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::CHANGED;
use crate::vfs::nodes::Idx;
use crate::vfs::nodes::Kind;
use crate::vfs::nodes::LOADED;
use crate::vfs::nodes::More;
use crate::vfs::nodes::ORPHAN;
use crate::vfs::nodes::Realm;
use crate::vfs::nodes::TRANSIENT;
use crate::vfs::nodes::Tree;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::ZoneFacts;
use crate::vfs::overlay::write::mode_of;
use crate::vfs::real::Make;
use crate::vfs::working::Body;
use crate::vfs::working::FileMore;

const NO_OID: Oid = Oid([0; 20]);

/// What is to be made under a new name.
#[derive(Clone, Copy, Debug)]
pub(super) enum New<'a> {
    File(FileMode),
    Dir,
    Symlink(&'a [u8]),
}

/// Where a new name goes.
pub(super) enum Goes {
    /// Into the session's tree, with the claim of its entry (0: transient, saving the path).
    Tree {
        claim: u64,
        saves: Option<RepoPath>,
    },
    Scratch,
}

impl New<'_> {
    const fn tried(self) -> Tried {
        match self {
            Self::File(_) => Tried::Create,
            Self::Dir => Tried::Mkdir,
            Self::Symlink(_) => Tried::Symlink,
        }
    }
}

impl Overlay {
    /// Makes a regular file.
    pub fn create(&self, dir: u64, name: &[u8], mode: u32, caller: Caller) -> Result<Attr> {
        let new = New::File(mode_of(mode));
        self.make(dir, name, new, Make::File(mode), caller)
    }

    pub fn mkdir(&self, dir: u64, name: &[u8], mode: u32, caller: Caller) -> Result<Attr> {
        self.make(dir, name, New::Dir, Make::Dir(mode), caller)
    }

    pub fn symlink(&self, dir: u64, name: &[u8], target: &[u8], caller: Caller) -> Result<Attr> {
        self.make(
            dir,
            name,
            New::Symlink(target),
            Make::Symlink(target),
            caller,
        )
    }

    /// Makes a regular file, and in scratch a fifo or a socket too; a device there
    /// only for root on a mount that keeps true owners (the kernel has asked for the
    /// capability by then, and the mount itself opens none).
    pub fn mknod(
        &self,
        dir: u64,
        name: &[u8],
        (mode, device): (u32, u32),
        caller: Caller,
    ) -> Result<Attr> {
        match mode & libc::S_IFMT {
            0 | libc::S_IFREG => self.create(dir, name, mode, caller),
            libc::S_IFIFO | libc::S_IFSOCK => self.make_special(dir, name, (mode, 0), caller),
            libc::S_IFCHR | libc::S_IFBLK
                if self.options.real_owners && caller.uid == 0
                    || !self.options.kept.rule("kind") =>
            {
                self.make_special(dir, name, (mode, device), caller)
            }
            _ => {
                let path = self.path_of(dir, name)?;
                let refusal = Refusal::by_rule("kind", "device nodes are not made here");
                Err(self.deny(Tried::Mknod, &path, refusal, caller))
            }
        }
    }

    fn make_special(
        &self,
        dir: u64,
        name: &[u8],
        (mode, device): (u32, u32),
        caller: Caller,
    ) -> Result<Attr> {
        check_name(name)?;
        let special = Make::Special(mode, device);
        if Realm::of(dir) != Realm::Tree {
            return self.make_real(dir, name, special, caller);
        }
        let idx = self.load(dir)?;
        let path = {
            let tree = self.tree.read();
            if tree.child(idx, name).is_some() {
                return Err(Error::Exists);
            }
            tree.path(idx)?.join(name)?
        };
        let zone = {
            let tree = self.tree.read();
            self.zone(&tree, idx, &path, false)?.0
        };
        if zone != Zone::Scratch && self.options.kept.rule("kind") {
            let refusal = Refusal::by_rule(
                "kind",
                "fifos, sockets and devices exist in scratch directories",
            );
            return Err(self.deny(Tried::Mknod, &path, refusal, caller));
        }
        self.make_scratch(dir, &path, name, special, caller)
    }

    /// Returns the path that a name has, for a message.
    fn path_of(&self, dir: u64, name: &[u8]) -> Result<RepoPath> {
        let dir = match Realm::of(dir) {
            Realm::Tree => self.tree_path(dir)?,
            Realm::Scratch => self.real_path(dir)?,
            Realm::Gitdir => self.gitdir_path(dir)?,
            Realm::Control => return Ok(RepoPath::parse(b".govfs")?.join(name)?),
        };
        Ok(dir.join(name)?)
    }

    pub(super) fn zone(
        &self,
        tree: &Tree,
        dir: Idx,
        path: &RepoPath,
        is_dir: bool,
    ) -> Result<(Zone, Option<RepoPath>)> {
        let facts = ZoneFacts {
            overlay: self,
            tree,
            dir,
        };
        zone::classify(path, is_dir, &facts)
    }

    fn make(
        &self,
        dir: u64,
        name: &[u8],
        new: New<'_>,
        real: Make<'_>,
        caller: Caller,
    ) -> Result<Attr> {
        check_name(name)?;
        match Realm::of(dir) {
            Realm::Tree => {}
            Realm::Scratch | Realm::Gitdir => return self.make_real(dir, name, real, caller),
            Realm::Control => return Err(self.deny_control(name, new.tried(), caller)),
        }
        let idx = self.load(dir)?;
        let mut tree = self.tree.write();
        let path = Self::free_path(&tree, idx, name)?;
        match self.destination(&tree, idx, &path, new, caller)? {
            Goes::Scratch => {
                drop(tree);
                self.make_scratch(dir, &path, name, real, caller)
            }
            Goes::Tree { claim, saves } => {
                if self.scratch.exists(&path) {
                    return Err(Error::Exists);
                }
                let child =
                    self.make_in_tree(&mut tree, idx, &path, new, (claim, saves), caller)?;
                let attr = self.attr(&tree, child)?;
                tree.node(child).looked_up();
                Ok(attr)
            }
        }
    }

    /// Returns the path of a name that nothing in the tree has.
    fn free_path(tree: &Tree, dir: Idx, name: &[u8]) -> Result<RepoPath> {
        if tree.node(dir).is(ORPHAN) {
            return Err(Error::NoEntry);
        }
        if tree.child(dir, name).is_some() {
            return Err(Error::Exists);
        }
        Ok(tree.path(dir)?.join(name)?)
    }

    /// Decides where a new name goes, and whether it may.
    pub(super) fn destination(
        &self,
        tree: &Tree,
        dir: Idx,
        path: &RepoPath,
        new: New<'_>,
        caller: Caller,
    ) -> Result<Goes> {
        let tried = new.tried();
        let (zone, saves) = self.zone(tree, dir, path, matches!(new, New::Dir))?;
        match zone {
            Zone::Scratch => Ok(Goes::Scratch),
            Zone::Reserved | Zone::Gitdir | Zone::Control
                if self.options.kept.rule(rule_of(zone)) =>
            {
                let refusal = Refusal::by_rule(rule_of(zone), "choose another name");
                Err(self.deny(tried, path, refusal, caller))
            }
            Zone::Transient
                if !transient_fits(path.name(), new) && self.options.kept.rule("transient") =>
            {
                let refusal = Refusal::by_rule("transient", "claim the path itself");
                Err(self.deny(tried, path, refusal, caller))
            }
            Zone::Transient | Zone::Governed | Zone::Reserved | Zone::Gitdir | Zone::Control => {
                let asked = saves.as_ref().unwrap_or(path);
                match self.permit(tried, asked, caller) {
                    Ok(claim) => Ok(Goes::Tree {
                        claim: if saves.is_some() { 0 } else { claim },
                        saves,
                    }),
                    Err(refusal) => Err(self.deny(tried, path, refusal, caller)),
                }
            }
        }
    }

    fn make_in_tree(
        &self,
        tree: &mut Tree,
        dir: Idx,
        path: &RepoPath,
        new: New<'_>,
        (claim, saves): (u64, Option<RepoPath>),
        caller: Caller,
    ) -> Result<Idx> {
        let by = self.actors.brief(caller.pid);
        let path = path.clone();
        let entry = match new {
            New::File(mode) => LogOp::Create {
                path,
                mode,
                claim,
                by,
            },
            New::Dir => LogOp::Mkdir { path, claim, by },
            New::Symlink(target) => LogOp::Symlink {
                path,
                target: Bytes(target.to_vec()),
                claim,
                by,
            },
        };
        let recorded = self.gate.record(&entry)?;
        let child = self.put_new(tree, dir, &entry, recorded.seq, recorded.ts.0);
        if let Some(child) = child {
            if saves.is_some()
                && let Some(file) = tree.node(child).file()
            {
                *file.saves.lock() = saves;
            }
            return Ok(child);
        }
        Err(Error::Invalid)
    }

    /// Puts what an entry made into the tree.
    pub(super) fn put_new(
        &self,
        tree: &mut Tree,
        dir: Idx,
        entry: &LogOp,
        seq: u64,
        now: i64,
    ) -> Option<Idx> {
        let (path, kind, claim) = match entry {
            LogOp::Create {
                path, mode, claim, ..
            } => (path, Kind::of_mode(*mode), *claim),
            LogOp::Symlink { path, claim, .. } => (path, Kind::Symlink, *claim),
            LogOp::Mkdir { path, .. } => (path, Kind::Dir, 1),
            _ => return None,
        };
        let ino = tree.ino_of_entry(seq);
        let flags = CHANGED
            | if claim == 0 { TRANSIENT } else { 0 }
            | if kind.is_dir() { LOADED } else { 0 };
        let child = tree.insert(dir, path.name(), ino, kind, flags, NO_OID);
        if kind.is_dir() {
            tree.dir_times(child, now);
        } else {
            let file = FileMore::new(Body::Empty, 0, now);
            if let LogOp::Symlink { target, .. } = entry {
                file.set_size(target.0.len() as u64);
                file.lock().unsettled = false;
                let _ = file.target.set(target.0.clone()); // it was made just now
            } else {
                self.mark_dirty(ino);
            }
            tree.node_mut(child).more = More::File(Arc::new(file));
        }
        tree.dir_times(dir, now);
        self.touch_path(path);
        Some(child)
    }

    pub fn unlink(&self, dir: u64, name: &[u8], caller: Caller) -> Result<()> {
        check_name(name)?;
        match Realm::of(dir) {
            Realm::Tree => {}
            Realm::Scratch | Realm::Gitdir => return self.remove_real(dir, name, false, caller),
            Realm::Control => return Err(self.deny_control(name, Tried::Unlink, caller)),
        }
        let idx = self.load(dir)?;
        let mut tree = self.tree.write();
        let Some(child) = tree.child(idx, name) else {
            let below = tree.path(idx)?;
            drop(tree);
            return self.scratch.remove(dir, &below, name, false);
        };
        if tree.node(child).kind.is_dir() {
            return Err(Error::IsDir);
        }
        let leave = self.leave(&tree, child, Tried::Unlink, caller)?;
        if let super::write::Leave::Logged { path, claim } = leave {
            let recorded = self.gate.record(&LogOp::Unlink {
                path: path.clone(),
                claim,
                by: self.actors.brief(caller.pid),
            })?;
            self.touch_path(&path);
            self.take_out(&mut tree, child, recorded.ts.0);
        }
        Ok(())
    }

    /// Takes a node out of the tree; what the kernel still knows becomes an orphan.
    pub(super) fn take_out(&self, tree: &mut Tree, child: Idx, now: i64) {
        let (dir, ino) = (tree.node(child).parent, tree.node(child).ino);
        if tree.node(child).known()
            && !tree.node(child).kind.is_dir()
            && let Err(error) = self.pin(tree, child)
        {
            tracing::warn!(ino, %error, "an unlinked file lost its place in the base");
        }
        tree.detach(child);
        tree.dir_times(dir, now);
        self.dirty.lock().remove(&ino);
        if let Some(file) = tree.node(child).file() {
            file.set_ctime(now);
        }
        if !tree.node(child).known() {
            tree.free(child);
            self.reads.drop_blob(ino);
            self.work.remove(ino);
        }
    }

    pub fn rmdir(&self, dir: u64, name: &[u8], caller: Caller) -> Result<()> {
        check_name(name)?;
        match Realm::of(dir) {
            Realm::Tree => {}
            Realm::Scratch | Realm::Gitdir => return self.remove_real(dir, name, true, caller),
            Realm::Control => return Err(self.deny_control(name, Tried::Rmdir, caller)),
        }
        let idx = self.load(dir)?;
        let child_ino = {
            let tree = self.tree.read();
            tree.child(idx, name).map(|child| tree.node(child).ino)
        };
        let Some(child_ino) = child_ino else {
            let below = self.tree_path(dir)?;
            return self.scratch.remove(dir, &below, name, true);
        };
        self.load(child_ino)?;
        let mut tree = self.tree.write();
        let child = tree.child(idx, name).ok_or(Error::NoEntry)?;
        let path = tree.path(child)?;
        if !tree.is_empty_dir(child) || !self.scratch.is_empty(&path)? {
            return Err(Error::NotEmpty);
        }
        let claim = match self.permit(Tried::Rmdir, &path, caller) {
            Ok(claim) => claim,
            Err(refusal) => return Err(self.deny(Tried::Rmdir, &path, refusal, caller)),
        };
        let recorded = self.gate.record(&LogOp::Rmdir {
            path: path.clone(),
            claim,
            by: self.actors.brief(caller.pid),
        })?;
        self.scratch.drop_shadow(&path);
        self.touch_path(&path);
        self.take_out(&mut tree, child, recorded.ts.0);
        Ok(())
    }

    /// Makes a hard link: in scratch and in `.git`; git has none among governed files.
    pub fn link(&self, ino: u64, dir: u64, name: &[u8], caller: Caller) -> Result<Attr> {
        check_name(name)?;
        let (from, to) = (Realm::of(ino), Realm::of(dir));
        if from == Realm::Tree && self.options.kept.rule("hard-link") {
            let path = self.tree_path(ino)?;
            let refusal = Refusal::by_rule("hard-link", "copy the file");
            let _ = self.deny(Tried::Link, &path, refusal, caller); // answered with EPERM: tools then copy
            return Err(Error::NotPermitted);
        }
        let real = self.real(ino)?;
        let old = self.real_path(ino)?;
        match (from, to) {
            (Realm::Scratch, Realm::Tree) => {
                let idx = self.load(dir)?;
                let path = {
                    let tree = self.tree.read();
                    let path = Self::free_path(&tree, idx, name)?;
                    if self.zone(&tree, idx, &path, false)?.0 != Zone::Scratch {
                        return Err(Error::CrossZone);
                    }
                    path
                };
                real.link(ino, &old, dir, &path, name)
            }
            (Realm::Scratch, Realm::Scratch) | (Realm::Gitdir, Realm::Gitdir) => {
                let path = self.real_path(dir)?.join(name)?;
                self.check_gitdir(dir, &path, Tried::Link, caller)?;
                self.check_config_lock(dir, &path, Tried::Link, caller)?;
                // A second name of what govfs put there would be a way to write it.
                self.check_gitdir(ino, &old, Tried::Link, caller)?;
                real.link(ino, &old, dir, &path, name)
            }
            _ => Err(Error::CrossZone),
        }
    }
}

fn rule_of(zone: Zone) -> &'static str {
    match zone {
        Zone::Gitdir => "gitdir",
        Zone::Control => "control",
        Zone::Reserved => "reserved",
        Zone::Transient => "transient",
        Zone::Governed | Zone::Scratch => "not-claimed",
    }
}

/// A transient name holds a plain file, or a lock that is a symlink (`.#F`).
fn transient_fits(name: &[u8], new: New<'_>) -> bool {
    match new {
        New::File(_) => true,
        New::Symlink(_) => name.starts_with(b".#"),
        New::Dir => false,
    }
}
