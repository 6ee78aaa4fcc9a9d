//! Commands on plans and the queue, decided.
//!
//! Invariants: a plan that does not verify is not stored, and none that does not
//! verify is given to anybody; a refused claim or change of state is an entry.
//! What was found out beforehand (facts, faults, the outcome of commands) stands
//! in the entry, so that the decision can be made again from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::base::Oid;
use crate::domain::command::{No, Refusal, Verdict, new_agent, no_charter};
use crate::domain::dag::{self, Finding, Graph, Member};
use crate::domain::event::{
    Check, Decision, Draft, Event, PlanAction, PlanSet, QueueMoved, QueueState,
};
use crate::domain::import::exchange::may_change;
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::plan::Plan;
use crate::domain::queue::advice::World;
use crate::domain::queue::{Change, Claimant, Given, Queue, QueueRefusal, stored};
use crate::domain::state::State;

/// A change of the set of plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAsk {
    /// Judged together, stored together; each with its canonical text.
    Add(Vec<PlanSet>),
    Remove {
        plan: PlanId,
        /// The merge entry that was undone for it.
        reverts: Option<u64>,
    },
}

/// A change of one plan's place in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueAsk {
    pub plan: PlanId,
    pub to: QueueState,
    /// Who claims it; `None`: a change of state that is asked for by name.
    pub claims: Option<AgentName>,
    pub commit: Option<Oid>,
    pub reason: Option<String>,
    pub faults: Vec<String>,
    pub checks: Vec<Check>,
    pub fleet: bool,
}

impl QueueAsk {
    pub fn claim(plan: PlanId, owner: AgentName) -> Self {
        Self {
            claims: Some(owner),
            ..Self::set(plan, QueueState::InProgress)
        }
    }

    pub fn set(plan: PlanId, to: QueueState) -> Self {
        Self {
            plan,
            to,
            claims: None,
            commit: None,
            reason: None,
            faults: Vec::new(),
            checks: Vec::new(),
            fleet: false,
        }
    }

    /// Reads what was asked from the entry that answered. A claim names its agent in the head.
    pub fn rebuild(agent: Option<&AgentName>, body: &QueueMoved) -> Self {
        Self {
            plan: body.plan.clone(),
            to: body.state,
            claims: agent.cloned(),
            commit: body.commit,
            reason: body.reason.clone(),
            faults: body.faults.clone(),
            checks: body.checks.clone(),
            fleet: body.fleet,
        }
    }
}

pub fn plans(state: &State, ask: &PlanAsk) -> Verdict {
    let decided = match ask {
        PlanAsk::Add(sets) => add(state, sets),
        PlanAsk::Remove { plan, reverts } => remove(state, plan, *reverts),
    };
    match decided {
        Ok(drafts) => Verdict::allow(drafts),
        Err(refusal) => Verdict::refuse(refusal),
    }
}

/// A plan that comes in, and how its entry tells it.
struct Newcomer<'a> {
    set: &'a PlanSet,
    plan: Plan,
}

fn add(state: &State, sets: &[PlanSet]) -> Result<Vec<Draft>, Refusal> {
    let law = state.law.as_ref().ok_or_else(no_charter)?;
    let queue = stored::queue(state)?;
    let mut new = Vec::with_capacity(sets.len());
    for set in sets {
        if is_known(state, set) {
            continue;
        }
        let file = set.file.as_deref().unwrap_or_default();
        let plan = Plan::parse(file, set.text.as_deref().unwrap_or_default())
            .map_err(|errors| unreadable(&errors))?;
        if plan.id != set.plan || plan.digest() != set.sha256 {
            return Err(unreadable(&[
                plan.fault("plan.id", "another plan than named".to_owned())
            ]));
        }
        may_come(state, &queue, set)?;
        new.push(Newcomer { set, plan });
    }
    let mut facts = stored::facts(state);
    for Newcomer { set, plan } in &new {
        if let Some(own) = &set.facts {
            stored::add_facts(&mut facts, &plan.id, own);
        }
    }
    let plans: Vec<&Plan> = new.iter().map(|new| &new.plan).collect();
    let done: BTreeSet<&PlanId> = new
        .iter()
        .filter(|new| new.set.done.is_some())
        .map(|new| &new.plan.id)
        .collect();
    let members = together(&queue, &plans, |id| done.contains(id));
    let rules = stored::rules(state, law, members.iter().map(|member| member.plan));
    let (findings, _) = stored::judge(&members, &rules, &stored::table(law), &facts);
    refuse_findings(findings, &plans)?;
    let order = Graph::new(&members).order();
    let places: BTreeMap<&PlanId, usize> = order.iter().zip(0..).collect();
    new.sort_by_key(|new| places.get(&new.plan.id));
    Ok(new
        .into_iter()
        .map(|new| Draft::new(Event::Plan(new.set.clone())))
        .collect())
}

