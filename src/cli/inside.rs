//! The verbs that work inside a mount, where the agent is known: `claim release why status submit`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::{Map, Value, json};

use super::output::{self, Output};
use super::{Common, Context, claim, text, why};
use crate::app::failure::{Failure, Kind};
use crate::app::inside::{Found, Question, Reply, client};
use crate::app::mounts;
use crate::domain::names::AgentName;
use crate::domain::path::{RepoPath, percent_encode};
use crate::domain::state::ClaimRow;

const VERBS: [&str; 5] = ["claim", "release", "why", "status", "submit"];

/// You are inside a governed mount, which knows its agent.
///
/// What the charter lets the agent have it gets at once; the rest is asked of the operator. Exit status: 0 done,
/// 2 usage, 3 refused by a rule, 5 not there.
#[derive(Debug, Parser)]
#[command(name = "govfs", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Claim paths: at once what the charter gives, and the rest is asked of the operator
    #[command(
        after_help = "Examples:\n  govfs claim src/auth\n  govfs claim 'docs/**' -m 'the guide needs it'"
    )]
    Claim {
        /// Paths or globs, relative to the repository's root
        #[arg(required = true, value_name = "PATTERN")]
        patterns: Vec<OsString>,
        /// Only read
        #[arg(long)]
        read: bool,
        /// How long, for example 90s, 2h, 1d; at once no longer than the charter says
        #[arg(long, value_name = "DURATION", value_parser = claim::ttl)]
        ttl: Option<u64>,
        /// Why, for the operator
        #[arg(short, long, default_value = "")]
        message: String,
    },
    /// Give up claims; all where none is named
    #[command(after_help = "Examples:\n  govfs release src/auth")]
    Release {
        #[arg(value_name = "PATTERN")]
        patterns: Vec<OsString>,
    },
    /// Explain who may write a path, by which rule, and how to get it
    #[command(after_help = "Examples:\n  govfs why src/auth.rs")]
    Why {
        /// Relative to the repository's root
        path: OsString,
        #[arg(long, value_name = "A", hide = true)]
        agent: Option<AgentName>,
    },
    /// Show your session: claims, changes, requests
    #[command(after_help = "Examples:\n  govfs status --json")]
    Status,
    /// Say that the work is done and may be merged
    #[command(after_help = "Examples:\n  govfs submit -m 'tests pass'")]
    Submit {
        #[arg(short, long, default_value = "")]
        message: String,
    },
}

/// Runs the verb if it is one of these and the caller stands in a mount.
pub(super) fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let (dir, verb) = scan(arguments)?;
    if !VERBS.iter().any(|known| verb == *known) {
        return None;
    }
    let root = mounts::around(&dir)?;
    let Cli {
        common,
        verb: asked,
    } = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return Some(output::usage(&error, arguments)),
    };
    let out = Output::new(common.json, common.quiet, common.verbose, common.color);
    let mut context = Context {
        out: out.of_verb(&verb.to_string_lossy()),
        dir,
    };
    let done = question(asked, &root)
        .and_then(|question| client::ask(&root, &question))
        .and_then(|reply| show(reply, &mut context));
    Some(context.out.finish(done))
}

/// Finds the directory and the verb without understanding the rest.
pub(super) fn scan(arguments: &[OsString]) -> Option<(PathBuf, &OsStr)> {
    let mut dir = PathBuf::from(".");
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_bytes() {
            b"-C" => dir = PathBuf::from(rest.next()?),
            b"--color" => drop(rest.next()),
            [b'-', b'C', place @ ..] => dir = PathBuf::from(OsStr::from_bytes(place)),
            [b'-', ..] => {}
            _ => return Some((dir, argument)),
        }
    }
    None
}

fn question(verb: Verb, root: &Path) -> Result<Question, Failure> {
    let encoded = |texts: Vec<OsString>| -> Vec<String> {
        let encode = |text: &OsString| percent_encode(text.as_bytes());
        texts.iter().map(encode).collect()
    };
    Ok(match verb {
        Verb::Claim {
            patterns,
            read,
            ttl,
            message,
        } => Question::Claim {
            patterns: encoded(patterns),
            read,
            ttl_ms: ttl,
            reason: message,
        },
        Verb::Release { patterns } => Question::Release {
            patterns: encoded(patterns),
        },
        Verb::Why { path, agent } => Question::Why {
            path: inside(root, Path::new(&path))?,
            agent,
        },
        Verb::Status => Question::Status,
        Verb::Submit { message } => Question::Submit { message },
    })
}

fn inside(root: &Path, path: &Path) -> Result<RepoPath, Failure> {
    let path = path.strip_prefix(root).unwrap_or(path);
    let bytes = path.as_os_str().as_bytes();
    RepoPath::parse(bytes.strip_suffix(b"/").unwrap_or(bytes)).map_err(Failure::usage)
}

/// Shows the claims that were had at once, or gives them for the document, with where the rest went.
fn had_and_asked(
    claims: &[ClaimRow],
    request: Option<u64>,
    context: &mut Context,
) -> Map<String, Value> {
    let mut more = Map::new();
    if let Some(request) = request {
        more.insert("request".to_owned(), request.into());
    }
    if !claims.is_empty() && context.out.json {
        let claims: Vec<Value> = claims.iter().map(claim::fields).collect();
        more.insert("claims".to_owned(), claims.into());
    } else if !claims.is_empty() {
        claim::granted("claim", claims, context);
    }
    more
}

fn show(reply: Reply, context: &mut Context) -> Result<(), Failure> {
    let reason = reply.error.clone().unwrap_or_default();
    match reply.found {
        Found::Nothing => {}
        Found::Claims(rows) => claim::granted("claim", &rows, context),
        Found::Asked {
            claims,
            rule,
            conflicts,
            request,
        } => {
            let more = had_and_asked(&claims, request, context);
            claim::obstacles("claim", &rule, &reason, &conflicts, more, context);
        }
        Found::Released(patterns) if context.out.json => {
            context
                .out
                .document("release", json!({ "released": patterns }));
        }
        Found::Released(patterns) => {
            for pattern in patterns {
                context.out.line(format!("released {pattern}"));
            }
        }
        Found::Why(explained) => why::show(&explained, context),
        Found::Status { document, .. } if context.out.json => {
            context.out.document("status", document);
        }
        Found::Status { lines, .. } => {
            for line in lines {
                context.out.line(line);
            }
        }
        Found::Submitted(number) if context.out.json => {
            context.out.document("submit", json!({ "request": number }));
        }
        Found::Submitted(number) => {
            context.out.line(format!(
                "the operator was asked to merge (request {number})"
            ));
        }
    }
    if let Some(most) = reply.cut_ms {
        let most = text::duration(most);
        let note = format!("granted for {most}: longer is the operator's to give");
        context.out.note(note);
    }
    if reply.code == 0 {
        return Ok(());
    }
    let failure = Failure::new(Kind::of_code(i32::from(reply.code)), reason);
    Err(match reply.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}
