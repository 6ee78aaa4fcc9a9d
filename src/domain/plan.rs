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
mod read;
#[cfg(test)]
pub(in crate::domain) mod tests;

use crate::domain::digest::Digest;
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::pattern::Pattern;
use crate::domain::plan::decimal::Decimal;
use crate::domain::plan::fields::{Fields, Problems};
use serde::{Deserialize, Serialize};

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
            return problems.finish(None)?.ok_or_else(Vec::new);
        }
        let plan = fields::document(text, &mut problems).and_then(|table| {
            let mut root = Fields::root(&table);
            let plan = read::plan(file, &mut root, &mut problems);
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
