//! `govfs check-candidate` and `govfs serve-candidate`, which a merge starts; not for people.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Context;
use crate::app::checks::{NO_ROOM, room};
use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::names::SessionId;

/// Run a check on a candidate (started by `merge`)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct CheckArgs {
    session: SessionId,
    tree: Oid,
    #[arg(last = true, required = true)]
    argv: Vec<OsString>,
}

/// Serve a candidate's tree on the standard input (started by a check)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct ServeArgs {
    session: SessionId,
    tree: Oid,
    room: PathBuf,
    #[arg(long)]
    uid: u32,
    #[arg(long)]
    gid: u32,
}

pub(super) fn check(args: CheckArgs, context: &mut Context) -> Result<(), Failure> {
    let mut site = Site::open(&context.dir)?;
    let status =
        room::run(&mut site, &args.session, args.tree, args.argv).unwrap_or_else(|failure| {
            context.out.note(format!("error: {failure}"));
            NO_ROOM
        });
    context.out.status = u8::try_from(status).unwrap_or(u8::MAX);
    Ok(())
}

pub(super) fn serve(args: ServeArgs, context: &mut Context) -> Result<(), Failure> {
    let mut site = Site::open(&context.dir)?;
    let orders = room::Orders {
        session: args.session,
        tree: args.tree,
        room: args.room,
        uid: args.uid,
        gid: args.gid,
    };
    room::serve_tree(&mut site, &orders)
}
