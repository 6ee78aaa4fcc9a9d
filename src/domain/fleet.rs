//! The fleet: what the coordinator does next.
//!
//! Owns: the decision. [`Fleet::next`] looks at where every plan stands, as the
//! ledger and the living processes tell it, and says for each open plan what to
//! do or why not. The coordinator is a loop around it; one that was killed looks
//! again and goes on. Invariants: two plans whose claims overlap are never under
//! way together; none starts before all it depends on is done; each open plan has
//! an action or a reason; nothing that has ended is run again unless it failed.
//! Never acts.

mod rehearsal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::domain::dag::{Graph, Member};
use crate::domain::names::{AgentName, PlanId};
use crate::domain::pattern::Pattern;
use crate::domain::plan::{Command, Plan};
use crate::domain::queue::QueueState;
use crate::domain::queue::advice::Held;

pub use rehearsal::{Rehearsal, rehearse};

/// How far the work on a plan in progress has come.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    /// Owned by somebody whom the fleet did not start.
    Foreign,
    /// The plan and its paths are claimed.
    #[default]
    Claimed,
    Mounted,
    /// Launched and alive.
    Running,
    /// Launched, but neither alive nor known to have ended.
    Lost,
    Ended {
        status: i32,
        /// Its last words, where it failed.
        said: Option<String>,
    },
    /// A check or the merge refused.
    Refused {
        reason: String,
    },
    /// The checks passed on a candidate; `missing` reviews.
    Checked {
        missing: Vec<String>,
        asked: bool,
    },
}

/// One plan as the fleet sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<'a> {
    pub plan: &'a Plan,
    pub state: QueueState,
    pub stage: Stage,
    pub owner: Option<AgentName>,
    /// How often it was launched.
    pub attempts: u32,
    /// Why it is blocked.
    pub reason: Option<String>,
    /// What is wrong with it, if it does not verify.
    pub refused: Option<String>,
}

impl<'a> Job<'a> {
    pub fn new(plan: &'a Plan, state: QueueState) -> Self {
        Self {
            plan,
            state,
            stage: Stage::default(),
            owner: None,
            attempts: 0,
            reason: None,
            refused: None,
        }
    }

    /// Says whether it holds one of the fleet's places.
    fn is_busy(&self) -> bool {
        self.state == QueueState::InProgress
            && !matches!(self.stage, Stage::Foreign | Stage::Checked { .. })
    }
}

/// How much the fleet may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many plans are under way at once.
    pub jobs: usize,
    /// How often a plan that failed is run again.
    pub retries: u32,
    /// Runs plans that name no command themselves.
    pub command: Option<Command>,
}

/// What a plan waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Waiting {
    Running,
    Review,
    Dependency,
    Claims,
    Place,
    Agent,
    /// Somebody else works on it.
    Other,
    /// A person must look at it.
    Blocked,
    Unverified,
    Command,
}

/// What to do about one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    Claim {
        plan: PlanId,
        agent: AgentName,
    },
    Mount {
        plan: PlanId,
        agent: AgentName,
    },
    Launch {
        plan: PlanId,
        agent: AgentName,
        attempt: u32,
    },
    Check {
        plan: PlanId,
        agent: AgentName,
    },
    RequestReview {
        plan: PlanId,
        agent: AgentName,
        missing: Vec<String>,
    },
    Merge {
        plan: PlanId,
        agent: AgentName,
    },
    Retry {
        plan: PlanId,
        agent: AgentName,
        attempt: u32,
        reason: String,
    },
    Block {
        plan: PlanId,
        reason: String,
    },
    Wait {
        plan: PlanId,
        on: Waiting,
        reason: String,
    },
}

impl Action {
    pub fn plan(&self) -> &PlanId {
        match self {
            Self::Claim { plan, .. }
            | Self::Mount { plan, .. }
            | Self::Launch { plan, .. }
            | Self::Check { plan, .. }
            | Self::RequestReview { plan, .. }
            | Self::Merge { plan, .. }
            | Self::Retry { plan, .. }
            | Self::Block { plan, .. }
            | Self::Wait { plan, .. } => plan,
        }
    }

    /// Says whether it goes on with a plan that somebody has begun.
    pub fn is_under_way(&self) -> bool {
        !matches!(
            self,
            Self::Claim { .. } | Self::Block { .. } | Self::Wait { .. }
        )
    }

    /// Says whether anything is to be done, or is being done, so that looking
    /// again later may show something new without anybody's help.
    pub fn is_progress(&self) -> bool {
        !matches!(self, Self::Wait { on, .. } if *on != Waiting::Running)
    }
}

