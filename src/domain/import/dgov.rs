//! dgov plans: `[plan]` with `[tasks.NAME]` (or `[units.NAME]`), each with
//! `files.create`, `files.edit`, `files.delete`, `files.read`.
//!
//! What a task writes becomes file claims, what it reads becomes read claims.
//! The agent that dgov names is a model, and its roles are kinds of workers:
//! neither is an agent or a lane here, so both are left out with a note.

use toml::de::DeTable;

use crate::domain::import::{IMPORT_TYPE, Ids, Imported, Notes};
use crate::domain::pattern::Pattern;
use crate::domain::plan::fields::{At, Fields, Problems};
use crate::domain::plan::{Check, Command, Plan, Run};

const WRITES: [&str; 4] = ["create", "edit", "delete", "touch"];
const LEFT_OUT: [&str; 12] = [
    "agent",
    "role",
    "commit_message",
    "timeout_s",
    "iteration_budget",
    "escalation",
    "review_agent",
    "satisfies",
    "sop_mapping",
    "template",
    "vars",
    "default_agent",
];

pub(super) fn read(
    file: &str,
    table: &DeTable<'_>,
    problems: &mut Problems<'_>,
    notes: &mut Notes,
) -> Vec<Imported> {
    let mut root = Fields::root(table);
    let mut ids = Ids::default();
    let mut out = Vec::new();
    for group in ["tasks", "units"] {
        let Some(mut group) = root.table(group, problems) else {
            continue;
        };
        for (name, mut fields) in group.tables(problems) {
            let task = task(file, name, &mut fields, &mut ids, problems);
            notes.ignored(LEFT_OUT.into_iter().filter(|key| fields.has(key)));
            fields.ignore(&LEFT_OUT);
            fields.finish(problems);
            out.extend(task);
        }
    }
    notes.ignored(["evals"].into_iter().filter(|key| root.has(key)));
    if out.is_empty() && problems.is_empty() {
        problems.add(1, "tasks", "there is no task");
    }
    out
}

fn task(
    file: &str,
    name: String,
    fields: &mut Fields<'_>,
    ids: &mut Ids,
    problems: &mut Problems<'_>,
) -> Option<Imported> {
    let line = fields.line();
    let own = At {
        line,
        key: fields.name("id"),
        value: name,
    };
    let id = ids.id(&own, problems);
    let summary = fields.string("summary", problems);
    let prompt = fields.string("prompt", problems);
    let mut dependencies = fields.strings("depends_on", problems);
    dependencies.extend(fields.strings("deps", problems));
    let (writes, reads) = files(fields, problems);
    if writes.is_empty() && reads.is_empty() && problems.is_empty() {
        let message = "a task names at least one file to create, edit, delete or read";
        problems.add(line, fields.name("files"), message);
    }
    let mut plan = Plan::bare(id?, IMPORT_TYPE);
    file.clone_into(&mut plan.origin.file);
    plan.origin.note("plan", line);
    plan.description = summary.map(|at| at.value).unwrap_or_default();
    let prompt = prompt.filter(|at| !at.value.trim().is_empty());
    plan.run = prompt.map(|at| Run {
        command: None,
        prompt: Some(at.value),
    });
    for at in dependencies {
        let id = ids.id(&at, problems)?;
        plan.origin.note("plan.dependencies", at.line);
        if !plan.dependencies.contains(&id) {
            plan.dependencies.push(id);
        }
    }
    plan.claims.files = writes;
    plan.claims.read = reads;
    acceptance(&mut plan, fields, problems);
    Some(Imported::todo(plan, line))
}

/// Returns what the task writes and what it reads. A file it also writes is not read only.
fn files(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> (Vec<Pattern>, Vec<Pattern>) {
    let is_list = fields
        .raw("files", problems)
        .is_some_and(|at| at.value.is_array());
    if is_list {
        return (paths(fields, "files", problems), Vec::new());
    }
    let Some(mut files) = fields.table("files", problems) else {
        return (Vec::new(), Vec::new());
    };
    let mut writes = Vec::new();
    for key in WRITES {
        for pattern in paths(&mut files, key, problems) {
            if !writes.contains(&pattern) {
                writes.push(pattern);
            }
        }
    }
    let mut reads = paths(&mut files, "read", problems);
    reads.retain(|pattern| !writes.contains(pattern));
    files.finish(problems);
    (writes, reads)
}

/// Returns literal paths: dgov has no globs.
fn paths(fields: &mut Fields<'_>, key: &'static str, problems: &mut Problems<'_>) -> Vec<Pattern> {
    let mut out: Vec<Pattern> = Vec::new();
    for at in fields.strings(key, problems) {
        let Some(at) = at.parse::<Pattern>(problems) else {
            continue;
        };
        if !at.value.is_literal() {
            problems.add(at.line, at.key, "dgov files are paths, not globs");
        } else if !out.contains(&at.value) {
            out.push(at.value);
        }
    }
    out
}

fn acceptance(plan: &mut Plan, fields: &mut Fields<'_>, problems: &mut Problems<'_>) {
    if let Some(at) = fields.string("test_cmd", problems) {
        plan.postconditions.tests_pass = true;
        plan.postconditions.tests_command = Some(Command::Shell(at.value));
    }
    let Some(mut table) = fields.table("acceptance", problems) else {
        return;
    };
    if let Some(at) = table.boolean("tests_pass", problems) {
        plan.postconditions.tests_pass |= at.value;
    }
    if let Some(at) = table.string("custom_check", problems) {
        plan.acceptance.push(Check {
            name: None,
            command: Command::Shell(at.value),
        });
    }
    table.ignore(&["lint_clean"]);
    table.finish(problems);
}
