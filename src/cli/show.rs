//! `govfs show`

use super::{Context, patch, text};
use crate::app::failure::Failure;
use crate::app::history;
use crate::app::log::{self, Name};
use crate::domain::entry::{Line, leaf};

/// Show everything about one entry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs show 12\n  govfs show alice-1:40 -p\n  govfs show alice-1:40 --json"
)]
pub(super) struct Args {
    /// N (the ledger) or SESSION:N (a session's write log)
    #[arg(value_name = "ENTRY")]
    entry: Name,
    /// With its content change
    #[arg(short = 'p', long)]
    patch: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let row = log::find(&mut site, &args.entry)?;
    let out = &mut context.out;
    if out.json {
        out.bytes(&row.line);
        out.bytes(b"\n");
        return Ok(());
    }
    let line = Line::parse(&row.line).map_err(Failure::integrity)?;
    out.line(format!("entry    {}", row.name()));
    out.line(format!("time     {}", line.ts));
    out.line(format!("op       {}", line.op));
    out.line(format!("agent    {}", line.agent.unwrap_or("-")));
    out.line(format!("session  {}", line.session.unwrap_or("-")));
    out.line(format!("leaf     {}", leaf(&row.line)));
    out.line(format!("previous {}", line.prev));
    let body = line.body().map_err(Failure::integrity)?;
    for line in text::tree(&body) {
        out.line(line);
    }
    if args.patch {
        let shifts = history::of_entry(&mut site, &args.entry, &row)?;
        if shifts.is_empty() {
            out.note("it settled no content");
        }
        patch::print(out, &shifts)?;
    }
    Ok(())
}
