//! Acceptance checks: the charter's programs, run on a candidate before it is merged.
//!
//! Owns: which checks a merge needs, running each in a process of its own under
//! its time limit, and what is kept of it (status, time, its output as a version).
//! The repository's lock is not held. A check that cannot be run has not passed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::failure::Failure;
use crate::app::mount;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::charter::{Charter, CharterCommand, Check as Wanted};
use crate::domain::digest::Digest;
use crate::domain::event::Check;
use crate::domain::merge::MergeRefusal;
use crate::store::versions::Versions;

pub mod room;

/// The status by which the room says that it could not run the program.
pub const NO_ROOM: i32 = 125;
/// How much of a check's output is kept: its end.
const OUTPUT_MAX: u64 = 4 << 20;
const LOOK: Duration = Duration::from_millis(10);
/// How long a check that is told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Returns the checks that a merge under `charter` needs.
pub fn needed(charter: &Charter) -> Vec<&Wanted> {
    let listed = |check: &&Wanted| charter.merge.checks.contains(&check.name);
    charter.checks.iter().filter(listed).collect()
}

/// Runs the checks on `tree`, which is on disk.
pub fn run(
    site: &Site,
    session: &Session,
    tree: Oid,
    wanted: &[&Wanted],
) -> Result<Vec<Check>, Failure> {
    wanted
        .iter()
        .map(|check| one(site, session, tree, check))
        .collect()
}

/// Returns what the checks that did not pass have against the merge.
pub fn findings(checks: &[Check]) -> Vec<MergeRefusal> {
    let failed = checks.iter().filter(|check| !check.passed);
    failed
        .map(|check| {
            let reason = match check.status {
                -1 => format!("check {} took longer than it may", check.name),
                125 => format!("check {} could not be run", check.name),
                status => format!("check {} ended with status {status}", check.name),
            };
            let hint = match check.output {
                Some(sha256) => format!("its output is kept as version {sha256}"),
                None => "it said nothing".to_owned(),
            };
            MergeRefusal::general("check", reason, hint)
        })
        .collect()
}

fn one(site: &Site, session: &Session, tree: Oid, wanted: &Wanted) -> Result<Check, Failure> {
    let mut output = tempfile::tempfile().map_err(Failure::failed)?;
    let begin = Instant::now();
    let child = start(site, session, tree, wanted, &output)?;
    let status = wait(child, Duration::from_millis(wanted.timeout_ms))?;
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Check {
        name: wanted.name.clone(),
        passed: status == Some(0),
        status: status.map_or(-1, i64::from),
        ms,
        output: keep(site, &mut output)?,
    })
}

fn start(
    site: &Site,
    session: &Session,
    tree: Oid,
    wanted: &Wanted,
    output: &File,
) -> Result<Child, Failure> {
    let out = || output.try_clone().map(Stdio::from).map_err(Failure::failed);
    Program::new(mount::own_program()?)
        .arg("-C")
        .arg(site.repo.root())
        .arg("check-candidate")
        .arg(session.id.as_str())
        .arg(tree.to_string())
        .arg("--")
        .args(argv(&wanted.command))
        .stdin(Stdio::null())
        .stdout(out()?)
        .stderr(out()?)
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::failed(format!("check {}: {error}", wanted.name)))
}

fn argv(command: &CharterCommand) -> Vec<String> {
    match command {
        CharterCommand::Shell(line) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
        CharterCommand::Argv(argv) => argv.clone(),
    }
}

/// `None`: it took too long, and is gone with everything it started.
fn wait(mut child: Child, limit: Duration) -> Result<Option<i32>, Failure> {
    let begin = Instant::now();
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().map_err(Failure::failed)? {
            use std::os::unix::process::ExitStatusExt;
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok((!told).then_some(code));
        }
        if begin.elapsed() > limit && !told {
            end(&child, Signal::SIGTERM);
            told = true;
        }
        if told && begin.elapsed() > limit + GRACE {
            // Its namespaces end with it, and whatever runs in them.
            end(&child, Signal::SIGKILL);
        }
        std::thread::sleep(LOOK);
    }
}

fn end(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(-pid), signal); // it may have ended just now
    }
}

fn keep(site: &Site, output: &mut File) -> Result<Option<Digest>, Failure> {
    let len = output.seek(SeekFrom::End(0)).map_err(Failure::failed)?;
    if len == 0 {
        return Ok(None);
    }
    let from = len.saturating_sub(OUTPUT_MAX);
    output
        .seek(SeekFrom::Start(from))
        .map_err(Failure::failed)?;
    let mut bytes = Vec::new();
    output
        .take(OUTPUT_MAX)
        .read_to_end(&mut bytes)
        .map_err(Failure::failed)?;
    let versions = Versions::of(&site.store);
    let sha256 = versions.put(&bytes).map_err(Failure::failed)?;
    versions.make_durable(&[sha256]).map_err(Failure::failed)?;
    Ok(Some(sha256))
}
