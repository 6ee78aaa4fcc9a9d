//! `govfs claims`

use serde_json::{Value, json};

use super::{Context, claim};
use crate::app;
use crate::app::failure::Failure;

/// Show who holds what, since when and until when
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs claims\n  govfs claims --json")]
pub(super) struct Args {}

pub(super) fn run(_: Args, context: &mut Context) -> Result<(), Failure> {
    let claims = app::claim::list(&mut context.site()?)?;
    if context.out.json {
        let claims: Vec<Value> = claims.iter().map(claim::fields).collect();
        context.out.document("claims", json!({ "claims": claims }));
        return Ok(());
    }
    for claim in &claims {
        context.out.line(claim::words(claim));
    }
    if claims.is_empty() {
        context.out.note("nobody holds a claim");
    }
    Ok(())
}
