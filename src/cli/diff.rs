//! `govfs diff`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};

use super::{Context, patch};
use crate::app::claim::patterns;
use crate::app::content::Shift;
use crate::app::diff;
use crate::app::failure::Failure;
use crate::domain::layer::Content;
use crate::domain::names::AgentName;

/// Show what an agent's session changes, deletions first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs diff alice\n  govfs diff alice --stat\n  govfs diff alice --name-status src 'docs/**'"
)]
pub(super) struct Args {
    agent: AgentName,
    /// Only these paths or patterns, from the repository's root
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Count the lines of each file
    #[arg(long, conflicts_with = "name_status")]
    stat: bool,
    /// Only the names and how each changed
    #[arg(long)]
    name_status: bool,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let paths = args.paths.iter().map(|path| path.as_bytes());
    let paths: Vec<&OsStr> = paths
        .map(|path| OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path)))
        .collect();
    let only = patterns(&paths)?;
    let found = diff::diff(&mut context.site()?, &args.agent, &only)?;
    let out = &mut context.out;
    if let Some(why) = &found.behind {
        out.note(format!("shown is what has settled so far: {why}"));
    }
    if !found.unsettled.is_empty() {
        let paths: Vec<String> = found.unsettled.iter().map(ToString::to_string).collect();
        out.note(format!("not settled yet: {}", paths.join(" ")));
    }
    if out.json {
        let full = !args.stat && !args.name_status;
        let changes: Result<Vec<Value>, Failure> = found
            .shifts
            .iter()
            .map(|shift| fields(shift, full))
            .collect();
        let fields = json!({
            "agent": args.agent,
            "session": found.session.id,
            "base": found.session.row.base,
            "changes": changes?,
            "unsettled": found.unsettled,
            "leftovers": found.leftovers,
        });
        out.document("diff", fields);
        return Ok(());
    }
    if found.shifts.is_empty() {
        out.note(format!(
            "{} changes nothing{}",
            found.session.id,
            if only.is_empty() { "" } else { " there" }
        ));
    }
    if args.name_status {
        for shift in &found.shifts {
            let from = shift.from.iter().map(|from| format!("{from}\t"));
            let from: String = from.collect();
            out.line(format!("{}\t{from}{}", shift.letter(), shift.path));
        }
        return Ok(());
    }
    if args.stat {
        return patch::print_counts(out, &found.shifts);
    }
    patch::print(out, &found.shifts)
}

fn fields(shift: &Shift, full: bool) -> Result<Value, Failure> {
    let patch = shift.patch()?;
    let content = shift.new.as_ref().and_then(|side| side.content());
    let (sha256, size) = match content {
        Some(Content::Version { sha256, size }) => (Some(*sha256), Some(*size)),
        _ => (None, None),
    };
    let mode = |mode: u32| format!("{mode:o}");
    let mut fields = json!({
        "path": shift.path,
        "status": shift.letter().to_string(),
        "from": shift.from,
        "old_mode": shift.old.as_ref().map(|side| mode(side.mode)),
        "mode": shift.new.as_ref().map(|side| mode(side.mode)),
        "sha256": sha256,
        "size": size,
        "added": patch.lines.map(|(added, _)| added),
        "removed": patch.lines.map(|(_, removed)| removed),
    });
    if full && let Value::Object(map) = &mut fields {
        let text = String::from_utf8_lossy(&patch.text).into_owned();
        map.insert("patch".to_owned(), Value::String(text));
    }
    Ok(fields)
}
