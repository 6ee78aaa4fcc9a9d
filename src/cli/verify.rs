//! `govfs verify`

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Context;
use super::output::{Ink, Output};
use crate::app::export;
use crate::app::export::Verified;
use crate::app::failure::{Failure, Kind};
use crate::app::keys;
use crate::app::verify::{self, Options, Report};
use crate::domain::checkpoint::Origin;

/// Check that the ledger is whole, and the one that was there before
///
/// The first fault is named with its place; exit status 4.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs verify --deep\n  govfs verify --checkpoint kept-elsewhere\n  govfs verify --export DIR --key key.pub"
)]
pub(super) struct Args {
    /// Also fold all entries again, compare the projections, and read every version
    #[arg(long)]
    deep: bool,
    /// Verify the export that clones carry in refs/govfs/ledger
    #[arg(long = "ref", conflicts_with_all = ["deep", "export"])]
    reference: bool,
    /// A checkpoint that was kept elsewhere: the ledger must continue it
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// A ledger that another operator keeps, who merges to the same branch
    #[arg(long, value_name = "ORIGIN", conflicts_with = "export")]
    beside: Vec<Origin>,
    /// Verify an export; needs no repository
    #[arg(long, value_name = "DIR", conflicts_with = "deep")]
    export: Option<PathBuf>,
    /// The public key that you trust (key.pub)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let key = match &args.key {
        Some(path) => {
            let bytes = std::fs::read(path)
                .map_err(|error| Failure::missing(format!("{}: {error}", path.display())))?;
            Some(keys::public_key(&bytes)?)
        }
        None => None,
    };
    if let Some(dir) = args.export {
        if !dir.is_dir() {
            return Err(Failure::missing(format!(
                "{}: no such directory",
                dir.display()
            )));
        }
        let audited = export::audit(&dir, key.as_ref(), &args.checkpoint).map_err(of_a_copy)?;
        audited_words(&audited, &[], key.is_some(), context);
        return Ok(());
    }
    if args.reference {
        let found = verify::verify_ref(&context.dir, key.as_ref(), &args.checkpoint, &args.beside)
            .map_err(of_a_copy)?;
        context
            .out
            .note(format!("{} merge commits state it", found.anchors));
        audited_words(&found.verified, &found.remarks, key.is_some(), context);
        return Ok(());
    }
    let options = Options {
        deep: args.deep,
        checkpoints: args.checkpoint,
        beside: args.beside,
    };
    let report = verify::verify(&mut context.site()?, &options)?;
    report_words(&report, args.deep, &mut context.out);
    Ok(())
}

/// A copy cannot be looked at more deeply: whoever keeps the ledger can.
fn of_a_copy(mut failure: Failure) -> Failure {
    let deeper = |hint: &String| hint.contains("--deep");
    if failure.kind == Kind::Integrity && failure.hint.as_ref().is_none_or(deeper) {
        failure.hint = Some(
            "trust nothing in it: ask whoever keeps the ledger for another, made where govfs verify --deep finds no fault"
                .to_owned(),
        );
    }
    failure
}

/// Says what stood up to the verification.
fn report_words(report: &Report, deep: bool, out: &mut Output) {
    if out.json {
        let fields = json!({
            "ok": true,
            "entries": report.entries,
            "root": report.root,
            "sessions": report.sessions,
            "writes": report.writes,
            "anchors": report.anchors,
            "versions": report.versions,
            "remarks": report.remarks,
            "deep": deep,
        });
        out.document("verify", fields);
        return;
    }
    let good = out.paint(Ink::Green, "verified");
    out.line(format!(
        "{good}: {} entries, {} writes of {} sessions, root {}",
        report.entries, report.writes, report.sessions, report.root
    ));
    if report.anchors > 0 {
        out.line(format!(
            "it continues {} checkpoints held outside it",
            report.anchors
        ));
    }
    if deep {
        out.line(format!(
            "the projections are the fold; {} versions are whole",
            report.versions
        ));
    }
    for remark in &report.remarks {
        out.line(format!("remark: {remark}"));
    }
}

fn audited_words(verified: &Verified, remarks: &[String], trusted: bool, context: &mut Context) {
    let out = &mut context.out;
    let checkpoint = &verified.checkpoint;
    let writes = verified.entries.saturating_sub(checkpoint.size);
    if out.json {
        let fields: Value = json!({
            "ok": true,
            "origin": checkpoint.origin,
            "entries": checkpoint.size,
            "root": checkpoint.root,
            "sessions": verified.sessions,
            "writes": writes,
            "trusted": trusted,
            "remarks": remarks,
        });
        out.document("verify", fields);
        return;
    }
    let good = out.paint(Ink::Green, "verified");
    out.line(format!(
        "{good}: {} entries, {writes} writes of {} sessions of {}, root {}",
        checkpoint.size, verified.sessions, checkpoint.origin, checkpoint.root
    ));
    for remark in remarks {
        out.line(format!("remark: {remark}"));
    }
    if !trusted {
        out.line("remark: signed by the export's own key; say with --key which one you trust");
    }
}
