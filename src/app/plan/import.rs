//! Plans and a queue from elsewhere, judged like any other command.
//!
//! Owns: turning what a file says into commands, and giving them all or none. An
//! export of our own says what the queue should be, so what it leaves out is
//! taken out; any other file only adds and changes. A plan comes in as done only
//! by a commit that the branch had before the ledger was made: later ones need
//! the merge that did them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::app::failure::Failure;
use crate::app::live;
use crate::app::plan::{Judgement, Source, current, judge, no_law, recorded, set};
use crate::app::queue::take;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::command::Command;
use crate::domain::import::exchange::{ExchangeError, QueueCommand, commands, decide};
use crate::domain::import::{Format, import as read};
use crate::domain::names::PlanId;
use crate::domain::plan::PlanError;
use crate::domain::queue::advice::World;
use crate::domain::queue::check::Problem;
use crate::domain::queue::decide::{PlanAsk, QueueAsk};
use crate::domain::queue::{Item, Queue, QueueRefusal, QueueState, stored};
use crate::domain::state::State;
use crate::store::ledger::Turn;

/// How an export of the queue begins.
const EXPORT: &str = "# The queue.";

/// What an import did.
#[derive(Debug, Default)]
pub struct Imported {
    pub format: &'static str,
    pub plans: Vec<PlanId>,
    pub removed: Vec<PlanId>,
    /// States that changed, in order.
    pub moves: Vec<(PlanId, QueueState)>,
    /// What the source said and a plan cannot hold.
    pub notes: Vec<String>,
}

impl Imported {
    /// Takes note of a command that was carried out.
    fn took(&mut self, command: QueueCommand) {
        match command {
            QueueCommand::Remove(plan) => self.removed.push(plan),
            QueueCommand::Claim { plan, .. } => self.moves.push((plan, QueueState::InProgress)),
            QueueCommand::SetStatus { plan, to, .. } => self.moves.push((plan, to)),
            QueueCommand::Add(_) | QueueCommand::Amend(_) => {}
        }
    }
}

/// Why nothing was imported.
#[derive(Debug)]
pub enum Fault {
    /// The file itself.
    Text(Vec<PlanError>),
    /// What it says of the queue.
    Queue(Vec<Problem>),
    /// The plans in it, judged.
    Plans(Box<Judgement>),
    /// The changes of state that it asks for.
    Moves(Vec<QueueRefusal>),
    Failure(Failure),
}

impl<F: Into<Failure>> From<F> for Fault {
    fn from(failure: F) -> Self {
        Self::Failure(failure.into())
    }
}

pub fn import(site: &mut Site, path: &Path) -> Result<Imported, Fault> {
    let shown = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let parsed = read(&shown, &text).map_err(Fault::Text)?;
    let state = current(site, &stored::needs())?;
    let mut queue = stored::queue(&state)?;
    let mut asked = commands(&queue, &shown, &text).map_err(|error| match error {
        ExchangeError::Text(errors) => Fault::Text(errors),
        ExchangeError::Queue(problems) => Fault::Queue(problems),
    })?;
    if !text.starts_with(EXPORT) {
        asked.retain(|command| !matches!(command, QueueCommand::Remove(_)));
    }
    let mut done = Imported {
        format: name(parsed.format),
        notes: parsed.notes,
        ..Imported::default()
    };
    let file = recorded(site, path);
    let sources = sources(site, &state, &asked, &file)?;
    let judged = judge_if_any(site, &sources)?;
    let early: Vec<PlanId> = settle_done(&mut queue, &mut asked, &sources);
    let world = World {
        held: stored::held(&state),
        refused: std::collections::BTreeMap::new(),
    };
    let merges = stored::merges(&state);
    let law = state.law.clone().ok_or_else(no_law)?;
    let (_, refusals) = decide(&queue, &asked, &world, &merges, |name| {
        let known = state.agents.get(name).map(|row| row.role.clone());
        known.unwrap_or_else(|| law.default_role.clone())
    });
    if !refusals.is_empty() {
        return Err(Fault::Moves(refusals));
    }
    let sets = match &judged {
        Some(judged) => sources.iter().map(|source| set(source, judged)).collect(),
        None => Vec::new(),
    };
    let merges: Vec<Oid> = merges.into_iter().map(|merge| merge.commit).collect();
    let ((), _, after) = site.act(|turn| {
        if let Some(refusal) = turn.command(&Command::Plan(PlanAsk::Add(sets.clone())))? {
            return Err(refusal.into());
        }
        asked
            .iter()
            .try_for_each(|command| act(turn, command, &merges))
    })?;
    done.plans = sources
        .iter()
        .map(|source| source.plan.id.clone())
        .collect();
    for command in asked {
        if let QueueCommand::Claim { owner, .. } = &command
            && let Some(session) = after.open_session_id(owner)
        {
            live::refresh(site, session)?;
        }
        done.took(command);
    }
    let early = early.into_iter().map(|plan| (plan, QueueState::Done));
    done.moves.extend(early);
    Ok(done)
}

