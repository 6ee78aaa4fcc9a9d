//! The queue as YAML, out and back in.
//!
//! There is no queue file to edit. What can be edited is an export, and when it
//! comes back it is only a list of commands that somebody would like to give:
//! each is judged as if it had been typed. What YAML does not carry of a plan
//! (conditions, its command) stays as it is.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::domain::base::Oid;
use crate::domain::import::{Imported, import};
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::pattern::Pattern;
use crate::domain::plan::{Check, Command, Plan, PlanError};
use crate::domain::queue::advice::World;
use crate::domain::queue::check::{Problem, Row, validate};
use crate::domain::queue::{
    Change, Claimant, Given, Item, MergeFact, Queue, QueueRefusal, QueueState,
};

/// What an edited export asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    Add(Box<Plan>),
    /// The plan's text changes.
    Amend(Box<Plan>),
    Remove(PlanId),
    Claim {
        plan: PlanId,
        owner: AgentName,
    },
    SetStatus {
        plan: PlanId,
        to: QueueState,
        commit: Option<String>,
        reason: Option<String>,
    },
}

/// Returns the queue as YAML, in the order of `order`; the rest by name.
pub fn export(queue: &Queue, order: &[PlanId]) -> String {
    let mut out = String::from(
        "# The queue. An edited copy comes back with `govfs plan import`, and is judged.\n\
         version: 1\nstates: [todo, in_progress, blocked, done]\ntasks:\n",
    );
    let listed: BTreeSet<&PlanId> = order.iter().collect();
    let rest = queue.0.keys().filter(|id| !listed.contains(id));
    for item in order.iter().chain(rest).filter_map(|id| queue.get(id)) {
        write_item(&mut out, item);
    }
    if queue.0.is_empty() {
        out.truncate(out.len() - "tasks:\n".len());
        out.push_str("tasks: []\n");
    }
    out
}

fn write_item(out: &mut String, item: &Item) {
    let plan = &item.plan;
    let _ = writeln!(out, "  - id: {}", scalar(plan.id.as_str()));
    let mut line = |key: &str, value: String| {
        let gap = if value.is_empty() { "" } else { " " };
        let _ = writeln!(out, "    {key}:{gap}{value}");
    };
    line("type", scalar(&plan.kind));
    if let Some(role) = &plan.role {
        line("role", scalar(role.as_str()));
    }
    if let Some(agent) = &plan.agent {
        line("agent", scalar(agent.as_str()));
    }
    line("status", item.state.to_string());
    if let Some(owner) = &item.owner {
        line("owner", scalar(owner.as_str()));
    }
    if let Some(commit) = &item.commit {
        line("commit", scalar(&commit.to_string()));
    }
    if let Some(reason) = &item.reason {
        line("reason", scalar(reason));
    }
    if let Some(priority) = plan.priority {
        line("priority", priority.to_string());
    }
    if !plan.description.is_empty() {
        line("title", scalar(&plan.description));
    }
    line(
        "depends_on",
        list(&plan.dependencies, |id| scalar(id.as_str())),
    );
    line("acceptance_checks", list(&plan.acceptance, check));
    let claims = &plan.claims;
    let lists = [
        ("files", &claims.files),
        ("tests", &claims.tests),
        ("read", &claims.read),
    ];
    if lists.iter().any(|(_, patterns)| !patterns.is_empty()) {
        line("claims", String::new());
        for (key, patterns) in lists {
            line(&format!("  {key}"), list(patterns, pattern));
        }
    }
    if let Some(prompt) = plan.run.as_ref().and_then(|run| run.prompt.as_ref()) {
        line("notes", scalar(prompt));
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(show).collect();
    format!("[{}]", items.join(", "))
}

fn pattern(pattern: &Pattern) -> String {
    scalar(&String::from_utf8_lossy(pattern.source()))
}

fn check(check: &Check) -> String {
    let command = match &check.command {
        Command::Shell(line) => scalar(line),
        Command::Argv(words) => list(words, |word| scalar(word)),
    };
    match &check.name {
        None => command,
        Some(name) => format!("{{name: {}, command: {command}}}", scalar(name)),
    }
}

/// Returns `text` as a YAML scalar: bare where no reader takes it for anything
/// else, else in double quotes with everything unusual escaped.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let word = words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if starts && !word && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

/// What is wrong with an edited export as a text, or as a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    Text(Vec<PlanError>),
    Queue(Vec<Problem>),
}

/// Returns the commands that an edited export asks for, in the order in which
/// they can be given.
pub fn commands(queue: &Queue, file: &str, text: &str) -> Result<Vec<QueueCommand>, ExchangeError> {
    let import = import(file, text).map_err(ExchangeError::Text)?;
    let rows: Vec<Row> = import.tasks.iter().map(Imported::row).collect();
    let problems = validate(&rows, &BTreeMap::new());
    if !problems.is_empty() {
        return Err(ExchangeError::Queue(problems));
    }
    let mut plans = Vec::new();
    let mut moves = Vec::new();
    for task in &import.tasks {
        let item = queue.get(&task.plan.id);
        let old = item.map_or(QueueState::Todo, |item| item.state);
        match item {
            None => plans.push(QueueCommand::Add(Box::new(task.plan.clone()))),
            Some(item) => {
                let plan = merged(&item.plan, &task.plan);
                if plan != item.plan {
                    plans.push(QueueCommand::Amend(Box::new(plan)));
                }
            }
        }
        moves.extend(moved(task, item, old));
    }
    let kept: BTreeSet<&PlanId> = import.tasks.iter().map(|task| &task.plan.id).collect();
    let gone = queue.0.keys().filter(|id| !kept.contains(id));
    plans.extend(gone.cloned().map(QueueCommand::Remove));
    plans.extend(moves);
    Ok(plans)
}

