//! `govfs snapshot`

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::json;

use super::{Context, text};
use crate::app::failure::Failure;
use crate::app::log::Name;
use crate::app::snapshot;
use crate::domain::names::AgentName;
use crate::domain::path::percent_encode;

/// Rebuild a session's tree as it was after an entry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs snapshot alice --out /tmp/now\n  govfs snapshot alice --at alice-1:40 --out /tmp/then"
)]
pub(super) struct Args {
    agent: AgentName,
    /// N (the ledger) or SESSION:N (a session's write log); now where it is left out
    #[arg(long, value_name = "ENTRY")]
    at: Option<Name>,
    /// A new or empty directory; else one beneath the state directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let made = snapshot::snapshot(
        &mut site,
        &args.agent,
        args.at.as_ref(),
        args.out.as_deref(),
    )?;
    let bytes = made.dir.as_os_str().as_bytes();
    let out = &mut context.out;
    if out.json {
        let fields = json!({
            "agent": args.agent,
            "session": made.session,
            "entries": made.count,
            "dir": percent_encode(bytes),
            "files": made.files,
            "bytes": made.bytes,
        });
        out.document("snapshot", fields);
        return Ok(());
    }
    out.bytes(&[bytes, b"\n"].concat());
    out.note(format!(
        "{} after {} entries: {}, {}",
        made.session,
        made.count,
        text::files(usize::try_from(made.files).unwrap_or(usize::MAX)),
        text::size(made.bytes)
    ));
    Ok(())
}