/// The same plan for the same base is there already.
fn is_known(state: &State, set: &PlanSet) -> bool {
    let Some(row) = state.plans.get(&set.plan) else {
        return false;
    };
    let open = matches!(row.state, QueueState::Todo | QueueState::Blocked);
    row.sha256 == set.sha256 && (row.base == set.base || !open) && set.done.is_none()
}

/// A stored plan is replaced from where it came, as long as nobody relies on its text.
fn may_come(state: &State, queue: &Queue, set: &PlanSet) -> Result<(), Refusal> {
    let (Some(row), Some(item)) = (state.plans.get(&set.plan), queue.get(&set.plan)) else {
        return Ok(());
    };
    if row.file != set.file && row.sha256 != set.sha256 {
        return Err(Refusal::new(
            No::Rule,
            "duplicate-id",
            taken(&set.plan, row.file.as_deref()),
            "give it another id, or remove the other plan first",
        ));
    }
    may_change(item).map_err(to_refusal)
}

/// Says that an id is taken, and by what.
pub fn taken(id: &PlanId, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("the id {id} is taken by the plan from {file}"),
        None => format!("the id {id} is taken by a plan that is stored"),
    }
}

/// Returns the stored plans with `new` among them, in the place of those of the same id.
pub fn together<'a>(
    queue: &'a Queue,
    new: &[&'a Plan],
    done: impl Fn(&PlanId) -> bool,
) -> Vec<Member<'a>> {
    let ids: BTreeSet<&PlanId> = new.iter().map(|plan| &plan.id).collect();
    let mut members = queue.members();
    members.retain(|member| !ids.contains(&member.plan.id));
    members.extend(new.iter().map(|plan| Member {
        plan,
        done: done(&plan.id),
    }));
    members
}

fn refuse_findings(mut findings: Vec<Finding>, new: &[&Plan]) -> Result<(), Refusal> {
    let ids: BTreeSet<&PlanId> = new.iter().map(|plan| &plan.id).collect();
    findings.retain(|finding| stored::concerns(finding, &ids));
    let Some(first) = findings.first() else {
        return Ok(());
    };
    let messages: Vec<String> = findings
        .iter()
        .map(|finding| format!("{}: {}", finding.plan, finding.fault.message))
        .collect();
    Err(Refusal::new(
        No::Rule,
        first.rule,
        messages.join("\n"),
        "see all of it with `govfs plan check FILE`",
    ))
}

fn unreadable(errors: &[crate::domain::plan::PlanError]) -> Refusal {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Refusal::new(No::Usage, "plan", lines.join("\n"), "")
}

fn remove(state: &State, id: &PlanId, reverts: Option<u64>) -> Result<Vec<Draft>, Refusal> {
    let Some(row) = state.plans.get(id) else {
        return Err(Refusal::new(
            No::Missing,
            "no-such-plan",
            format!("there is no plan {id}"),
            "list them with `govfs plan list`",
        ));
    };
    if row.state == QueueState::InProgress {
        let owner = row.owner.as_ref().map_or("somebody", AgentName::as_str);
        return Err(Refusal::new(
            No::Rule,
            "plan-in-use",
            format!("{owner} works on plan {id}"),
            format!("give it back first: govfs queue set-status {id} todo"),
        ));
    }
    let set = PlanSet {
        action: PlanAction::Remove,
        plan: id.clone(),
        sha256: row.sha256,
        file: None,
        text: None,
        reverts,
        base: None,
        facts: None,
        done: None,
    };
    Ok(vec![Draft::new(Event::Plan(set))])
}

/// Returns the plans that name `id` as a dependency, directly or through others.
pub fn dependents(queue: &Queue, id: &PlanId) -> Vec<PlanId> {
    let members = queue.members();
    let graph = Graph::new(&members);
    graph.dependents(id).into_iter().cloned().collect()
}

pub fn queue(state: &State, ask: &QueueAsk) -> Verdict {
    let mut drafts = Vec::new();
    let decided = match &ask.claims {
        Some(owner) => claim(state, ask, owner, &mut drafts),
        None => set(state, ask),
    };
    let refusal = match decided {
        Ok(None) => None,
        Ok(Some(change)) => {
            drafts.push(moved(state, ask, &change));
            None
        }
        Err(refusal) if refusal.no == No::Rule => {
            drafts.push(denied(ask, &refusal));
            Some(refusal)
        }
        Err(refusal) => return Verdict::refuse(refusal),
    };
    Verdict { drafts, refusal }
}

