//! A merge computed and judged once more, and held against its entry.
//!
//! The same log, base and tip must give the same tree, byte for byte, and the same
//! account of every path; the same ledger must give the same verdict. What `gc` dropped, or git pruned, is no difference: it
//! cannot be computed again, and that is said.

use std::collections::BTreeSet;

use super::candidate::{Candidate, git_failure};
use super::judge::{self, Case};
use super::{Standing, findings, landing, open};
use crate::app::checks;
use crate::app::failure::{Failure, Kind};
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::{Base, Oid};
use crate::domain::digest::Digest;
use crate::domain::event::{Decision, Entry, Event, Merged, MergedPath, Reverted};
use crate::domain::layer::Content;
use crate::domain::merge::MergeRefusal;
use crate::domain::names::SessionId;
use crate::domain::state::{Kind as RowKind, RowKey, State};
use crate::git::promote::PromoteError;

/// What came of computing a merge again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    Same,
    /// It cannot be computed any more, and why.
    Gone(String),
    Differs(String),
}

/// Says whether an entry moved a branch, so that it can be computed again.
pub fn moved_a_branch(entry: &Entry) -> bool {
    match &entry.event {
        Event::Merge(body) => body.commit.is_some(),
        Event::Revert(_) => true,
        _ => false,
    }
}

/// Computes what `entry` did once more. `dropped` are the contents that `gc` took.
pub fn again(site: &mut Site, entry: &Entry, dropped: &BTreeSet<Digest>) -> Result<Again, Failure> {
    match (&entry.event, &entry.session) {
        (Event::Merge(body), Some(session)) => match body.commit {
            Some(commit) => merge_again(site, session, body, commit, dropped),
            None => Ok(Again::Same),
        },
        (Event::Revert(body), _) => revert_again(site, body),
        _ => Ok(Again::Same),
    }
}

fn merge_again(
    site: &mut Site,
    id: &SessionId,
    body: &Merged,
    commit: Oid,
    dropped: &BTreeSet<Digest>,
) -> Result<Again, Failure> {
    let promote = open(site)?;
    for needed in [commit, body.onto, body.base] {
        if let Err(PromoteError::Missing(oid)) = promote.tree_of(needed) {
            return Ok(Again::Gone(format!("git has no {oid} any more")));
        }
    }
    let mut row = session::load(site, id)?;
    row.base = body.base;
    let session = Session::of(site, id, &row);
    let standing = match Standing::read(site, &session, body.count) {
        Ok(standing) => standing,
        Err(failure) => return differs_by(failure),
    };
    if let Some(why) = gone(&standing, dropped) {
        return Ok(Again::Gone(why));
    }
    let mut stage = promote.stage().map_err(git_failure)?;
    let candidate = match standing.candidate(site, &mut stage, body.onto) {
        Ok(candidate) => candidate,
        Err(failure) => return differs_by(failure),
    };
    if let Some(what) = tree_differs(&candidate, body) {
        return Ok(Again::Differs(what));
    }
    if promote.tree_of(commit).map_err(git_failure)? != body.tree {
        return Ok(Again::Differs(format!(
            "commit {commit} has another tree than the entry says"
        )));
    }
    let paths = candidate.records(&stage, standing.base.root())?;
    Ok(match first_difference(&paths, &body.paths) {
        Some(path) => Again::Differs(format!("{path} is accounted for otherwise")),
        None => Again::Same,
    })
}

