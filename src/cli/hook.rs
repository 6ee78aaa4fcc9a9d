//! `govfs hook`

use std::ffi::OsString;
use std::io::{Read, stdin};
use std::os::unix::ffi::OsStrExt;

use clap::Subcommand;

use super::Context;
use crate::app::claim;
use crate::app::failure::Failure;
use crate::app::hook;

/// Serve another program's hooks: the event as JSON on stdin, the answer on stdout
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  echo '{\"name\":\"fix-login\"}' | govfs hook worktree-create\n  govfs hook worktree-create --help"
)]
pub(super) struct Args {
    #[command(subcommand)]
    event: Event,
}

#[derive(Debug, Subcommand)]
enum Event {
    /// Claude Code's `WorktreeCreate`: mount a session for the worktree, print its path
    ///
    /// The worktree's name becomes the agent's. In .claude/settings.json:
    ///
    /// {"hooks": {
    ///   "WorktreeCreate": [{"hooks": [{"type": "command", "command": "govfs hook worktree-create"}]}],
    ///   "WorktreeRemove": [{"hooks": [{"type": "command", "command": "govfs hook worktree-remove"}]}]
    /// }}
    #[command(
        verbatim_doc_comment,
        after_help = "Examples:\n  echo '{\"name\":\"fix-login\"}' | govfs hook worktree-create --claim 'src/**'"
    )]
    WorktreeCreate {
        /// Claim these first, all or none
        #[arg(long = "claim", value_name = "PATTERN")]
        claims: Vec<OsString>,
    },
    /// Claude Code's `WorktreeRemove`: unmount; the session stays, to be merged or abandoned
    #[command(
        after_help = "Examples:\n  echo '{\"worktree_path\":\"/home/me/.local/state/govfs/mounts/…/fix-login\"}' | govfs hook worktree-remove"
    )]
    WorktreeRemove,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut text = Vec::new();
    stdin().read_to_end(&mut text).map_err(Failure::failed)?;
    let event = hook::Event::parse(&text)?;
    match args.event {
        Event::WorktreeCreate { claims } => {
            let place = hook::create(&event, &context.dir, claim::patterns(&claims)?)?;
            context.out.bytes(place.as_os_str().as_bytes());
            context.out.bytes(b"\n");
            Ok(())
        }
        Event::WorktreeRemove => hook::remove(&event, &context.dir),
    }
}
