//! Plans: verify them, store them, take them out, show them.
//!
//! Owns: which files are plans and what they are called, and the whole judgement
//! of a set: as a graph, by the validators, and by what holds at this moment.
//! Invariant: what is stored was judged together with everything that is stored,
//! in the transaction that stores it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::app::facts::{self, Gathered, Ground, History};
use crate::app::failure::Failure;
use crate::app::revert::revert as revert_merge;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::command::{Command, Need};
use crate::domain::dag::{Finding, Graph};
use crate::domain::event::{PlanAction, PlanSet, QueueState};
use crate::domain::names::PlanId;
use crate::domain::plan::{Plan, PlanError};
use crate::domain::queue::decide::{PlanAsk, dependents, taken, together};
use crate::domain::queue::{Item, Queue, stored};
use crate::domain::state::{PlanRow, State};
use crate::domain::validate;

pub mod import;

/// The ending of plan files in a directory.
const ENDING: &str = "toml";
/// How deep directories of plans are looked into.
const DEPTH_MAX: usize = 16;

/// A plan from a file.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the ledger calls the file.
    pub file: String,
    pub plan: Plan,
    /// Imported as done by this commit.
    pub done: Option<Oid>,
}

/// What came of reading files.
#[derive(Debug, Default)]
pub struct Read {
    pub sources: Vec<Source>,
    pub errors: Vec<PlanError>,
}

/// Reads plan files; directories are searched for them.
pub fn read(site: &Site, paths: &[PathBuf]) -> Result<Read, Failure> {
    let mut read = Read::default();
    for path in files(paths)? {
        let shown = path.display().to_string();
        let bytes = fs::read(&path).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        let Ok(text) = String::from_utf8(bytes) else {
            let plan = Plan::parse(&shown, "\u{0}");
            read.errors.extend(plan.err().unwrap_or_default());
            continue;
        };
        match Plan::parse(&shown, &text) {
            Ok(plan) => read.sources.push(Source {
                file: recorded(site, &path),
                plan,
                done: None,
            }),
            Err(errors) => read.errors.extend(errors),
        }
    }
    Ok(read)
}

/// Returns the files that `paths` mean, directories searched, each once, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut out = Vec::new();
    for path in paths {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let before = out.len();
        search(path, 0, &mut out)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        if out.len() == before {
            let message = format!("{} holds no plans (*.{ENDING})", path.display());
            return Err(Failure::usage(message));
        }
    }
    let mut seen = BTreeSet::new();
    out.retain(|path| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    Ok(out)
}

fn search(dir: &Path, depth: usize, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && !hidden && depth < DEPTH_MAX {
            search(&path, depth + 1, out)?;
        } else if !kind.is_dir() && path.extension().is_some_and(|end| end == ENDING) {
            out.push(path);
        }
    }
    Ok(())
}

/// Returns what the ledger calls a file: by its place in the repository, or absolute.
fn recorded(site: &Site, path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let root = fs::canonicalize(site.repo.root()).unwrap_or_default();
    let inside = path.strip_prefix(&root).unwrap_or(&path);
    inside.to_string_lossy().into_owned()
}

/// The judgement of a set of plans.
#[derive(Debug)]
pub struct Judgement {
    pub queue: Queue,
    pub findings: Vec<Finding>,
    /// More overlaps exist than are listed.
    pub more: bool,
    /// The plans that were judged, dependencies first.
    pub order: Vec<PlanId>,
    pub base: Oid,
    gathered: Gathered,
}

impl Judgement {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub fn failure(&self, what: &str) -> Failure {
        let count = self.findings.len();
        let plural = if count == 1 { "" } else { "s" };
        Failure::refused(format!("{what}: {count} finding{plural}"))
    }
}

