//! Acceptance checks: the charter's programs, run on a candidate before it is merged.
//!
//! Owns: which checks a merge needs, and what is kept of each (status, time, its
//! output as a version). Each runs as a trial: sealed, over a read-only view of the
//! candidate, with a time limit; the repository's lock is not held. A check that
//! cannot be run has not passed.

use crate::app::facts::command;
use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::charter::{Charter, CharterCommand, Check as Wanted};
use crate::domain::digest::Digest;
use crate::domain::event::{Check, Finding};
use crate::domain::merge::MergeRefusal;
use crate::domain::plan::{Command, Plan};
use crate::domain::queue::stored;
use crate::domain::validate::conditions::{self, After};
use crate::store::versions::Versions;

/// The status of a check that could not be run.
const NOT_RUN: i64 = 125;
/// The rule that a failed check breaks.
const RULE: &str = "check";
/// How many of the last bytes are looked through for words.
const WORDS_FROM: usize = 4096;
/// How many characters of them are told.
const WORDS_MAX: usize = 200;

/// Returns the checks that a merge under `charter` needs.
pub fn needed(charter: &Charter) -> Vec<&Wanted> {
    let listed = |check: &&Wanted| charter.merge.checks.contains(&check.name);
    charter.checks.iter().filter(listed).collect()
}

/// A condition of a plan on the candidate.
#[derive(Debug)]
enum Condition {
    Program(Wanted),
    /// There is no program to ask.
    Without(String, String),
}

/// Returns what a plan asks of its candidate beyond the charter's checks, by the
/// names under which the queue looks for them.
fn wanted_by(charter: &Charter, plan: &Plan) -> Vec<Condition> {
    let mut out = Vec::new();
    let program = |name: String, command: CharterCommand| {
        Condition::Program(Wanted {
            name,
            command,
            timeout_ms: charter.facts.timeout_ms,
        })
    };
    let after = &plan.postconditions;
    if after.tests_pass {
        let own = after.tests_command.as_ref().map(own_command);
        out.push(match own.or_else(|| charter.facts.tests.clone()) {
            Some(command) => program("tests_pass".to_owned(), command),
            None => Condition::Without(
                "tests_pass".to_owned(),
                "neither the plan nor the charter ([facts] tests) names a command".to_owned(),
            ),
        });
    }
    for command in &after.commands {
        out.push(program(command.shown(), own_command(command)));
    }
    for check in &plan.acceptance {
        let named = check.charter_name();
        let known = charter
            .checks
            .iter()
            .find(|own| Some(own.name.as_str()) == named);
        out.push(match known {
            Some(known) => Condition::Program(known.clone()),
            None => program(check.shown(), own_command(&check.command)),
        });
    }
    out
}

fn own_command(command: &Command) -> CharterCommand {
    match command {
        Command::Shell(line) => CharterCommand::Shell(line.clone()),
        Command::Argv(words) => CharterCommand::Argv(words.clone()),
    }
}

/// Says whether [`of_plan`] would run anything.
pub fn asks(plan: &Plan) -> bool {
    let after = &plan.postconditions;
    after.tests_pass
        || after.coverage_delta.is_some()
        || !after.commands.is_empty()
        || !plan.acceptance.is_empty()
}

/// Holds the candidate against its plan's postconditions and acceptance checks,
/// but for those that are in `done` already.
pub fn of_plan(
    site: &Site,
    charter: &Charter,
    plan: &Plan,
    [before, tree]: [Oid; 2],
    done: &[Check],
) -> Result<Vec<Check>, Failure> {
    let mut out: Vec<Check> = Vec::new();
    for condition in wanted_by(charter, plan) {
        let name = match &condition {
            Condition::Program(wanted) => &wanted.name,
            Condition::Without(name, _) => name,
        };
        if done.iter().chain(&out).any(|check| check.name == *name) {
            continue;
        }
        let check = match condition {
            Condition::Program(wanted) => one(site, tree, &wanted)?,
            Condition::Without(name, reason) => Check {
                name,
                passed: false,
                status: NOT_RUN,
                ms: 0,
                output: Some(kept(site, reason.as_bytes())?),
            },
        };
        out.push(check);
    }
    if plan.postconditions.coverage_delta.is_some() {
        out.push(coverage(site, charter, plan, [before, tree])?);
    }
    Ok(out)
}

