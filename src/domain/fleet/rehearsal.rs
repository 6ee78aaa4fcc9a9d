//! The schedule as it would go if every plan succeeded at once.
//!
//! Owns: playing the fleet's own decision through, round by round. Invariant: what is
//! shown is what the coordinator would be told. Never acts.

use crate::domain::fleet::{Action, Fleet, Limits, Stage};
use crate::domain::names::PlanId;
use crate::domain::queue::QueueState;

/// The rounds of plans that run together, and what would be left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    pub rounds: Vec<Vec<PlanId>>,
    /// The plans that would not be done, with the action that tells why.
    pub left: Vec<Action>,
}

/// Plays the fleet through. Plans under way count as the first round.
pub fn rehearse(mut fleet: Fleet<'_>, limits: &Limits) -> Rehearsal {
    let mut out = Rehearsal::default();
    let fleet = &mut fleet;
    loop {
        let mut round = Vec::new();
        let mut left = Vec::new();
        for action in fleet.next(limits) {
            let foreign = |id| {
                fleet
                    .jobs
                    .get(id)
                    .is_some_and(|job| job.stage == Stage::Foreign)
            };
            let blocked = matches!(action, Action::Block { .. });
            if action.is_progress() && !blocked && !foreign(action.plan()) {
                round.push(action.plan().clone());
            } else {
                left.push(action);
            }
        }
        for id in &round {
            if let Some(job) = fleet.jobs.get_mut(id) {
                job.state = QueueState::Done;
                let owner = job.owner.clone();
                fleet
                    .held
                    .retain(|held| Some(&held.agent) != owner.as_ref());
            }
        }
        if round.is_empty() {
            out.left = left;
            return out;
        }
        out.rounds.push(round);
    }
}
