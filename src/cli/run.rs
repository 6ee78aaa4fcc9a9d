//! `govfs run`

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Context, UNCOMMITTED};
use crate::app::claim;
use crate::app::failure::{Failure, Kind};
use crate::app::run::report::{self, Refused, Report};
use crate::app::run::{self, Ended, Job, Tell};
use crate::app::session::Wish;
use crate::app::site::Site;
use crate::domain::event::Tier;
use crate::domain::names::{AgentName, PlanId};
use crate::domain::request::Standing;
use crate::domain::state::SessionState;

/// How many paths of a kind the summary shows.
const SHOWN_MAX: usize = 20;
/// How many paths the summary names that cannot be claimed for the agent.
const BARRED_MAX: usize = 5;

/// Run a program as an agent, sealed in its governed mount
///
/// The mount stands at the repository's own path, and the program starts in the directory that you are in. It can
/// write what is claimed, private temporary directories and what the charter or `--rw` names; the rest of the
/// machine is read-only, but for the state directory of a known agent that CMD names, and the repository itself, its
/// ledger, your keys and secrets are absent. Standard streams, the terminal, signals and the exit status are the
/// program's own; at the end govfs says on stderr what was changed and what was refused. The exit
/// status is the program's, 128 + n after signal n; 125 where govfs failed before it started, and 2 to 6 as with every
/// verb where it was not allowed to: 3 refused by a rule, 6 this machine cannot enforce it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs run alice --claim src/auth -- claude\n  govfs run bob --claim 'docs/**' --no-net -- sh -c 'make docs'\n  govfs run alice --rw ~/.cache/sccache --env SCCACHE_DIR -- codex exec --sandbox danger-full-access 'fix it'\n  govfs run ci --report result.json -- ./check.sh"
)]
pub(super) struct Args {
    agent: AgentName,
    /// Claim these first, all or none
    #[arg(long = "claim", value_name = "PATTERN")]
    claims: Vec<OsString>,
    /// The plan that this is for
    #[arg(long, value_name = "ID")]
    plan: Option<PlanId>,
    /// Start a new session from this commit
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Let the program write this directory of the host
    #[arg(long = "rw", value_name = "DIR")]
    writable: Vec<PathBuf>,
    /// Make this path absent
    #[arg(long = "hide", value_name = "PATH")]
    hidden: Vec<PathBuf>,
    /// With the network, whatever the charter says
    #[arg(long, overrides_with = "no_net")]
    net: bool,
    /// Without the network, whatever the charter says
    #[arg(long, overrides_with = "net")]
    no_net: bool,
    /// Pass this variable on, as it is here or with this value
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Write the report as JSON to this file, or to this descriptor
    #[arg(long, value_name = "FILE|FD")]
    report: Option<PathBuf>,
    /// Go on with less than a whole seal where this machine has no more
    #[arg(long, value_name = "B|C", value_parser = tier)]
    allow_tier: Option<Tier>,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "CMD")]
    argv: Vec<OsString>,
}

pub(super) fn tier(text: &str) -> Result<Tier, String> {
    match text {
        "B" | "b" => Ok(Tier::B),
        "C" | "c" => Ok(Tier::C),
        _ => Err("expected B or C".to_owned()),
    }
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    let mut place = args.report.as_deref().map(Place::open).transpose()?;
    let done = ended(args, context);
    let Ok(ended) = done else {
        place.iter_mut().for_each(Place::give_up);
        return done.map(drop);
    };
    context.out.status = u8::try_from(ended.status).unwrap_or(u8::MAX);
    let told = match &ended.report {
        Ok(report) => {
            let written = place.map_or(Ok(()), |place| place.write(ended.status, report));
            show(report, context);
            written
        }
        Err(failure) => {
            place.iter_mut().for_each(Place::give_up);
            Err(failure.clone())
        }
    };
    match told {
        // What the program said comes first: a script that asks for it is not told of another failure.
        Err(failure) if context.out.status != 0 => {
            context.out.fail(&failure);
            Ok(())
        }
        told => told,
    }
}

