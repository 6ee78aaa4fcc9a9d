//! `revert`: a commit that undoes exactly one merge.
//!
//! Owns: finding the merge, the reverse difference over today's tip, the rules it
//! is held to (protected paths, names, whoever holds a claim there now, checkouts
//! that must follow), and the same order of steps as a merge: intent, branch,
//! entry. Never undoes more than that one merge: where later work stands on it,
//! it says which and leaves everything as it was.

use std::collections::BTreeMap;

use crate::app::checkpoint;
use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::live;
use crate::app::merge::candidate::{git_failure, letter};
use crate::app::merge::landing::{self, Shown, crash_point, finish_follow, half_done};
use crate::app::merge::{self, append, recover};
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::command::Need;
use crate::domain::event::{Event, MergeIntended, MergedPath, Reverted};
use crate::domain::path::RepoPath;
use crate::domain::state::{Kind, MergeRow, State};
use crate::git::promote::{
    CommitSpec, Delta, Obstacle, PromoteError, Reverted as Undone, Stage, Target,
    message_with_trailers,
};

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The merge entry that was undone.
    pub merge: u64,
    pub entry: u64,
    pub branch: String,
    pub commit: Oid,
    pub changes: Vec<MergedPath>,
    pub remarks: Vec<String>,
}

/// Undoes the merge that `what` names: a merge entry's number, or its commit.
pub fn revert(site: &mut Site, what: &str, message: Option<&str>) -> Result<Report, Failure> {
    recover::all(site)?;
    let lock = landing::lock(site)?;
    site.act(|_| Ok(()))?; // what is due ends first
    let state = site.ledger.state(&[
        Need::All(Kind::Merge),
        Need::All(Kind::Claim),
        Need::All(Kind::Plan),
    ])?;
    let (number, row) = find(site, &state, what)?;
    if let Some(entry) = row.reverted {
        return Err(Failure::refused(format!(
            "merge {number} was reverted already, by entry {entry}"
        )));
    }
    let session_row = session::load(site, &row.session)?;
    let session = Session::of(site, &row.session, &session_row);
    let promote = merge::open(site)?;
    let target = promote.target(&row.branch).map_err(git_failure)?;
    let tip = target.tip.ok_or_else(|| {
        Failure::missing(format!("the branch {} is not there any more", row.branch))
    })?;
    if !promote.descends(tip, row.commit).map_err(git_failure)? {
        return Err(Failure::refused(format!(
            "{} does not hold {} any more, so there is nothing to undo",
            row.branch, row.commit
        )));
    }
    let mut stage = promote.stage().map_err(git_failure)?;
    let undone = stage.revert(row.commit, tip).map_err(git_failure)?;
    refuse_collisions(&state, number, &undone)?;
    let before = promote.tree_of(tip).map_err(git_failure)?;
    let deltas = stage
        .view()
        .diff(Some(before), Some(undone.merged.tree))
        .map_err(git_failure)?;
    if deltas.is_empty() {
        return Err(Failure::refused(format!(
            "merge {number} is undone already: nothing on {} would change",
            row.branch
        )));
    }
    refuse_by_rules(&state, &deltas)?;
    let plan = Plan {
        number,
        row: &row,
        session: &session,
        target: &target,
        tip,
        tree: undone.merged.tree,
        deltas: &deltas,
        message,
    };
    let report = plan.land(site, &mut stage);
    drop(lock);
    report
}

/// Finds a merge by its entry or by its commit.
fn find(site: &Site, state: &State, what: &str) -> Result<(u64, MergeRow), Failure> {
    let number = what.parse::<u64>().ok();
    if let Some((number, row)) = number.and_then(|n| state.merges.get_key_value(&n)) {
        return Ok((*number, row.clone()));
    }
    let oid = site.repo.resolve(what).ok();
    let found = state.merges.iter().find(|(_, row)| Some(row.commit) == oid);
    match (found, number, oid) {
        (Some((number, row)), ..) => Ok((*number, row.clone())),
        (None, _, Some(oid)) => {
            Err(Failure::missing(format!("{oid} is no commit of a merge"))
                .hint("govfs log --op merge"))
        }
        (None, Some(number), None) => Err(Failure::missing(format!(
            "entry {number} is no merge that moved a branch"
        ))
        .hint("govfs log --op merge")),
        (None, None, None) => Err(Failure::missing(format!(
            "{what} is neither an entry nor a commit"
        ))
        .hint("govfs log --op merge")),
    }
}

/// Names, for each path that cannot be undone by itself, what came later.
fn refuse_collisions(state: &State, number: u64, undone: &Undone) -> Result<(), Failure> {
    if undone.merged.conflicts.is_empty() {
        return Ok(());
    }
    let merges: BTreeMap<Oid, u64> = state
        .merges
        .iter()
        .map(|(number, row)| (row.commit, *number))
        .collect();
    let name = |commit: &Oid| match merges.get(commit) {
        Some(entry) => {
            let agent = state.merges.get(entry).map(|row| row.agent.to_string());
            format!("merge {entry} of {}", agent.unwrap_or_default())
        }
        None => format!("commit {commit}"),
    };
    let mut lines = Vec::new();
    for conflict in &undone.merged.conflicts {
        let later = undone
            .later
            .iter()
            .find(|(path, _)| *path == conflict.path)
            .map(|(_, commits)| commits.iter().map(name).collect::<Vec<_>>())
            .unwrap_or_default();
        lines.push(match later.as_slice() {
            [] => conflict.path.to_string(),
            later => format!("{} (changed later by {})", conflict.path, later.join(", ")),
        });
    }
    Err(Failure::refused(format!(
        "merge {number} cannot be undone by itself: {}",
        lines.join("; ")
    ))
    .hint("revert the later ones first, or change the paths in a session"))
}

