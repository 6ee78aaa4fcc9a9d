//! `govfs mount`

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::json;

use super::Context;
use crate::app::claim;
use crate::app::failure::Failure;
use crate::app::mount;
use crate::app::session::Wish;
use crate::domain::names::AgentName;
use crate::domain::path::percent_encode;

/// Mount an agent's governed copy of the repository
///
/// Returns when the mount serves, and prints its directory. The agent's open session continues; without one, a
/// new session starts on the merge target's tip.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs mount alice\n  govfs mount alice /mnt/alice --claim src/auth --claim 'tests/**'\n  govfs mount bob --base v1.2"
)]
pub(super) struct Args {
    agent: AgentName,
    /// Where; made if missing (default: beneath the state directory)
    #[arg(value_name = "DIR")]
    place: Option<PathBuf>,
    /// Claim these first, all or none
    #[arg(long = "claim", value_name = "PATTERN")]
    claims: Vec<OsString>,
    /// Start a new session from this commit
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Serve in this process until the mount ends
    #[arg(long)]
    foreground: bool,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let wish = Wish {
        agent: args.agent.clone(),
        claims: claim::patterns(&args.claims)?,
        base: args.base,
        plan: None,
    };
    let mut site = context.site()?;
    context
        .out
        .note("tier C: processes outside a sandbox can go around this mount");
    if let Some(note) = mount::missing_programs(&site) {
        context.out.note(&note);
    }
    if args.foreground {
        return mount::foreground(site, &wish, args.place.as_deref(), |dir| {
            show(context, &args.agent, dir);
        });
    }
    let standing = mount::mount(&mut site, &wish, args.place.as_deref())?;
    show(context, &args.agent, &standing.dir);
    Ok(())
}

fn show(context: &mut Context, agent: &AgentName, dir: &std::path::Path) {
    use std::os::unix::ffi::OsStrExt;
    let bytes = dir.as_os_str().as_bytes();
    if context.out.json {
        context.out.document(
            "mount",
            json!({ "agent": agent, "dir": percent_encode(bytes), "tier": "C" }),
        );
    } else {
        context.out.bytes(&[bytes, b"\n"].concat());
    }
    context.out.flush();
}
