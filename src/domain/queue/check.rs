//! Holding the queue against its invariants, and the ledger against git.
//!
//! Owns: the names and words of everything that cannot be: two owners, a done plan
//! without a merge, a commit of the branch that no entry knows. Finds all of it, in a
//! fixed order. Never repairs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::base::Oid;
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::queue::{MergeFact, Queue, QueueState};

/// A plan of a queue as a table shows it; what an export holds and an import brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: PlanId,
    pub role: Option<RoleName>,
    pub state: QueueState,
    pub owner: Option<AgentName>,
    /// As written: an imported queue may name commits that are not there.
    pub commit: Option<String>,
    pub depends_on: Vec<PlanId>,
}

/// Something in the queue that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub plan: PlanId,
    pub rule: &'static str,
    pub message: String,
}

impl Problem {
    fn new(plan: &PlanId, rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            plan: plan.clone(),
            rule,
            message: message.into(),
        }
    }
}

/// Returns the queue as rows.
pub fn rows(queue: &Queue) -> Vec<Row> {
    let row = |item: &super::Item| Row {
        id: item.plan.id.clone(),
        role: item.plan.role.clone(),
        state: item.state,
        owner: item.owner.clone(),
        commit: item.commit.map(|commit| commit.to_string()),
        depends_on: item.plan.dependencies.clone(),
    };
    queue.0.values().map(row).collect()
}

/// Returns every breach of the queue's invariants. `working` names the agents
/// that hold claims or a session for a plan.
pub fn validate(rows: &[Row], working: &BTreeMap<PlanId, BTreeSet<AgentName>>) -> Vec<Problem> {
    let mut out = Vec::new();
    let mut first: BTreeMap<&PlanId, &Row> = BTreeMap::new();
    for row in rows {
        if let Some(other) = first.get(&row.id) {
            out.push(twice(row, other));
        } else {
            first.insert(&row.id, row);
        }
    }
    for row in first.values() {
        one(row, &mut out);
        dependencies(row, &first, &mut out);
        let agents = working.get(&row.id).into_iter().flatten();
        for agent in agents.filter(|agent| row.owner.as_ref() != Some(agent)) {
            let owner = row.owner.as_ref().map_or("nobody", AgentName::as_str);
            let message = format!("{agent} works on it, but {owner} owns it");
            out.push(Problem::new(&row.id, "two-owners", message));
        }
    }
    out.sort();
    out
}

fn twice(row: &Row, other: &Row) -> Problem {
    match (&row.owner, &other.owner) {
        (Some(one), Some(two)) if one != two => {
            let message = format!("it has two owners, {two} and {one}");
            Problem::new(&row.id, "two-owners", message)
        }
        _ => Problem::new(&row.id, "duplicate-id", "it stands in the queue twice"),
    }
}

fn one(row: &Row, out: &mut Vec<Problem>) {
    match row.state {
        QueueState::InProgress if row.owner.is_none() => {
            out.push(Problem::new(
                &row.id,
                "no-owner",
                "it is in_progress without an owner",
            ));
        }
        QueueState::Done if row.commit.is_none() => {
            out.push(Problem::new(
                &row.id,
                "no-commit",
                "it is done without a commit",
            ));
        }
        _ => {}
    }
    let hex = |text: &String| {
        (7..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    if let Some(commit) = row.commit.as_ref().filter(|text| !hex(text)) {
        let message = format!("{commit:?} is no commit id");
        out.push(Problem::new(&row.id, "no-commit", message));
    }
}

fn dependencies(row: &Row, all: &BTreeMap<&PlanId, &Row>, out: &mut Vec<Problem>) {
    for id in &row.depends_on {
        let Some(other) = all.get(id) else {
            let message = format!("it depends on {id}, which is not there");
            out.push(Problem::new(&row.id, "unknown-dependency", message));
            continue;
        };
        let started = matches!(row.state, QueueState::Done | QueueState::InProgress);
        if started && other.state != QueueState::Done {
            let message = format!(
                "it is {}, but its dependency {id} is {}",
                row.state, other.state
            );
            out.push(Problem::new(&row.id, "before-dependency", message));
        }
    }
}

/// A commit that the branch holds beyond the one that `init` recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchCommit {
    pub commit: Oid,
    /// Who committed, as `Name <mail>`.
    pub committer: String,
    pub subject: String,
    /// It carries a merge's trailers.
    pub trailers: bool,
}

/// What git and the ledger say of one branch.
#[derive(Clone, Debug, Default)]
pub struct BranchFacts {
    pub branch: String,
    pub commits: Vec<BranchCommit>,
    /// The merges of this branch, by their entries.
    pub merges: Vec<MergeFact>,
    /// Commits that govfs made otherwise, and moves of the branch that were allowed and recorded.
    pub recorded: BTreeSet<Oid>,
}

/// A difference between the ledger and the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitFinding {
    pub rule: &'static str,
    pub plan: Option<PlanId>,
    pub commit: Oid,
    pub message: String,
}

/// Compares the ledger with the branch. `leave` says whom the charter lets
/// commit to the branch directly.
pub fn git_check(
    queue: &Queue,
    facts: &BranchFacts,
    leave: impl Fn(&BranchCommit) -> bool,
) -> Vec<GitFinding> {
    let branch = &facts.branch;
    let there: BTreeSet<Oid> = facts.commits.iter().map(|c| c.commit).collect();
    let known: BTreeSet<Oid> = facts.merges.iter().map(|merge| merge.commit).collect();
    let mut out = Vec::new();
    for item in queue.0.values().filter(|item| item.is_done()) {
        let Some(commit) = item.commit.filter(|commit| !there.contains(commit)) else {
            continue;
        };
        let id = &item.plan.id;
        out.push(GitFinding {
            rule: "done-not-on-branch",
            plan: Some(id.clone()),
            commit,
            message: format!("{id} is done by {commit}, which is not on {branch}"),
        });
    }
    for merge in facts.merges.iter().filter(|m| !there.contains(&m.commit)) {
        out.push(GitFinding {
            rule: "merge-lost",
            plan: merge.plan.clone(),
            commit: merge.commit,
            message: format!("the ledger merged {}, which {branch} lost", merge.commit),
        });
    }
    let strangers = facts.commits.iter().filter(|c| !known.contains(&c.commit));
    for commit in strangers.filter(|c| !facts.recorded.contains(&c.commit)) {
        if commit.trailers {
            let message = format!(
                "{} on {branch} says it is a merge by govfs, but no entry accounts for it",
                commit.commit
            );
            out.push(stranger("merge-without-entry", commit, message));
        } else if !leave(commit) {
            let message = format!(
                "{} on {branch} came around govfs: {:?} by {}",
                commit.commit, commit.subject, commit.committer
            );
            out.push(stranger("around-govfs", commit, message));
        }
    }
    out
}

fn stranger(rule: &'static str, commit: &BranchCommit, message: String) -> GitFinding {
    GitFinding {
        rule,
        plan: None,
        commit: commit.commit,
        message,
    }
}
