//! `govfs checkpoint`

use std::path::PathBuf;

use serde_json::json;

use super::Context;
use crate::app::checkpoint;
use crate::app::failure::Failure;

/// Sign the ledger as it is now
///
/// The signed note goes to stdout, or to FILE. Keep one where the repository's writers cannot write: whatever it
/// covers can no longer be changed unseen.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs checkpoint --out /mnt/backup/ledger.checkpoint\n  govfs verify --checkpoint /mnt/backup/ledger.checkpoint"
)]
pub(super) struct Args {
    /// Write the note to FILE
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let signed = checkpoint::sign(&mut context.site()?)?;
    if let Some(path) = &args.out {
        checkpoint::write(path, &signed.note)?;
    }
    let out = &mut context.out;
    if let Some(why) = &signed.unanchored {
        out.note(format!("warning: the checkpoint is not anchored: {why}"));
    }
    if out.json {
        let fields = json!({
            "origin": signed.checkpoint.origin,
            "size": signed.checkpoint.size,
            "root": signed.checkpoint.root,
            "note": signed.note,
            "entry": signed.entry,
            "unanchored": signed.unanchored,
        });
        out.document("checkpoint", fields);
    } else if args.out.is_none() {
        out.bytes(signed.note.as_bytes());
    } else {
        out.line(format!(
            "signed {} entries, root {}",
            signed.checkpoint.size, signed.checkpoint.root
        ));
    }
    Ok(())
}
