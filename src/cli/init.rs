//! `govfs init`

use serde_json::json;

use super::Context;
use super::output::Ink;
use crate::app::failure::Failure;
use crate::app::init;

/// Set up this repository: charter, ledger and key
///
/// Writes governor.md if there is none and commits it, makes the ledger and the key that signs its checkpoints (or
/// this user's key for a ledger that exists). Safe to repeat.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs init\n  govfs init --no-commit      write governor.md, let me read it first"
)]
pub(super) struct Args {
    /// Leave governor.md uncommitted
    #[arg(long)]
    no_commit: bool,
    /// This repository was copied: let its ledger go on under a new name
    #[arg(long)]
    new_origin: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let options = init::Options {
        no_commit: args.no_commit,
        new_origin: args.new_origin,
    };
    let report = init::init(&context.dir, options)?;
    let out = &mut context.out;
    if out.json {
        out.document(
            "init",
            json!({
                "origin": report.origin,
                "key": report.public,
                "charter": report.charter,
                "commit": report.commit,
                "created": report.created,
                "store": crate::domain::path::percent_encode(report.store.as_os_str().as_encoded_bytes()),
            }),
        );
        return Ok(());
    }
    let verb = if report.created { "made" } else { "found" };
    out.line(format!(
        "{verb} the ledger {} in {}",
        out.paint(Ink::Bold, &report.origin),
        report.store.display()
    ));
    if report.forked {
        out.line("it goes on under this new name; the old one is in its fork entry");
    }
    if report.new_key && !report.created {
        out.line("made a key of your own for it");
    }
    match (&report.commit, &report.uncommitted) {
        (Some(commit), _) => out.line(format!("committed governor.md as {commit}")),
        (None, Some(why)) => out.line(format!("governor.md is not committed: {why}")),
        (None, None) => {}
    }
    out.tip("next: govfs run AGENT --claim PATH -- COMMAND");
    Ok(())
}
