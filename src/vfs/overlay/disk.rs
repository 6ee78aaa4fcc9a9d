//! Scratch and the private git directory, as parts of the one tree.
//!
//! Owns: sending changes there to their tree on disk, and the rule of names in
//! `.git`. Invariants: nothing in `.git` is made, changed, moved or removed but
//! what git itself writes; scratch in a governed directory stands on disk under
//! that directory's path. Logs refusals only.

use rustix::fs::RenameFlags;

use crate::domain::gate::Refusal;
use crate::domain::gate::Tried;
use crate::domain::path::RepoPath;
use crate::domain::zone::GitdirRule;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Realm;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::Notice;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::rename::End;
use crate::vfs::overlay::rename::RenameHow;
use crate::vfs::real::Make;
use crate::vfs::real::Spot;

const CONFIG: &[u8] = b"config";
const CONFIG_LOCK: &[u8] = b"config.lock";

impl Overlay {
    pub(super) fn gitdir_ino(&self) -> Option<u64> {
        self.gitdir
            .as_ref()
            .map(crate::vfs::real::RealTree::root_ino)
    }

    pub(super) fn gitdir_root(&self) -> Result<Attr> {
        let gitdir = self.gitdir.as_ref().ok_or(Error::NoEntry)?;
        gitdir.attr(gitdir.root_ino(), &|_| Err(Error::Stale))
    }

    /// Says that a name in `.git` stands for another file now, by no request.
    pub fn renamed_in_gitdir(&self, name: &[u8]) {
        if let Some(dir) = self.gitdir_ino() {
            let name = name.to_vec();
            self.tell(Notice::Entry { dir, name });
        }
    }

    /// The prepared index is made when somebody first looks for it.
    pub(super) fn prepare_gitdir(&self, name: &[u8]) -> Result<()> {
        match &self.gitdir {
            Some(gitdir) if name == b"index" => gitdir.prepare_once(),
            _ => Ok(()),
        }
    }

    /// Returns the path of a gitdir inode as the agent sees it.
    pub(super) fn gitdir_path(&self, ino: u64) -> Result<RepoPath> {
        let inside = self.real_path(ino)?;
        let shown = inside.rebase(&RepoPath::root(), &RepoPath::parse(b".git")?);
        shown.ok_or(Error::Invalid)
    }

    /// Refuses a change in `.git` that git itself does not make.
    pub(super) fn check_gitdir(
        &self,
        ino: u64,
        inside: &RepoPath,
        tried: Tried,
        caller: Caller,
    ) -> Result<()> {
        let (Realm::Gitdir, Some(gitdir)) = (Realm::of(ino), &self.gitdir) else {
            return Ok(());
        };
        let kept = self.options.kept.rule("gitdir");
        if gitdir.rule_of(inside) == GitdirRule::Writable || !kept {
            return Ok(());
        }
        let shown = inside.rebase(&RepoPath::root(), &RepoPath::parse(b".git")?);
        let refusal = Refusal::by_rule("gitdir", "git's own commands write what they need");
        Err(self.deny(tried, &shown.unwrap_or_default(), refusal, caller))
    }

    /// Checks a change of an inode on disk; those in scratch are the agent's own.
    pub(super) fn check_real(&self, ino: u64, tried: Tried, caller: Caller) -> Result<()> {
        if Realm::of(ino) != Realm::Gitdir {
            return Ok(());
        }
        match self.real_path(ino) {
            Ok(path) => self.check_gitdir(ino, &path, tried, caller),
            Err(Error::NoEntry) => Ok(()), // without a name: it was allowed when it was made
            Err(error) => Err(error),
        }
    }

    pub(super) fn make_real(
        &self,
        dir: u64,
        name: &[u8],
        make: Make<'_>,
        caller: Caller,
    ) -> Result<Attr> {
        let path = self.real_path(dir)?.join(name)?;
        let tried = match make {
            Make::File(_) => Tried::Create,
            Make::Dir(_) => Tried::Mkdir,
            Make::Symlink(_) => Tried::Symlink,
            Make::Special(..) => Tried::Mknod,
        };
        self.check_gitdir(dir, &path, tried, caller)?;
        if Realm::of(dir) == Realm::Gitdir
            && matches!(make, Make::Symlink(_) | Make::Special(..))
            && self.options.kept.rule("gitdir")
        {
            let refusal = Refusal::by_rule("gitdir", "git writes files and directories");
            return Err(self.deny(tried, &self.gitdir_path(dir)?.join(name)?, refusal, caller));
        }
        self.real(dir)?.make(dir, &path, make, caller)
    }