/// Judges a merge, or the refusal of one, once more. `state` is the ledger as it was when the
/// verdict was given. What the checks said, and what stood in a checkout's way, are facts.
pub fn judge_again(
    site: &Site,
    state: &State,
    entry: &Entry,
    dropped: &BTreeSet<Digest>,
) -> Result<Again, Failure> {
    let (Event::Merge(body), Some(id)) = (&entry.event, &entry.session) else {
        return Ok(Again::Same);
    };
    let undone = body
        .refusals
        .iter()
        .any(|line| line.rule == landing::UNDONE);
    let Some(row) = state.sessions.get(id).filter(|_| !undone) else {
        return Ok(Again::Same);
    };
    let mut row = row.clone();
    row.base = body.base;
    let session = Session::of(site, id, &row);
    let promote = open(site)?;
    for needed in [body.onto, body.base] {
        if let Err(PromoteError::Missing(oid)) = promote.tree_of(needed) {
            return Ok(Again::Gone(format!("git has no {oid} any more")));
        }
    }
    let standing = match Standing::read(site, &session, body.count) {
        Ok(standing) => standing,
        Err(failure) => return differs_by(failure),
    };
    if let Some(why) = gone(&standing, dropped) {
        return Ok(Again::Gone(why));
    }
    let mut stage = promote.stage().map_err(git_failure)?;
    let candidate = match standing.candidate(site, &mut stage, body.onto) {
        Ok(candidate) => candidate,
        Err(failure) => return differs_by(failure),
    };
    let case = Case {
        state,
        session: &session,
        charter: &judge::both_charters(state, &session)?,
        stage: &stage,
        base: standing.base.root(),
        candidate: &candidate,
        others: &facts(body),
    };
    if candidate.is_empty() {
        let same = body.decision == Decision::Allow && body.commit.is_none();
        return Ok(verdict_is(same, || "there is nothing to merge".to_owned()));
    }
    let judged = case.judge()?;
    let found = findings(&judged.verdict.refusals);
    let same = found == body.refusals && judged.reviews == body.reviews;
    Ok(verdict_is(same, || match found.first() {
        Some(first) => format!("refused by {}: {}", first.rule, first.reason),
        None => "allowed".to_owned(),
    }))
}

/// What the entry says of the world outside the ledger.
fn facts(body: &Merged) -> Vec<MergeRefusal> {
    let mut facts = checks::findings(&body.checks);
    let blocked = body
        .refusals
        .iter()
        .filter(|line| line.rule == landing::CHECKOUT);
    facts.extend(blocked.map(|line| MergeRefusal {
        rule: landing::CHECKOUT,
        path: line.path.clone(),
        reason: line.reason.clone(),
        hint: line.hint.clone(),
    }));
    facts
}

fn verdict_is(same: bool, again: impl FnOnce() -> String) -> Again {
    if same {
        Again::Same
    } else {
        Again::Differs(format!("judged again: {}", again()))
    }
}

/// What does not verify differs; anything else is the machine's.
fn differs_by(failure: Failure) -> Result<Again, Failure> {
    if failure.kind == Kind::Integrity {
        Ok(Again::Differs(failure.message))
    } else {
        Err(failure)
    }
}

/// Says which content that the session's changes need was dropped.
fn gone(standing: &Standing, dropped: &BTreeSet<Digest>) -> Option<String> {
    let gone = standing.changes.iter().find(|change| {
        matches!(&change.content, Content::Version { sha256, .. } if dropped.contains(sha256))
    })?;
    Some(format!("the content of {} was dropped", gone.path))
}

fn tree_differs(candidate: &Candidate, body: &Merged) -> Option<String> {
    let (tree, recorded) = (candidate.merged.tree, body.tree);
    (tree != recorded).then(|| format!("it gives the tree {tree}, the entry says {recorded}"))
}

fn first_difference(found: &[MergedPath], recorded: &[MergedPath]) -> Option<String> {
    let differs = found.iter().zip(recorded).find(|(one, other)| one != other);
    let longer = || {
        let (more, less) = if found.len() > recorded.len() {
            (found, recorded)
        } else {
            (recorded, found)
        };
        more.get(less.len())
    };
    differs
        .map(|(one, _)| one)
        .or_else(longer)
        .map(|path| path.path.to_string())
}

fn revert_again(site: &mut Site, body: &Reverted) -> Result<Again, Failure> {
    let promote = open(site)?;
    let key = RowKey::new(RowKind::Merge, &body.merge);
    let state = site
        .ledger
        .state(&[crate::domain::command::Need::Row(key)])?;
    let Some(row) = state.merges.get(&body.merge) else {
        return Ok(Again::Differs(format!("there is no merge {}", body.merge)));
    };
    for needed in [row.commit, body.onto, body.commit] {
        if let Err(PromoteError::Missing(oid)) = promote.tree_of(needed) {
            return Ok(Again::Gone(format!("git has no {oid} any more")));
        }
    }
    let mut stage = promote.stage().map_err(git_failure)?;
    let undone = stage.revert(row.commit, body.onto).map_err(git_failure)?;
    let committed = promote.tree_of(body.commit).map_err(git_failure)?;
    let (tree, recorded) = (undone.merged.tree, body.tree);
    Ok(if tree != recorded {
        Again::Differs(format!(
            "it gives the tree {tree}, the entry says {recorded}"
        ))
    } else if committed != recorded {
        Again::Differs(format!(
            "commit {} has another tree than the entry says",
            body.commit
        ))
    } else {
        Again::Same
    })
}