fn claim(
    state: &State,
    ask: &QueueAsk,
    owner: &AgentName,
    drafts: &mut Vec<Draft>,
) -> Result<Option<Change>, Refusal> {
    let law = state.law.as_ref().ok_or_else(no_charter)?;
    let queue = stored::queue(state)?;
    let role = if let Some(row) = state.agents.get(owner) {
        row.role.clone()
    } else {
        drafts.push(new_agent(state, owner)?);
        law.default_role.clone()
    };
    if let Some(item) = queue.get(&ask.plan)
        && item.state == QueueState::InProgress
        && item.owner.as_ref() == Some(owner)
    {
        return Ok(None);
    }
    let mut refused = stored::refused(state, &queue);
    for fault in ask
        .faults
        .iter()
        .cloned()
        .chain(out_of_lane(state, &queue, ask, &role))
    {
        let reason = refused.entry(ask.plan.clone()).or_default();
        if !reason.is_empty() {
            reason.push_str("; ");
        }
        reason.push_str(&fault);
    }
    let world = World {
        held: stored::held(state),
        refused,
    };
    let by = Claimant {
        agent: owner.clone(),
        role,
    };
    queue
        .claim(&ask.plan, &by, &world)
        .map(Some)
        .map_err(to_refusal)
}

/// Says where a plan that names no role reaches outside its owner's paths.
fn out_of_lane(state: &State, queue: &Queue, ask: &QueueAsk, role: &RoleName) -> Option<String> {
    let law = state.law.as_ref()?;
    let item = queue.get(&ask.plan)?;
    let plan = Plan {
        agent: None,
        role: Some(role.clone()),
        dependencies: Vec::new(),
        ..item.plan.clone()
    };
    let rules = stored::rules(state, law, std::iter::empty());
    let member = Member {
        plan: &plan,
        done: false,
    };
    let report = dag::verify(&[member], &rules);
    let finding = report.findings.into_iter();
    finding
        .filter(|finding| finding.rule == "role-paths")
        .map(|finding| finding.fault.message)
        .next()
}

fn set(state: &State, ask: &QueueAsk) -> Result<Option<Change>, Refusal> {
    let queue = stored::queue(state)?;
    let given = Given {
        commit: ask.commit,
        reason: ask.reason.clone(),
    };
    let merges = stored::merges(state);
    let change = queue
        .set_status(&ask.plan, ask.to, &given, &merges)
        .map_err(to_refusal)?;
    let same = queue.get(&ask.plan).is_some_and(|item| {
        item.state == change.to
            && item.owner == change.owner
            && item.commit == change.commit
            && item.reason == change.reason
    });
    Ok((!same).then_some(change))
}

fn moved(state: &State, ask: &QueueAsk, change: &Change) -> Draft {
    let body = QueueMoved {
        plan: change.plan.clone(),
        state: change.to,
        decision: Decision::Allow,
        owner: change.owner.clone(),
        commit: change.commit,
        reason: change.reason.clone(),
        rule: None,
        faults: ask.faults.clone(),
        checks: ask.checks.clone(),
        fleet: ask.fleet,
    };
    let draft = Draft::new(Event::Queue(body));
    match &ask.claims {
        Some(owner) => draft.by(owner).within(state.open_session_id(owner)),
        None => draft,
    }
}

fn denied(ask: &QueueAsk, refusal: &Refusal) -> Draft {
    let body = QueueMoved {
        plan: ask.plan.clone(),
        state: ask.to,
        decision: Decision::Deny,
        owner: ask.claims.clone(),
        commit: ask.commit,
        reason: Some(refusal.message.clone()),
        rule: Some(refusal.rule.to_owned()),
        faults: ask.faults.clone(),
        checks: ask.checks.clone(),
        fleet: ask.fleet,
    };
    let draft = Draft::new(Event::Queue(body));
    match &ask.claims {
        Some(owner) => draft.by(owner),
        None => draft,
    }
}

/// Returns the queue's refusal as a command's.
pub fn to_refusal(refusal: QueueRefusal) -> Refusal {
    let no = match refusal.rule {
        "no-such-plan" => No::Missing,
        _ => No::Rule,
    };
    Refusal::new(no, refusal.rule, refusal.message, refusal.hint)
}
