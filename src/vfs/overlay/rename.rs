//! Renames: files, directories, exchanges; both ends are gated, and every descendant.
//!
//! Owns: which renames there are between zones, and what each asks of the gate.
//! Invariants: a renamed directory only changes its parent; what is not allowed
//! at either end, for any file beneath, moves nothing; between zones the answer
//! is EXDEV, so that tools copy, and the copy is logged.

use crate::domain::gate::Check;
use crate::domain::gate::Refusal;
use crate::domain::gate::Tried;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;
use crate::domain::path::check_name;
use crate::domain::zone::Zone;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Idx;
use crate::vfs::nodes::Kind;
use crate::vfs::nodes::ORPHAN;
use crate::vfs::nodes::ROOT_INO;
use crate::vfs::nodes::Realm;
use crate::vfs::nodes::TRANSIENT;
use crate::vfs::nodes::Tree;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::Overlay;
use crate::vfs::working::Times;

/// How a rename treats what stands at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameHow {
    Replace,
    NoReplace,
    Exchange,
}

/// One end of a rename.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub dir: u64,
    pub name: &'a [u8],
}

/// A decided rename within the tree.
struct Move {
    source: Idx,
    target: Option<Idx>,
    from: RepoPath,
    to: RepoPath,
    claim: u64,
    /// Set where the target name is for atomic saves: the path that it saves.
    saves: Option<RepoPath>,
}

impl Overlay {
    pub fn rename(&self, from: End<'_>, to: End<'_>, how: RenameHow, caller: Caller) -> Result<()> {
        check_name(from.name)?;
        check_name(to.name)?;
        if Self::is_own_name(from) || Self::is_own_name(to) {
            let name = if Self::is_own_name(from) { from } else { to };
            return Err(self.deny_control(name.name, Tried::RenameTo, caller));
        }
        let source = self.stands_in(from)?;
        let target = self.stands_in(to)?;
        match (source, target) {
            (Realm::Control, _) | (_, Realm::Control) => {
                Err(self.deny_control(to.name, Tried::RenameTo, caller))
            }
            (Realm::Tree, Realm::Tree) => self.rename_tree(from, to, how, caller),
            (Realm::Gitdir, Realm::Gitdir) | (Realm::Scratch, Realm::Scratch) => {
                self.rename_real(from, to, how, caller)
            }
            (Realm::Scratch, Realm::Tree) => self.rename_from_scratch(from, to, how, caller),
            _ => Err(Error::CrossZone),
        }
    }

    /// `.git` and `.govfs` themselves are nobody's to move.
    fn is_own_name(end: End<'_>) -> bool {
        end.dir == ROOT_INO && matches!(end.name, b".git" | b".govfs")
    }

    /// Returns which engine has what stands under a name (the directory's own, if nothing does).
    fn stands_in(&self, end: End<'_>) -> Result<Realm> {
        let realm = Realm::of(end.dir);
        if realm != Realm::Tree {
            return Ok(realm);
        }
        let idx = self.load(end.dir)?;
        let path = {
            let tree = self.tree.read();
            if tree.node(idx).is(ORPHAN) {
                return Err(Error::NoEntry);
            }
            if tree.child(idx, end.name).is_some() {
                return Ok(Realm::Tree);
            }
            tree.path(idx)?.join(end.name)?
        };
        Ok(if self.scratch.exists(&path) {
            Realm::Scratch
        } else {
            Realm::Tree
        })
    }

    /// Something in scratch goes to a free name in a governed directory.
    fn rename_from_scratch(
        &self,
        from: End<'_>,
        to: End<'_>,
        how: RenameHow,
        caller: Caller,
    ) -> Result<()> {
        let idx = self.load(to.dir)?;
        let is_dir = self.scratch.is_dir(&self.real_end(from)?);
        let zone = {
            let tree = self.tree.read();
            if tree.child(idx, to.name).is_some() {
                return Err(Error::CrossZone);
            }
            let path = tree.path(idx)?.join(to.name)?;
            self.zone(&tree, idx, &path, is_dir)?.0
        };
        if zone != Zone::Scratch {
            return Err(Error::CrossZone);
        }
        self.rename_real(from, to, how, caller)
    }

