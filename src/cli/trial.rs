//! `govfs trial` and `govfs trial-serve`, by which checks run; not for people.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Context;
use crate::app::failure::Failure;
use crate::app::trial;
use crate::domain::base::Oid;

/// Run one program on a tree, sealed and read-only (started by checks)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Args {
    tree: Oid,
    #[arg(long)]
    room: PathBuf,
    #[arg(required = true, last = true)]
    argv: Vec<OsString>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = crate::app::site::Site::open(&context.dir)?;
    let status = trial::launch(&mut site, args.tree, &args.room, args.argv);
    context.out.status = u8::try_from(status).unwrap_or(u8::MAX);
    Ok(())
}

/// Show one tree (started by a trial)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct ServeArgs {
    tree: Oid,
    #[arg(long)]
    room: PathBuf,
    #[arg(long)]
    uid: u32,
    #[arg(long)]
    gid: u32,
}

pub(super) fn serve(args: &ServeArgs, context: &mut Context) -> Result<(), Failure> {
    let mut site = crate::app::site::Site::open(&context.dir)?;
    trial::serve(&mut site, args.tree, &args.room, args.uid, args.gid)
}
