//! DAG-TOML, `template_kind = "implementation-dag"`: `[units.ID]` with
//! `files_modify`, `depends_on` and `blocks`.
//!
//! `blocks` must be the inverse of `depends_on`, in both directions; what the
//! file computes of itself (`total_units`, `[computed]`) is computed again. A
//! unit that is done or in progress there has neither a merge nor an owner here,
//! so it comes in as todo, with a note.

mod computed;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use toml::de::DeTable;

use crate::domain::import::{IMPORT_TYPE, Ids, Imported, Notes};
use crate::domain::pattern::Pattern;
use crate::domain::plan::fields::{At, Fields, Problems};
use crate::domain::plan::{Plan, PlanClaims};
use crate::domain::queue::QueueState;

const STATUSES: [&str; 5] = ["pending", "in_progress", "done", "blocked", "deferred"];
const LEFT_OUT: [&str; 2] = ["produces", "consumes"];

/// A unit as the file has it.
struct Unit {
    line: u32,
    plan: Plan,
    state: QueueState,
    reason: Option<String>,
    depends_on: Vec<At<String>>,
    /// `None` where the unit says nothing about it.
    blocks: Option<Vec<At<String>>>,
    layer: Option<At<i64>>,
    loc: i64,
    produces: Vec<At<String>>,
    consumes: Vec<At<String>>,
}

pub(super) fn read(
    file: &str,
    table: &DeTable<'_>,
    problems: &mut Problems<'_>,
    notes: &mut Notes,
) -> Vec<Imported> {
    let mut root = Fields::root(table);
    let mut ids = Ids::default();
    let mut units: BTreeMap<String, Unit> = BTreeMap::new();
    if let Some(mut group) = root.table("units", problems) {
        for (name, mut fields) in group.tables(problems) {
            let unit = unit(file, &name, &mut fields, &mut ids, problems, notes);
            units.extend(unit.map(|unit| (name, unit)));
        }
    }
    if units.is_empty() && problems.is_empty() {
        problems.add(1, "units", "there is no unit");
    }
    references(&units, problems);
    inverse(&units, problems);
    layers(&units, problems);
    artifacts(&units, problems);
    computed::check(&units, &mut root, problems);
    let mut out = Vec::new();
    for mut unit in units.into_values() {
        for at in &unit.depends_on {
            unit.plan.origin.note("plan.dependencies", at.line);
            unit.plan.dependencies.extend(ids.id(at, problems));
        }
        out.push(Imported {
            state: unit.state,
            reason: unit.reason,
            ..Imported::todo(unit.plan, unit.line)
        });
    }
    out
}

fn unit(
    file: &str,
    name: &str,
    fields: &mut Fields<'_>,
    ids: &mut Ids,
    problems: &mut Problems<'_>,
    notes: &mut Notes,
) -> Option<Unit> {
    let line = fields.line();
    let own = At {
        line,
        key: fields.name("id"),
        value: name.to_owned(),
    };
    let id = ids.id(&own, problems)?;
    let mut plan = Plan::bare(id, IMPORT_TYPE);
    file.clone_into(&mut plan.origin.file);
    plan.origin.note("plan", line);
    let title = fields.string("name", problems);
    let summary = fields.string("summary", problems).or(title);
    plan.description = summary.map(|at| at.value).unwrap_or_default();
    plan.priority = tier(fields, problems);
    plan.claims = claims(fields, problems);
    let (state, reason) = status(name, fields, problems, notes);
    let has_blocks = fields.has("blocks");
    let blocks = fields.strings("blocks", problems);
    let unit = Unit {
        line,
        plan,
        state,
        reason,
        depends_on: fields.strings("depends_on", problems),
        blocks: has_blocks.then_some(blocks),
        layer: natural("layer", fields, problems),
        loc: natural("estimated_loc", fields, problems).map_or(0, |at| at.value),
        produces: fields.strings("produces", problems),
        consumes: fields.strings("consumes", problems),
    };
    notes.ignored(LEFT_OUT.into_iter().filter(|key| fields.has(key)));
    notes.ignored(fields.unasked());
    Some(unit)
}

fn natural(
    key: &'static str,
    fields: &mut Fields<'_>,
    problems: &mut Problems<'_>,
) -> Option<At<i64>> {
    let at = fields.integer(key, problems)?;
    if at.value >= 0 {
        return Some(at);
    }
    problems.add(at.line, at.key, "must not be negative");
    None
}

