//! `govfs unmount`

use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use super::Context;
use crate::app::failure::Failure;
use crate::app::unmount;
use crate::domain::names::AgentName;
use crate::domain::path::percent_encode;

/// End an agent's mount: flush, settle and seal; the session stays
///
/// Everything in the session is there again at the next mount or run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs unmount alice\n  govfs unmount alice --force    # also while programs have files open there"
)]
pub(super) struct Args {
    agent: AgentName,
    /// Detach a mount that is busy
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let dir = unmount::unmount(&mut site, &args.agent, args.force)?;
    if context.out.json {
        let dir = percent_encode(dir.as_os_str().as_bytes());
        context
            .out
            .document("unmount", json!({ "agent": args.agent, "dir": dir }));
    }
    Ok(())
}