/// What the charter protects, and what somebody holds at this moment, stays.
fn refuse_by_rules(state: &State, deltas: &[Delta]) -> Result<(), Failure> {
    let law = state.law.as_ref().ok_or_else(|| {
        Failure::usage("the charter in force cannot be read, so nothing may be reverted")
            .hint("govfs charter check")
    })?;
    let mut lines = Vec::new();
    for delta in deltas {
        if law.is_protected(&delta.path) {
            lines.push(format!("{}: protected by the charter", delta.path));
        }
        let held = state
            .claims
            .values()
            .find(|claim| claim.pattern.covers(&delta.path));
        if let Some(claim) = held {
            lines.push(format!(
                "{}: held by {} ({})",
                delta.path, claim.agent, claim.pattern
            ));
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(lines.join("; "))
        .hint("wait until the claims are free, or release them; then revert again"))
}

/// A revert that may be done.
struct Plan<'a> {
    number: u64,
    row: &'a MergeRow,
    session: &'a Session,
    target: &'a Target,
    tip: Oid,
    tree: Oid,
    deltas: &'a [Delta],
    message: Option<&'a str>,
}

impl Plan<'_> {
    fn land(&self, site: &mut Site, stage: &mut Stage) -> Result<Report, Failure> {
        let commit = self.commit(site, stage)?;
        let promote = merge::open(site)?;
        let shown = Shown::new(site, Some(self.tip), Some(commit));
        let follow = promote
            .prepare_follow(self.target, self.tree, &shown, false)
            .map_err(|error| match error {
                PromoteError::Blocked(ref obstacles) => {
                    let remedy = obstacles.first().map_or("see there", Obstacle::remedy);
                    Failure::refused(&error).hint(format!("{remedy}; then revert again"))
                }
                other => git_failure(other),
            })?;
        let body = Reverted {
            merge: self.number,
            branch: self.target.branch.clone(),
            commit,
            onto: self.tip,
            tree: self.tree,
            paths: self.paths(),
            plan: self.row.plan.clone(),
        };
        append(
            site,
            self.session,
            Event::MergeIntent(MergeIntended {
                branch: body.branch.clone(),
                commit,
                onto: self.tip,
                tree: self.tree,
                count: 0,
                merge: None,
                revert: Some(Box::new(body.clone())),
            }),
        )?;
        crash_point("intent");
        let reflog = format!("govfs: revert {}", self.number);
        let moved = promote
            .advance(self.target, commit, &reflog)
            .and_then(|()| promote.recheck(self.target, commit, &self.promised()));
        if let Err(error) = moved {
            if matches!(error, PromoteError::Promise { .. }) {
                promote
                    .retreat(self.target, commit, "govfs: revert undone")
                    .map_err(git_failure)?;
            }
            recover::undo_revert(site, self.session, &body, &error.to_string())?;
            return Err(git_failure(error));
        }
        crash_point("ref");
        let mut remarks = Vec::new();
        let told = |failure: Failure| half_done(&body.branch, commit, &failure);
        finish_follow(follow, &promote, &shown, &mut remarks).map_err(told)?;
        crash_point("follow");
        let entry = append(site, self.session, Event::Revert(body.clone())).map_err(told)?;
        live::refresh(site, &self.session.id)?;
        Ok(Report {
            merge: self.number,
            entry,
            branch: body.branch,
            commit,
            changes: body.paths,
            remarks,
        })
    }

    fn promised(&self) -> Vec<(RepoPath, Option<crate::git::promote::Leaf>)> {
        let deltas = self.deltas.iter();
        deltas
            .map(|delta| (delta.path.clone(), delta.new))
            .collect()
    }

    fn paths(&self) -> Vec<MergedPath> {
        let record = |delta: &Delta| MergedPath {
            path: delta.path.clone(),
            status: letter(delta.status, false),
            from: None,
            base: delta.old.map(|leaf| leaf.oid),
            session: None,
            result: delta.new.map(|leaf| leaf.oid),
            mode: delta.new.map(|leaf| leaf.mode),
            sha256: None,
        };
        self.deltas.iter().map(record).collect()
    }

    fn commit(&self, site: &mut Site, stage: &mut Stage) -> Result<Oid, Failure> {
        let signed = checkpoint::sign_ledger(site)?;
        let undone = stage
            .view()
            .message_of(self.row.commit)
            .map_err(git_failure)?;
        let undone = String::from_utf8_lossy(&undone).into_owned();
        let subject = undone.lines().next().unwrap_or_default();
        let text = match self.message {
            Some(text) if !text.trim().is_empty() => text.to_owned(),
            _ => format!(
                "Revert \"{subject}\"\n\nThis undoes commit {}, merge entry {}.\n",
                self.row.commit, self.number
            ),
        };
        let mut trailers = vec![
            ("Govfs-Agent", self.session.agent.to_string()),
            ("Govfs-Session", self.session.id.to_string()),
            ("Govfs-Reverts", self.number.to_string()),
        ];
        let plan = self.row.plan.iter();
        trailers.extend(plan.map(|plan| ("Govfs-Plan", plan.to_string())));
        trailers.push((crate::app::verify::TRAILER, signed.checkpoint.trailer()));
        let spec = CommitSpec {
            tree: self.tree,
            parents: vec![self.tip],
            author: stage.view().operator(),
            message: message_with_trailers(&text, &trailers),
            time: (clock::wall().0 / 1_000_000_000, 0),
        };
        let commit = stage.commit(&spec).map_err(git_failure)?;
        stage.settle(&[commit]).map_err(git_failure)?;
        Ok(commit)
    }
}