/// Judges `sources` together with what is stored; without any, what is stored.
pub fn judge(site: &mut Site, sources: &[Source]) -> Result<Judgement, Failure> {
    let state = current(site, &stored::needs())?;
    let law = state.law.clone().ok_or_else(no_law)?;
    let queue = stored::queue(&state)?;
    let ground = Ground::open(site, &state)?;
    let plans: Vec<&Plan> = sources.iter().map(|source| &source.plan).collect();
    let done = |id: &PlanId| {
        let mut own = sources.iter().filter(|source| source.plan.id == *id);
        own.any(|source| source.done.is_some())
    };
    let members = together(&queue, &plans, done);
    let ids: BTreeSet<&PlanId> = if sources.is_empty() {
        members.iter().map(|member| &member.plan.id).collect()
    } else {
        plans.iter().map(|plan| &plan.id).collect()
    };
    let fresh: BTreeSet<&PlanId> = plans.iter().map(|plan| &plan.id).collect();
    let gathered = ground.gather(site, &law, &members, &fresh)?;
    let facts = gathered.with(&state);
    let rules = stored::rules(&state, &law, members.iter().map(|member| member.plan));
    let (mut findings, more) = stored::judge(&members, &rules, &stored::table(&law), &facts);
    findings.retain(|finding| stored::concerns(finding, &ids));
    findings.extend(taken_ids(&state, sources));
    let graph = Graph::new(&members);
    let order: Vec<PlanId> = graph.order();
    findings.extend(now(site, &state, &ground, &graph, &ids)?);
    findings.sort_by_cached_key(|f| (f.fault.file.clone(), f.plan.clone(), f.fault.line));
    let order = order.into_iter().filter(|id| ids.contains(id)).collect();
    Ok(Judgement {
        findings,
        more,
        order,
        base: ground.tip,
        gathered,
        queue: queue.clone(),
    })
}

/// What holds at this moment: stale plans, and the preconditions of those that could start.
fn now(
    site: &Site,
    state: &State,
    ground: &Ground,
    graph: &Graph<'_>,
    ids: &BTreeSet<&PlanId>,
) -> Result<Vec<Finding>, Failure> {
    let law = state.law.clone().ok_or_else(no_law)?;
    let mut history = History::new(ground, state);
    let mut findings = Vec::new();
    for at in 0..graph.len() {
        let member = graph.member(at);
        let plan = member.plan;
        if member.done || !ids.contains(&plan.id) {
            continue;
        }
        // A plan from a file has the tip before it; a stored one what it was written for.
        let row = state
            .plans
            .get(&plan.id)
            .filter(|_| plan.origin.file.is_empty());
        if let Some(base) = row.and_then(|row| row.base) {
            findings.extend(validate::stale(plan, graph, &history.since(base)?));
        }
        let done = |id: &PlanId| graph.find(id).is_some_and(|at| graph.member(at).done);
        if plan.dependencies.iter().all(done) {
            findings.extend(facts::preconditions(site, &law, ground, plan).findings);
        }
    }
    Ok(findings)
}

/// Names the plans whose id a stored plan from elsewhere has.
fn taken_ids(state: &State, sources: &[Source]) -> Vec<Finding> {
    let mut out = Vec::new();
    for source in sources {
        let plan = &source.plan;
        let Some(row) = state.plans.get(&plan.id) else {
            continue;
        };
        let other = row.file.as_deref() != Some(&source.file) && !source.file.is_empty();
        if other && row.sha256 != plan.digest() {
            let message = taken(&plan.id, row.file.as_deref());
            out.push(Finding::new(plan, "duplicate-id", "plan.id", message));
        }
    }
    out
}

/// Returns the state under the charter that is in force now, with what is due ended.
pub fn current(site: &mut Site, needs: &[Need]) -> Result<State, Failure> {
    site.act(|_| Ok(()))?;
    Ok(site.ledger.state(needs)?)
}

pub fn no_law() -> Failure {
    Failure::usage("the charter in force cannot be read by this govfs, so nothing may run")
        .hint("govfs charter check")
}

