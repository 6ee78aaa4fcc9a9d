//! Changes of attributes: mode, owner, times.
//!
//! Owns: what of an attribute is kept. Of a governed file's mode only the x bit
//! is real; set-id bits and other owners are refused; access times live in
//! memory alone. Each change is gated and logged like a write.

use crate::domain::gate::Refusal;
use crate::domain::gate::Tried;
use crate::domain::logop::LogOp;
use crate::vfs::error::Result;
use crate::vfs::nodes::Kind;
use crate::vfs::nodes::Realm;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::write::Leave;
use crate::vfs::working::Times;

/// What a change of attributes asks for; times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<i64>,
    pub mtime: Option<i64>,
}

impl Overlay {
    /// Changes attributes and returns the new ones.
    pub fn setattr(&self, ino: u64, set: &SetAttr, caller: Caller) -> Result<Attr> {
        match Realm::of(ino) {
            Realm::Tree => {
                self.setattr_tree(ino, set, caller)?;
                let tree = self.tree.read();
                self.attr(&tree, tree.by_ino(ino)?)
            }
            Realm::Scratch | Realm::Gitdir => {
                self.check_real(ino, Tried::Mode, caller)?;
                self.real(ino)?
                    .setattr(ino, &|dir| self.tree_path(dir), set, caller)
            }
            Realm::Control => self.control.setattr(self, ino),
        }
    }

    fn setattr_tree(&self, ino: u64, set: &SetAttr, caller: Caller) -> Result<()> {
        self.refuse_owner(ino, set, caller)?;
        if let Some(mode) = set.mode {
            self.chmod(ino, mode, caller)?;
        }
        if let Some(size) = set.size {
            self.truncate(ino, size, caller)?;
        }
        if set.mtime.is_some() || set.atime.is_some() {
            self.set_times(ino, set, caller)?;
        }
        Ok(())
    }

    /// Governed files belong to the agent: only a change to what is shown is allowed.
    fn refuse_owner(&self, ino: u64, set: &SetAttr, caller: Caller) -> Result<()> {
        let other = set.uid.is_some_and(|uid| uid != self.options.uid)
            || set.gid.is_some_and(|gid| gid != self.options.gid);
        if other && self.options.kept.rule("kind") {
            let path = self.tree_path(ino)?;
            let refusal = Refusal::by_rule("kind", "leave the owner as it is");
            return Err(self.deny(Tried::Owner, &path, refusal, caller));
        }
        if set.uid.is_some() || set.gid.is_some() {
            self.check_change(ino, Tried::Owner, caller)?;
        }
        Ok(())
    }

    fn chmod(&self, ino: u64, mode: u32, caller: Caller) -> Result<()> {
        if mode & 0o7000 != 0 && self.options.kept.rule("kind") {
            let path = self.tree_path(ino)?;
            let refusal = Refusal::by_rule("kind", "set-id and sticky bits are not kept");
            return Err(self.deny(Tried::Mode, &path, refusal, caller));
        }
        let mut tree = self.tree.write();
        let idx = tree.by_ino(ino)?;
        let leave = self.leave(&tree, idx, Tried::Mode, caller)?;
        let old = tree.node(idx).kind;
        if !old.is_file() {
            if old.is_dir() {
                let ctime = self.now();
                let times = self.times(&tree, idx);
                tree.set_dir_times(idx, Times { ctime, ..times });
            }
            return Ok(());
        }
        let state = self.make_changeable(&mut tree, idx)?;
        let new = if mode & 0o100 != 0 {
            Kind::Exec
        } else {
            Kind::File
        };
        if new == old {
            state.set_ctime(self.now());
            return Ok(());
        }
        if let Leave::Logged { path, claim } = leave {
            let recorded = self.gate.record(&LogOp::Mode {
                path: path.clone(),
                mode: new.mode(),
                claim,
                by: self.actors.brief(caller.pid),
            })?;
            state.set_ctime(recorded.ts.0);
            self.touch(&mut tree, idx, &path);
        }
        tree.node_mut(idx).kind = new;
        Ok(())
    }

    fn set_times(&self, ino: u64, set: &SetAttr, caller: Caller) -> Result<()> {
        let mut tree = self.tree.write();
        let idx = tree.by_ino(ino)?;
        let leave = self.leave(&tree, idx, Tried::Times, caller)?;
        let is_dir = tree.node(idx).kind.is_dir();
        if let (Leave::Logged { path, claim }, Some(mtime)) = (leave, set.mtime) {
            self.gate.record(&LogOp::Times {
                path: path.clone(),
                mtime,
                claim,
                by: self.actors.brief(caller.pid),
            })?;
            self.touch_path(&path);
        }
        let now = self.now();
        if is_dir {
            let old = self.times(&tree, idx);
            let times = Times {
                mtime: set.mtime.unwrap_or(old.mtime),
                ctime: now,
                atime: set.atime.unwrap_or(old.atime),
            };
            tree.set_dir_times(idx, times);
            return Ok(());
        }
        let more = self.make_changeable(&mut tree, idx)?;
        if let Some(mtime) = set.mtime {
            more.set_mtime(mtime);
        }
        if let Some(atime) = set.atime {
            more.set_atime(atime);
        }
        more.set_ctime(now);
        Ok(())
    }
}
