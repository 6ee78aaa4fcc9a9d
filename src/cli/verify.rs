//! `govfs verify`

use serde_json::json;

use super::Context;
use crate::app::failure::Failure;
use crate::app::verify::{self, Options};

/// Check that the ledger is whole
///
/// The first fault is named with its place; exit status 4.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs verify\n  govfs verify --deep")]
pub(super) struct Args {
    /// Also fold all entries again and compare the projections
    #[arg(long)]
    deep: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let report = verify::verify(&mut context.site()?, &Options { deep: args.deep })?;
    if context.out.json {
        let fields = json!({ "ok": true, "entries": report.entries, "root": report.root, "deep": report.deep });
        context.out.document("verify", fields);
    } else {
        context.out.line(format!(
            "{} entries verify, root {}",
            report.entries, report.root
        ));
    }
    Ok(())
}
