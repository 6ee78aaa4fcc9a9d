//! Runs a command that the charter or a plan names, on a tree that is shown to it.
//!
//! The command is the charter's or the plan's, but what it starts may be a file
//! that an agent wrote and a merge promoted. So it runs as an agent would: sealed,
//! over a read-only view of the tree, with a time limit. Where that cannot be
//! had, the outcome is a failure, and whatever asked is refused.

use std::time::Duration;

use crate::app::site::Site;
use crate::app::trial::{self, Trial};
use crate::domain::base::Oid;
use crate::domain::event::Check;
use crate::domain::plan::Command;
use crate::domain::validate::external::Outcome;

/// How a command ended, and how long it took.
#[derive(Clone, Debug)]
pub struct Ran {
    pub outcome: Outcome,
    pub ms: u64,
    /// What it printed, for whoever wants to know why.
    pub output: Vec<u8>,
}

impl Ran {
    /// Returns the entry's view of it.
    pub fn check(&self, name: String) -> Check {
        let status = match &self.outcome {
            Outcome::Exited { status, .. } => i64::from(*status),
            Outcome::Killed { signal } => i64::from(128 + signal),
            Outcome::TimedOut { .. } => 124,
            Outcome::Failed { .. } => 125,
        };
        Check {
            name,
            passed: self.outcome.output().is_ok(),
            status,
            ms: self.ms,
            output: None,
        }
    }
}

/// Runs `command` on `tree`.
pub fn run(site: &Site, tree: Oid, command: &Command, stdin: Option<&[u8]>, limit_ms: u64) -> Ran {
    let argv = command.argv();
    if argv.is_empty() {
        let reason = "it names no program".to_owned();
        return Ran {
            outcome: Outcome::Failed { reason },
            ms: 0,
            output: Vec::new(),
        };
    }
    let ended = trial::run(
        site,
        &Trial {
            tree,
            argv,
            stdin,
            limit: Duration::from_millis(limit_ms),
        },
    );
    Ran {
        outcome: ended.outcome,
        ms: ended.ms,
        output: ended.output,
    }
}
