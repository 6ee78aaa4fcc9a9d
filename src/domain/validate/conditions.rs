//! Pre- and postconditions of a plan, judged by what commands printed.
//!
//! Preconditions are judged when the plan could start: all that it depends on is
//! done. Postconditions and acceptance checks are judged on the candidate of its
//! merge. A condition without a source, and a source that fails, refuse.

use crate::domain::dag::{Fact, Finding};
use crate::domain::path::RepoPath;
use crate::domain::plan::decimal::Decimal;
use crate::domain::plan::{Check, Command, Plan};
use crate::domain::validate::external::Outcome;

/// The outcomes that preconditions are held against.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The charter's command for it; `None` where the charter names none.
    pub schema_version: Option<Outcome>,
    pub feature_flags: Option<Outcome>,
    /// The plan's own commands, in its order.
    pub commands: Vec<Outcome>,
}

/// The outcomes that postconditions are held against.
#[derive(Clone, Debug, Default)]
pub struct After {
    pub tests: Option<Outcome>,
    pub coverage_base: Option<Outcome>,
    pub coverage_candidate: Option<Outcome>,
    /// Tests that the candidate no longer has, or has emptied.
    pub dropped: Vec<RepoPath>,
    pub commands: Vec<Outcome>,
    /// The acceptance checks, in the plan's order.
    pub checks: Vec<Outcome>,
}

/// Returns the preconditions that do not hold.
pub fn before(plan: &Plan, facts: &Before) -> Vec<Finding> {
    let mut out = Vec::new();
    let wanted = &plan.preconditions;
    let mut refuse = |key: &str, message: String| {
        out.push(Finding::new(plan, "precondition", key, message));
    };
    if let Some(version) = &wanted.schema_version {
        let key = "preconditions.schema_version";
        match source("schema-version", facts.schema_version.as_ref()) {
            Ok(text) if text.trim() == version => {}
            Ok(text) => {
                let found = shown(text);
                refuse(
                    key,
                    format!("needs schema version {version}, found {found}"),
                );
            }
            Err(reason) => refuse(key, reason),
        }
    }
    if !wanted.feature_flags.is_empty() {
        let key = "preconditions.feature_flags";
        match source("feature-flags", facts.feature_flags.as_ref()).map(words) {
            Ok(flags) => {
                for flag in &wanted.feature_flags {
                    if !flags.contains(flag) {
                        refuse(key, format!("needs feature flag {flag}, which is not set"));
                    }
                }
            }
            Err(reason) => refuse(key, reason),
        }
    }
    let key = "preconditions.commands";
    out.extend(each(
        plan,
        "precondition",
        key,
        &wanted.commands,
        &facts.commands,
    ));
    out
}

/// Returns the postconditions and acceptance checks that do not hold.
pub fn after(plan: &Plan, facts: &After) -> Vec<Finding> {
    let mut out = Vec::new();
    let wanted = &plan.postconditions;
    if wanted.tests_pass
        && let Err(reason) = source("tests", facts.tests.as_ref())
    {
        let message = format!("the tests do not pass: {reason}");
        out.push(Finding::new(
            plan,
            "tests-pass",
            "postconditions.tests_pass",
            message,
        ));
    }
    if let Some(least) = wanted.coverage_delta
        && let Err(reason) = coverage(least, facts)
    {
        let key = "postconditions.coverage_delta";
        out.push(Finding::new(plan, "coverage", key, reason));
    }
    if wanted.tests_not_dropped {
        let key = "postconditions.tests_not_dropped";
        for path in &facts.dropped {
            let message = format!("{path} is a test, and the candidate drops it");
            let finding = Finding::new(plan, "tests-dropped", key, message);
            out.push(finding.with(Fact::Path(path.clone())));
        }
    }
    let key = "postconditions.commands";
    out.extend(each(
        plan,
        "postcondition",
        key,
        &wanted.commands,
        &facts.commands,
    ));
    let checks: Vec<_> = plan.acceptance.iter().map(Check::shown).collect();
    let key = "acceptance.checks";
    out.extend(listed(plan, "acceptance", key, &checks, &facts.checks));
    out
}

/// Returns what the charter's source `name` printed.
fn source<'a>(name: &str, outcome: Option<&'a Outcome>) -> Result<&'a str, String> {
    match outcome {
        None => Err(format!(
            "the charter names no command for {name} ([facts] {name})"
        )),
        Some(outcome) => outcome
            .output()
            .map_err(|reason| format!("the command for {name}: {reason}")),
    }
}

/// Returns the flags of a JSON array, or of words parted by blanks or commas.
fn words(text: &str) -> Vec<String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).unwrap_or_default();
    }
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

fn coverage(least: Decimal, facts: &After) -> Result<(), String> {
    let number = |side: &str, outcome: Option<&Outcome>| -> Result<Decimal, String> {
        let text = source("coverage", outcome).map_err(|reason| format!("{side}: {reason}"))?;
        last_number(text).ok_or_else(|| {
            let found = shown(text);
            format!("{side}: the command for coverage ends with no number: {found}")
        })
    };
    let base = number("base", facts.coverage_base.as_ref())?;
    let candidate = number("candidate", facts.coverage_candidate.as_ref())?;
    let delta = candidate.minus(base);
    if delta >= least {
        return Ok(());
    }
    Err(format!(
        "coverage goes from {base} to {candidate}, which is {delta}; at least {least} is agreed"
    ))
}

/// Returns the number, `%` or not, that a report ends with.
fn last_number(text: &str) -> Option<Decimal> {
    let word = text.split_whitespace().next_back()?;
    word.strip_suffix('%').unwrap_or(word).parse().ok()
}

fn each(
    plan: &Plan,
    rule: &'static str,
    key: &str,
    commands: &[Command],
    outcomes: &[Outcome],
) -> Vec<Finding> {
    let shown: Vec<String> = commands.iter().map(Command::shown).collect();
    listed(plan, rule, key, &shown, outcomes)
}

/// Returns a finding for each command that did not end with status 0.
fn listed(
    plan: &Plan,
    rule: &'static str,
    key: &str,
    commands: &[String],
    outcomes: &[Outcome],
) -> Vec<Finding> {
    let mut out = Vec::new();
    for (at, command) in commands.iter().enumerate() {
        let reason = match outcomes.get(at).map(Outcome::output) {
            Some(Ok(_)) => continue,
            Some(Err(reason)) => reason,
            None => "it was not run".to_owned(),
        };
        let message = format!("`{}`: {reason}", shown(command));
        out.push(Finding::new(plan, rule, &format!("{key}[{at}]"), message));
    }
    out
}

/// Returns the beginning of `text` on one line.
fn shown(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or("nothing");
    let line: String = line.chars().filter(|c| !c.is_control()).take(80).collect();
    if line.is_empty() {
        "nothing".to_owned()
    } else {
        line
    }
}
