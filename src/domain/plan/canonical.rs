//! The one text that stands for a plan: fixed order of keys, nothing optional spelled out.
//!
//! Owns: the spelling that is hashed and stored. Invariant: `parse(text(plan)) == plan`,
//! and equal plans have equal texts, wherever they were read from.

use std::fmt::Write as _;

use crate::domain::pattern::Pattern;
use crate::domain::plan::{Check, Command, Plan, Postconditions, Preconditions};

pub(super) fn text(plan: &Plan) -> String {
    let mut out = Writer::default();
    head(&mut out, plan);
    claims(&mut out, plan);
    before(&mut out, &plan.preconditions);
    after(&mut out, &plan.postconditions);
    if !plan.acceptance.is_empty() {
        out.table("acceptance");
        out.line("checks", &list(&plan.acceptance, check));
    }
    if let Some(run) = &plan.run {
        out.table("run");
        if let Some(own) = &run.command {
            out.line("command", &command(own));
        }
        if let Some(prompt) = &run.prompt {
            out.line("prompt", &quoted(prompt));
        }
    }
    out.text
}

fn head(out: &mut Writer, plan: &Plan) {
    out.table("plan");
    out.line("id", &quoted(plan.id.as_str()));
    out.line("type", &quoted(&plan.kind));
    if let Some(agent) = &plan.agent {
        out.line("agent", &quoted(agent.as_str()));
    }
    if let Some(role) = &plan.role {
        out.line("role", &quoted(role.as_str()));
    }
    if !plan.dependencies.is_empty() {
        let ids = list(&plan.dependencies, |id| quoted(id.as_str()));
        out.line("dependencies", &ids);
    }
    if let Some(priority) = plan.priority {
        out.line("priority", &priority.to_string());
    }
    if !plan.description.is_empty() {
        out.line("description", &quoted(&plan.description));
    }
}

fn claims(out: &mut Writer, plan: &Plan) {
    let claims = &plan.claims;
    let lists = [
        ("files", &claims.files),
        ("tests", &claims.tests),
        ("read", &claims.read),
    ];
    if lists.iter().all(|(_, patterns)| patterns.is_empty()) {
        return;
    }
    out.table("claims");
    for (key, patterns) in lists {
        if !patterns.is_empty() {
            out.line(key, &list(patterns, pattern));
        }
    }
}

fn before(out: &mut Writer, before: &Preconditions) {
    if before.is_empty() {
        return;
    }
    out.table("preconditions");
    if let Some(version) = &before.schema_version {
        out.line("schema_version", &quoted(version));
    }
    if !before.feature_flags.is_empty() {
        out.line("feature_flags", &list(&before.feature_flags, |f| quoted(f)));
    }
    if !before.commands.is_empty() {
        out.line("commands", &list(&before.commands, command));
    }
}

fn after(out: &mut Writer, after: &Postconditions) {
    if *after == Postconditions::default() {
        return;
    }
    out.table("postconditions");
    if after.tests_pass {
        out.line("tests_pass", "true");
    }
    if let Some(own) = &after.tests_command {
        out.line("tests_command", &command(own));
    }
    if let Some(delta) = after.coverage_delta {
        out.line("coverage_delta", &delta.to_string());
    }
    if after.tests_not_dropped {
        out.line("tests_not_dropped", "true");
    }
    if !after.commands.is_empty() {
        out.line("commands", &list(&after.commands, command));
    }
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn table(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let _ = writeln!(self.text, "[{name}]");
    }

    fn line(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.text, "{key} = {value}");
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let items: Vec<String> = items.iter().map(show).collect();
    format!("[{}]", items.join(", "))
}

fn command(command: &Command) -> String {
    match command {
        Command::Shell(line) => quoted(line),
        Command::Argv(words) => list(words, |word| quoted(word)),
    }
}

fn check(check: &Check) -> String {
    match &check.name {
        None => command(&check.command),
        Some(name) => {
            let own = command(&check.command);
            format!("{{ name = {}, command = {own} }}", quoted(name))
        }
    }
}

/// Patterns of a plan come from TOML, so they are text.
fn pattern(pattern: &Pattern) -> String {
    quoted(&String::from_utf8_lossy(pattern.source()))
}

/// Returns `text` as a basic TOML string on one line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
