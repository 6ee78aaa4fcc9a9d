//! `govfs doctor`

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Context;
use super::output::Ink;
use crate::app::doctor;
use crate::app::failure::Failure;

/// Try what this machine can enforce, and say how to get what is missing
///
/// Every layer is really tried, in processes that end at once; no setting is taken as evidence. Exit status 6 where
/// less than tier A holds.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs doctor\n  govfs doctor --json\n  govfs doctor --apparmor > /etc/apparmor.d/govfs\n  govfs doctor --bundle report.json"
)]
pub(super) struct Args {
    /// Collect what a bug report needs in this new file: no contents, no names, no keys
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Print the `AppArmor` profile that lets govfs make user namespaces
    #[arg(long, conflicts_with = "bundle")]
    apparmor: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    if args.apparmor {
        context.out.bytes(doctor::apparmor_profile()?.as_bytes());
        return Ok(());
    }
    let found = doctor::examine()?;
    if let Some(file) = &args.bundle {
        doctor::bundle(&found, &context.dir, file)?;
        context.out.note(format!("wrote {}", file.display()));
    }
    if context.out.json {
        context.out.document("doctor", found.fields());
        return found.verdict();
    }
    let mut fixes = BTreeSet::new();
    for layer in &found.layers {
        let (ink, word) = if layer.ok {
            (Ink::Green, "yes")
        } else {
            (Ink::Red, "no ")
        };
        let word = context.out.paint(ink, word);
        context
            .out
            .line(format!("{word}  {:<20} {}", layer.name, layer.evidence));
        match layer.fix.as_ref().filter(|_| !layer.ok) {
            Some(fix) if fixes.insert(fix) => context.out.line(format!("     fix: {fix}")),
            Some(_) => context.out.line("     fix: as above"),
            None => {}
        }
    }
    context.out.line(format!(
        "tier {}, kernel {}, landlock {}",
        found.tier.unwrap_or("none"),
        found.kernel,
        found.landlock
    ));
    found.verdict()
}