/// Returns the stored plan with what the export carries of it replaced.
fn merged(stored: &Plan, edited: &Plan) -> Plan {
    let prompt = edited.run.as_ref().and_then(|run| run.prompt.clone());
    let mut run = stored.run.clone();
    if prompt.is_some() || run.is_some() {
        run.get_or_insert_default().prompt = prompt;
    }
    Plan {
        preconditions: stored.preconditions.clone(),
        postconditions: stored.postconditions.clone(),
        run,
        ..edited.clone()
    }
}

fn moved(task: &Imported, item: Option<&Item>, old: QueueState) -> Option<QueueCommand> {
    let plan = task.plan.id.clone();
    let owner = item.and_then(|item| item.owner.as_ref());
    let commit = item
        .and_then(|item| item.commit)
        .map(|commit| commit.to_string());
    let claims = match (old, task.state) {
        (QueueState::Todo, QueueState::InProgress) => true,
        // An owner that changes is a second one who takes the plan.
        (_, QueueState::InProgress) => owner != task.owner.as_ref(),
        _ => false,
    };
    if let (true, Some(owner)) = (claims, &task.owner) {
        let owner = owner.clone();
        return Some(QueueCommand::Claim { plan, owner });
    }
    let recommitted =
        task.state == QueueState::Done && !same_commit(task.commit.as_deref(), commit.as_deref());
    if old == task.state && !recommitted {
        return None;
    }
    Some(QueueCommand::SetStatus {
        plan,
        to: task.state,
        commit: task.commit.clone(),
        reason: task.reason.clone(),
    })
}

/// Says whether a commit as written is the stored one, which may be spelled short.
fn same_commit(written: Option<&str>, stored: Option<&str>) -> bool {
    match (written, stored) {
        (Some(written), Some(stored)) => stored.starts_with(&written.to_ascii_lowercase()),
        (written, stored) => written == stored,
    }
}

/// Decides the moves of an edited export one after another, each on what the
/// ones before it led to. Changes of plans are `dag`'s and `validate`'s to judge.
pub fn decide(
    queue: &Queue,
    commands: &[QueueCommand],
    world: &World,
    merges: &[MergeFact],
    role_of: impl Fn(&AgentName) -> RoleName,
) -> (Vec<Change>, Vec<QueueRefusal>) {
    let mut queue = queue.clone();
    let (mut changes, mut refusals) = (Vec::new(), Vec::new());
    for command in commands {
        let decision = match command {
            QueueCommand::Add(plan) | QueueCommand::Amend(plan) => match amend(&mut queue, plan) {
                Ok(()) => continue,
                Err(refusal) => Err(refusal),
            },
            QueueCommand::Remove(id) => match remove(&mut queue, id) {
                Ok(()) => continue,
                Err(refusal) => Err(refusal),
            },
            QueueCommand::Claim { plan, owner } => {
                let by = Claimant {
                    agent: owner.clone(),
                    role: role_of(owner),
                };
                queue.claim(plan, &by, world)
            }
            QueueCommand::SetStatus {
                plan,
                to,
                commit,
                reason,
            } => find_merge(plan, commit.as_deref(), merges).and_then(|commit| {
                let reason = reason.clone();
                queue.set_status(plan, *to, &Given { commit, reason }, merges)
            }),
        };
        match decision {
            Ok(change) => {
                queue.apply(&change);
                changes.push(change);
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    (changes, refusals)
}

fn amend(queue: &mut Queue, plan: &Plan) -> Result<(), QueueRefusal> {
    match queue.0.get_mut(&plan.id) {
        Some(item) => {
            may_change(item)?;
            item.plan = plan.clone();
        }
        None => {
            queue.0.insert(plan.id.clone(), Item::new(plan.clone()));
        }
    }
    Ok(())
}

fn remove(queue: &mut Queue, id: &PlanId) -> Result<(), QueueRefusal> {
    if let Some(item) = queue.get(id) {
        may_change(item)?;
    }
    queue.0.remove(id);
    Ok(())
}

/// A plan's text is a promise to its owner, and the record of what was done.
pub fn may_change(item: &Item) -> Result<(), QueueRefusal> {
    let id = &item.plan.id;
    let hint = match item.state {
        QueueState::Todo | QueueState::Blocked => return Ok(()),
        QueueState::InProgress => format!("give it back first: `govfs queue set-status {id} todo`"),
        QueueState::Done => format!("undo it with `govfs plan remove {id} --revert`"),
    };
    let message = format!("plan {id} is {}: its text stands", item.state);
    Err(QueueRefusal::new(id, "plan-in-use", message, hint))
}

/// Returns the merge whose commit is written, in full or as its first digits.
fn find_merge(
    plan: &PlanId,
    written: Option<&str>,
    merges: &[MergeFact],
) -> Result<Option<Oid>, QueueRefusal> {
    let Some(written) = written else {
        return Ok(None);
    };
    let lower = written.to_ascii_lowercase();
    let mut found = merges
        .iter()
        .filter(|merge| merge.commit.to_string().starts_with(&lower));
    if let (Some(merge), None) = (found.next(), found.next()) {
        return Ok(Some(merge.commit));
    }
    let message = format!("{written} is no commit that a merge here made");
    let hint = format!("see the merges with `govfs log --op merge`; {plan} needs its own");
    Err(QueueRefusal::new(plan, "not-merged", message, hint))
}
