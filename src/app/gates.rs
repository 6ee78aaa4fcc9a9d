//! The gates of a merge that ask the plans and the reviewers.
//!
//! Owns: turning the ledger's rows and the charter into the questions that
//! `domain::review` and the plans answer, and their answers into findings. Asked
//! when a candidate is judged and again under the lock, so it is pure: rows in,
//! findings out.

use crate::app::session::Session;
use crate::domain::charter::Charter;
use crate::domain::command::Need;
use crate::domain::event::QueueState;
use crate::domain::merge::{MergeRefusal, Verdict};
use crate::domain::names::PlanId;
use crate::domain::path::RepoPath;
use crate::domain::plan::Plan;
use crate::domain::review::decide::{party, rules_for, votes};
use crate::domain::review::{self, Candidate, Stance, Vote};
use crate::domain::state::{Kind, State};

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub state: &'a State,
    pub session: &'a Session,
    /// The stricter of the session's charter and the one in force.
    pub charter: &'a Charter,
    /// The session's own tree and its base: what a review is a review of.
    pub candidate: Candidate,
    pub paths: &'a [RepoPath],
}

/// What the reviewers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviews {
    pub refusals: Vec<MergeRefusal>,
    pub advice: Vec<MergeRefusal>,
    /// The entries of the approvals that count.
    pub entries: Vec<u64>,
}

/// Says which rows the answers depend on.
pub fn needs() -> Vec<Need> {
    vec![
        Need::All(Kind::Agent),
        Need::All(Kind::Plan),
        Need::All(Kind::Review),
    ]
}

/// Returns the plans that must be merged first, and the state each is in instead.
pub fn dependencies(asked: &Asked<'_>) -> Vec<(PlanId, String)> {
    let Some(plan) = plan_of(asked) else {
        return Vec::new();
    };
    let waits = plan.dependencies.iter().filter_map(|id| {
        let state = match asked.state.plans.get(id) {
            Some(row) if row.state == QueueState::Done => return None,
            Some(row) => state_text(row.state),
            None => "not known",
        };
        Some((id.clone(), state.to_owned()))
    });
    waits.collect()
}

/// Returns what the session's plan, or the want of one, has against the merge.
pub fn plan_findings(asked: &Asked<'_>) -> Vec<MergeRefusal> {
    let Some(id) = plan_id(asked) else {
        if !asked.charter.plans.required {
            return Vec::new();
        }
        let hint = format!(
            "give it one: govfs claim {} PATTERN --plan ID",
            asked.session.agent
        );
        return vec![MergeRefusal::general(
            "plan",
            "the charter wants a plan for every session, and this one has none",
            hint,
        )];
    };
    if plan_of(asked).is_none() {
        return vec![MergeRefusal::general(
            "plan",
            format!("plan {id} is not there, or cannot be read any more"),
            "govfs plan list",
        )];
    }
    not_its_own(asked, &id).into_iter().collect()
}

/// A plan is merged by the one who has it: two owners are one too many.
fn not_its_own(asked: &Asked<'_>, id: &PlanId) -> Option<MergeRefusal> {
    let row = asked.state.plans.get(id)?;
    let agent = &asked.session.agent;
    let (reason, hint) = match (row.state, &row.owner) {
        (QueueState::InProgress, Some(owner)) if owner == agent => return None,
        (QueueState::InProgress, Some(owner)) => (
            format!("plan {id} belongs to {owner}"),
            format!("{owner} gives it back with: govfs queue set-status {id} todo"),
        ),
        (QueueState::Todo, _) => (
            format!("nobody has taken plan {id}"),
            format!("govfs queue claim {id} --owner {agent}"),
        ),
        (state, _) => (
            format!("plan {id} is {}", state_text(state)),
            format!("govfs plan show {id}"),
        ),
    };
    Some(MergeRefusal::general("plan-owner", reason, hint))
}

/// A plan's tests are what it is measured by: claiming one by name is no leave to
/// drop it. One that the plan is there to remove stands among its files, by name.
pub fn keep_tests(asked: &Asked<'_>, verdict: &mut Verdict) {
    let Some(plan) = plan_of(asked) else { return };
    let meant = |path: &RepoPath| {
        let mut files = plan.claims.files.iter();
        files.any(|pattern| pattern.literal() == Some(path))
    };
    let drops = |line: &MergeRefusal| {
        let test = ["dropped-test", "emptied-test"].contains(&line.rule);
        test && !line.path.as_ref().is_some_and(meant)
    };
    let (dropped, advice) = std::mem::take(&mut verdict.advice)
        .into_iter()
        .partition(drops);
    verdict.advice = advice;
    let refused: Vec<MergeRefusal> = dropped;
    for mut line in refused {
        line.hint.clear();
        line.hint
            .push_str("put it back, or name it among the plan's files");
        verdict.refusals.push(line);
    }
}

/// Returns what is missing of the reviews that this exact candidate needs.
pub fn review_findings(asked: &Asked<'_>) -> Reviews {
    let Some(author) = party(asked.state, &asked.session.agent) else {
        let refusal =
            MergeRefusal::general("review", "nobody knows its author", "govfs agent list");
        return Reviews {
            refusals: vec![refusal],
            ..Reviews::default()
        };
    };
    let votes = votes(asked.state, &asked.session.id);
    let (entries, votes): (Vec<u64>, Vec<Vote>) = votes.into_iter().unzip();
    let rules = rules_for(asked.charter, &author.role);
    let verdict = review::judge(&rules, &author, asked.candidate, asked.paths, &votes);
    let void: Vec<String> = verdict
        .void
        .iter()
        .map(|(by, why)| format!("{by}'s does not count: {why}"))
        .collect();
    let hint = if void.is_empty() {
        format!("govfs review request {}", asked.session.agent)
    } else {
        void.join("; ")
    };
    let missing = verdict
        .missing
        .iter()
        .map(|lack| MergeRefusal::general(lack.rule, lack.message.clone(), hint.clone()));
    let advice = verdict
        .advice
        .iter()
        .map(|line| MergeRefusal::general("review-advice", line.clone(), ""));
    let counts = entries.into_iter().zip(&votes).filter(|(_, vote)| {
        vote.stance == Stance::Approve
            && vote.candidate == asked.candidate
            && verdict.approved.contains(&vote.by.agent)
    });
    Reviews {
        refusals: missing.collect(),
        advice: advice.collect(),
        entries: counts.map(|(entry, _)| entry).collect(),
    }
}

/// Returns the plan that the session, or one of its agent's claims, is for.
pub fn plan_id(asked: &Asked<'_>) -> Option<PlanId> {
    plan_of_session(asked.state, asked.session)
}

/// Returns the plan that a session works on.
pub fn plan_of_session(state: &State, session: &Session) -> Option<PlanId> {
    session.row.plan.clone().or_else(|| {
        state
            .claims_of(&session.agent)
            .find_map(|claim| claim.plan.clone())
    })
}

/// Returns the text of the session's plan, read.
fn plan_of(asked: &Asked<'_>) -> Option<Plan> {
    read_plan(asked.state, asked.session)
}

/// Returns the plan that a session works on, read; `None` also where it cannot be.
pub fn read_plan(state: &State, session: &Session) -> Option<Plan> {
    let row = state.plans.get(&plan_of_session(state, session)?)?;
    Plan::parse(row.file.as_deref().unwrap_or("plan"), &row.text).ok()
}

fn state_text(state: QueueState) -> &'static str {
    match state {
        QueueState::Todo => "todo",
        QueueState::InProgress => "in progress",
        QueueState::Blocked => "blocked",
        QueueState::Done => "done",
    }
}
