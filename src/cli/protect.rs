//! `govfs protect`, and the hidden verb that its hook calls

use std::io::Read;

use serde_json::json;

use super::Context;
use crate::app::failure::Failure;
use crate::app::protect;
use crate::domain::path::percent_encode;

/// The longest transaction that is read.
const INPUT_MAX: u64 = 64 << 20;

/// Refuse updates of a branch that come around govfs
///
/// Installs git's reference-transaction hook in this repository; a hook that is there already is kept and still runs.
/// People whom the charter gives leave are let through, and recorded.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs protect\n  govfs protect release/2.0\n  govfs protect --off"
)]
pub(super) struct Args {
    /// The merge target, unless another is named
    branch: Option<String>,
    /// Let the branch go again
    #[arg(long)]
    off: bool,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let report = protect::protect(&mut context.site()?, args.branch.as_deref(), !args.off)?;
    if context.out.json {
        use std::os::unix::ffi::OsStrExt;
        let fields = json!({
            "branch": report.branch,
            "on": report.on,
            "changed": report.changed,
            "hook": percent_encode(report.hook.as_os_str().as_bytes()),
            "beside": report.beside,
        });
        context.out.document("protect", fields);
        return Ok(());
    }
    let verb = if report.on {
        "protected"
    } else {
        "not protected any more"
    };
    context.out.line(format!("{} is {verb}", report.branch));
    if report.beside {
        let what = if report.on {
            "the hook that was there runs too"
        } else {
            "the hook that was there before is back"
        };
        context.out.note(what);
    }
    Ok(())
}

/// Judge a reference transaction
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct CheckArgs {
    /// The state of the transaction
    state: String,
    /// Who commits, as `git var` says it
    committer: Option<String>,
}

pub(super) fn check(args: &CheckArgs, context: &mut Context) -> Result<(), Failure> {
    let mut input = String::new();
    std::io::stdin()
        .take(INPUT_MAX)
        .read_to_string(&mut input)
        .map_err(|error| Failure::refused(format!("the transaction cannot be read: {error}")))?;
    if args.state != "prepared" {
        return Ok(());
    }
    let who = args.committer.as_deref().unwrap_or_default();
    protect::check(&mut context.site()?, &input, who)
}
