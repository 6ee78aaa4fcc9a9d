//! The queue: plans with a state.
//!
//! Owns: the states and their transitions, who may claim a plan, what moves it.
//! `advice` says what is eligible and what to do next, `check` holds the queue
//! against its invariants and against git, `protect` judges moves of the branch.
//! Invariants: a plan in progress has one owner; a done plan has the merge that
//! did it, and so have all that it depends on. There is no file to edit: an
//! edited export is judged by these same rules.

pub mod advice;
pub mod check;
pub mod decide;
pub mod protect;
pub mod stored;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::domain::base::Oid;
use crate::domain::dag::Member;
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::plan::{Check, Plan};
use crate::domain::queue::advice::{Obstacle, World};

pub use crate::domain::event::QueueState;

impl QueueState {
    pub const ALL: [Self; 4] = [Self::Todo, Self::InProgress, Self::Blocked, Self::Done];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Todo => "todo",
            Self::InProgress => "in_progress",
            Self::Blocked => "blocked",
            Self::Done => "done",
        }
    }

    /// Returns where `step` leads; everything else is refused.
    pub fn after(self, step: Step) -> Option<Self> {
        match (self, step) {
            (Self::Todo, Step::Claim) | (Self::Blocked, Step::Resume) => Some(Self::InProgress),
            (Self::InProgress | Self::Blocked, Step::GiveBack) | (Self::Done, Step::Reopen) => {
                Some(Self::Todo)
            }
            (Self::Todo | Self::InProgress | Self::Blocked, Step::Block) => Some(Self::Blocked),
            (Self::InProgress, Step::Finish) => Some(Self::Done),
            _ => None,
        }
    }
}

impl fmt::Display for QueueState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for QueueState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is none of todo, in_progress, blocked, done"))
    }
}

/// What can happen to a plan in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Claim,
    GiveBack,
    Block,
    /// Back to work, by the owner it had.
    Resume,
    Finish,
    /// Its merge was reverted.
    Reopen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub plan: Plan,
    pub state: QueueState,
    pub owner: Option<AgentName>,
    /// The merge that did it.
    pub commit: Option<Oid>,
    pub reason: Option<String>,
}

impl Item {
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: QueueState::Todo,
            owner: None,
            commit: None,
            reason: None,
        }
    }

    pub fn is_done(&self) -> bool {
        self.state == QueueState::Done
    }
}

/// An agent and its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    pub agent: AgentName,
    pub role: RoleName,
}

/// A merge as its entry tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeFact {
    pub commit: Oid,
    pub plan: Option<PlanId>,
    /// The acceptance checks that passed on its candidate.
    pub checks: BTreeSet<String>,
    pub reverted: bool,
}

/// What a decision changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub plan: PlanId,
    pub from: QueueState,
    pub to: QueueState,
    pub owner: Option<AgentName>,
    pub commit: Option<Oid>,
    pub reason: Option<String>,
}

/// Why not, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueueRefusal {
    pub plan: PlanId,
    /// A name for the rule, e.g. `owned`, `waits`, `claims-held`, `not-merged`.
    pub rule: &'static str,
    pub message: String,
    pub hint: String,
}

