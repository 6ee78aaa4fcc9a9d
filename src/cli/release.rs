//! `govfs release`

use std::ffi::OsString;

use serde_json::json;

use super::Context;
use crate::app::claim;
use crate::app::failure::Failure;
use crate::domain::names::AgentName;

/// Give up claims; effective before it returns, also on files that are open
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs release alice src/auth\n  govfs release alice          all of them"
)]
pub(super) struct Args {
    agent: AgentName,
    /// The claims' own patterns; all where none is given
    #[arg(value_name = "PATTERN")]
    patterns: Vec<OsString>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let patterns = claim::patterns(&args.patterns)?;
    let released = claim::release(&mut context.site()?, &args.agent, &patterns)?;
    if context.out.json {
        let fields = json!({ "agent": args.agent, "released": released });
        context.out.document("release", fields);
        return Ok(());
    }
    for pattern in &released {
        context.out.line(format!("released {pattern}"));
    }
    if released.is_empty() {
        context.out.note(format!("{} holds no claims", args.agent));
    }
    Ok(())
}
