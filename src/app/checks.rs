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
use crate::domain::event::Check;
use crate::domain::merge::MergeRefusal;
use crate::domain::plan::Command;
use crate::store::versions::Versions;

/// Returns the checks that a merge under `charter` needs.
pub fn needed(charter: &Charter) -> Vec<&Wanted> {
    let listed = |check: &&Wanted| charter.merge.checks.contains(&check.name);
    charter.checks.iter().filter(listed).collect()
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
        let versions = Versions::of(&site.store);
        let sha256 = versions.put(&said).map_err(Failure::failed)?;
        versions.make_durable(&[sha256]).map_err(Failure::failed)?;
        check.output = Some(sha256);
    }
    Ok(check)
}

/// Returns what the checks that did not pass have against the merge.
pub fn findings(checks: &[Check]) -> Vec<MergeRefusal> {
    let failed = checks.iter().filter(|check| !check.passed);
    failed
        .map(|check| {
            let reason = match check.status {
                124 => format!("check {} took longer than it may", check.name),
                125 => format!("check {} could not be run", check.name),
                status => format!("check {} ended with status {status}", check.name),
            };
            let hint = match check.output {
                Some(sha256) => format!("what it said is kept as version {sha256}"),
                None => "it said nothing".to_owned(),
            };
            MergeRefusal::general("check", reason, hint)
        })
        .collect()
}
