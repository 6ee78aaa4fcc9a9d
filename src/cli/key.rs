//! `govfs key`

use serde_json::json;

use super::Context;
use crate::app::failure::Failure;
use crate::app::keys;

/// Show the key that signs this ledger's checkpoints, or replace it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs key show\n  govfs key rotate")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show your public key, also in the form that verifiers of signed notes take
    #[command(after_help = "Examples:\n  govfs key show\n  govfs key show --json")]
    Show,
    /// Put a new key in force, signed by the old one, whose private half is then gone
    #[command(after_help = "Examples:\n  govfs key rotate")]
    Rotate,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    if matches!(args.verb, Verb::Rotate) {
        keys::rotate(&mut site)?;
    }
    let (origin, public) = keys::own_public(&mut site)?;
    let vkey = public.vkey(origin.as_str());
    let out = &mut context.out;
    if out.json {
        out.document(
            "key",
            json!({ "origin": origin, "key": public, "vkey": vkey }),
        );
    } else {
        out.line(format!("origin {origin}"));
        out.line(format!("key    {public}"));
        out.line(format!("vkey   {vkey}"));
    }
    Ok(())
}
