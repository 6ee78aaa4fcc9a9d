//! `govfs why`

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde_json::{Value, json};

use super::output::Ink;
use super::{Context, text, told};
use crate::app::failure::Failure;
use crate::app::why::{self, Explained};
use crate::domain::entry::Line;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;

/// Explain who may write a path, by which rule, and how to get it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs why src/auth.rs --agent alice\n  govfs why target/debug --json"
)]
pub(super) struct Args {
    /// Relative to the repository's root
    path: OsString,
    /// Ask for this agent; without it, for one that holds nothing
    #[arg(long, value_name = "A")]
    agent: Option<AgentName>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let bytes = args.path.into_vec();
    let root = site.repo.root().as_os_str().as_encoded_bytes();
    let inside = bytes.strip_prefix(root).unwrap_or(&bytes);
    let inside = if inside.len() < bytes.len() {
        inside.strip_prefix(b"/").unwrap_or(inside)
    } else {
        inside
    };
    let inside = inside.strip_suffix(b"/").unwrap_or(inside);
    let path = RepoPath::parse(inside).map_err(Failure::usage)?;
    let why = why::why(&mut site, &path, args.agent.as_ref())?;
    show(&why.explained(args.agent).outside(), context);
    Ok(())
}

/// Shows the answer, wherever it was asked.
pub(super) fn show(why: &Explained, context: &mut Context) {
    let out = &mut context.out;
    let refusal = why.refusal.as_ref();
    if out.json {
        let denials: Vec<Value> = why
            .denials
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let fields = json!({
            "path": why.path,
            "agent": why.agent,
            "zone": why.zone,
            "verdict": if refusal.is_some() { "deny" } else { "allow" },
            "reason": refusal.map(|refusal| &refusal.reason),
            "rule": refusal.map(|refusal| &refusal.rule),
            "hint": refusal.map(|refusal| &refusal.hint),
            "holder": why.holder,
            "claim": why.claim,
            "denials": denials,
        });
        out.document("why", fields);
        return;
    }
    let who = why.agent.as_ref().map_or(
        "an agent that holds nothing".to_owned(),
        ToString::to_string,
    );
    match refusal {
        None => {
            let may = out.paint(Ink::Green, "may write");
            out.line(format!("{who} {may} {} ({})", why.path, why.zone));
        }
        Some(refusal) => {
            let not = out.paint(Ink::Red, "may not write");
            out.line(format!("{who} {not} {} ({})", why.path, why.zone));
            out.line(format!("rule {}: {}", refusal.rule, refusal.reason));
            out.line(format!("to do: {}", refusal.hint));
        }
    }
    if let Some(holder) = &why.holder {
        out.line(format!("held by {holder}"));
    }
    for denial in &why.denials {
        if let Ok(line) = Line::parse(denial.as_bytes()) {
            out.line(format!(
                "refused {}  {}",
                text::time(line.ts),
                told::entry(&line)
            ));
        }
    }
}