impl QueueRefusal {
    pub fn new(
        plan: &PlanId,
        rule: &'static str,
        message: String,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            plan: plan.clone(),
            rule,
            message,
            hint: hint.into(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue(pub BTreeMap<PlanId, Item>);

impl Queue {
    pub fn get(&self, id: &PlanId) -> Option<&Item> {
        self.0.get(id)
    }

    /// Returns the plans as `dag` and `validate` take them.
    pub fn members(&self) -> Vec<Member<'_>> {
        self.0
            .values()
            .map(|item| Member {
                plan: &item.plan,
                done: item.is_done(),
            })
            .collect()
    }

    /// Returns the dependencies of `plan` that are not done, unknown ones included.
    pub fn waits_for(&self, plan: &Plan) -> Vec<PlanId> {
        let open = |id: &&PlanId| !self.get(id).is_some_and(Item::is_done);
        plan.dependencies.iter().filter(open).cloned().collect()
    }

    /// Folds a decision in.
    pub fn apply(&mut self, change: &Change) {
        if let Some(item) = self.0.get_mut(&change.plan) {
            item.state = change.to;
            item.owner.clone_from(&change.owner);
            item.commit = change.commit;
            item.reason.clone_from(&change.reason);
        }
    }

    fn item(&self, id: &PlanId) -> Result<&Item, QueueRefusal> {
        self.get(id).ok_or_else(|| {
            let message = format!("there is no plan {id}");
            QueueRefusal::new(
                id,
                "no-such-plan",
                message,
                "list them with `govfs plan list`",
            )
        })
    }

    /// Decides whether `by` may take the plan.
    pub fn claim(&self, id: &PlanId, by: &Claimant, world: &World) -> Result<Change, QueueRefusal> {
        let item = self.item(id)?;
        let obstacles = advice::obstacles(self, item, Some(by), world);
        let Some(first) = obstacles.first() else {
            return Ok(Change {
                plan: id.clone(),
                from: item.state,
                to: QueueState::InProgress,
                owner: Some(by.agent.clone()),
                commit: None,
                reason: None,
            });
        };
        let reasons: Vec<String> = obstacles.iter().map(Obstacle::to_string).collect();
        let message = format!("{id} is not eligible: {}", reasons.join("; "));
        Err(QueueRefusal::new(id, first.rule(), message, first.hint(id)))
    }

    /// Decides a change of state that is asked for by name.
    pub fn set_status(
        &self,
        id: &PlanId,
        to: QueueState,
        given: &Given,
        merges: &[MergeFact],
    ) -> Result<Change, QueueRefusal> {
        let item = self.item(id)?;
        let change = |owner: Option<AgentName>, commit, reason: Option<String>| Change {
            plan: id.clone(),
            from: item.state,
            to,
            owner,
            commit,
            reason,
        };
        let owner = item.owner.clone();
        match (item.state, to) {
            // Asking for what is so changes nothing, and is no fault.
            (QueueState::Done, QueueState::Done) => {
                let commit = self.merge_of(item, given.commit.or(item.commit), merges)?;
                Ok(change(owner, Some(commit), item.reason.clone()))
            }
            (from, to) if from == to && to != QueueState::Blocked => {
                Ok(change(owner, item.commit, item.reason.clone()))
            }
            (from, QueueState::Blocked) if from.after(Step::Block).is_some() => {
                let reason = given.reason.clone();
                Ok(change(owner, None, reason.or_else(|| item.reason.clone())))
            }
            (from, QueueState::Todo) if from.after(Step::GiveBack).is_some() => {
                Ok(change(None, None, given.reason.clone()))
            }
            (QueueState::Done, QueueState::Todo) => {
                self.reopened(item, merges)?;
                Ok(change(None, None, given.reason.clone()))
            }
            (QueueState::Blocked, QueueState::InProgress) if owner.is_some() => {
                self.may_work(item)?;
                Ok(change(owner, None, given.reason.clone()))
            }
            (QueueState::Todo | QueueState::Blocked, QueueState::InProgress) => {
                Err(QueueRefusal::new(
                    id,
                    "no-owner",
                    format!("{id} has no owner, and a plan in progress has one"),
                    format!("take it with `govfs queue claim {id} --owner AGENT`"),
                ))
            }
            (QueueState::InProgress, QueueState::Done) => {
                let commit = self.merge_of(item, given.commit, merges)?;
                Ok(change(owner, Some(commit), None))
            }
            (from, to) => Err(QueueRefusal::new(
                id,
                "transition",
                format!("{id} is {from}, and from there it cannot become {to}"),
                hint(from),
            )),
        }
    }

    /// Refuses work on a plan whose dependencies are not done (any more).
    fn may_work(&self, item: &Item) -> Result<(), QueueRefusal> {
        let waits = self.waits_for(&item.plan);
        if waits.is_empty() {
            return Ok(());
        }
        let id = &item.plan.id;
        let message = format!("{id} depends on what is not done: {}", joined(&waits));
        Err(QueueRefusal::new(
            id,
            "waits",
            message,
            "finish these first",
        ))
    }

    /// Returns the merge that did the plan.
    fn merge_of(
        &self,
        item: &Item,
        given: Option<Oid>,
        merges: &[MergeFact],
    ) -> Result<Oid, QueueRefusal> {
        let id = &item.plan.id;
        self.may_work(item)?;
        let mut own = merges
            .iter()
            .filter(|merge| merge.plan.as_ref() == Some(id) && !merge.reverted)
            .filter(|merge| given.is_none_or(|commit| commit == merge.commit));
        let Some(merge) = own.next_back() else {
            let message = match given {
                Some(commit) => format!("{commit} is no merge of plan {id}"),
                None => format!("done needs the merge that did it, and plan {id} has none"),
            };
            let owner = item.owner.as_ref().map_or("AGENT", AgentName::as_str);
            let hint = format!("merge its work with `govfs merge {owner}`");
            return Err(QueueRefusal::new(id, "not-merged", message, hint));
        };
        let checks = item.plan.acceptance.iter().map(Check::shown);
        let missing: Vec<String> = checks
            .filter(|check| !merge.checks.contains(check))
            .collect();
        if missing.is_empty() {
            return Ok(merge.commit);
        }
        let commit = merge.commit;
        let message = format!(
            "merge {commit} did not pass the checks: {}",
            missing.join(", ")
        );
        let hint = "revert it, and merge again with the checks";
        Err(QueueRefusal::new(id, "unchecked", message, hint))
    }

    /// Refuses to reopen a plan whose merge stands, or on which done plans rest.
    fn reopened(&self, item: &Item, merges: &[MergeFact]) -> Result<(), QueueRefusal> {
        let id = &item.plan.id;
        let stands = |merge: &&MergeFact| Some(merge.commit) == item.commit && !merge.reverted;
        if let Some(merge) = merges.iter().find(stands) {
            let message = format!("{id} is done by merge {}, which stands", merge.commit);
            let hint = format!("undo it with `govfs revert {}`", merge.commit);
            return Err(QueueRefusal::new(id, "merged", message, hint));
        }
        let rest = |other: &&Item| other.is_done() && other.plan.dependencies.contains(id);
        let resting: Vec<PlanId> = self
            .0
            .values()
            .filter(rest)
            .map(|i| i.plan.id.clone())
            .collect();
        if resting.is_empty() {
            return Ok(());
        }
        let message = format!("done plans depend on {id}: {}", joined(&resting));
        Err(QueueRefusal::new(
            id,
            "needed",
            message,
            "reopen these first",
        ))
    }
}

/// What a command said beside the state it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub commit: Option<Oid>,
    pub reason: Option<String>,
}

fn joined(ids: &[PlanId]) -> String {
    let ids: Vec<&str> = ids.iter().map(PlanId::as_str).collect();
    ids.join(", ")
}

fn hint(from: QueueState) -> &'static str {
    match from {
        QueueState::Todo => "claim it first: `govfs queue claim ID --owner AGENT`",
        QueueState::InProgress => "from in_progress: todo, blocked, or done by its merge",
        QueueState::Blocked => "from blocked: todo, or in_progress where it has an owner",
        QueueState::Done => "from done: todo, once its merge is reverted",
    }
}