/// All plans, and what others hold.
#[derive(Debug)]
pub struct Fleet<'a> {
    pub jobs: BTreeMap<PlanId, Job<'a>>,
    /// Claims that agents hold now.
    pub held: Vec<Held>,
    order: Vec<PlanId>,
}

impl<'a> Fleet<'a> {
    pub fn new(jobs: Vec<Job<'a>>, held: Vec<Held>) -> Self {
        let member = |job: &Job<'a>| Member {
            plan: job.plan,
            done: job.state == QueueState::Done,
        };
        let members: Vec<_> = jobs.iter().map(member).collect();
        let mut order = Graph::new(&members).order();
        let known: BTreeSet<PlanId> = order.iter().cloned().collect();
        let behind = jobs.iter().map(|job| &job.plan.id);
        let mut behind: Vec<PlanId> = behind.filter(|id| !known.contains(*id)).cloned().collect();
        behind.sort();
        order.extend(behind);
        let jobs = jobs.into_iter().map(|job| (job.plan.id.clone(), job));
        Self {
            jobs: jobs.collect(),
            held,
            order,
        }
    }

    /// Returns one action for every plan that is not done, in the stable order.
    pub fn next(&self, limits: &Limits) -> Vec<Action> {
        let mut round = Round::new(self);
        let mut out = Vec::new();
        // What is under way goes first: it frees places and claims.
        for job in self.in_order(|state| state == QueueState::InProgress) {
            out.push(self.go_on(job, limits));
        }
        for job in self.in_order(|state| matches!(state, QueueState::Todo | QueueState::Blocked)) {
            out.push(self.begin(job, limits, &mut round));
        }
        out
    }

    fn in_order(&self, wanted: impl Fn(QueueState) -> bool) -> impl Iterator<Item = &Job<'a>> {
        let jobs = self.order.iter().filter_map(|id| self.jobs.get(id));
        jobs.filter(move |job| wanted(job.state))
    }

    /// Returns what to do about a plan in progress.
    fn go_on(&self, job: &Job<'a>, limits: &Limits) -> Action {
        let plan = job.plan.id.clone();
        let Some(agent) = job.owner.clone() else {
            let reason = "it is in progress without an owner".to_owned();
            return Action::Block { plan, reason };
        };
        match &job.stage {
            Stage::Foreign => wait(job, Waiting::Other, format!("{agent} works on it")),
            Stage::Claimed => Action::Mount { plan, agent },
            Stage::Mounted => Action::Launch {
                plan,
                agent,
                attempt: job.attempts + 1,
            },
            Stage::Running => wait(job, Waiting::Running, format!("{agent} is at it")),
            Stage::Ended { status: 0, .. } => Action::Check { plan, agent },
            Stage::Ended { status, said } => {
                let mut reason = format!("it ended with {status}");
                if let Some(said) = said {
                    reason = format!("{reason}: {said}");
                }
                again(job, agent, limits, reason)
            }
            Stage::Lost => again(
                job,
                agent,
                limits,
                "it was cut off before it ended".to_owned(),
            ),
            Stage::Refused { reason } => again(job, agent, limits, reason.clone()),
            Stage::Checked { missing, asked } => match (missing.as_slice(), asked) {
                ([], _) => self.merge(job, agent),
                (_, false) => Action::RequestReview {
                    plan,
                    agent,
                    missing: missing.clone(),
                },
                (_, true) => wait(job, Waiting::Review, missing.join("; ")),
            },
        }
    }

    fn merge(&self, job: &Job<'a>, agent: AgentName) -> Action {
        // A dependency may have been reverted while this was under way.
        match self.waits_for(job) {
            Some(reason) => wait(job, Waiting::Dependency, reason),
            None => Action::Merge {
                plan: job.plan.id.clone(),
                agent,
            },
        }
    }

    /// Returns why the dependencies do not let the plan go, if they do not.
    fn waits_for(&self, job: &Job<'a>) -> Option<String> {
        let mut reasons = Vec::new();
        for id in &job.plan.dependencies {
            match self.jobs.get(id) {
                Some(other) if other.state == QueueState::Done => {}
                Some(other) if other.state == QueueState::Blocked => {
                    let why = other.reason.as_deref().unwrap_or("without a reason");
                    reasons.push(format!("{id}, which is blocked: {why}"));
                }
                Some(_) => reasons.push(id.to_string()),
                None => reasons.push(format!("{id}, which does not exist")),
            }
        }
        (!reasons.is_empty()).then(|| format!("it waits for {}", reasons.join(", ")))
    }

    /// Returns whether a plan that is not under way may begin.
    fn begin(&self, job: &Job<'a>, limits: &Limits, round: &mut Round<'a>) -> Action {
        if job.state == QueueState::Blocked {
            let reason = job.reason.clone();
            let reason = reason.unwrap_or_else(|| "without a reason".to_owned());
            return wait(job, Waiting::Blocked, format!("it is blocked: {reason}"));
        }
        if let Some(reason) = &job.refused {
            let reason = format!("it does not verify: {reason}");
            return wait(job, Waiting::Unverified, reason);
        }
        if let Some(reason) = self.waits_for(job) {
            return wait(job, Waiting::Dependency, reason);
        }
        let own = job.plan.run.as_ref().and_then(|run| run.command.as_ref());
        if own.or(limits.command.as_ref()).is_none() {
            let reason = "it names no command to run".to_owned();
            return wait(job, Waiting::Command, reason);
        }
        if round.busy >= limits.jobs {
            let reason = format!("all {} places are taken", limits.jobs);
            return wait(job, Waiting::Place, reason);
        }
        let Some(agent) = agent_of(job.plan) else {
            let reason = "its id is no name for an agent; give it one".to_owned();
            return wait(job, Waiting::Agent, reason);
        };
        if round.agents.contains(&agent) {
            let reason = format!("{agent} works on another plan");
            return wait(job, Waiting::Agent, reason);
        }
        if let Some(reason) = round.conflict(job.plan, &agent, &self.held) {
            return wait(job, Waiting::Claims, reason);
        }
        round.take(job.plan, &agent);
        Action::Claim {
            plan: job.plan.id.clone(),
            agent,
        }
    }
}

