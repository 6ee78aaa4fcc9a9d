//! The queue and its surroundings as the ledger's rows tell them.
//!
//! Owns: reading plans, merges, claims and the charter out of a [`State`] into
//! the values that `dag`, `validate`, `advice` and `fleet` take. Invariant: what
//! is judged here comes from rows alone, so that replay judges the same.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::charter::{Charter, CharterCommand};
use crate::domain::command::{Need, No, Refusal};
use crate::domain::dag::{self, Fact, Finding, Graph, Member, PlanRules};
use crate::domain::event::{Mode, PlanFacts, QueueState};
use crate::domain::names::{AgentName, PlanId};
use crate::domain::plan::{Command, Plan};
use crate::domain::queue::advice::Held;
use crate::domain::queue::{Item, MergeFact, Queue};
use crate::domain::state::{Kind, PlanRow, SessionState, State};
use crate::domain::validate::external::Outcome;
use crate::domain::validate::{self, Facts, Validator, ValidatorTable};

/// What a decision about plans reads.
pub fn needs() -> Vec<Need> {
    [Kind::Plan, Kind::Job, Kind::Agent, Kind::Merge, Kind::Claim]
        .map(Need::All)
        .to_vec()
}

/// Reads a plan as it is stored. Its places are no places of a file, so it names none.
pub fn plan(row: &PlanRow) -> Result<Plan, Refusal> {
    Plan::parse("", &row.text).map_err(|errors| {
        let what = errors.first().map_or(String::new(), ToString::to_string);
        let message = format!("the plan of entry {} cannot be read: {what}", row.entry);
        Refusal::new(No::Usage, "plan", message, "remove it and add it again")
    })
}

pub fn item(row: &PlanRow) -> Result<Item, Refusal> {
    Ok(Item {
        plan: plan(row)?,
        state: row.state,
        owner: row.owner.clone(),
        commit: row.commit,
        reason: row.reason.clone(),
    })
}

pub fn queue(state: &State) -> Result<Queue, Refusal> {
    let items = state
        .plans
        .iter()
        .map(|(id, row)| Ok((id.clone(), item(row)?)));
    items.collect::<Result<_, _>>().map(Queue)
}

/// Returns the merges in the order of their entries.
pub fn merges(state: &State) -> Vec<MergeFact> {
    let fact = |row: &crate::domain::state::MergeRow| MergeFact {
        commit: row.commit,
        plan: row.plan.clone(),
        checks: row.checks.iter().cloned().collect(),
        reverted: row.reverted.is_some(),
    };
    state.merges.values().map(fact).collect()
}

pub fn held(state: &State) -> Vec<Held> {
    let held = |claim: &crate::domain::state::ClaimRow| Held {
        agent: claim.agent.clone(),
        pattern: claim.pattern.clone(),
        write: claim.mode == Mode::Write,
    };
    state.claims.values().map(held).collect()
}

/// Returns which agents hold claims or an open session for which plan.
pub fn working(state: &State) -> BTreeMap<PlanId, BTreeSet<AgentName>> {
    let mut out: BTreeMap<PlanId, BTreeSet<AgentName>> = BTreeMap::new();
    let claims = state.claims.values().map(|row| (&row.plan, &row.agent));
    let open = |row: &&crate::domain::state::SessionRow| row.state == SessionState::Open;
    let sessions = state.sessions.values().filter(open);
    for (plan, agent) in claims.chain(sessions.map(|row| (&row.plan, &row.agent))) {
        if let Some(plan) = plan {
            out.entry(plan.clone()).or_default().insert(agent.clone());
        }
    }
    out
}

/// Returns what the charter and the agents say about plans. An agent that does
/// not exist yet will get the charter's default role.
pub fn rules<'a>(state: &State, law: &Charter, plans: impl Iterator<Item = &'a Plan>) -> PlanRules {
    let mut agents: BTreeMap<AgentName, _> = BTreeMap::new();
    for name in plans.filter_map(|plan| plan.agent.as_ref()) {
        let role = state.agents.get(name).map(|row| row.role.clone());
        let role = role.unwrap_or_else(|| law.default_role.clone());
        agents.insert(name.clone(), role);
    }
    let roles = law.roles.iter();
    PlanRules {
        protected: law.paths.protected.clone(),
        roles: roles
            .map(|(name, role)| (name.clone(), role.paths.clone()))
            .collect(),
        agents,
    }
}

