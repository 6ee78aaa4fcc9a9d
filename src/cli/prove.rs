//! `govfs prove`

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Context;
use crate::app::failure::Failure;
use crate::app::log::Name;
use crate::app::prove::{self, Inclusion};

/// Prove that an entry is covered by a checkpoint, or that one checkpoint continues another
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs prove 12 --checkpoint kept\n  govfs prove alice-1:40 --json\n  govfs prove --consistency older newer\n  govfs prove --consistency 100 200"
)]
pub(super) struct Args {
    /// N, or SESSION:N for a write
    #[arg(value_name = "ENTRY", required_unless_present = "consistency")]
    entry: Option<Name>,
    /// The checkpoint to prove it against; the ledger as it is now without one
    #[arg(long, value_name = "FILE", conflicts_with = "consistency")]
    checkpoint: Option<PathBuf>,
    /// Two checkpoints, the older first
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with = "entry")]
    consistency: Option<Vec<PathBuf>>,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    if let Some([old, new]) = args.consistency.as_deref() {
        let (old, new, hashes) = prove::prove_consistency(&mut site, old, new)?;
        let out = &mut context.out;
        if out.json {
            let fields = json!({
                "old": { "size": old.size, "root": old.root },
                "new": { "size": new.size, "root": new.root },
                "proof": hashes,
            });
            out.document("prove", fields);
            return Ok(());
        }
        out.line(format!(
            "{} entries continue {} entries",
            new.size, old.size
        ));
        for hash in &hashes {
            out.line(hash);
        }
        return Ok(());
    }
    let Some(entry) = &args.entry else {
        return Err(Failure::usage("which entry?"));
    };
    let proof = prove::prove(&mut site, entry, args.checkpoint.as_deref())?;
    let out = &mut context.out;
    if out.json {
        let fields = json!({
            "origin": proof.checkpoint.origin,
            "entry": fields(&proof.entry),
            "write": proof.write.as_ref().map(fields),
        });
        out.document("prove", fields);
        return Ok(());
    }
    if let Some(write) = &proof.write {
        out.line(format!(
            "{entry} is in the tree that entry {} seals:",
            proof.entry.index
        ));
        words(out, write);
    }
    out.line(format!(
        "entry {} is in the ledger of {} entries:",
        proof.entry.index, proof.entry.size
    ));
    words(out, &proof.entry);
    Ok(())
}

fn fields(inclusion: &Inclusion) -> Value {
    json!({
        "line": String::from_utf8_lossy(&inclusion.line),
        "leaf": inclusion.leaf,
        "index": inclusion.index,
        "size": inclusion.size,
        "root": inclusion.root,
        "proof": inclusion.hashes,
    })
}

fn words(out: &mut super::output::Output, inclusion: &Inclusion) {
    out.line(format!("  leaf  {}", inclusion.leaf));
    inclusion
        .hashes
        .iter()
        .for_each(|hash| out.line(format!("        {hash}")));
    out.line(format!("  root  {}", inclusion.root));
}