/// Returns who does the plan: the agent it names, else one called like the plan.
pub fn agent_of(plan: &Plan) -> Option<AgentName> {
    let named = plan.agent.clone();
    named.or_else(|| plan.id.as_str().parse().ok())
}

fn wait(job: &Job<'_>, on: Waiting, reason: String) -> Action {
    Action::Wait {
        plan: job.plan.id.clone(),
        on,
        reason,
    }
}

fn again(job: &Job<'_>, agent: AgentName, limits: &Limits, reason: String) -> Action {
    let plan = job.plan.id.clone();
    if job.attempts > limits.retries {
        let reason = format!(
            "{reason} (attempt {} of {})",
            job.attempts,
            limits.retries + 1
        );
        return Action::Block { plan, reason };
    }
    Action::Retry {
        plan,
        agent,
        attempt: job.attempts + 1,
        reason,
    }
}

/// What is taken already, growing while one round of actions is made up.
struct Round<'a> {
    busy: usize,
    agents: BTreeSet<AgentName>,
    /// The patterns of the plans under way, and whether they write.
    claims: Vec<(&'a PlanId, &'a Pattern, bool)>,
}

impl<'a> Round<'a> {
    fn new(fleet: &Fleet<'a>) -> Self {
        let mut round = Self {
            busy: 0,
            agents: BTreeSet::new(),
            claims: Vec::new(),
        };
        for job in fleet.jobs.values() {
            if job.state != QueueState::InProgress {
                continue;
            }
            round.busy += usize::from(job.is_busy());
            round.agents.extend(job.owner.clone());
            round.claims.extend(claims(job.plan));
        }
        round
    }

    fn conflict(&self, plan: &Plan, agent: &AgentName, held: &[Held]) -> Option<String> {
        for (_, mine, write) in claims(plan) {
            for (other, theirs, writes) in &self.claims {
                if (write || *writes)
                    && let Some(path) = mine.overlap(theirs)
                {
                    return Some(format!(
                        "{mine} overlaps {theirs} of {other}, which is under way: both cover {path}"
                    ));
                }
            }
            let others = held.iter().filter(|held| held.agent != *agent);
            for held in others.filter(|held| write || held.write) {
                if let Some(path) = mine.overlap(&held.pattern) {
                    let (holder, theirs) = (&held.agent, &held.pattern);
                    return Some(format!(
                        "{mine} is held by {holder} as {theirs}: both cover {path}"
                    ));
                }
            }
        }
        None
    }

    fn take(&mut self, plan: &'a Plan, agent: &AgentName) {
        self.busy += 1;
        self.agents.insert(agent.clone());
        self.claims.extend(claims(plan));
    }
}

fn claims(plan: &Plan) -> impl Iterator<Item = (&PlanId, &Pattern, bool)> {
    let writes = plan.claims.writes().map(|(_, _, pattern)| (pattern, true));
    let reads = plan.claims.read.iter().map(|pattern| (pattern, false));
    let all = writes.chain(reads);
    all.map(|(pattern, write)| (&plan.id, pattern, write))
}
