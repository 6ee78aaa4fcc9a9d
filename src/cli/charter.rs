//! `govfs charter`

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::Context;
use super::output::Ink;
use crate::app::charter;
use crate::app::failure::Failure;

/// Check and explain a charter
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs charter check\n  govfs charter check draft.md")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Parse a charter and say in plain words what it means
    #[command(after_help = "Examples:\n  govfs charter check\n  govfs charter check draft.md")]
    Check {
        /// Default: this repository's governor.md
        file: Option<PathBuf>,
    },
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let Verb::Check { file } = args.verb;
    let checked = charter::check(&context.dir, file.as_deref())?;
    let told = checked.charter.explain();
    let out = &mut context.out;
    if out.json {
        let told: Map<String, Value> = told
            .into_iter()
            .map(|(heading, lines)| (heading, json!(lines)))
            .collect();
        let fields = json!({
            "ok": true,
            "file": checked.file,
            "sha256": checked.sha256,
            "in_force": checked.in_force,
            "explanation": told,
        });
        out.document("charter", fields);
        return Ok(());
    }
    for (heading, lines) in told {
        out.line(out.paint(Ink::Bold, heading));
        for line in lines {
            out.line(format!("  {line}"));
        }
    }
    match checked.in_force {
        Some(true) => out.line("this charter is in force"),
        Some(false) => out.line("remark: another version is in force; an edit counts once it is committed on the merge target"),
        None => {}
    }
    Ok(())
}