    fn rename_tree(
        &self,
        from: End<'_>,
        to: End<'_>,
        how: RenameHow,
        caller: Caller,
    ) -> Result<()> {
        let (from_dir, to_dir) = (self.load(from.dir)?, self.load(to.dir)?);
        self.load_ends(from_dir, from.name, to_dir, to.name)?;
        let mut tree = self.tree.write();
        let source = tree.child(from_dir, from.name).ok_or(Error::NoEntry)?;
        let target = tree.child(to_dir, to.name);
        if target == Some(source) {
            return Ok(());
        }
        self.check_shape(&tree, source, target, to_dir, how)?;
        let exchange = how == RenameHow::Exchange;
        let moved = self.decide_move(&tree, source, target, (to_dir, to.name), exchange, caller)?;
        let recorded = self.gate.record(&LogOp::Rename {
            path: moved.from.clone(),
            to: moved.to.clone(),
            exchange,
            claim: moved.claim,
            by: self.actors.brief(caller.pid),
        })?;
        self.move_shadow(&tree, &moved, exchange);
        self.apply_rename(&mut tree, &moved.from, &moved.to, exchange, recorded.ts.0)?;
        if let Some(file) = tree.node(moved.source).file() {
            let transient = moved.saves.is_some();
            *file.saves.lock() = moved.saves;
            if transient {
                tree.node_mut(moved.source).flags |= TRANSIENT;
            }
        }
        let ino = tree.node(moved.source).ino;
        drop(tree);
        self.settle_soon(ino);
        Ok(())
    }

    /// Loads both ends where they are directories: emptiness and descendants are asked for.
    fn load_ends(&self, from_dir: Idx, from: &[u8], to_dir: Idx, to: &[u8]) -> Result<()> {
        let dirs: Vec<u64> = {
            let tree = self.tree.read();
            [tree.child(from_dir, from), tree.child(to_dir, to)]
                .into_iter()
                .flatten()
                .filter(|&idx| tree.node(idx).kind == Kind::Dir)
                .map(|idx| tree.node(idx).ino)
                .collect()
        };
        for ino in dirs {
            self.load(ino)?;
        }
        Ok(())
    }

