//! Merges that a crash cut short: finished if the branch had moved, undone if not.
//!
//! The intent carries what was promised, so that nothing has to be computed
//! again. Whoever holds the repository's lock and finds an intent knows that
//! nobody works on it any more.

use super::candidate::git_failure;
use super::landing::{self, RepoLock, Shown};
use super::{append, open};
use crate::app::failure::Failure;
use crate::app::live;
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::command::Need;
use crate::domain::entry::Line;
use crate::domain::event::{Decision, Entry, Event, MergeIntended, Merged, Reverted, Tier};
use crate::domain::names::SessionId;
use crate::domain::state::{IntentRow, Kind};
use crate::git::promote::{Promote, PromoteError, Target};

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub session: SessionId,
    pub finished: bool,
    /// The entry that says so.
    pub entry: u64,
    pub remarks: Vec<String>,
}

/// Settles every intent that nobody works on any more; waits for the lock if there is one.
pub fn all(site: &mut Site) -> Result<Vec<Recovered>, Failure> {
    if pending(site)?.is_empty() {
        return if_idle(site);
    }
    let lock = landing::lock(site)?;
    under(site, &lock)
}

/// The same for commands that merge nothing: they do not wait for a merge that is under way.
pub fn if_idle(site: &mut Site) -> Result<Vec<Recovered>, Failure> {
    if !landing::is_held(site) && pending(site)?.is_empty() {
        return Ok(Vec::new());
    }
    match landing::try_lock(site)? {
        Some(lock) => under(site, &lock),
        None => Ok(Vec::new()),
    }
}

fn pending(site: &mut Site) -> Result<Vec<(SessionId, IntentRow)>, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Intent)])?;
    Ok(state.intents.into_iter().collect())
}

fn under(site: &mut Site, _lock: &RepoLock) -> Result<Vec<Recovered>, Failure> {
    let promote = open(site)?;
    promote.break_locks();
    let mut done = Vec::new();
    let mut waits = false;
    for (id, row) in pending(site)? {
        if let Some(recovered) = one(site, &promote, &id, &row)? {
            live::refresh(site, &id)?;
            done.push(recovered);
        } else {
            waits = true;
        }
    }
    if waits {
        return Err(
            Failure::failed("a merge waits: its checkout has no room for the files")
                .hint("free some space and try again"),
        );
    }
    Ok(done)
}

/// `None` where a checkout has no room to follow: it stays to be finished.
fn one(
    site: &mut Site,
    promote: &Promote,
    id: &SessionId,
    row: &IntentRow,
) -> Result<Option<Recovered>, Failure> {
    let intent = intent(site, row)?;
    let session_row = session::load(site, id)?;
    let session = Session::of(site, id, &session_row);
    let now = promote.target(&row.branch).map_err(git_failure)?;
    promote
        .break_ref_lock(&now.refname, &[row.commit, row.onto])
        .map_err(git_failure)?;
    let landed = match now.tip {
        Some(tip) => has_landed(promote, tip, row.commit)?,
        None => false,
    };
    let mut remarks = Vec::new();
    let entry = if landed {
        if !follow(site, promote, row, &now, &mut remarks)? {
            return Ok(None);
        }
        finish(site, &session, intent)?
    } else {
        let why = "the process that merged ended before the branch moved";
        landing::undo(site, &session, &promised(&intent, row)?, why)?
    };
    Ok(Some(Recovered {
        session: id.clone(),
        finished: landed,
        entry,
        remarks,
    }))
}

/// A commit that is not there never landed; one that cannot be read now says nothing.
fn has_landed(promote: &Promote, tip: Oid, commit: Oid) -> Result<bool, Failure> {
    match promote.tree_of(commit) {
        Ok(_) => promote.descends(tip, commit).map_err(git_failure),
        Err(PromoteError::Missing(_)) => Ok(false),
        Err(error) => Err(git_failure(error)),
    }
}

/// Reads the entry that announced the move.
fn intent(site: &mut Site, row: &IntentRow) -> Result<MergeIntended, Failure> {
    let bytes = site.ledger.lines()?.line(row.entry)?;
    let gone = || Failure::integrity(format!("entry {}: it is no intent", row.entry));
    let bytes = bytes.ok_or_else(gone)?;
    let line = Line::parse(&bytes).map_err(Failure::integrity)?;
    let entry =
        Entry::from_line(&line, crate::domain::entry::leaf(&bytes)).map_err(Failure::integrity)?;
    match entry.event {
        Event::MergeIntent(body) => Ok(body),
        _ => Err(gone()),
    }
}

/// Returns the merge that an intent promised; of a revert, one that says the same.
fn promised(intent: &MergeIntended, row: &IntentRow) -> Result<Merged, Failure> {
    if let Some(merge) = &intent.merge {
        return Ok((**merge).clone());
    }
    let revert = intent
        .revert
        .as_ref()
        .ok_or_else(|| Failure::integrity(format!("entry {}: it promises nothing", row.entry)))?;
    Ok(as_merge(revert))
}

/// Records that a revert came to nothing, and why.
pub fn undo_revert(
    site: &mut Site,
    session: &Session,
    revert: &Reverted,
    why: &str,
) -> Result<u64, Failure> {
    landing::undo(site, session, &as_merge(revert), why)
}

/// The form in which the end of an intent that came to nothing is recorded.
fn as_merge(revert: &Reverted) -> Merged {
    Merged {
        decision: Decision::Deny,
        branch: revert.branch.clone(),
        base: revert.onto,
        onto: revert.onto,
        tree: revert.tree,
        commit: None,
        paths: Vec::new(),
        refusals: Vec::new(),
        checks: Vec::new(),
        reviews: Vec::new(),
        tier: Tier::C,
        claims: Vec::new(),
        plan: revert.plan.clone(),
        count: 0,
    }
}

fn finish(site: &mut Site, session: &Session, intent: MergeIntended) -> Result<u64, Failure> {
    match (intent.merge, intent.revert) {
        (Some(merge), _) => landing::record(site, session, *merge),
        (None, Some(revert)) => append(site, session, Event::Revert(*revert)),
        (None, None) => Err(Failure::integrity("an intent that promises nothing")),
    }
}

/// Lets the checkouts follow to the end, where the branch still is where the merge put it;
/// `false` where there is no room for that now.
fn follow(
    site: &Site,
    promote: &Promote,
    row: &IntentRow,
    now: &Target,
    remarks: &mut Vec<String>,
) -> Result<bool, Failure> {
    if now.tip != Some(row.commit) {
        return Ok(true);
    }
    let before = Target {
        tip: Some(row.onto),
        ..now.clone()
    };
    let shown = Shown::new(site, Some(row.onto), Some(row.commit));
    let followed = promote
        .prepare_follow(&before, row.tree, &shown, true)
        .and_then(|follow| follow.finish(promote, &shown));
    match followed {
        Ok(()) => Ok(true),
        Err(error) if error.is_full() => Ok(false),
        Err(error @ (PromoteError::Blocked(_) | PromoteError::Io { .. })) => {
            remarks.push(error.to_string());
            Ok(true)
        }
        Err(error) => Err(git_failure(error)),
    }
}
