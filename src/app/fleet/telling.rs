//! What the coordinator tells whoever watches: its own steps as it takes them, and
//! what others wrote meanwhile.
//!
//! Owns: the events and their fields, which are a contract with scripts. Never
//! writes to a screen: that is the command line's.

use serde::Serialize;

use crate::app::fleet::Picture;
use crate::app::fleet::coordinator::Coordinator;
use crate::domain::event::{FleetAction, QueueState};
use crate::domain::names::{AgentName, PlanId};

/// What happens, for whoever watches.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    pub event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// All plans by state: done, under way, blocked, all.
    pub counts: [usize; 4],
}

impl Coordinator<'_> {
    pub(super) fn tell_stopping(&mut self) {
        (self.tell)(Told {
            event: "stopping",
            plan: None,
            agent: None,
            attempt: None,
            status: None,
            reason: Some("stopping; once more to kill what does not end".to_owned()),
            counts: self.counts,
        });
    }

    pub(super) fn say(
        &mut self,
        event: &'static str,
        plan: &PlanId,
        agent: Option<&AgentName>,
        attempt: Option<u32>,
        reason: Option<String>,
    ) {
        (self.tell)(Told {
            event,
            plan: Some(plan.clone()),
            agent: agent.cloned(),
            attempt,
            status: None,
            reason,
            counts: self.counts,
        });
    }

    /// Tells what others wrote: programs that ended, plans that are done.
    pub(super) fn tell_changes(&mut self, picture: &Picture) {
        let first = self.seen.is_empty();
        let rows = picture.state.plans.values();
        let count = |state| rows.clone().filter(|row| row.state == state).count();
        self.counts = [
            count(QueueState::Done),
            count(QueueState::InProgress),
            count(QueueState::Blocked),
            rows.len(),
        ];
        for (id, row) in &picture.state.plans {
            let job = picture.state.jobs.get(id);
            let now = (row.state, job.map_or(0, |job| job.entry));
            let before = self.seen.insert(id.clone(), now);
            if first && row.state == QueueState::InProgress && job.is_some() {
                self.say("resume", id, row.owner.as_ref(), None, None);
            }
            let Some(before) = before.filter(|before| *before != now) else {
                continue;
            };
            let job = job.filter(|job| job.entry != before.1);
            if row.state == QueueState::Done && before.0 != QueueState::Done {
                self.say("merge", id, row.owner.as_ref(), None, None);
            } else if let Some(job) = job.filter(|job| job.action == FleetAction::Check) {
                let (event, reason) = match &job.reason {
                    Some(reason) => ("refused", reason.clone()),
                    None => ("review", job.missing.join("; ")),
                };
                self.say(event, id, row.owner.as_ref(), None, Some(reason));
            } else if let Some(job) = job.filter(|job| job.action == FleetAction::Finish) {
                let told = Told {
                    event: "finish",
                    plan: Some(id.clone()),
                    agent: row.owner.clone(),
                    attempt: u32::try_from(job.attempts).ok(),
                    status: job.status,
                    reason: job.reason.clone(),
                    counts: self.counts,
                };
                (self.tell)(told);
            }
        }
    }
}