fn name(format: Format) -> &'static str {
    match format {
        Format::Plan => "plan",
        Format::WorkQueue => "work-queue",
        Format::Dgov => "dgov",
        Format::ImplementationDag => "implementation-dag",
    }
}

/// Returns the plans that come in or change.
fn sources(
    site: &Site,
    state: &State,
    asked: &[QueueCommand],
    file: &str,
) -> Result<Vec<Source>, Failure> {
    let mut out = Vec::new();
    for command in asked {
        match command {
            QueueCommand::Add(plan) => out.push(Source {
                file: file.to_owned(),
                plan: (**plan).clone(),
                done: done_before(site, state, asked, &plan.id)?,
            }),
            QueueCommand::Amend(plan) => {
                let row = state.plans.get(&plan.id);
                out.push(Source {
                    file: row.and_then(|row| row.file.clone()).unwrap_or_default(),
                    plan: (**plan).clone(),
                    done: None,
                });
            }
            _ => {}
        }
    }
    Ok(out)
}

/// Returns the commit that did a plan before there was a ledger to say so.
fn done_before(
    site: &Site,
    state: &State,
    asked: &[QueueCommand],
    id: &PlanId,
) -> Result<Option<Oid>, Failure> {
    let written = asked.iter().find_map(|command| match command {
        QueueCommand::SetStatus {
            plan,
            to: QueueState::Done,
            commit: Some(commit),
            ..
        } if plan == id => Some(commit),
        _ => None,
    });
    let (Some(written), Some(first)) = (written, state.meta.tip) else {
        return Ok(None);
    };
    let Ok(commit) = site.repo.resolve(written) else {
        return Ok(None);
    };
    let target = Site::target(state)?;
    let held = match site.repo.tip(&target)? {
        Some(tip) => site.repo.reaches(tip, commit)?,
        None => false,
    };
    Ok((held && site.repo.reaches(first, commit)?).then_some(commit))
}

fn judge_if_any(site: &mut Site, sources: &[Source]) -> Result<Option<Judgement>, Fault> {
    if sources.is_empty() {
        return Ok(None);
    }
    let judged = judge(site, sources)?;
    if judged.is_clean() {
        Ok(Some(judged))
    } else {
        Err(Fault::Plans(Box::new(judged)))
    }
}

/// Puts plans that were done before into the queue as such; nothing is left to decide about them.
fn settle_done(
    queue: &mut Queue,
    asked: &mut Vec<QueueCommand>,
    sources: &[Source],
) -> Vec<PlanId> {
    let mut early = BTreeSet::new();
    for source in sources {
        if let Some(commit) = source.done {
            let item = Item {
                state: QueueState::Done,
                commit: Some(commit),
                ..Item::new(source.plan.clone())
            };
            early.insert(source.plan.id.clone());
            queue.0.insert(source.plan.id.clone(), item);
        }
    }
    asked.retain(|command| match command {
        QueueCommand::Add(plan) => !early.contains(&plan.id),
        QueueCommand::SetStatus { plan, .. } => !early.contains(plan),
        _ => true,
    });
    early.into_iter().collect()
}

/// Gives one command; a refusal ends the turn and takes back all of it.
fn act(turn: &mut Turn<'_>, command: &QueueCommand, merges: &[Oid]) -> Result<(), Failure> {
    let refusal = match command {
        QueueCommand::Add(_) | QueueCommand::Amend(_) => None,
        QueueCommand::Remove(plan) => turn.command(&Command::Plan(PlanAsk::Remove {
            plan: plan.clone(),
            reverts: None,
        }))?,
        QueueCommand::Claim { plan, owner } => {
            take(turn, &QueueAsk::claim(plan.clone(), owner.clone()))?
        }
        QueueCommand::SetStatus {
            plan,
            to,
            commit,
            reason,
        } => {
            let mut ask = QueueAsk::set(plan.clone(), *to);
            let lower = commit.as_ref().map(|text| text.to_ascii_lowercase());
            let is = |oid: &&Oid| {
                lower
                    .as_ref()
                    .is_some_and(|text| oid.to_string().starts_with(text))
            };
            ask.commit = merges.iter().find(is).copied();
            ask.reason.clone_from(reason);
            turn.command(&Command::Queue(ask))?
        }
    };
    refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}