    fn check_shape(
        &self,
        tree: &Tree,
        source: Idx,
        target: Option<Idx>,
        to_dir: Idx,
        how: RenameHow,
    ) -> Result<()> {
        let is_dir = |idx: Idx| tree.node(idx).kind.is_dir();
        if is_dir(source) && tree.is_beneath(to_dir, source) {
            return Err(Error::Invalid);
        }
        if how == RenameHow::Exchange
            && target.is_some_and(|target| is_dir(target) && tree.is_beneath(source, target))
        {
            return Err(Error::Invalid);
        }
        match (target, how) {
            (None, RenameHow::Exchange) => Err(Error::NoEntry),
            (Some(_), RenameHow::NoReplace) => Err(Error::Exists),
            (Some(target), RenameHow::Replace) => match (is_dir(source), is_dir(target)) {
                (true, false) => Err(Error::NotDir),
                (false, true) => Err(Error::IsDir),
                (true, true)
                    if !tree.is_empty_dir(target)
                        || !self.scratch.is_empty(&tree.path(target)?)? =>
                {
                    Err(Error::NotEmpty)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Asks the gate for both ends of a rename.
    fn decide_move(
        &self,
        tree: &Tree,
        source: Idx,
        target: Option<Idx>,
        (to_dir, to_name): (Idx, &[u8]),
        exchange: bool,
        caller: Caller,
    ) -> Result<Move> {
        let from = tree.path(source)?;
        let to = tree.path(to_dir)?.join(to_name)?;
        let mut moved = Move {
            source,
            target,
            from,
            to,
            claim: 0,
            saves: None,
        };
        if tree.node(source).kind.is_dir() || target.is_some_and(|at| tree.node(at).kind.is_dir()) {
            moved.claim = self.permit_dirs(tree, &moved, exchange, caller)?;
            return Ok(moved);
        }
        self.leave(tree, source, Tried::RenameFrom, caller)?;
        if let Some(target) = target {
            // What is replaced or exchanged is changed where it stands.
            self.leave(tree, target, Tried::RenameTo, caller)?;
        }
        let (zone, saves) = self.zone(tree, to_dir, &moved.to, false)?;
        let transient_ends = tree.node(source).is(TRANSIENT) || saves.is_some();
        if exchange && transient_ends && self.options.kept.rule("transient") {
            let refusal = Refusal::by_rule("transient", "rename it onto the file that it saves");
            return Err(self.deny(Tried::RenameTo, &moved.to, refusal, caller));
        }
        match zone {
            Zone::Gitdir | Zone::Control | Zone::Reserved if self.options.kept.rule("reserved") => {
                let refusal = Refusal::by_rule("reserved", "choose another name");
                return Err(self.deny(Tried::RenameTo, &moved.to, refusal, caller));
            }
            Zone::Scratch => return Err(Error::CrossZone),
            Zone::Governed | Zone::Transient | Zone::Gitdir | Zone::Control | Zone::Reserved => {
                let asked = saves.as_ref().unwrap_or(&moved.to);
                let claim = self
                    .permit(Tried::RenameTo, asked, caller)
                    .map_err(|refusal| self.deny(Tried::RenameTo, &moved.to, refusal, caller))?;
                moved.claim = if saves.is_some() { 0 } else { claim };
            }
        }
        moved.saves = saves;
        Ok(moved)
    }

    /// Asks the gate for a directory and everything beneath it, at both ends.
    fn permit_dirs(
        &self,
        tree: &Tree,
        moved: &Move,
        exchange: bool,
        caller: Caller,
    ) -> Result<u64> {
        let claim = self.permit_subtree(tree, moved.source, &moved.from, &moved.to, caller)?;
        if let Some(target) = moved.target {
            if exchange {
                self.permit_subtree(tree, target, &moved.to, &moved.from, caller)?;
            } else {
                self.permit_end(tree, target, Tried::Rmdir, &moved.to, caller)?;
            }
        }
        Ok(claim)
    }

    fn permit_subtree(
        &self,
        tree: &Tree,
        top: Idx,
        from: &RepoPath,
        to: &RepoPath,
        caller: Caller,
    ) -> Result<u64> {
        if crate::domain::zone::by_name(to).is_some() && self.options.kept.rule("reserved") {
            let refusal = Refusal::by_rule("reserved", "choose another name");
            return Err(self.deny(Tried::RenameTo, to, refusal, caller));
        }
        self.permit_end(tree, top, Tried::RenameFrom, from, caller)?;
        let claim = self.permit_end(tree, top, Tried::RenameTo, to, caller)?;
        if tree.node(top).kind.is_dir()
            && !(self.gate.uniform(from) && self.gate.uniform(to))
            && self.options.kept.has(Check::Beneath)
        {
            self.permit_beneath(tree, top, from, to, caller)?;
        }
        Ok(claim)
    }

    /// Asks for one path: a file by what is tried, a directory as something made or removed.
    fn permit_end(
        &self,
        tree: &Tree,
        idx: Idx,
        tried: Tried,
        path: &RepoPath,
        caller: Caller,
    ) -> Result<u64> {
        let asked = match (tree.node(idx).kind.is_dir(), tried) {
            (true, Tried::RenameFrom) => Tried::Rmdir,
            (true, Tried::RenameTo) => Tried::Mkdir,
            _ => tried,
        };
        self.permit(asked, path, caller)
            .map_err(|refusal| self.deny(tried, path, refusal, caller))
    }

    fn permit_beneath(
        &self,
        tree: &Tree,
        top: Idx,
        from: &RepoPath,
        to: &RepoPath,
        caller: Caller,
    ) -> Result<()> {
        let mut stack = vec![(top, from.clone(), to.clone())];
        while let Some((dir, from, to)) = stack.pop() {
            if !Self::is_loaded(tree, dir) {
                self.permit_base_beneath(tree.node(dir).oid, &from, &to, caller)?;
                continue;
            }
            for (_, child) in tree.list(dir, 0) {
                let (from, to) = (from.join(tree.name(child))?, to.join(tree.name(child))?);
                if tree.node(child).is(TRANSIENT) {
                    continue;
                }
                self.permit_end(tree, child, Tried::RenameFrom, &from, caller)?;
                self.permit_end(tree, child, Tried::RenameTo, &to, caller)?;
                if tree.node(child).kind == Kind::Dir {
                    stack.push((child, from, to));
                }
            }
        }
        Ok(())
    }

    /// As above, for directories of the base that nobody has looked into.
    fn permit_base_beneath(
        &self,
        oid: crate::domain::base::Oid,
        from: &RepoPath,
        to: &RepoPath,
        caller: Caller,
    ) -> Result<()> {
        let mut stack = vec![(oid, from.clone(), to.clone())];
        while let Some((oid, from, to)) = stack.pop() {
            for entry in self.base.list(&oid)?.iter() {
                let (from, to) = (from.join(&entry.name)?, to.join(&entry.name)?);
                let is_dir = entry.kind == crate::domain::base::BaseKind::Dir;
                let tried = if is_dir {
                    (Tried::Rmdir, Tried::Mkdir)
                } else {
                    (Tried::RenameFrom, Tried::RenameTo)
                };
                self.permit(tried.0, &from, caller)
                    .map_err(|no| self.deny(Tried::RenameFrom, &from, no, caller))?;
                self.permit(tried.1, &to, caller)
                    .map_err(|no| self.deny(Tried::RenameTo, &to, no, caller))?;
                if is_dir {
                    stack.push((entry.oid, from, to));
                }
            }
        }
        Ok(())
    }

    /// Scratch that stands in a renamed directory goes with it.
    fn move_shadow(&self, tree: &Tree, moved: &Move, exchange: bool) {
        if tree.node(moved.source).kind.is_dir()
            || moved.target.is_some_and(|at| tree.node(at).kind.is_dir())
        {
            self.scratch.move_shadow(&moved.from, &moved.to, exchange);
        }
    }

    /// Moves a node in the tree: what a `rename` entry means.
    pub(super) fn apply_rename(
        &self,
        tree: &mut Tree,
        from: &RepoPath,
        to: &RepoPath,
        exchange: bool,
        now: i64,
    ) -> Result<()> {
        let at = |tree: &Tree, path: &RepoPath| tree.find(path).ok().flatten();
        let source = at(tree, from).ok_or(Error::NoEntry)?;
        let target = at(tree, to);
        let from_dir = tree.node(source).parent;
        let to_dir = (to.parent().and_then(|dir| at(tree, &dir))).ok_or(Error::NoEntry)?;
        self.pin(tree, source)?;
        if let Some(target) = target {
            if exchange {
                self.pin(tree, target)?;
                tree.detach(target);
            } else {
                self.take_out(tree, target, now);
            }
        }
        tree.detach(source);
        tree.attach(source, to_dir, to.name());
        if let (true, Some(target)) = (exchange, target) {
            tree.attach(target, from_dir, from.name());
        }
        tree.node_mut(source).flags &= !TRANSIENT;
        tree.node_mut(source).flags |= crate::vfs::nodes::CHANGED;
        if let Some(file) = tree.node(source).file() {
            file.set_ctime(now);
            *file.saves.lock() = None;
        }
        if tree.node(source).kind.is_dir() {
            let times = self.times(tree, source);
            tree.set_dir_times(
                source,
                Times {
                    ctime: now,
                    ..times
                },
            );
        }
        tree.dir_times(from_dir, now);
        tree.dir_times(to_dir, now);
        self.touch_path(from);
        self.touch_path(to);
        Ok(())
    }

    /// Remembers where the base has a node that is about to move.
    pub(super) fn pin(&self, tree: &mut Tree, idx: Idx) -> Result<()> {
        if !tree.node(idx).is(crate::vfs::nodes::FROM_BASE) {
            return Ok(());
        }
        if !tree.node(idx).kind.is_dir() {
            self.make_changeable(tree, idx)?;
        }
        tree.pin_base(idx)
    }
}
