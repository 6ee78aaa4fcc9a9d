//! `govfs gc`

use serde_json::json;

use super::Context;
use crate::app::failure::Failure;
use crate::app::gc;

/// Drop contents past the charter's retention that nothing needs, and compress closed logs; hashes stay for ever
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs gc --dry-run\n  govfs gc")]
pub(super) struct Args {
    /// Only say what would be dropped
    #[arg(long)]
    dry_run: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let report = gc::collect(&mut context.site()?, args.dry_run)?;
    let out = &mut context.out;
    if out.json {
        let fields = json!({
            "dropped": report.versions,
            "bytes": report.bytes,
            "kept": report.kept,
            "logs": report.logs,
            "log_bytes": report.log_bytes,
            "sessions": report.sessions,
            "entry": report.entry,
            "dry_run": args.dry_run,
        });
        out.document("gc", fields);
        return Ok(());
    }
    let verb = if args.dry_run {
        "would drop"
    } else {
        "dropped"
    };
    out.line(format!(
        "{verb} {} contents, {} bytes; {} are kept",
        report.versions, report.bytes, report.kept
    ));
    if args.dry_run {
        out.line(format!("would compress {} write logs", report.logs));
    } else {
        out.line(format!(
            "compressed {} write logs, {} bytes less",
            report.logs, report.log_bytes
        ));
    }
    if report.sessions > 0 {
        out.line(format!(
            "{verb} what git kept for {} sessions past retention",
            report.sessions
        ));
    }
    Ok(())
}
