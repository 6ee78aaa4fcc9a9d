//! From a verdict to a moved branch, in an order that a crash at any step leaves whole.
//!
//! 1. objects and the commit, durable, named by no ref;
//! 2. the checkouts can follow, and their indexes are held;
//! 3. the entry `merge-intent`, which carries the `merge` entry that is to come;
//! 4. the branch moves by compare-and-swap, and is looked at again;
//! 5. the checkouts follow;
//! 6. the entry `merge`: claims free, session over.
//!
//! Before 4 the intent is undone by the next command, after it finished.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};

use super::candidate::{git_failure, store_lfs};
use super::{Report, Round, append, judge};
use crate::app::checkpoint;
use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::merge::message;
use crate::app::serve::ground::{base_options, eol_of};
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::base::{Base, Oid};
use crate::domain::claim::freed;
use crate::domain::command::{Command, Need};
use crate::domain::convert::{EolConfig, to_git};
use crate::domain::event::{Decision, Draft, Event, Finding, MergeIntended, Merged, Tier};
use crate::domain::merge::MergeRefusal;
use crate::domain::path::RepoPath;
use crate::git::base::GitBase;
use crate::git::promote::{
    CommitSpec, Conversion, Follow, Leaf, Obstacle, Person, Promote, PromoteError,
};
use crate::store::ledger::LedgerError;
use crate::store::versions::Versions;

/// The rule of an intent that came to nothing.
pub const UNDONE: &str = "undone";
/// The rule of a checkout that could not follow.
pub const CHECKOUT: &str = "checkout";

/// The repository's lock: one branch moves at a time. While it is held its file
/// says so; a word that stands there without a holder is a dead one's.
#[derive(Debug)]
pub struct RepoLock(Flock<File>);

const LOCK: &str = "merge.lock";
const HELD: &[u8] = b"held\n";

impl RepoLock {
    fn of(mut file: Flock<File>) -> Result<Self, Failure> {
        file.rewind()
            .and_then(|()| file.write_all(HELD))
            .map_err(Failure::failed)?;
        Ok(Self(file))
    }
}

impl Drop for RepoLock {
    fn drop(&mut self) {
        // Left standing, the next command looks whether something is to be recovered.
        let _ = self.0.set_len(0);
    }
}

/// Says whether somebody holds the lock, or died with it.
pub fn is_held(site: &Site) -> bool {
    fs::metadata(site.store.join(LOCK)).is_ok_and(|meta| meta.len() > 0)
}

/// Waits for the repository's lock.
pub fn lock(site: &Site) -> Result<RepoLock, Failure> {
    let file = lock_file(site)?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Failure::failed(format!("the repository's lock: {errno}")))
        .and_then(RepoLock::of)
}

/// Takes the lock if nobody holds it: whoever has left an intent behind is then dead.
pub fn try_lock(site: &Site) -> Result<Option<RepoLock>, Failure> {
    match Flock::lock(lock_file(site)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => RepoLock::of(lock).map(Some),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(Failure::failed(format!("the repository's lock: {errno}"))),
    }
}