/// Measures the base and the candidate by the charter's command.
fn coverage(
    site: &Site,
    charter: &Charter,
    plan: &Plan,
    [before, tree]: [Oid; 2],
) -> Result<Check, Failure> {
    let begin = std::time::Instant::now();
    let source = charter.facts.coverage.as_ref().map(stored::command);
    let ask = |tree| {
        let source = source.as_ref()?;
        Some(command::run(site, tree, source, None, charter.facts.timeout_ms).outcome)
    };
    let facts = After {
        coverage_base: ask(before),
        coverage_candidate: ask(tree),
        ..After::default()
    };
    let finding = conditions::after(plan, &facts)
        .into_iter()
        .find(|finding| finding.rule == "coverage");
    let reason = finding.map(|finding| finding.fault.message);
    let output = match &reason {
        Some(reason) => Some(kept(site, reason.as_bytes())?),
        None => None,
    };
    Ok(Check {
        name: "coverage_delta".to_owned(),
        passed: reason.is_none(),
        status: i64::from(reason.is_some()),
        ms: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        output,
    })
}

/// Keeps what a check said as a version.
fn kept(site: &Site, said: &[u8]) -> Result<Digest, Failure> {
    let versions = Versions::of(&site.store);
    let sha256 = versions.put(said).map_err(Failure::failed)?;
    versions.make_durable(&[sha256]).map_err(Failure::failed)?;
    Ok(sha256)
}

/// Runs the checks on `tree`, which is on disk.
pub fn run(site: &Site, tree: Oid, wanted: &[&Wanted]) -> Result<Vec<Check>, Failure> {
    wanted.iter().map(|check| one(site, tree, check)).collect()
}

fn one(site: &Site, tree: Oid, wanted: &Wanted) -> Result<Check, Failure> {
    let command = match &wanted.command {
        CharterCommand::Shell(line) => Command::Shell(line.clone()),
        CharterCommand::Argv(argv) => Command::Argv(argv.clone()),
    };
    let ran = command::run(site, tree, &command, None, wanted.timeout_ms);
    let mut check = ran.check(wanted.name.clone());
    let said = match ran.outcome.output() {
        Err(reason) if ran.output.is_empty() => reason.into_bytes(),
        _ => ran.output,
    };
    if !said.is_empty() {
        check.output = Some(kept(site, &said)?);
    }
    Ok(check)
}

/// Returns what the checks that did not pass have against the merge. It follows from
/// the entry alone, so that replay finds the same.
pub fn findings(checks: &[Check]) -> Vec<MergeRefusal> {
    let failed = checks.iter().filter(|check| !check.passed);
    failed
        .map(|check| {
            let hint = match check.output {
                Some(sha256) => format!("what it said is kept as version {sha256}"),
                None => "it said nothing".to_owned(),
            };
            MergeRefusal::general(RULE, reason(check), hint)
        })
        .collect()
}

fn reason(check: &Check) -> String {
    match check.status {
        124 => format!("check {} took longer than it may", check.name),
        125 => format!("check {} could not be run", check.name),
        status => format!("check {} ended with status {status}", check.name),
    }
}

/// Adds the last words of each failed check, for whoever reads the refusal: a status
/// alone tells nobody what to mend.
pub fn add_last_words(versions: &Versions, checks: &[Check], refusals: &mut [Finding]) {
    for check in checks.iter().filter(|check| !check.passed) {
        let reason = reason(check);
        let said = check.output.and_then(|sha256| versions.read(&sha256).ok());
        let words = said.and_then(|said| last_words(&said));
        let own = refusals
            .iter_mut()
            .find(|refusal| refusal.rule == RULE && refusal.reason == reason);
        if let (Some(words), Some(own)) = (words, own) {
            own.reason = format!("{reason}: {words}");
        }
    }
}

/// Returns the last line that says anything, without what could steer a terminal.
pub fn last_words(said: &[u8]) -> Option<String> {
    let end = &said[said.len().saturating_sub(WORDS_FROM)..];
    let text = String::from_utf8_lossy(end);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    let plain = line.trim().chars().filter(|c| !c.is_control());
    Some(plain.take(WORDS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_line_that_says_anything() {
        let long = "x".repeat(9000);
        for (said, expected) in [
            ("", None),
            (" \n\n", None),
            ("one\ntwo\n\n", Some("two")),
            ("\u{1b}[31mred\u{7}\n", Some("[31mred")),
            (&long, Some(&long[..WORDS_MAX])),
        ] {
            let found = last_words(said.as_bytes());
            assert_eq!(found.as_deref(), expected, "{said:.20}");
        }
        assert_eq!(last_words(b"\xffbad\n").as_deref(), Some("\u{fffd}bad"));
    }
}