fn ended(args: Args, context: &mut Context) -> Result<Ended, Failure> {
    let job = job(args, context)?;
    for path in &job.hidden {
        if matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound) {
            let path = path.display();
            context.out.note(format!(
                "note: --hide {path}: nothing is there; hidden should it appear"
            ));
        }
    }
    if let Some(note) = run::own_sandbox(&job.argv) {
        context.out.note(format!("note: {note}"));
    }
    Site::found_around(&context.dir)
        .and_then(|mut site| run::run(&mut site, &job, context))
        .map_err(before_the_start)
}

impl Tell for Context {
    fn begin(&mut self, site: &mut Site) -> Result<(), Failure> {
        Context::begin(self, site)
    }

    fn edited(&mut self) {
        self.out.note(UNCOMMITTED);
    }

    fn note(&mut self, text: String) {
        self.out.note(text);
    }
}

fn job(args: Args, context: &Context) -> Result<Job, Failure> {
    let network = match (args.net, args.no_net) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let cwd = std::fs::canonicalize(&context.dir)
        .map_err(|error| Failure::missing(format!("{}: {error}", context.dir.display())))?;
    let absolute = |path: PathBuf| std::path::absolute(path).map_err(Failure::usage);
    Ok(Job {
        wish: Wish {
            agent: args.agent,
            claims: claim::patterns(&args.claims)?,
            base: args.base,
            plan: args.plan,
        },
        cwd,
        argv: args.argv,
        network,
        writable: args
            .writable
            .into_iter()
            .map(absolute)
            .collect::<Result<_, _>>()?,
        hidden: args
            .hidden
            .into_iter()
            .map(absolute)
            .collect::<Result<_, _>>()?,
        env: args.env.iter().map(variable).collect::<Result<_, _>>()?,
        lowest: args.allow_tier.unwrap_or(Tier::A),
    })
}

fn variable(text: &OsString) -> Result<(OsString, Option<OsString>), Failure> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(Failure::usage("--env '': a variable has a name"));
    }
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(0) => Err(Failure::usage(format!(
            "--env {}: a variable has a name",
            text.display()
        ))),
        Some(at) => Ok((
            OsString::from_vec(bytes[..at].to_vec()),
            Some(OsString::from_vec(bytes[at + 1..].to_vec())),
        )),
        None => Ok((text.clone(), None)),
    }
}

/// An internal failure before the program started has a status of its own.
fn before_the_start(mut failure: Failure) -> Failure {
    if failure.kind == Kind::Failed {
        failure.kind = Kind::Launch;
    }
    failure
}

/// Where the report goes: opened before anything is started, changed only when there is something to write.
struct Place {
    file: File,
    /// It was not there before.
    made: Option<PathBuf>,
    /// An earlier report in it is replaced.
    named: bool,
}

impl Place {
    fn open(place: &Path) -> Result<Self, Failure> {
        let number = place.to_str().and_then(|text| text.parse::<u16>().ok());
        let opened = match number {
            Some(number) => report::to_descriptor(number.into()).map(|file| Self {
                file,
                made: None,
                named: false,
            }),
            None => Self::at(place),
        };
        opened.map_err(|error| Failure::usage(format!("--report {}: {error}", place.display())))
    }

