//! Plans: the contract for one piece of work.
//!
//! Owns: what a plan is, its TOML schema, its canonical text and hash.
//!
//! ```toml
//! [plan]
//! id = "…"  type = "…"                        # both required
//! agent = "…"  role = "…"  dependencies = ["…"]  priority = 1  description = "…"
//! [claims]
//! files = ["…"]  tests = ["…"]  read = ["…"]  # patterns
//! [preconditions]
//! schema_version = "…"  feature_flags = ["…"]  commands = ["…", ["…"]]
//! [postconditions]
//! tests_pass = true  coverage_delta = 0  tests_not_dropped = true  commands = ["…", ["…"]]
//! [acceptance]
//! checks = ["…", ["…"], { name = "…", command = "…" }]
//! [run]
//! command = ["…"]  prompt = "…"
//! ```
//!
//! A command is an array of arguments, or one string for the shell. Priority 1
//! is the most urgent; a plan without one comes after those that have one.
//! Invariants: an unknown key is a fault; every fault of a file is found in one
//! go; `parse(canonical(plan)) == plan`. Never looks at other plans: that is `dag`'s.

pub mod decimal;
pub mod fields;

mod canonical;
mod json;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use crate::domain::digest::Digest;
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::pattern::Pattern;
use crate::domain::plan::decimal::Decimal;
use crate::domain::plan::fields::{At, Fields, Problems};

pub use crate::domain::plan::fields::PlanError;

/// The longest plan text that is read.
pub const PLAN_BYTES_MAX: usize = 1 << 20;
/// The most claims one plan may make.
pub const PLAN_CLAIMS_MAX: usize = 10_000;

/// What to run: arguments as they are, or a line for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    Shell(String),
    Argv(Vec<String>),
}

