//! `govfs log`

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use super::output::{Ink, Output};
use super::{Context, patch, text, told};
use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::log::{self, Filter, Row};
use crate::domain::entry::Line;
use crate::domain::event;
use crate::domain::logop;
use crate::domain::path::RepoPath;
use crate::domain::time::{Timestamp, parse_duration};

/// Show the ledger's entries and the sessions' writes, newest last
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs log -n 20\n  govfs log --agent alice --denied\n  govfs log --path src/auth.rs --since 2h\n  govfs log --op claim --op release --json\n  govfs log --session alice-1 -p\n  govfs log --follow -n 10"
)]
pub(super) struct Args {
    /// Only of this agent
    #[arg(long, value_name = "A")]
    agent: Option<String>,
    /// Only of this session
    #[arg(long, value_name = "S")]
    session: Option<String>,
    /// Only what names this path or something beneath it
    #[arg(long, value_name = "P")]
    path: Option<OsString>,
    /// Only these operations
    #[arg(long, value_name = "OP")]
    op: Vec<String>,
    /// Only refusals
    #[arg(long)]
    denied: bool,
    /// From this time on: RFC 3339, a date, or a duration ago (2h)
    #[arg(long, value_name = "T", value_parser = moment)]
    since: Option<Timestamp>,
    /// Up to this time
    #[arg(long, value_name = "T", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only the newest N
    #[arg(short = 'n', value_name = "N")]
    newest: Option<usize>,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// Go on with what is appended, live sessions included
    #[arg(long, conflicts_with_all = ["reverse", "until"])]
    follow: bool,
    /// With what each entry changed
    #[arg(short = 'p', long)]
    patch: bool,
}

/// What a time without its last parts is completed from.
const FULL: &str = "0000-01-01T00:00:00.000000000Z";

/// Reads a time: what entries carry, a part of it, or a duration back from now.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(ms) = parse_duration(text) {
        let back = i64::try_from(ms)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000);
        return Ok(Timestamp(clock::now().ts.0.saturating_sub(back)));
    }
    let plain = text.trim_end_matches('Z').replace(' ', "T");
    let whole = match plain.len() {
        10 | 13 | 16 | 19..=29 if plain.len() != 20 => format!("{plain}{}", &FULL[plain.len()..]),
        _ => text.to_owned(),
    };
    let whole = if plain.len() == 19 {
        format!("{plain}.000000000Z")
    } else {
        whole
    };
    whole.parse().map_err(|_| {
        "expected a time such as 2026-11-20T06:30:00Z, a date, or a duration such as 2h".to_owned()
    })
}

impl Args {
    fn filter(self) -> Result<Filter, Failure> {
        let path = match self.path {
            Some(path) => {
                let bytes = path.into_vec();
                let trimmed = bytes.strip_suffix(b"/").unwrap_or(&bytes);
                Some(
                    RepoPath::parse(trimmed)
                        .map_err(|error| Failure::usage(format!("--path: {error}")))?,
                )
            }
            None => None,
        };
        let known = |op: &str| event::OPS.contains(&op) || logop::OPS.contains(&op);
        if let Some(op) = self.op.iter().find(|op| !known(op)) {
            let all = [&event::OPS[..], &logop::OPS[..]].concat().join(" ");
            return Err(
                Failure::usage(format!("--op {op}: there is no such operation"))
                    .hint(format!("one of: {all}")),
            );
        }
        Ok(Filter {
            agent: self.agent,
            session: self.session,
            path,
            ops: self.op,
            denied: self.denied,
            since: self.since,
            until: self.until,
            newest: self.newest,
            reverse: self.reverse,
            patch: self.patch,
        })
    }
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let follow = args.follow;
    let filter = args.filter()?;
    let mut site = context.site()?;
    let known = log::ensure_known(&mut site, &filter);
    if follow && let Err(failure) = &known {
        // Whoever follows may be there first.
        context.out.note(format!("note: {failure} yet"));
    }
    let out = &mut context.out;
    let mut any = false;
    let mut each = |row: &Row| {
        any = true;
        print(out, row)?;
        if follow {
            out.flush();
        }
        Ok(!out.is_closed())
    };
    if follow {
        log::follow(&mut site, &filter, std::io::stdout().as_fd(), &mut each)
    } else {
        log::read(&mut site, &filter, &mut each)?;
        // A name may stand in entries though nobody of that name works here.
        if any { Ok(()) } else { known }
    }
}

fn print(out: &mut Output, row: &Row) -> Result<(), Failure> {
    if out.json {
        out.bytes(&row.line);
        out.bytes(b"\n");
        return Ok(());
    }
    let Ok(line) = Line::parse(&row.line) else {
        return Ok(());
    };
    let told = told::entry(&line);
    let refused =
        matches!(line.op, "denied" | "deny") || line.get("decision") == Some(br#""deny""#);
    let told = if refused {
        out.paint(Ink::Red, told)
    } else {
        told
    };
    let when = out.paint(Ink::Dim, text::time(row.ts));
    out.line(format!("{:>6}  {when}  {told}", row.name()));
    patch::print(out, &row.shifts)
}
