//! Plans from elsewhere: other tools' formats in, the queue out and back in.
//!
//! Owns: recognising a format and turning it into plans with their states.
//! `exchange` is the queue as YAML (exported, and judged when it comes back
//! edited), `work_queue` reads such YAML, `dgov` its plans, `dag_toml` the
//! implementation DAG. Invariants: what a format says and a plan cannot hold is
//! named in a note, never dropped silently; every fault of a file is found in
//! one go. Never stores anything: an import is judged like any other command.

pub mod exchange;

mod dag_toml;
mod dgov;
#[cfg(test)]
mod tests;
mod work_queue;
mod yaml;

use std::collections::BTreeMap;

use toml::de::DeTable;

use crate::domain::names::{AgentName, PlanId};
use crate::domain::plan::fields::{At, Problems, document};
use crate::domain::plan::{Plan, PlanError};
use crate::domain::queue::QueueState;
use crate::domain::queue::check::Row;

/// The longest text that is imported.
pub const IMPORT_BYTES_MAX: usize = 32 << 20;
/// The type of an imported plan whose format knows none.
pub const IMPORT_TYPE: &str = "feature";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A plan of our own.
    Plan,
    /// A work queue in YAML.
    WorkQueue,
    Dgov,
    /// DAG-TOML, `template_kind = "implementation-dag"`.
    ImplementationDag,
}

/// A plan with the place in the queue that its source gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub plan: Plan,
    pub state: QueueState,
    pub owner: Option<AgentName>,
    /// As written.
    pub commit: Option<String>,
    pub reason: Option<String>,
    pub line: u32,
}

impl Imported {
    fn todo(plan: Plan, line: u32) -> Self {
        Self {
            plan,
            state: QueueState::Todo,
            owner: None,
            commit: None,
            reason: None,
            line,
        }
    }

    pub fn row(&self) -> Row {
        Row {
            id: self.plan.id.clone(),
            role: self.plan.role.clone(),
            state: self.state,
            owner: self.owner.clone(),
            commit: self.commit.clone(),
            depends_on: self.plan.dependencies.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub format: Format,
    pub tasks: Vec<Imported>,
    /// What the source said and a plan cannot hold.
    pub notes: Vec<String>,
}

/// Reads `text`, recognising its format by its name and its tables.
pub fn import(file: &str, text: &str) -> Result<Import, Vec<PlanError>> {
    let mut problems = Problems::new(file, text);
    if text.len() > IMPORT_BYTES_MAX {
        problems.add(1, "", format!("longer than {IMPORT_BYTES_MAX} bytes"));
        return Err(problems.finish(()).err().unwrap_or_default());
    }
    let mut notes = Notes::default();
    let yaml = [".yaml", ".yml"].iter().any(|end| file.ends_with(end));
    let (format, tasks) = if yaml {
        let tasks = work_queue::read(file, text, &mut problems, &mut notes);
        (Format::WorkQueue, tasks)
    } else {
        let Some(table) = document(text, &mut problems) else {
            return Err(problems.finish(()).err().unwrap_or_default());
        };
        match format(&table) {
            Some(Format::ImplementationDag) => {
                let tasks = dag_toml::read(file, &table, &mut problems, &mut notes);
                (Format::ImplementationDag, tasks)
            }
            Some(Format::Dgov) => {
                let tasks = dgov::read(file, &table, &mut problems, &mut notes);
                (Format::Dgov, tasks)
            }
            Some(Format::Plan) => {
                let plan = Plan::parse(file, text)?;
                (Format::Plan, vec![Imported::todo(plan, 1)])
            }
            Some(Format::WorkQueue) | None => {
                let message = "neither a plan, a dgov plan ([tasks] or [units] with files), \
                               an implementation-dag ([units] with files_modify), nor YAML";
                problems.add(1, "", message);
                (Format::Plan, Vec::new())
            }
        }
    };
    for task in &tasks {
        complete(task, &mut problems);
    }
    let import = Import {
        format,
        tasks,
        notes: notes.finish(),
    };
    problems.finish(import)
}

/// Holds what was read against the schema of plans: only a plan that could stand
/// in a file of its own is one.
fn complete(task: &Imported, problems: &mut Problems<'_>) {
    let errors = Plan::parse("", &task.plan.canonical()).err();
    for error in errors.into_iter().flatten() {
        let key = format!("{}: {}", task.plan.id, error.key);
        problems.add(task.line, key, error.message);
    }
}

/// Recognises a TOML format by the tables it must have.
fn format(table: &DeTable<'_>) -> Option<Format> {
    let get = |key: &str| table.get(key).map(toml::Spanned::get_ref);
    let kind = get("meta").and_then(|meta| meta.get("template_kind")?.get_ref().as_str());
    let units = get("units").and_then(toml::de::DeValue::as_table);
    let unit_has = |keys: &[&str]| {
        let mut units = units.into_iter().flat_map(|units| units.values());
        units.any(|unit| keys.iter().any(|key| unit.get_ref().get(*key).is_some()))
    };
    if kind == Some("implementation-dag")
        || unit_has(&["files_modify", "files_create", "blocks", "estimated_loc"])
    {
        return Some(Format::ImplementationDag);
    }
    if units.is_some() || get("tasks").is_some() {
        return Some(Format::Dgov);
    }
    get("plan").map(|_| Format::Plan)
}

/// What was left out, each kind once, with how often.
#[derive(Debug, Default)]
struct Notes(BTreeMap<String, usize>);

impl Notes {
    fn add(&mut self, text: impl Into<String>) {
        *self.0.entry(text.into()).or_default() += 1;
    }

    /// Notes the keys that have no place in a plan.
    fn ignored<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) {
        for key in keys {
            self.add(format!("`{key}` has no place in a plan and was left out"));
        }
    }

    fn finish(self) -> Vec<String> {
        let line = |(text, count)| match count {
            1 => text,
            n => format!("{text} ({n} times)"),
        };
        self.0.into_iter().map(line).collect()
    }
}

/// The ids of a source, made into ids of plans: what cannot stand in one becomes `-`.
#[derive(Debug, Default)]
struct Ids(BTreeMap<PlanId, String>);

impl Ids {
    /// Returns the id for `text`, which must not be that of another text.
    fn id(&mut self, at: &At<String>, problems: &mut Problems<'_>) -> Option<PlanId> {
        let id = match plan_id(&at.value) {
            Ok(id) => id,
            Err(message) => {
                problems.add(at.line, at.key.clone(), message);
                return None;
            }
        };
        let known = self.0.entry(id.clone()).or_insert_with(|| at.value.clone());
        if *known != at.value {
            let message = format!("{:?} and {known:?} would both become {id}", at.value);
            problems.add(at.line, at.key.clone(), message);
            return None;
        }
        Some(id)
    }
}

fn plan_id(text: &str) -> Result<PlanId, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let safe: String = text
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    safe.parse::<PlanId>().map_err(|error| error.to_string())
}