/// Returns the charter's validators by plan type. A name that the charter no
/// longer explains cannot pass: it becomes a validator that nobody asked.
pub fn table(law: &Charter) -> ValidatorTable {
    let of = |name: &String| match law.plans.external.get(name) {
        Some(check) => Validator::External {
            name: name.clone(),
            command: command(&check.command),
        },
        None => name.parse().unwrap_or_else(|_| Validator::External {
            name: name.clone(),
            command: Command::Argv(Vec::new()),
        }),
    };
    let types = law.plans.validators.iter();
    ValidatorTable(
        types
            .map(|(kind, names)| (kind.clone(), names.iter().map(of).collect()))
            .collect(),
    )
}

/// Returns a charter's command as plans have them.
pub fn command(command: &CharterCommand) -> Command {
    match command {
        CharterCommand::Shell(line) => Command::Shell(line.clone()),
        CharterCommand::Argv(words) => Command::Argv(words.clone()),
    }
}

/// Returns the facts that the stored plans were judged by.
pub fn facts(state: &State) -> Facts {
    let mut facts = Facts::default();
    for (id, row) in &state.plans {
        if let Some(own) = &row.facts {
            add_facts(&mut facts, id, own);
        }
    }
    facts
}

/// Adds what is recorded of one plan. A recorded verdict stands for its answer.
pub fn add_facts(facts: &mut Facts, id: &PlanId, own: &PlanFacts) {
    facts.present.extend(own.present.iter().cloned());
    for listing in &own.listings {
        let names = listing.names.iter().map(|name| name.0.clone());
        facts.listings.insert(listing.dir.clone(), names.collect());
    }
    for check in &own.validators {
        let verdict = if check.passed { "allow" } else { "deny" };
        let outcome = Outcome::Exited {
            status: i32::try_from(check.status).unwrap_or(i32::MAX),
            stdout: format!(r#"{{"verdict":"{verdict}"}}"#),
        };
        let key = (id.clone(), check.name.clone());
        facts.external.insert(key, outcome);
    }
}

/// Judges a whole set: as a graph, and each plan by its validators.
pub fn judge(
    members: &[Member<'_>],
    rules: &PlanRules,
    table: &ValidatorTable,
    facts: &Facts,
) -> (Vec<Finding>, bool) {
    let report = dag::verify(members, rules);
    let mut findings = report.findings;
    findings.extend(validate::judge(members, &Graph::new(members), table, facts));
    (findings, report.more)
}

/// Says whether a finding is about one of `ids`.
pub fn concerns(finding: &Finding, ids: &BTreeSet<&PlanId>) -> bool {
    let also = match &finding.fact {
        Fact::Overlap { other, .. } => ids.contains(other),
        Fact::Cycle(cycle) => cycle.iter().any(|id| ids.contains(id)),
        Fact::Plain | Fact::Path(_) => false,
    };
    also || ids.contains(&finding.plan)
}

/// Returns the stored plans that do not verify (any more), each with the reasons.
pub fn refused(state: &State, queue: &Queue) -> BTreeMap<PlanId, String> {
    let Some(law) = &state.law else {
        let all = queue.0.keys().cloned();
        return all
            .map(|id| (id, "the charter cannot be read".to_owned()))
            .collect();
    };
    let rules = rules(state, law, queue.0.values().map(|item| &item.plan));
    let (findings, _) = judge(&queue.members(), &rules, &table(law), &facts(state));
    let mut out: BTreeMap<PlanId, Vec<String>> = BTreeMap::new();
    for finding in &findings {
        let mut ids = BTreeSet::from([&finding.plan]);
        match &finding.fact {
            Fact::Overlap { other, .. } => ids.extend([other]),
            Fact::Cycle(cycle) => ids.extend(cycle),
            Fact::Plain | Fact::Path(_) => {}
        }
        for id in ids {
            let reasons = out.entry(id.clone()).or_default();
            reasons.push(finding.fault.message.clone());
        }
    }
    let open = |id: &PlanId| {
        queue
            .get(id)
            .is_none_or(|item| item.state != QueueState::Done)
    };
    let joined = |(id, reasons): (PlanId, Vec<String>)| (id, reasons.join("; "));
    out.into_iter()
        .filter(|(id, _)| open(id))
        .map(joined)
        .collect()
}
