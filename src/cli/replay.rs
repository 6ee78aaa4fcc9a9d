//! `govfs replay`

use serde_json::json;

use super::Context;
use super::output::Ink;
use crate::app::failure::Failure;
use crate::app::replay;

/// Decide every command again from the entries and compare each verdict
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs replay\n  govfs replay --to 120")]
pub(super) struct Args {
    /// Stop after this entry
    #[arg(long, value_name = "ENTRY")]
    to: Option<u64>,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let report = replay::replay(&mut context.site()?, args.to)?;
    let out = &mut context.out;
    if out.json {
        out.document(
            "replay",
            json!({
                "ok": true,
                "entries": report.entries,
                "refusals": report.refusals,
                "trees": report.trees,
                "merges": report.merges,
                "syncs": report.syncs,
                "remarks": report.remarks,
            }),
        );
        return Ok(());
    }
    let same = out.paint(Ink::Green, "the same verdicts");
    let syncs = match report.syncs {
        0 => String::new(),
        syncs => format!(", {syncs} syncs looked at"),
    };
    out.line(format!(
        "{same}: {} entries, {} refusals among them, {} merges judged, {} trees made again{syncs}",
        report.entries, report.refusals, report.merges, report.trees
    ));
    for remark in &report.remarks {
        out.note(format!("note: {remark}"));
    }
    Ok(())
}
