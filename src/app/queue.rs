//! The queue: who works on what, what comes next, and whether git agrees.
//!
//! Owns: taking a plan together with its paths in one transaction, changes of
//! state by name, recommendations, and holding the ledger against the branch.
//! What holds at the moment of a claim (a stale plan, a precondition that is not
//! met) is found out before and stands in the claim's entry.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::app::claim as claims;
use crate::app::facts::{self, Ground, History};
use crate::app::failure::Failure;
use crate::app::live;
use crate::app::plan::{current, find, no_law};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::charter::Charter;
use crate::domain::claim::Ask;
use crate::domain::command::{Command, Need, Refusal};
use crate::domain::dag::{Finding, Graph};
use crate::domain::event::{Check, Mode, QueueState};
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::pattern::Pattern;
use crate::domain::queue::advice::{self, Advice, Obstacle, World};
use crate::domain::queue::check::{
    BranchCommit, BranchFacts, GitFinding, Problem, git_check, rows, validate,
};
use crate::domain::queue::decide::QueueAsk;
use crate::domain::queue::{Item, Queue, stored};
use crate::domain::state::{Kind, PlanRow, State};
use crate::domain::validate as validators;
use crate::store::ledger::Turn;

/// The queue with all that says what can be taken.
#[derive(Debug)]
pub struct Board {
    pub queue: Queue,
    pub world: World,
    pub state: State,
}

impl Board {
    /// Reads the queue. `now` also asks git and the charter's commands; without,
    /// only the rows are looked at.
    pub fn read(site: &mut Site, now: bool) -> Result<Self, Failure> {
        let state = current(site, &stored::needs())?;
        let queue = stored::queue(&state)?;
        let mut refused = stored::refused(&state, &queue);
        if now && !queue.0.is_empty() {
            for (id, faults) in faults(site, &state, &queue)? {
                let reason = refused.entry(id).or_default();
                if !reason.is_empty() {
                    reason.push_str("; ");
                }
                reason.push_str(&faults.texts().join("; "));
            }
        }
        let world = World {
            held: stored::held(&state),
            refused,
        };
        Ok(Self {
            queue,
            world,
            state,
        })
    }

    pub fn obstacles(&self, item: &Item) -> Vec<Obstacle> {
        advice::obstacles(&self.queue, item, None, &self.world)
    }

    /// Returns the items in the order in which they should be taken; done ones last.
    pub fn in_order(&self) -> Vec<&Item> {
        let order = advice::dispatch(&self.queue);
        let listed: BTreeSet<&PlanId> = order.iter().collect();
        let rest = self.queue.0.keys().filter(|id| !listed.contains(id));
        let ids = order.iter().chain(rest);
        ids.filter_map(|id| self.queue.get(id)).collect()
    }

    pub fn next(&self, role: &RoleName) -> Result<Advice, Failure> {
        let law = self.state.law.as_ref().ok_or_else(no_law)?;
        if !law.roles.contains_key(role) {
            let known: Vec<&str> = law.roles.keys().map(RoleName::as_str).collect();
            let message = format!("the charter defines no role {role}");
            let hint = format!("it defines {}", known.join(", "));
            return Err(Failure::missing(message).hint(hint));
        }
        Ok(advice::next(&self.queue, role, &self.world))
    }
}

/// What is wrong with a plan now, and the commands that were asked.
#[derive(Debug, Default)]
pub struct Faults {
    pub findings: Vec<Finding>,
    pub checks: Vec<Check>,
}

impl Faults {
    pub fn texts(&self) -> Vec<String> {
        let text = |finding: &Finding| finding.fault.message.clone();
        self.findings.iter().map(text).collect()
    }
}

/// Returns what is wrong now with plans that could be taken otherwise.
fn faults(site: &Site, state: &State, queue: &Queue) -> Result<BTreeMap<PlanId, Faults>, Failure> {
    let law = state.law.clone().ok_or_else(no_law)?;
    let ground = Ground::open(site, state)?;
    let mut history = History::new(&ground, state);
    let members = queue.members();
    let graph = Graph::new(&members);
    let mut out = BTreeMap::new();
    for item in queue.0.values() {
        if item.state != QueueState::Todo || !queue.waits_for(&item.plan).is_empty() {
            continue;
        }
        let row = find(state, &item.plan.id)?;
        let found = one(site, &law, &mut history, &graph, item, row)?;
        if !found.findings.is_empty() {
            out.insert(item.plan.id.clone(), found);
        }
    }
    Ok(out)
}

