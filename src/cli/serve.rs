//! `govfs serve`, which `mount` and `run` start; not for people.

use std::path::PathBuf;

use super::Context;
use crate::app::failure::Failure;
use crate::app::serve::ground::Shown;
use crate::app::serve::{self, Orders};
use crate::app::trace;
use crate::domain::event::Tier;
use crate::domain::names::SessionId;

/// Serve one session's mount (started by `mount` and `run`)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct Args {
    session: SessionId,
    /// Mount here
    #[arg(long, value_name = "DIR")]
    at: PathBuf,
    #[arg(long)]
    allow_other: bool,
    /// For programs that are restricted, though not sealed (tier B)
    #[arg(long)]
    restricted: bool,
    /// The anchor of a mount that stands already; its device is the standard input
    #[arg(long, num_args = 2..=3, value_name = "DESCRIPTOR")]
    sealed: Option<Vec<i32>>,
    /// Whom every file belongs to
    #[arg(long)]
    uid: Option<u32>,
    #[arg(long)]
    gid: Option<u32>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    trace::begin("info");
    let (uid, gid) = serve::own_ids();
    let orders = Orders {
        dir: context.dir.clone(),
        session: args.session,
        shown: Shown {
            uid: args.uid.unwrap_or(uid),
            gid: args.gid.unwrap_or(gid),
            place: args.at,
            sealed: args.sealed.is_some(),
            tier: if args.restricted { Tier::B } else { Tier::C },
            allow_other: args.allow_other,
        },
        inherited: args.sealed,
    };
    serve::serve(orders, serve::announce)
}