    /// Makes something in scratch, in a directory that is governed.
    pub(super) fn make_scratch(
        &self,
        dir: u64,
        path: &RepoPath,
        _name: &[u8],
        make: Make<'_>,
        caller: Caller,
    ) -> Result<Attr> {
        self.scratch.make(dir, path, make, caller)
    }

    pub(super) fn remove_real(
        &self,
        dir: u64,
        name: &[u8],
        is_dir: bool,
        caller: Caller,
    ) -> Result<()> {
        let below = self.real_path(dir)?;
        let tried = if is_dir { Tried::Rmdir } else { Tried::Unlink };
        self.check_gitdir(dir, &below.join(name)?, tried, caller)?;
        self.real(dir)?.remove(dir, &below, name, is_dir)
    }

    /// Returns where one end of a rename is on disk.
    pub(super) fn real_end(&self, end: End<'_>) -> Result<RepoPath> {
        let dir = match Realm::of(end.dir) {
            Realm::Tree => self.tree_path(end.dir)?,
            _ => self.real_path(end.dir)?,
        };
        Ok(dir.join(end.name)?)
    }

    /// Says whether git puts its configuration in place as it was: `branch -m` and
    /// `branch -d` always do.
    fn is_idle_config(&self, from: End<'_>, old: &RepoPath, new: &RepoPath) -> Result<bool> {
        if Realm::of(from.dir) != Realm::Gitdir || new.as_bytes() != CONFIG {
            return Ok(false);
        }
        Ok(old.as_bytes() == CONFIG_LOCK && self.real(from.dir)?.same_bytes(old, new)?)
    }

    /// Refuses to let what has another name become the configuration's lock: the kernel
    /// would remember it under the configuration's own name.
    pub(super) fn check_config_lock(
        &self,
        dir: u64,
        path: &RepoPath,
        tried: Tried,
        caller: Caller,
    ) -> Result<()> {
        let kept = self.options.kept.rule("gitdir");
        if Realm::of(dir) != Realm::Gitdir || path.as_bytes() != CONFIG_LOCK || !kept {
            return Ok(());
        }
        let refusal = Refusal::by_rule("gitdir", "git makes that lock anew each time");
        Err(self.deny(
            tried,
            &self.gitdir_path(dir)?.join(path.name())?,
            refusal,
            caller,
        ))
    }

    /// Says whether the kernel may remember a name of that directory.
    pub fn remembers(&self, dir: u64, name: &[u8]) -> bool {
        Some(dir) != self.gitdir_ino() || name != CONFIG_LOCK
    }

    pub(super) fn rename_real(
        &self,
        from: End<'_>,
        to: End<'_>,
        how: RenameHow,
        caller: Caller,
    ) -> Result<()> {
        let (from_path, to_path) = (self.real_end(from)?, self.real_end(to)?);
        self.check_gitdir(from.dir, &from_path, Tried::RenameFrom, caller)?;
        if self.is_idle_config(from, &from_path, &to_path)? {
            // The same bytes: the lock goes, the file stays as it is. The lock's name was
            // not to be remembered, so the next lookup finds the file again.
            return self.real(from.dir)?.remove(
                from.dir,
                &self.real_path(from.dir)?,
                from.name,
                false,
            );
        }
        self.check_gitdir(to.dir, &to_path, Tried::RenameTo, caller)?;
        self.check_config_lock(to.dir, &to_path, Tried::RenameTo, caller)?;
        let flags = match how {
            RenameHow::Replace => RenameFlags::empty(),
            RenameHow::NoReplace => RenameFlags::NOREPLACE,
            RenameHow::Exchange => RenameFlags::EXCHANGE,
        };
        let tree = if Realm::of(from.dir) == Realm::Gitdir {
            self.gitdir.as_ref().ok_or(Error::Stale)?
        } else {
            &self.scratch
        };
        let (old, new) = (
            Spot {
                dir: from.dir,
                path: &from_path,
            },
            Spot {
                dir: to.dir,
                path: &to_path,
            },
        );
        tree.rename(old, new, flags)
    }
}