fn tier(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<u32> {
    let at = fields.integer("tier", problems)?;
    match u32::try_from(at.value) {
        Ok(tier) if (1..=3).contains(&tier) => Some(tier),
        _ => {
            problems.add(at.line, at.key, "a tier is 1, 2 or 3");
            None
        }
    }
}

fn claims(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> PlanClaims {
    let mut claims = PlanClaims::default();
    for key in ["files_modify", "files_create", "files_delete"] {
        for pattern in paths(fields, key, problems) {
            if !claims.files.contains(&pattern) {
                claims.files.push(pattern);
            }
        }
    }
    for pattern in paths(fields, "files_read", problems) {
        if !claims.files.contains(&pattern) && !claims.read.contains(&pattern) {
            claims.read.push(pattern);
        }
    }
    claims
}

fn paths(fields: &mut Fields<'_>, key: &'static str, problems: &mut Problems<'_>) -> Vec<Pattern> {
    let mut out = Vec::new();
    for at in fields.strings(key, problems) {
        if at.value.contains(['<', '>']) {
            let message = format!("{:?} is a placeholder, not a path", at.value);
            problems.add(at.line, at.key, message);
        } else {
            out.extend(at.parse::<Pattern>(problems).map(|at| at.value));
        }
    }
    out
}

fn status(
    name: &str,
    fields: &mut Fields<'_>,
    problems: &mut Problems<'_>,
    notes: &mut Notes,
) -> (QueueState, Option<String>) {
    let Some(at) = fields.string("status", problems) else {
        return (QueueState::Todo, None);
    };
    match at.value.as_str() {
        "pending" => (QueueState::Todo, None),
        "blocked" => (
            QueueState::Blocked,
            Some("blocked in its source".to_owned()),
        ),
        "deferred" => (
            QueueState::Blocked,
            Some("deferred in its source".to_owned()),
        ),
        "done" => {
            notes.add(format!(
                "{name} is done there, but no merge here did it: it is todo"
            ));
            (QueueState::Todo, None)
        }
        "in_progress" => {
            notes.add(format!(
                "{name} is in progress there, but nobody owns it here: it is todo"
            ));
            (QueueState::Todo, None)
        }
        other => {
            let known = STATUSES.join(", ");
            let message = format!("{other:?} is none of {known}");
            problems.add(at.line, at.key, message);
            (QueueState::Todo, None)
        }
    }
}

/// Checks that units refer to units, not to themselves, and to each once.
fn references(units: &BTreeMap<String, Unit>, problems: &mut Problems<'_>) {
    for (name, unit) in units {
        for list in [Some(&unit.depends_on), unit.blocks.as_ref()]
            .into_iter()
            .flatten()
        {
            let mut seen = BTreeSet::new();
            for at in list {
                let message = if at.value == *name {
                    "a unit cannot refer to itself".to_owned()
                } else if !units.contains_key(&at.value) {
                    format!("there is no unit {}", at.value)
                } else if !seen.insert(&at.value) {
                    "stands here twice".to_owned()
                } else {
                    continue;
                };
                problems.add(at.line, at.key.clone(), message);
            }
        }
    }
}

/// Checks that `blocks` and `depends_on` say the same.
fn inverse(units: &BTreeMap<String, Unit>, problems: &mut Problems<'_>) {
    let has = |list: &[At<String>], name: &str| list.iter().any(|at| at.value == name);
    for (name, unit) in units {
        for at in unit.blocks.iter().flatten() {
            let other = units.get(&at.value);
            if other.is_some_and(|other| !has(&other.depends_on, name)) {
                let other = &at.value;
                let message = format!("{name} blocks {other}, but {other} does not depend on it");
                problems.add(at.line, at.key.clone(), message);
            }
        }
        for at in &unit.depends_on {
            let blocks = units.get(&at.value).and_then(|other| other.blocks.as_ref());
            if blocks.is_some_and(|blocks| !has(blocks, name)) {
                let other = &at.value;
                let message = format!("{name} depends on {other}, but {other} does not block it");
                problems.add(at.line, at.key.clone(), message);
            }
        }
    }
}

/// Checks that a unit stands in a higher layer than all it depends on.
fn layers(units: &BTreeMap<String, Unit>, problems: &mut Problems<'_>) {
    for (name, unit) in units {
        let Some(mine) = &unit.layer else {
            continue;
        };
        for at in &unit.depends_on {
            let theirs = units.get(&at.value).and_then(|other| other.layer.as_ref());
            if let Some(theirs) = theirs.filter(|theirs| theirs.value >= mine.value) {
                let message = format!(
                    "{name} is in layer {} and depends on {}, which is in layer {}",
                    mine.value, at.value, theirs.value
                );
                problems.add(mine.line, mine.key.clone(), message);
            }
        }
    }
}

/// Checks that each artifact has one producer and that all consumed ones have.
fn artifacts(units: &BTreeMap<String, Unit>, problems: &mut Problems<'_>) {
    let mut producers: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, unit) in units {
        for at in &unit.produces {
            named(at, problems);
            if let Some(other) = producers.insert(&at.value, name) {
                let message = format!("{} is produced by {other} too", at.value);
                problems.add(at.line, at.key.clone(), message);
            }
        }
    }
    for at in units.values().flat_map(|unit| &unit.consumes) {
        if named(at, problems) && !producers.contains_key(at.value.as_str()) {
            let message = format!("no unit produces {}", at.value);
            problems.add(at.line, at.key.clone(), message);
        }
    }
}

fn named(at: &At<String>, problems: &mut Problems<'_>) -> bool {
    let fine = at.value.starts_with("ART:") || at.value.starts_with("OUT:");
    if !fine {
        problems.add(
            at.line,
            at.key.clone(),
            "an artifact begins with ART: or OUT:",
        );
    }
    fine
}
