//! `govfs export`

use std::path::PathBuf;

use serde_json::json;

use super::Context;
use crate::app::export;
use crate::app::failure::Failure;
use crate::app::provenance;

/// Write the ledger as files that anybody can verify without govfs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs export audit/\n  govfs verify --export audit/ --key key.pub\n  govfs export audit/ --provenance\n  govfs export --ref && git push origin refs/govfs/ledger"
)]
pub(super) struct Args {
    #[arg(required_unless_present = "reference")]
    dir: Option<PathBuf>,
    /// Add Agent Trace records and in-toto statements, one a merge
    #[arg(long, requires = "dir")]
    provenance: bool,
    /// Write it to refs/govfs/ledger, for clones and CI
    #[arg(long = "ref")]
    reference: bool,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let mut commit = None;
    let mut merges = None;
    let mut checkpoint = None;
    if let Some(dir) = &args.dir {
        let made = export::export(&mut site, dir)?;
        if args.provenance {
            merges = Some(provenance::write(&mut site, dir, &made)?);
        }
        checkpoint = Some(made);
    }
    if args.reference {
        let (made, at) = export::export_ref(&mut site)?;
        checkpoint = Some(made);
        commit = Some(at);
    }
    let Some(checkpoint) = checkpoint else {
        return Err(Failure::usage("where to?"));
    };
    let out = &mut context.out;
    if site.ledger.is_read_only() {
        out.note("note: the store cannot be written, so the export is not recorded in it");
    }
    if out.json {
        let fields = json!({
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root,
            "commit": commit,
            "merges": merges,
        });
        out.document("export", fields);
        return Ok(());
    }
    if let Some(dir) = &args.dir {
        out.line(format!(
            "exported {} entries to {}",
            checkpoint.size,
            dir.display()
        ));
    }
    if let Some(merges) = merges {
        out.line(format!("with the provenance of {merges} merges"));
    }
    if let Some(commit) = commit {
        out.line(format!(
            "exported {} entries to {} at {commit}",
            checkpoint.size,
            crate::app::verify::REF
        ));
    }
    Ok(())
}