fn lock_file(site: &Site) -> Result<File, Failure> {
    let path = site.store.join(LOCK);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// Ends the process at the step that a test names, as a crash would.
pub fn crash_point(step: &str) {
    if cfg!(debug_assertions) && std::env::var_os("GOVFS_FAIL").is_some_and(|at| at == step) {
        std::process::abort();
    }
}

/// What came of landing.
pub enum Landed {
    Done(Box<Report>),
    /// Somebody who does not take the lock was faster.
    Again,
}

/// Promotes a candidate that stands; the lock is held.
pub fn land(round: &Round<'_>, site: &mut Site, _lock: &RepoLock) -> Result<Landed, Failure> {
    let common = site.repo.common_dir().to_owned();
    store_lfs(&common, &Versions::of(&site.store), &round.candidate.lfs)?;
    let commit = make_commit(round, site)?;
    crash_point("objects");
    let promote = &round.attempt.promote;
    let shown = Shown::new(site, Some(round.onto), Some(commit));
    let tree = round.candidate.merged.tree;
    let began = Instant::now();
    let follow = match promote.prepare_follow(&round.target, tree, &shown, false) {
        Ok(follow) => follow,
        Err(PromoteError::Blocked(obstacles)) => {
            let refused = round.refuse(site, &blocked(&obstacles))?;
            return Ok(refused.map_or(Landed::Again, |report| Landed::Done(Box::new(report))));
        }
        Err(error) => return Err(git_failure(error)),
    };
    let mut checkout = began.elapsed();
    crash_point("locked");
    let body = round.body(Decision::Allow, Some(commit));
    if !intend(round, site, &body, commit)? {
        return Ok(Landed::Again);
    }
    crash_point("intent");
    let reflog = format!("govfs: merge {}", round.session().id);
    match promote.advance(&round.target, commit, &reflog) {
        Ok(()) => {}
        Err(error @ PromoteError::Moved { .. }) => {
            undo(site, round.session(), &body, &error.to_string())?;
            return Ok(Landed::Again);
        }
        Err(error) => {
            undo(site, round.session(), &body, &error.to_string())?;
            return Err(git_failure(error));
        }
    }
    crash_point("ref");
    let promised = promises(round);
    if let Err(error) = promote.recheck(&round.target, commit, &promised) {
        if matches!(error, PromoteError::Promise { .. }) {
            promote
                .retreat(&round.target, commit, "govfs: merge undone")
                .map_err(git_failure)?;
        }
        undo(site, round.session(), &body, &error.to_string())?;
        return Err(git_failure(error));
    }
    crash_point("recheck");
    let mut remarks = Vec::new();
    let began = Instant::now();
    let told = |failure: Failure| half_done(&round.target.branch, commit, &failure);
    finish_follow(follow, promote, &shown, &mut remarks).map_err(told)?;
    checkout += began.elapsed();
    crash_point("follow");
    let entry = record(site, round.session(), body).map_err(told)?;
    crash_point("merge");
    keep(promote, round.session(), commit, &mut remarks);
    let mut report = round.told(true, Some(entry))?;
    report.commit = Some(commit);
    report.checkout = checkout;
    report.remarks = remarks;
    Ok(Landed::Done(Box::new(report)))
}

/// Lets the checkouts follow. The branch has moved, so what keeps one from it is only told of;
/// but for a full disk the entry waits, so that the next command finds what is left to do.
pub fn finish_follow(
    follow: Follow,
    promote: &Promote,
    shown: &Shown,
    remarks: &mut Vec<String>,
) -> Result<(), Failure> {
    match follow.finish(promote, shown) {
        Ok(()) => Ok(()),
        Err(error) if error.is_full() => Err(Failure::failed(format!(
            "a checkout did not follow: {error}"
        ))),
        Err(error) => {
            remarks.push(format!(
                "the branch has moved, but a checkout did not follow to the end: {error}"
            ));
            Ok(())
        }
    }
}

/// What is said where the branch has moved and the ledger's entry does not say so yet:
/// the intent stands, and the next command finishes from it.
pub fn half_done(branch: &str, commit: Oid, failure: &Failure) -> Failure {
    let message = format!(
        "{branch} moved to {commit}, but the ledger's entry of it is not written: {}",
        failure.message
    );
    Failure::new(failure.kind, message)
        .hint("the next govfs command finishes it, once there is space or what failed is mended")
}

/// Keeps the merged candidate until retention ends; where it does not come from the base, the base stays kept.
fn keep(promote: &Promote, session: &Session, commit: Oid, remarks: &mut Vec<String>) {
    let kept = match promote.descends(commit, session.row.base) {
        Ok(true) => promote.keep(&session.id, commit),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        remarks.push(format!("the merged commit could not be kept: {error}"));
    }
}

fn promises(round: &Round<'_>) -> Vec<(RepoPath, Option<Leaf>)> {
    let deltas = round.candidate.deltas.iter();
    deltas
        .map(|delta| (delta.path.clone(), delta.new))
        .collect()
}

/// Makes the commit durable, anchored by a checkpoint that is signed for it.
fn make_commit(round: &Round<'_>, site: &mut Site) -> Result<Oid, Failure> {
    let signed = checkpoint::sign_ledger(site)?;
    let session = round.session();
    let plan = crate::app::gates::plan_of_session(&round.state, session);
    let mut trailers = vec![
        ("Govfs-Agent", session.agent.to_string()),
        ("Govfs-Session", session.id.to_string()),
    ];
    trailers.extend(plan.iter().map(|plan| ("Govfs-Plan", plan.to_string())));
    if let Some(tier) = session.row.tier.filter(|tier| *tier < Tier::A) {
        trailers.push(("Govfs-Tier", format!("{tier:?}")));
    }
    trailers.push((crate::app::verify::TRAILER, signed.checkpoint.trailer()));
    let text = message::of(
        site,
        session,
        round.attempt.wish.message.as_deref(),
        &round.state,
    );
    let spec = CommitSpec {
        tree: round.candidate.merged.tree,
        parents: vec![round.onto],
        author: Person::agent(session.agent.as_str()),
        message: crate::git::promote::message_with_trailers(&text, &trailers),
        time: (clock::wall().0 / 1_000_000_000, 0),
    };
    round.commit(&spec)
}

/// Announces the move. `false` where what was judged is so no longer.
fn intend(round: &Round<'_>, site: &mut Site, body: &Merged, commit: Oid) -> Result<bool, Failure> {
    let session = round.session();
    let intent = MergeIntended {
        branch: body.branch.clone(),
        commit,
        onto: body.onto,
        tree: body.tree,
        count: body.count,
        merge: Some(Box::new(body.clone())),
        revert: None,
    };
    let draft = Draft::new(Event::MergeIntent(intent))
        .by(&session.agent)
        .within(Some(&session.id));
    let needs = judge::needs(session);
    let (stands, _, _) = site.act(|turn| {
        turn.load(&needs)?;
        if !round.is_judged_so(turn.state())? {
            return Ok(false);
        }
        match turn.command(&Command::Fact(Box::new(draft.clone())))? {
            Some(refusal) => Err(refusal.into()),
            None => Ok(true),
        }
    })?;
    Ok(stands)
}

/// Records that an intent came to nothing, and why.
pub fn undo(site: &mut Site, session: &Session, body: &Merged, why: &str) -> Result<u64, Failure> {
    let mut undone = body.clone();
    undone.decision = Decision::Deny;
    undone.paths = Vec::new();
    undone.commit = None;
    undone.refusals = vec![Finding {
        rule: UNDONE.to_owned(),
        path: None,
        reason: why.to_owned(),
        hint: "merge again".to_owned(),
    }];
    append(site, session, Event::Merge(Box::new(undone)))
}

/// Records a merge: the agent's claims are free, and the session is over.
pub fn record(site: &mut Site, session: &Session, body: Merged) -> Result<u64, Failure> {
    let (seq, _, _) = site.act(|turn| {
        turn.load(&[Need::ClaimsOf(session.agent.clone())])?;
        let mut body = body.clone();
        body.claims = turn.state().claims_of(&session.agent).map(freed).collect();
        let draft = Draft::new(Event::Merge(Box::new(body)))
            .by(&session.agent)
            .within(Some(&session.id));
        if let Some(refusal) = turn.command(&Command::Fact(Box::new(draft)))? {
            return Err(refusal.into());
        }
        let last = turn.entries().last();
        last.map(|entry| entry.seq)
            .ok_or(Failure::from(LedgerError::Busy))
    })?;
    Ok(seq)
}

/// Says for each obstacle which path it is about.
pub fn blocked(obstacles: &[Obstacle]) -> Vec<MergeRefusal> {
    let line = |obstacle: &Obstacle| MergeRefusal {
        rule: CHECKOUT,
        path: obstacle.path.clone(),
        reason: obstacle.to_string(),
        hint: format!("{}; then merge again", obstacle.remedy()),
    };
    obstacles.iter().map(line).collect()
}

/// How the operator's checkouts show files: by the attributes of the commit that
/// they are on, and the operator's own line-ending settings.
pub struct Shown {
    common: PathBuf,
    eol: EolConfig,
    old: Option<Oid>,
    new: Option<Oid>,
    old_base: OnceLock<Option<GitBase>>,
    new_base: OnceLock<Option<GitBase>>,
}

impl Shown {
    pub fn new(site: &Site, old: Option<Oid>, new: Option<Oid>) -> Self {
        Self {
            common: site.repo.common_dir().to_owned(),
            eol: eol_of(&site.repo.pinned()),
            old,
            new,
            old_base: OnceLock::new(),
            new_base: OnceLock::new(),
        }
    }

    fn base<'a>(
        &'a self,
        of: Option<Oid>,
        slot: &'a OnceLock<Option<GitBase>>,
    ) -> io::Result<&'a GitBase> {
        let open = || {
            let options = base_options(&self.common, self.eol);
            GitBase::open(&self.common, of?, options).ok()
        };
        slot.get_or_init(open)
            .as_ref()
            .ok_or_else(|| io::Error::other("the commit of a checkout cannot be read"))
    }

    fn before(&self) -> io::Result<&GitBase> {
        self.base(self.old, &self.old_base)
    }

    fn after(&self) -> io::Result<&GitBase> {
        self.base(self.new.or(self.old), &self.new_base)
    }
}

impl Conversion for Shown {
    fn to_worktree(&self, path: &RepoPath, blob: &[u8]) -> io::Result<Vec<u8>> {
        let base = self.after()?;
        if let Some(entry) = base.find(path)?
            && base.blob(&entry.oid).is_ok_and(|bytes| bytes == blob)
        {
            return base.read(path, &entry);
        }
        Ok(blob.to_vec())
    }

    fn to_git(&self, path: &RepoPath, file: &[u8], blob: &[u8]) -> io::Result<Vec<u8>> {
        let conversion = self.before()?.conversion(path)?;
        match to_git(file, &conversion, Some(blob)) {
            Ok(bytes) => Ok(bytes.into_owned()),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}
