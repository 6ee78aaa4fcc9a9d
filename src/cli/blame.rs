//! `govfs blame`

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde_json::{Value, json};

use super::output::Ink;
use super::{Context, text};
use crate::app::blame::{self, BlamedLine};
use crate::app::failure::Failure;
use crate::domain::path::RepoPath;

/// Show for each line of a file who wrote it: agent, session, plan, entry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs blame src/auth.rs\n  govfs blame src/auth.rs --json")]
pub(super) struct Args {
    /// The file, from the repository's root
    path: OsString,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let path = RepoPath::parse(&args.path.into_vec()).map_err(Failure::usage)?;
    let found = blame::blame(&mut context.site()?, &path)?;
    let out = &mut context.out;
    if out.json {
        let lines: Vec<Value> = (1..).zip(&found.lines).map(fields).collect();
        let fields = json!({ "path": path, "commit": found.commit, "lines": lines });
        out.document("blame", fields);
        return Ok(());
    }
    let rows: Vec<[String; 3]> = found.lines.iter().map(columns).collect();
    let wide = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let wide = [wide(0), wide(1), wide(2)].map(|width| width.unwrap_or(0));
    let digits = found.lines.len().to_string().len();
    for (at, (line, [entry, who, what])) in found.lines.iter().zip(&rows).enumerate() {
        let head = format!(
            "{entry:>a$} {who:<b$} {what:<c$} {:>digits$}) ",
            at + 1,
            a = wide[0],
            b = wide[1],
            c = wide[2]
        );
        let text = line.text.strip_suffix(b"\n").unwrap_or(&line.text);
        let head = out.paint(Ink::Dim, head);
        out.content(&head, None, text);
    }
    Ok(())
}

/// Returns the name of the write-log entry that brought a line.
fn write_of(line: &BlamedLine) -> Option<String> {
    let session = line.account.as_ref()?.session.as_ref()?;
    line.write.map(|seq| format!("{session}:{seq}"))
}

/// Entry, who (with the entry of the session's own log), and in which plan or when.
fn columns(line: &BlamedLine) -> [String; 3] {
    let commit = line.commit.to_string();
    match &line.account {
        Some(account) => {
            let who = write_of(line).or_else(|| account.session.as_ref().map(ToString::to_string));
            let plan = account.plan.as_ref().map(ToString::to_string);
            [
                account.entry.to_string(),
                who.unwrap_or_else(|| line.author.clone()),
                plan.unwrap_or_else(|| text::time(line.time)[..10].to_owned()),
            ]
        }
        None => [
            commit[..8].to_owned(),
            line.author.clone(),
            text::time(line.time)[..10].to_owned(),
        ],
    }
}

fn fields((number, line): (usize, &BlamedLine)) -> Value {
    let account = line.account.as_ref();
    json!({
        "line": number,
        "agent": account.and_then(|account| account.agent.as_ref()),
        "session": account.and_then(|account| account.session.as_ref()),
        "plan": account.and_then(|account| account.plan.as_ref()),
        "entry": account.map(|account| account.entry),
        "write": write_of(line),
        "commit": line.commit,
        "author": line.author,
        "time": line.time,
        "path": line.path,
        "number": line.number,
        "text": String::from_utf8_lossy(&line.text),
    })
}
