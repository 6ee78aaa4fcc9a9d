//! Ending a session's mount.
//!
//! Owns: asking the server to end, what is done where it does not answer, and clearing
//! away what a dead one left in the way. A mount in use is refused, unless it is to be
//! detached; then it fails closed. Never ends the session.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::control::{Answer, Ask, Live};
use crate::app::failure::Failure;
use crate::app::live::{abort_connection, seal_dead};
use crate::app::mount;
use crate::app::mounts::{self, Looked};
use crate::app::serve::record;
use crate::app::session::{Lock, Session};
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::event::{Event, Unmounted};
use crate::domain::logop::Bytes;
use crate::domain::names::AgentName;
use crate::domain::path::percent_decode;
use crate::domain::state::{Kind, SessionState};

const QUESTION: Duration = Duration::from_secs(60);
/// How long an orderly end may take before the connection is cut.
const STOP: Duration = Duration::from_secs(120);
/// How long a mount may be busy without a process that is seen to use it.
const BUSY: Duration = Duration::from_secs(2);
/// How long a silent server may take to end once it was told to.
const SILENT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// Ends the agent's mount. The session stays; one that is over lets go of its read-only mount.
pub fn unmount(site: &mut Site, agent: &AgentName, force: bool) -> Result<PathBuf, Failure> {
    let session = match Session::find(site, agent) {
        Ok(session) if session.row.mount.is_some() => session,
        open => match over_but_mounted(site, agent)? {
            Some(session) => session,
            None => open?,
        },
    };
    unmount_session(site, &session, force)
}

/// Returns the agent's newest session that is over and still mounted.
fn over_but_mounted(site: &mut Site, agent: &AgentName) -> Result<Option<Session>, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Session)])?;
    let over = state.sessions.iter().filter(|(_, row)| {
        row.agent == *agent && row.state != SessionState::Open && row.mount.is_some()
    });
    let newest = over.max_by_key(|(_, row)| row.entry);
    Ok(newest.map(|(id, row)| Session::of(site, id, row)))
}

/// Takes down what a session that is over left standing at `dir`, so that the next can stand there.
pub fn clear_over(site: &mut Site, agent: &AgentName, dir: &Path) -> Result<(), Failure> {
    let Some(session) = over_but_mounted(site, agent)? else {
        return Ok(());
    };
    let at = session
        .row
        .mount
        .as_ref()
        .map(|mount| mount.dir.0.as_slice());
    let resolved = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    if at == Some(dir.as_os_str().as_bytes()) || at == Some(resolved.as_os_str().as_bytes()) {
        unmount_session(site, &session, true)?;
    }
    Ok(())
}

fn unmount_session(site: &mut Site, session: &Session, force: bool) -> Result<PathBuf, Failure> {
    let dir = end_mount(site, session, force)?;
    // A place that nobody gave is nobody's to keep; one that is not empty stays.
    if mount::default_place(session).is_ok_and(|place| place == dir) {
        let _ = fs::remove_dir(&dir);
    }
    Ok(dir)
}

fn end_mount(site: &mut Site, session: &Session, force: bool) -> Result<PathBuf, Failure> {
    let agent = &session.agent;
    let mut live = match Live::connect(&session.dir) {
        Ok(Some(live)) => live,
        Ok(None) => return unmount_dead(site, session),
        Err(error) => return unmount_silent(site, session, force, &error),
    };
    let dir =
        percent_decode(&live.hello.at).map(|at| PathBuf::from(std::ffi::OsString::from_vec(at)));
    let dir = dir.unwrap_or_default();
    match ask_to_stop(&mut live, agent, &dir, force) {
        Ok(stopped) => stopped?,
        Err(error) => {
            tracing::warn!(pid = live.hello.pid, "the server does not answer");
            return unmount_silent(site, session, force, &error);
        }
    }
    drop(live);
    wait_for_end(session, STOP)?;
    Ok(dir)
}

/// Asks the server to end its mount. The outer error is a server that does not answer.
///
/// A mount is also busy for an instant while some process that is gone by now ends, or
/// while another one walks or copies the table of mounts: that is waited out.
fn ask_to_stop(
    live: &mut Live,
    agent: &AgentName,
    dir: &Path,
    force: bool,
) -> std::io::Result<Result<(), Failure>> {
    let begin = Instant::now();
    loop {
        let users = if force {
            Vec::new()
        } else if live.hello.sealed {
            vec![live.hello.pid]
        } else {
            crate::app::busy::users(dir, live.hello.pid)
        };
        if !users.is_empty() {
            let pids: Vec<String> = users.iter().map(u32::to_string).collect();
            return Ok(Err(in_use(agent, &format!("by {}", pids.join(" ")))));
        }
        return Ok(match live.ask(&Ask::Stop { detach: force }, QUESTION)? {
            Answer::Failed { why } => Err(Failure::failed(why)),
            Answer::Busy if begin.elapsed() < BUSY => {
                std::thread::sleep(LOOK);
                continue;
            }
            Answer::Busy => Err(in_use(
                agent,
                "by a process that this user may not look at, or by a mount that stands in it",
            )),
            _ => Ok(()),
        });
    }
}

