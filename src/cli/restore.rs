//! `govfs restore`

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde_json::json;

use super::{Context, text};
use crate::app::failure::Failure;
use crate::app::log::Name;
use crate::app::restore;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;

/// Put one file back as it was after an entry: a governed write like any other
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs restore alice src/auth.rs --at alice-1:40")]
pub(super) struct Args {
    agent: AgentName,
    /// The file, from the repository's root
    path: OsString,
    /// N (the ledger) or SESSION:N (a session's write log)
    #[arg(long, value_name = "ENTRY")]
    at: Name,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let path = RepoPath::parse(&args.path.into_vec()).map_err(Failure::usage)?;
    let done = restore::restore(&mut context.site()?, &args.agent, &path, &args.at)?;
    let out = &mut context.out;
    if out.json {
        let fields = json!({
            "agent": args.agent,
            "path": done.path,
            "mode": done.mode,
            "size": done.size,
            "at": args.at.to_string(),
        });
        out.document("restore", fields);
    } else {
        out.line(format!(
            "{} is as it was at {} ({})",
            done.path,
            args.at,
            text::size(done.size)
        ));
    }
    Ok(())
}
