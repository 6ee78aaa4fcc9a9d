//! A merge computed once more, and held against its entry.
//!
//! The same log, base and tip must give the same tree, byte for byte, and the same
//! account of every path; the same rows must give the same verdict. What `gc`
//! dropped, or git pruned, is no difference: it cannot be computed again, and that
//! is said.

use std::collections::BTreeSet;

use super::candidate::{Candidate, git_failure};
use super::judge::{self, Case};
use super::landing::{CHECKOUT, UNDONE};
use super::{Standing, findings, open};
use crate::app::checks;
use crate::app::failure::{Failure, Kind};
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::{Base, Oid};
use crate::domain::digest::Digest;
use crate::domain::event::{Decision, Entry, Event, Finding, Merged, MergedPath, Reverted};
use crate::domain::layer::Content;
use crate::domain::merge::MergeRefusal;
use crate::domain::names::SessionId;
use crate::domain::state::{Kind as RowKind, RowKey, State};
use crate::git::promote::{Promote, PromoteError, Stage};

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
    let mut row = session::load(site, id)?;
    row.base = body.base;
    let session = Session::of(site, id, &row);
    let made = match Made::again(site, &session, body, &[commit], dropped)? {
        Ok(made) => made,
        Err(again) => return Ok(again),
    };
    if let Some(what) = tree_differs(&made.candidate, body) {
        return Ok(Again::Differs(what));
    }
    if made.promote.tree_of(commit).map_err(git_failure)? != body.tree {
        return Ok(Again::Differs(format!(
            "commit {commit} has another tree than the entry says"
        )));
    }
    let paths = made
        .candidate
        .records(&made.stage, made.standing.base.root())?;
    Ok(match first_difference(&paths, &body.paths) {
        Some(path) => Again::Differs(format!("{path} is accounted for otherwise")),
        None => Again::Same,
    })
}

/// A candidate that was made once more.
struct Made {
    promote: Promote,
    standing: Standing,
    stage: Stage,
    candidate: Candidate,
}

impl Made {
    /// Makes it from what the entry says; the answer is known already where it cannot be made.
    fn again(
        site: &Site,
        session: &Session,
        body: &Merged,
        besides: &[Oid],
        dropped: &BTreeSet<Digest>,
    ) -> Result<Result<Self, Again>, Failure> {
        let promote = open(site)?;
        for &needed in [body.onto, body.base].iter().chain(besides) {
            if let Err(PromoteError::Missing(oid)) = promote.tree_of(needed) {
                return Ok(Err(Again::Gone(format!("git has no {oid} any more"))));
            }
        }
        let standing = match Standing::read(site, session, body.count) {
            Ok(standing) => standing,
            Err(failure) => return differs(failure),
        };
        let gone = standing.changes.iter().find(|change| {
            matches!(&change.content, Content::Version { sha256, .. } if dropped.contains(sha256))
        });
        if let Some(change) = gone {
            return Ok(Err(Again::Gone(format!(
                "the content of {} was dropped",
                change.path
            ))));
        }
        let mut stage = promote.stage().map_err(git_failure)?;
        match standing.candidate(site, &mut stage, body.onto) {
            Ok(candidate) => Ok(Ok(Self {
                promote,
                standing,
                stage,
                candidate,
            })),
            Err(failure) => differs(failure),
        }
    }
}

/// What does not verify is a difference; what could not be read is no answer.
fn differs<T>(failure: Failure) -> Result<Result<T, Again>, Failure> {
    if failure.kind == Kind::Integrity {
        Ok(Err(Again::Differs(failure.message)))
    } else {
        Err(failure)
    }
}

/// Returns what a merge's entry, or its intent's, says of the gates.
fn verdict_of(entry: &Entry) -> Option<(&Merged, &[Finding])> {
    match &entry.event {
        Event::MergeIntent(body) => Some((body.merge.as_deref()?, &[])),
        Event::Merge(body) if body.decision == Decision::Deny => {
            let undone = body.refusals.iter().any(|line| line.rule == UNDONE);
            (!undone).then_some((body.as_ref(), body.refusals.as_slice()))
        }
        _ => None,
    }
}

/// Says whether an entry rests on the gates, so that they can be asked again.
pub fn has_verdict(entry: &Entry) -> bool {
    verdict_of(entry).is_some()
}

/// Asks every gate once more, as things stood before `entry`. What checks and
/// checkouts said are facts of the entry.
pub fn judged_again(
    site: &Site,
    state: &State,
    entry: &Entry,
    dropped: &BTreeSet<Digest>,
) -> Result<Again, Failure> {
    let (Some((body, recorded)), Some(id)) = (verdict_of(entry), &entry.session) else {
        return Ok(Again::Same);
    };
    let Some(row) = state.sessions.get(id) else {
        return Ok(Again::Differs(format!("there is no session {id}")));
    };
    let session = Session::of(site, id, row);
    let made = match Made::again(site, &session, body, &[], dropped)? {
        Ok(made) => made,
        Err(again) => return Ok(again),
    };
    let mut others = checks::findings(&body.checks);
    let facts = recorded.iter().filter(|line| line.rule == CHECKOUT);
    others.extend(facts.map(|line| MergeRefusal {
        rule: CHECKOUT,
        path: line.path.clone(),
        reason: line.reason.clone(),
        hint: line.hint.clone(),
    }));
    let judged = Case {
        state,
        session: &session,
        charter: &judge::both_charters(state, &session)?,
        stage: &made.stage,
        base: made.standing.base.root(),
        seen: &BTreeSet::new(),
        candidate: &made.candidate,
        others: &others,
    }
    .judge()?;
    let refusals = findings(&judged.verdict.refusals);
    let differs = refusals
        .iter()
        .find(|line| !recorded.contains(line))
        .map(|line| ("is refused", line))
        .or_else(|| {
            let line = recorded.iter().find(|line| !refusals.contains(line))?;
            Some(("is not refused", line))
        });
    Ok(match differs {
        Some((how, line)) => {
            let at = line.path.as_ref().map(|path| format!(" at {path}"));
            let at = at.unwrap_or_default();
            Again::Differs(format!("judged again it {how} by {}{at}", line.rule))
        }
        None => Again::Same,
    })
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