fn one(
    site: &Site,
    law: &Charter,
    history: &mut History<'_>,
    graph: &Graph<'_>,
    item: &Item,
    row: &PlanRow,
) -> Result<Faults, Failure> {
    let mut faults = Faults::default();
    if let Some(base) = row.base {
        let moved = history.since(base)?;
        faults
            .findings
            .extend(validators::stale(&item.plan, graph, &moved));
    }
    let moment = facts::preconditions(site, law, history.ground(), &item.plan);
    faults.findings.extend(moment.findings);
    faults.checks = moment.checks;
    Ok(faults)
}

/// What became of a claim.
#[derive(Debug)]
pub struct Taken {
    pub plan: PlanId,
    pub owner: AgentName,
    pub patterns: Vec<Pattern>,
}

/// Gives the plan to `owner`, with all its paths, or refuses.
pub fn claim(
    site: &mut Site,
    id: &PlanId,
    owner: &AgentName,
    fleet: bool,
) -> Result<Taken, Failure> {
    let state = current(site, &stored::needs())?;
    let mut ask = QueueAsk::claim(id.clone(), owner.clone());
    ask.fleet = fleet;
    if let Some(row) = state
        .plans
        .get(id)
        .filter(|row| row.state == QueueState::Todo)
    {
        let queue = stored::queue(&state)?;
        let law = state.law.clone().ok_or_else(no_law)?;
        let ground = Ground::open(site, &state)?;
        let mut history = History::new(&ground, &state);
        let item = stored::item(row)?;
        let members = queue.members();
        let graph = Graph::new(&members);
        if queue.waits_for(&item.plan).is_empty() {
            let faults = one(site, &law, &mut history, &graph, &item, row)?;
            ask.faults = faults.texts();
            ask.checks = faults.checks;
        }
    }
    let (refusal, _, state) = site.act(|turn| take(turn, &ask))?;
    if let Some(refusal) = refusal {
        return Err(refusal.into());
    }
    if let Some(session) = state.open_session_id(owner) {
        live::refresh(site, session)?;
    }
    let plan = stored::plan(find(&state, id)?)?;
    Ok(Taken {
        plan: id.clone(),
        owner: owner.clone(),
        patterns: plan.claims.writes().map(|(_, _, p)| p.clone()).collect(),
    })
}

/// Makes sure that `agent` has the plan before it works on it.
pub fn ensure(site: &mut Site, id: &PlanId, agent: &AgentName) -> Result<(), Failure> {
    let state = current(site, &stored::needs())?;
    let row = find(&state, id)?;
    if row.state == QueueState::InProgress && row.owner.as_ref() == Some(agent) {
        let ask = QueueAsk::claim(id.clone(), agent.clone());
        let (refusal, _, _) = site.act(|turn| take(turn, &ask))?; // its paths are renewed
        return refusal.map_or(Ok(()), |refusal| Err(refusal.into()));
    }
    claim(site, id, agent, false).map(|_| ())
}

/// Takes the plan and its paths. A refusal of the plan is recorded; one of a path
/// ends the whole turn, so that nothing is taken by half.
pub fn take(turn: &mut Turn<'_>, ask: &QueueAsk) -> Result<Option<Refusal>, Failure> {
    if let Some(refusal) = turn.command(&Command::Queue(ask.clone()))? {
        return Ok(Some(refusal));
    }
    let Some(owner) = &ask.claims else {
        return Ok(None);
    };
    let plan = stored::plan(find(turn.state(), &ask.plan)?)?;
    let writes: Vec<Pattern> = plan.claims.writes().map(|(_, _, p)| p.clone()).collect();
    for (mode, patterns) in [(Mode::Write, writes), (Mode::Read, plan.claims.read)] {
        if patterns.is_empty() {
            continue;
        }
        let mut claim = Ask::new(owner.clone(), mode, patterns);
        claim.plan = Some(ask.plan.clone());
        if let Some(refusal) = turn.command(&Command::Claim(claim))? {
            return Err(refusal.into());
        }
    }
    Ok(None)
}

/// Changes a plan's state by name.
pub fn set_status(site: &mut Site, ask: &QueueAsk) -> Result<State, Failure> {
    let before = current(site, &stored::needs())?;
    let outcome = site.command(&Command::Queue(ask.clone()))?;
    if let Some(refusal) = outcome.refusal {
        return Err(refusal.into());
    }
    if ask.to == QueueState::Todo {
        give_back(site, &before, &ask.plan)?;
    }
    Ok(outcome.state)
}

