//! `govfs revert`

use serde_json::{Value, json};

use super::Context;
use crate::app::failure::Failure;
use crate::app::revert;

/// Undo exactly one merge, by a commit of its own
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs revert 42\n  govfs revert 1f3a7e8 -m 'It broke the build'"
)]
pub(super) struct Args {
    /// A merge entry's number, or the merge's commit
    #[arg(value_name = "ENTRY|COMMIT")]
    what: String,
    /// The commit's message
    #[arg(short, long, value_name = "MSG")]
    message: Option<String>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let report = revert::revert(&mut context.site()?, &args.what, args.message.as_deref())?;
    if context.out.json {
        let changes: Vec<Value> = report
            .changes
            .iter()
            .map(|change| json!({ "path": change.path, "status": change.status }))
            .collect();
        let fields = json!({
            "merge": report.merge,
            "entry": report.entry,
            "branch": report.branch,
            "commit": report.commit,
            "changes": changes,
        });
        context.out.document("revert", fields);
    } else {
        for change in &report.changes {
            context
                .out
                .line(format!("{:?}  {}", change.status, change.path));
        }
        context.out.line(format!(
            "reverted merge {} on {}: {}",
            report.merge, report.branch, report.commit
        ));
    }
    for remark in &report.remarks {
        context.out.note(format!("warning: {remark}"));
    }
    Ok(())
}