fn in_use(agent: &AgentName, whom: &str) -> Failure {
    Failure::refused(format!("{agent}'s mount is in use {whom}")).hint(format!(
        "end them, or detach the mount: govfs unmount {agent} --force"
    ))
}

/// Waits until the session's server has let go of its lock.
pub fn wait_for_end(session: &Session, limit: Duration) -> Result<(), Failure> {
    let begin = Instant::now();
    while Lock::take(&session.dir).map_err(Failure::failed)?.is_none() {
        if begin.elapsed() > limit {
            return Err(
                Failure::failed(format!("the server of {} does not end", session.id))
                    .hint("its log says why: server.log in the session's directory"),
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Takes down the mount of a server that lives and does not answer, if that is asked for:
/// what it had acknowledged is in the log, and the mount fails closed.
fn unmount_silent(
    site: &mut Site,
    session: &Session,
    force: bool,
    error: &std::io::Error,
) -> Result<PathBuf, Failure> {
    if !force {
        return Err(Failure::failed(format!(
            "the server of {}'s mount does not answer: {error}",
            session.agent
        ))
        .hint(format!("govfs unmount {} --force", session.agent)));
    }
    abort_connection(site, &session.id);
    // One that is only stopped does not notice: its end closes the connection too.
    if let Some(pid) = crate::app::control::server_pid(&session.dir) {
        tracing::warn!(pid, "a silent server is ended");
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
            tracing::warn!(%error, pid, "it cannot be ended");
        }
    }
    wait_for_end(session, SILENT)?;
    unmount_dead(site, session)
}

/// Clears away the mount of a server that died, and seals what it left.
fn unmount_dead(site: &mut Site, session: &Session) -> Result<PathBuf, Failure> {
    let Some(mount) = session.row.mount.clone() else {
        return Err(
            Failure::missing(format!("{} is not mounted", session.agent))
                .hint(format!("govfs mount {}", session.agent)),
        );
    };
    let dir = PathBuf::from(std::ffi::OsString::from_vec(mount.dir.0.clone()));
    clear_stale(session, &dir)?;
    if let Some(lock) = Lock::take(&session.dir).map_err(Failure::failed)? {
        seal_dead(site, &session.id, &lock)?;
    }
    record(
        site,
        session,
        Event::Unmount(Unmounted {
            dir: Bytes(mount.dir.0),
            forced: true,
        }),
    )?;
    Ok(dir)
}

/// Takes away a mount point whose server is dead, so that it is in nobody's way.
pub fn clear_stale(session: &Session, dir: &Path) -> Result<(), Failure> {
    match mounts::look(dir) {
        Looked::Well => return Ok(()),
        Looked::Dead => {}
        // No server of this session answered either, or nobody would look here.
        Looked::Silent => {
            // A server that begins or ends is given its time; only an orphan is cut off.
            let orphan = Lock::take(&session.dir).map_err(Failure::failed)?.is_some();
            let cut = mounts::connection(dir).filter(|_| orphan);
            if !matches!(cut.map(mounts::cut_off), Some(Ok(()))) {
                return Err(
                    Failure::failed(format!("{} does not answer", dir.display()))
                        .hint(format!("umount -l {}", dir.display())),
                );
            }
        }
    }
    tracing::info!(session = %session.id, dir = %dir.display(), "a dead mount is cleared away");
    let gone = if nix::unistd::geteuid().is_root() {
        umount2(dir, MntFlags::MNT_DETACH).is_ok()
    } else {
        let quiet = Program::new("fusermount3")
            .args(["-u", "-z", "-q", "--"])
            .arg(dir)
            .status();
        quiet.is_ok_and(|status| status.success())
    };
    if gone {
        Ok(())
    } else {
        Err(Failure::failed(format!(
            "{} is a dead mount that cannot be cleared away",
            dir.display()
        ))
        .hint(format!("fusermount3 -u -z {}", dir.display())))
    }
}