impl Command {
    /// Returns the arguments to execute.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Argv(words) => words.clone(),
            Self::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        }
    }

    /// Returns how to show it in one line.
    pub fn shown(&self) -> String {
        match self {
            Self::Argv(words) => words.join(" "),
            Self::Shell(line) => line.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PlanClaims {
    pub files: Vec<Pattern>,
    pub tests: Vec<Pattern>,
    pub read: Vec<Pattern>,
}

impl PlanClaims {
    /// Returns what the plan writes, with the key each pattern stands under.
    pub fn writes(&self) -> impl Iterator<Item = (&'static str, usize, &Pattern)> {
        let files = self.files.iter().enumerate();
        let tests = self.tests.iter().enumerate();
        files
            .map(|(at, pattern)| ("claims.files", at, pattern))
            .chain(tests.map(|(at, pattern)| ("claims.tests", at, pattern)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Preconditions {
    pub schema_version: Option<String>,
    pub feature_flags: Vec<String>,
    pub commands: Vec<Command>,
}

impl Preconditions {
    pub fn is_empty(&self) -> bool {
        self.schema_version.is_none() && self.feature_flags.is_empty() && self.commands.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Postconditions {
    pub tests_pass: bool,
    /// The plan's own command for `tests_pass`; the charter's where it has none.
    pub tests_command: Option<Command>,
    /// How far coverage may at least move.
    pub coverage_delta: Option<Decimal>,
    pub tests_not_dropped: bool,
    pub commands: Vec<Command>,
}

/// An acceptance check. One written as a plain string is the charter's check of
/// that name where there is one, else a line for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: Option<String>,
    pub command: Command,
}

impl Check {
    /// Returns the name under which the charter may have this check.
    pub fn charter_name(&self) -> Option<&str> {
        match (&self.name, &self.command) {
            (None, Command::Shell(line)) => Some(line),
            _ => None,
        }
    }

    pub fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.command.shown())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Run {
    pub command: Option<Command>,
    pub prompt: Option<String>,
}

/// Where a plan's keys stood. No part of what the plan says: all are equal.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub file: String,
    lines: Vec<(String, u32)>,
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Origin {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            lines: Vec::new(),
        }
    }

    /// Returns the line of `key`, or of the nearest key around it.
    pub fn line(&self, key: &str) -> u32 {
        let mut key = key;
        loop {
            if let Some((_, line)) = self.lines.iter().find(|(known, _)| known == key) {
                return *line;
            }
            match key.rfind(['.', '[']) {
                Some(cut) => key = &key[..cut],
                None => return 1,
            }
        }
    }

    pub fn note(&mut self, key: &str, line: u32) {
        self.lines.push((key.to_owned(), line));
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub id: PlanId,
    pub agent: Option<AgentName>,
    pub role: Option<RoleName>,
    /// The `type`: which validators judge it.
    pub kind: String,
    pub dependencies: Vec<PlanId>,
    pub priority: Option<u32>,
    pub description: String,
    pub claims: PlanClaims,
    pub preconditions: Preconditions,
    pub postconditions: Postconditions,
    pub acceptance: Vec<Check>,
    pub run: Option<Run>,
    pub origin: Origin,
}

impl Plan {
    /// Returns a plan that says nothing but its id and type.
    pub fn bare(id: PlanId, kind: &str) -> Self {
        Self {
            id,
            agent: None,
            role: None,
            kind: kind.to_owned(),
            dependencies: Vec::new(),
            priority: None,
            description: String::new(),
            claims: PlanClaims::default(),
            preconditions: Preconditions::default(),
            postconditions: Postconditions::default(),
            acceptance: Vec::new(),
            run: None,
            origin: Origin::default(),
        }
    }

    /// Reads a plan; `file` is only what errors call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<PlanError>> {
        let mut problems = Problems::new(file, text);
        if text.len() > PLAN_BYTES_MAX {
            problems.add(1, "", format!("longer than {PLAN_BYTES_MAX} bytes"));
            return problems
                .finish(None)
                .and_then(|plan| plan.ok_or_else(Vec::new));
        }
        let plan = fields::document(text, &mut problems).and_then(|table| {
            let mut root = Fields::root(&table);
            let plan = read(file, &mut root, &mut problems);
            root.finish(&mut problems);
            plan
        });
        problems.finish(plan)?.ok_or_else(Vec::new)
    }

    /// Returns the one text that stands for this plan in the ledger.
    pub fn canonical(&self) -> String {
        canonical::text(self)
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// Returns the order in which plans are taken: urgent first, then by name.
    pub fn rank(&self) -> (u32, &PlanId) {
        (self.priority.unwrap_or(u32::MAX), &self.id)
    }

    /// Returns a fault of this plan at `key`.
    pub fn fault(&self, key: &str, message: String) -> PlanError {
        PlanError {
            file: self.origin.file.clone(),
            line: self.origin.line(key),
            key: key.to_owned(),
            message,
        }
    }
}

fn read(file: &str, root: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Plan> {
    let mut origin = Origin::new(file);
    let head = match root.table("plan", problems) {
        Some(fields) => read_head(fields, &mut origin, problems),
        None if root.has("plan") => None,
        None => {
            problems.add(1, "plan", "the table [plan] is missing");
            None
        }
    };
    let claims = section(root, "claims", &mut origin, problems, read_claims);
    let preconditions = section(root, "preconditions", &mut origin, problems, read_before);
    let postconditions = section(root, "postconditions", &mut origin, problems, read_after);
    let acceptance = section(root, "acceptance", &mut origin, problems, read_acceptance);
    let run = section(root, "run", &mut origin, problems, read_run);
    head.map(|head| Plan {
        claims,
        preconditions,
        postconditions,
        acceptance,
        run,
        origin,
        ..head
    })
}

/// Reads the optional table `key`.
fn section<T: Default>(
    root: &mut Fields<'_>,
    key: &'static str,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
    read: impl Fn(&mut Fields<'_>, &mut Origin, &mut Problems<'_>) -> T,
) -> T {
    let Some(mut fields) = root.table(key, problems) else {
        return T::default();
    };
    origin.note(key, fields.line());
    let value = read(&mut fields, origin, problems);
    fields.finish(problems);
    value
}

fn read_head(
    mut fields: Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Option<Plan> {
    origin.note("plan", fields.line());
    let id = required(&mut fields, "id", problems);
    let id = id.and_then(|id| kept(id.parse::<PlanId>(problems), origin));
    let kind = required(&mut fields, "type", problems);
    let kind = kind.and_then(|kind| kept(checked_kind(kind, problems), origin));
    let agent = kept(fields.parsed("agent", problems), origin);
    let role = kept(fields.parsed("role", problems), origin);
    let dependencies = kept_all(fields.parsed_list("dependencies", problems), origin);
    let priority = fields.integer("priority", problems);
    let priority = kept(priority.and_then(|at| small(at, problems)), origin);
    let description = kept(fields.string("description", problems), origin);
    fields.finish(problems);
    Some(Plan {
        agent,
        role,
        dependencies,
        priority,
        description: description.unwrap_or_default(),
        ..Plan::bare(id?, &kind?)
    })
}

fn required(
    fields: &mut Fields<'_>,
    key: &'static str,
    problems: &mut Problems<'_>,
) -> Option<At<String>> {
    if !fields.has(key) {
        problems.add(fields.line(), fields.name(key), "is missing");
    }
    fields.string(key, problems)
}

/// Returns the value alone, and remembers where it stood.
fn kept<T>(at: Option<At<T>>, origin: &mut Origin) -> Option<T> {
    at.map(|at| {
        origin.note(&at.key, at.line);
        at.value
    })
}

fn kept_all<T>(items: Vec<At<T>>, origin: &mut Origin) -> Vec<T> {
    items
        .into_iter()
        .filter_map(|at| kept(Some(at), origin))
        .collect()
}

fn checked_kind(at: At<String>, problems: &mut Problems<'_>) -> Option<At<String>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=64).contains(&at.value.len()) && at.value.bytes().all(plain) {
        return Some(at);
    }
    let message = "a type is 1 to 64 of A-Z a-z 0-9 - _ .";
    problems.add(at.line, at.key, message);
    None
}

fn small(at: At<i64>, problems: &mut Problems<'_>) -> Option<At<u32>> {
    match u32::try_from(at.value) {
        Ok(value) if (1..=1_000_000).contains(&value) => Some(At {
            line: at.line,
            key: at.key,
            value,
        }),
        _ => {
            let message = "a priority is a whole number from 1 (most urgent) to 1000000";
            problems.add(at.line, at.key, message);
            None
        }
    }
}

fn read_claims(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> PlanClaims {
    let claims = PlanClaims {
        files: kept_all(fields.parsed_list("files", problems), origin),
        tests: kept_all(fields.parsed_list("tests", problems), origin),
        read: kept_all(fields.parsed_list("read", problems), origin),
    };
    if claims.files.len() + claims.tests.len() + claims.read.len() > PLAN_CLAIMS_MAX {
        let message = format!("more than {PLAN_CLAIMS_MAX} claims; claim directories or globs");
        problems.add(fields.line(), "claims", message);
    }
    claims
}

fn read_before(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Preconditions {
    let version = fields.string("schema_version", problems);
    let version = version.and_then(|at| filled(at, problems));
    let flags = fields.parsed_list::<String>("feature_flags", problems);
    let flags = flags.into_iter().filter_map(|at| filled(at, problems));
    let flags = flags.collect();
    Preconditions {
        schema_version: kept(version, origin),
        feature_flags: kept_all(flags, origin),
        commands: commands(fields, "commands", origin, problems),
    }
}

fn filled(at: At<String>, problems: &mut Problems<'_>) -> Option<At<String>> {
    if !at.value.trim().is_empty() && !at.value.contains('\0') {
        return Some(at);
    }
    problems.add(at.line, at.key, "must not be empty");
    None
}

fn read_after(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Postconditions {
    let mut after = Postconditions::default();
    if let Some(at) = fields.raw("tests_pass", problems) {
        origin.note(&at.key, at.line);
        if let DeValue::Boolean(wanted) = at.value {
            after.tests_pass = *wanted;
        } else if let Some(at) = command(at, "true, false or the tests' command", problems) {
            after.tests_pass = true;
            after.tests_command = Some(at.value);
        }
    }
    let own = fields.raw("tests_command", problems);
    if let Some(at) = own.and_then(|at| command(at, COMMAND, problems)) {
        after.tests_command = kept(Some(at), origin);
    }
    let delta = fields.raw("coverage_delta", problems);
    let delta = delta.and_then(|at| at.expect("a number", problems, number));
    after.coverage_delta = kept(delta.and_then(|at| at.parse(problems)), origin);
    let dropped = kept(fields.boolean("tests_not_dropped", problems), origin);
    after.tests_not_dropped = dropped.unwrap_or(false);
    after.commands = commands(fields, "commands", origin, problems);
    after
}

fn number(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(_) => fields::whole(value).map(|number| number.to_string()),
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        _ => None,
    }
}

fn read_acceptance(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Vec<Check> {
    let items = fields.array("checks", problems);
    let checks = items.into_iter().filter_map(|at| check(at, problems));
    let checks = checks.collect();
    kept_all(checks, origin)
}

fn check(at: At<&DeValue<'_>>, problems: &mut Problems<'_>) -> Option<At<Check>> {
    let (line, key) = (at.line, at.key.clone());
    if !matches!(at.value, DeValue::Table(_)) {
        let what = "a check's name, a command, or a table with name and command";
        let command = command(at, what, problems)?.value;
        let value = Check {
            name: None,
            command,
        };
        return Some(At { line, key, value });
    }
    let mut fields = at.fields(problems)?;
    let name = required(&mut fields, "name", problems);
    let name = name.and_then(|name| filled(name, problems));
    let own = fields.raw("command", problems);
    if own.is_none() {
        problems.add(line, fields.name("command"), "is missing");
    }
    let own = own.and_then(|at| command(at, COMMAND, problems));
    fields.finish(problems);
    let value = Check {
        name: Some(name?.value),
        command: own?.value,
    };
    Some(At { line, key, value })
}

fn read_run(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Option<Run> {
    let own = fields.raw("command", problems);
    let own = own.and_then(|at| command(at, COMMAND, problems));
    let prompt = fields.string("prompt", problems);
    let prompt = prompt.and_then(|at| filled(at, problems));
    Some(Run {
        command: kept(own, origin),
        prompt: kept(prompt, origin),
    })
}

const COMMAND: &str = "a command: an array of strings, or one string for the shell";

fn commands(
    fields: &mut Fields<'_>,
    key: &'static str,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Vec<Command> {
    let items = fields.array(key, problems);
    let commands = items
        .into_iter()
        .filter_map(|at| command(at, COMMAND, problems));
    let commands = commands.collect();
    kept_all(commands, origin)
}

/// Reads a command; `what` is what could have stood here.
fn command(at: At<&DeValue<'_>>, what: &str, problems: &mut Problems<'_>) -> Option<At<Command>> {
    let at = at.expect(what, problems, |value| match value {
        DeValue::String(line) => Some(Command::Shell(line.to_string())),
        DeValue::Array(items) => {
            let words = items.iter().map(|item| item.get_ref().as_str());
            let words = words.map(|word| word.map(str::to_owned));
            words.collect::<Option<Vec<_>>>().map(Command::Argv)
        }
        _ => None,
    })?;
    let usable = match &at.value {
        Command::Shell(line) => !line.trim().is_empty() && !line.contains('\0'),
        Command::Argv(words) => {
            words.first().is_some_and(|word| !word.is_empty())
                && !words.iter().any(|word| word.contains('\0'))
        }
    };
    if usable {
        return Some(at);
    }
    problems.add(at.line, at.key, "the command is empty or contains NUL");
    None
}