/// Stores plans that were found clean.
pub fn store(
    site: &mut Site,
    sources: &[Source],
    judged: &Judgement,
) -> Result<Vec<PlanId>, Failure> {
    let sets = sources.iter().map(|source| set(source, judged)).collect();
    let outcome = site.command(&Command::Plan(PlanAsk::Add(sets)))?;
    if let Some(refusal) = outcome.refusal {
        return Err(refusal.into());
    }
    let added = outcome
        .entries
        .into_iter()
        .filter_map(|entry| match entry.event {
            crate::domain::event::Event::Plan(body) => Some(body.plan),
            _ => None,
        });
    Ok(added.collect())
}

/// The entry of a plan.
pub fn set(source: &Source, judged: &Judgement) -> PlanSet {
    let plan = &source.plan;
    PlanSet {
        action: PlanAction::Add,
        plan: plan.id.clone(),
        sha256: plan.digest(),
        file: (!source.file.is_empty()).then(|| source.file.clone()),
        text: Some(plan.canonical()),
        reverts: None,
        base: Some(judged.base),
        facts: judged.gathered.plans.get(&plan.id).cloned(),
        done: source.done,
    }
}

/// A removal, told.
#[derive(Debug)]
pub struct Removed {
    pub plan: PlanId,
    /// What depended on it, directly or through others.
    pub dependents: Vec<PlanId>,
    /// The merge that was undone, and the commit that undid it.
    pub reverted: Option<(u64, String)>,
}

/// Takes a plan out of the graph.
pub fn remove(site: &mut Site, id: &PlanId, revert: bool) -> Result<Removed, Failure> {
    let state = current(site, &stored::needs())?;
    let row = find(&state, id)?;
    let dependents = dependents(&stored::queue(&state)?, id);
    if revert && row.state == QueueState::InProgress {
        let refusal = site.command(&Command::Plan(PlanAsk::Remove {
            plan: id.clone(),
            reverts: None,
        }))?;
        return Err(refusal.refusal.map_or_else(no_law, Failure::from));
    }
    let merge = row.merge.filter(|_| revert);
    let reverted = match merge {
        Some(merge) => {
            let message = format!("Revert plan {id}");
            let done = revert_merge(site, &merge.to_string(), Some(&message))?;
            Some((merge, done.commit.to_string()))
        }
        None => None,
    };
    let ask = PlanAsk::Remove {
        plan: id.clone(),
        reverts: merge,
    };
    match site.command(&Command::Plan(ask))?.refusal {
        Some(refusal) => Err(refusal.into()),
        None => Ok(Removed {
            plan: id.clone(),
            dependents,
            reverted,
        }),
    }
}

pub fn find<'a>(state: &'a State, id: &PlanId) -> Result<&'a PlanRow, Failure> {
    state.plans.get(id).ok_or_else(|| {
        Failure::missing(format!("there is no plan {id}")).hint("list them with `govfs plan list`")
    })
}

/// A stored plan with everything that is said of it.
#[derive(Debug)]
pub struct Shown {
    pub row: PlanRow,
    pub item: Item,
    pub dependents: Vec<PlanId>,
    pub findings: Vec<Finding>,
}

pub fn show(site: &mut Site, id: &PlanId) -> Result<Shown, Failure> {
    let state = current(site, &stored::needs())?;
    let row = find(&state, id)?.clone();
    let item = stored::item(&row)?;
    let judged = judge(site, &[])?;
    let ids = BTreeSet::from([id]);
    let mut findings = judged.findings;
    findings.retain(|finding| stored::concerns(finding, &ids));
    Ok(Shown {
        dependents: dependents(&judged.queue, id),
        row,
        item,
        findings,
    })
}

/// Returns the queue as it is stored.
pub fn queue(site: &mut Site) -> Result<(Queue, State), Failure> {
    let state = current(site, &stored::needs())?;
    Ok((stored::queue(&state)?, state))
}