/// Whoever gives a plan back gives its paths back too.
fn give_back(site: &mut Site, before: &State, id: &PlanId) -> Result<(), Failure> {
    let owner = before.plans.get(id).and_then(|row| row.owner.as_ref());
    let Some(owner) = owner else { return Ok(()) };
    let own = before.claims_of(owner);
    let patterns: Vec<Pattern> = own
        .filter(|claim| claim.plan.as_ref() == Some(id))
        .map(|claim| claim.pattern.clone())
        .collect();
    if !patterns.is_empty() {
        claims::release(site, owner, &patterns)?;
    }
    Ok(())
}

/// Returns every breach of the queue's invariants.
pub fn problems(site: &mut Site) -> Result<Vec<Problem>, Failure> {
    let mut needs = stored::needs();
    needs.push(Need::All(Kind::Session));
    let state = current(site, &needs)?;
    let queue = stored::queue(&state)?;
    Ok(validate(&rows(&queue), &stored::working(&state)))
}

/// Holds the ledger against the branches that it merged to.
pub fn check_git(site: &mut Site) -> Result<Vec<GitFinding>, Failure> {
    let mut needs = stored::needs();
    needs.extend([Need::All(Kind::Protect), Need::All(Kind::Intent)]);
    let state = current(site, &needs)?;
    let law = state.law.clone().ok_or_else(no_law)?;
    let queue = stored::queue(&state)?;
    let target = Site::target(&state)?;
    let mut findings = Vec::new();
    let merged = state.merges.values().map(|row| row.branch.clone());
    let branches: BTreeSet<String> = merged.chain([target.clone()]).collect();
    for branch in branches {
        let facts = branch_facts(site, &state, &queue, &branch)?;
        let leave = |commit: &BranchCommit| has_leave(&law, &commit.committer);
        let found = git_check(&queue, &facts, leave);
        let kept = |finding: &GitFinding| match finding.rule {
            // A plan is done on the merge target; other branches only keep their merges.
            "done-not-on-branch" | "around-govfs" => branch == target,
            _ => true,
        };
        findings.extend(found.into_iter().filter(kept));
    }
    Ok(findings)
}

fn branch_facts(
    site: &Site,
    state: &State,
    queue: &Queue,
    branch: &str,
) -> Result<BranchFacts, Failure> {
    let mut facts = BranchFacts {
        branch: branch.to_owned(),
        ..BranchFacts::default()
    };
    for row in state.merges.values().filter(|row| row.branch == branch) {
        facts.merges.push(crate::domain::queue::MergeFact {
            commit: row.commit,
            plan: row.plan.clone(),
            checks: BTreeSet::new(),
            reverted: row.reverted.is_some(),
        });
        facts.recorded.extend(row.undone);
    }
    let Some(tip) = site.repo.tip(branch)? else {
        return Ok(facts);
    };
    for fact in site.repo.commits_after(tip, state.meta.tip)? {
        facts.commits.push(BranchCommit {
            commit: fact.commit,
            committer: fact.committer,
            subject: fact.subject,
            trailers: fact.trailers,
        });
    }
    for step in state.protects.get(branch).iter().flat_map(|row| &row.moves) {
        if let Some(to) = step.to {
            let moved = site.repo.commits_after(to, step.from)?;
            facts
                .recorded
                .extend(moved.into_iter().map(|fact| fact.commit));
        }
    }
    for commit in before_the_ledger(site, state, queue, tip)? {
        facts.recorded.insert(commit);
        facts.commits.push(BranchCommit {
            commit,
            committer: String::new(),
            subject: String::new(),
            trailers: false,
        });
    }
    Ok(facts)
}

/// Returns the commits that did plans before the ledger was made, as far as the branch holds them.
fn before_the_ledger(
    site: &Site,
    state: &State,
    queue: &Queue,
    tip: Oid,
) -> Result<Vec<Oid>, Failure> {
    let Some(first) = state.meta.tip else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    for commit in queue.0.values().filter_map(|item| item.commit) {
        if site.repo.reaches(first, commit)? && site.repo.reaches(tip, commit)? {
            out.push(commit);
        }
    }
    Ok(out)
}

/// Says whether the charter lets this `Name <mail>` move the branch: by its name, or its mail's.
pub fn has_leave(law: &Charter, who: &str) -> bool {
    let (name, mail) = who.rsplit_once(" <").unwrap_or((who, ""));
    let mail = mail.trim_end_matches('>');
    let local = mail.split('@').next().unwrap_or_default();
    let is = |person: &AgentName| [name, mail, local].contains(&person.as_str());
    law.merge.people.iter().any(is)
}