    fn at(place: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true);
        let (file, made) = match options.clone().create_new(true).open(place) {
            Ok(file) => (file, Some(place.to_owned())),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (options.create(true).truncate(false).open(place)?, None)
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            file,
            made,
            named: true,
        })
    }

    /// Nothing was run, so there is nothing to report.
    fn give_up(&mut self) {
        if let Some(made) = self.made.take() {
            let _ = std::fs::remove_file(made); // an empty file says nothing either
        }
    }

    fn write(mut self, status: i32, report: &Report) -> Result<(), Failure> {
        let mut document = Map::new();
        document.insert("schema".to_owned(), Value::from("govfs/run/v1"));
        document.insert("status".to_owned(), Value::from(status));
        let fields = serde_json::to_value(report).map_err(Failure::failed)?;
        if let Value::Object(fields) = fields {
            document.extend(fields);
        }
        let text = format!("{}\n", Value::Object(document));
        self.replace(text.as_bytes()).map_err(|error| {
            Failure::failed(format!("the report cannot be written: {error}"))
                .hint("the summary says the same; govfs log has all of it")
        })
    }

    fn replace(&mut self, text: &[u8]) -> io::Result<()> {
        if self.named && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text)
    }
}

/// Says on stderr what came of it; stdout is the program's.
fn show(report: &Report, context: &Context) {
    let out = &context.out;
    for path in &report.copied {
        out.note(format!(
            "warning: {path} was a copy of this session's: what was written there is not in yours"
        ));
    }
    for one in &report.uncovered {
        let what = if one.hidden {
            "could be read for a moment"
        } else {
            "could be written for a moment: look at it before it is obeyed"
        };
        out.note(format!(
            "warning: {} was replaced while the agent ran, and {what}",
            one.path
        ));
    }
    let nothing = report.changes.is_empty()
        && report.denials.is_empty()
        && report.requests.is_empty()
        && report.leftovers.is_empty();
    if nothing {
        return;
    }
    let over = match report.over {
        Some(SessionState::Merged) => ", merged meanwhile",
        Some(SessionState::Abandoned) => ", abandoned meanwhile",
        Some(SessionState::Open) | None => "",
    };
    out.note(format!(
        "govfs: session {}, {} changed, {} refused{over}",
        report.session,
        report.changes.len(),
        report.denials.iter().map(|one| one.count).sum::<u64>()
    ));
    for change in report.changes.iter().take(SHOWN_MAX) {
        out.note(format!("  {} {}", change.status, change.path));
    }
    more(context, report.changes.len());
    for refused in &report.denials {
        out.note(format!("refused, {}: {}", refused.rule, refused.reason));
        for one in refused.paths.iter().take(SHOWN_MAX) {
            let times = if one.count > 1 {
                format!(" ({} times)", one.count)
            } else {
                String::new()
            };
            out.note(format!("  {} {}{times}", one.tried, one.path));
        }
        more(context, refused.paths.len());
        barred(refused, context);
    }
    for one in report.requests.iter().take(SHOWN_MAX) {
        let state = match one.state {
            state if state == Standing::Waiting.text() => String::new(),
            answered => format!(" ({answered})"),
        };
        let reason = match one.reason.as_str() {
            reason if !reason.is_empty() && one.kind != "merge" => format!(": {reason}"),
            _ => String::new(),
        };
        out.note(format!(
            "asked, request {}{state}: {}{reason}",
            one.number, one.what
        ));
    }
    more(context, report.requests.len());
    for path in &report.leftovers {
        out.note(format!("left over, never merged: {path}"));
    }
    for command in &report.next {
        out.note(format!("next: {command}"));
    }
}

/// Says what no claim of the operator's covers just like that.
fn barred(refused: &Refused, context: &Context) {
    for one in &refused.barred {
        let shown = one.paths.iter().take(BARRED_MAX).map(ToString::to_string);
        let paths = shown.collect::<Vec<_>>().join(" ");
        let more = match one.paths.len().saturating_sub(BARRED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let help = &one.help;
        context
            .out
            .note(format!("  no claim for {paths}{more}: {help}"));
    }
    if refused.unnamed > 0 {
        context.out.note(format!(
            "  the command does not name {} more of them",
            refused.unnamed
        ));
    }
}

fn more(context: &Context, count: usize) {
    if count > SHOWN_MAX {
        context
            .out
            .note(format!("  … and {} more", count - SHOWN_MAX));
    }
}
