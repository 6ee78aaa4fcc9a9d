//! Mounts on the host: starting a session's server, and ending one.
//!
//! Owns: the server's start (detached, with nothing of the caller's but a log and
//! one pipe), waiting until it serves, taking a mount down, and clearing away what
//! a dead server left in the way. Says plainly that processes outside a sandbox
//! can go around such a mount.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app::control::{Answer, Ask, Live};
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::live::{abort_connection, seal_dead};
use crate::app::mounts::{self, Looked};
use crate::app::serve::ground::Shown;
use crate::app::serve::{self, Orders, record};
use crate::app::session::{self, Lock, Session, Wish};
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::event::{Event, Tier, Unmounted};
use crate::domain::logop::Bytes;
use crate::domain::names::AgentName;
use crate::domain::path::percent_decode;
use crate::domain::state::{Kind, SessionState};
use crate::git::base::program;

const QUESTION: Duration = Duration::from_secs(60);
/// How long an orderly end may take before the connection is cut.
const STOP: Duration = Duration::from_secs(120);
/// How long a mount may be busy without a process that is seen to use it.
const BUSY: Duration = Duration::from_secs(2);
/// How long a silent server may take to end once it was told to.
const SILENT: Duration = Duration::from_secs(10);
/// How attributes name Git LFS.
const LFS: &[u8] = b"filter=lfs";
const LOOK: Duration = Duration::from_millis(5);

/// Where a session's mount stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub dir: PathBuf,
    /// It was there before.
    pub already: bool,
}

/// What is to be mounted where, or what stands there already.
enum Ready {
    Standing(Standing),
    Place(Box<Session>, PathBuf),
}

/// Mounts the agent's session at `dir`, or at its default place.
pub fn mount(site: &mut Site, wish: &Wish, dir: Option<&Path>) -> Result<Standing, Failure> {
    mount_for(site, wish, dir, Tier::C)
}

/// Mounts for users around whom `tier` holds.
pub fn mount_for(
    site: &mut Site,
    wish: &Wish,
    dir: Option<&Path>,
    tier: Tier,
) -> Result<Standing, Failure> {
    let (session, dir) = match prepare(site, wish, dir)? {
        Ready::Standing(standing) => return Ok(standing),
        Ready::Place(session, dir) => (session, dir),
    };
    crate::sandbox::pass::keep_descriptors().map_err(Failure::failed)?;
    let mut server = server(site, &session)?;
    server.arg("--at").arg(&dir);
    if tier == Tier::B {
        server.arg("--restricted");
    }
    if nix::unistd::geteuid().is_root() {
        server.arg("--allow-other");
    }
    start(server.stdin(Stdio::null()), &session)?;
    Ok(Standing {
        dir,
        already: false,
    })
}

/// Names a program without which some files are not shown as a checkout would have them.
pub fn missing_programs(site: &Site) -> Option<String> {
    let branch = site.repo.head_branch()?;
    let tip = site.repo.tip(&branch).ok()??;
    let rules = site.repo.file_at(tip, ".gitattributes").ok()??;
    let named = rules.windows(LFS.len()).any(|word| word == LFS);
    let missing = named && program("git-lfs").is_none();
    missing.then(|| "git-lfs is not there: its files are shown as pointers".to_owned())
}

/// Serves in this process until the mount ends; `ready` hears the directory.
pub fn foreground(
    mut site: Site,
    wish: &Wish,
    dir: Option<&Path>,
    ready: impl FnOnce(&Path),
) -> Result<(), Failure> {
    let (session, dir) = match prepare(&mut site, wish, dir)? {
        Ready::Standing(standing) => {
            return Err(
                Failure::refused(format!("{} is mounted already", standing.dir.display()))
                    .hint(format!("govfs unmount {}", wish.agent)),
            );
        }
        Ready::Place(session, dir) => (session, dir),
    };
    let (uid, gid) = serve::own_ids();
    let orders = Orders {
        dir: site.repo.root().to_owned(),
        session: session.id,
        shown: Shown {
            uid,
            gid,
            place: dir,
            sealed: false,
            tier: Tier::C,
            allow_other: uid == 0,
        },
        inherited: None,
    };
    drop(site);
    serve::serve(orders, ready)
}

fn prepare(site: &mut Site, wish: &Wish, dir: Option<&Path>) -> Result<Ready, Failure> {
    let session = session::enter(site, wish)?;
    let dir = match dir {
        Some(dir) => std::path::absolute(dir).map_err(Failure::failed)?,
        None => default_place(&session)?,
    };
    if let Some(live) = Live::connect(&session.dir).map_err(Failure::failed)? {
        return standing_already(&session, &live, &dir).map(Ready::Standing);
    }
    clear_stale(&session, &dir)?;
    clear_over(site, &wish.agent, &dir)?;
    refuse_place(site, &dir)?; // before anything is made there
    fs::create_dir_all(&dir).map_err(|error| fault(&dir, &error))?;
    let dir = fs::canonicalize(&dir).map_err(|error| fault(&dir, &error))?;
    refuse_place(site, &dir)?;
    Ok(Ready::Place(Box::new(session), dir))
}

/// A mount over the repository itself or its store would hide what it is made from.
fn refuse_place(site: &Site, dir: &Path) -> Result<(), Failure> {
    let common = site.repo.common_dir();
    if common.starts_with(dir) || dir.starts_with(common) || dir == site.repo.root() {
        return Err(Failure::refused(format!(
            "{} holds the repository or is part of its git directory",
            dir.display()
        ))
        .hint("name an empty directory elsewhere"));
    }
    // Over another mount, or in one, each would be in the way of the other's end.
    if let Some(other) = mounts::around(dir) {
        return Err(
            Failure::refused(format!("{} is another session's mount", other.display()))
                .hint("name a directory elsewhere, or unmount that one: govfs status"),
        );
    }
    Ok(())
}

fn standing_already(session: &Session, live: &Live, dir: &Path) -> Result<Standing, Failure> {
    let hello = &live.hello;
    let at =
        percent_decode(&hello.at).map(|bytes| PathBuf::from(std::ffi::OsString::from_vec(bytes)));
    match at {
        Some(at)
            if !hello.sealed && (at == dir || fs::canonicalize(dir).is_ok_and(|dir| dir == at)) =>
        {
            Ok(Standing {
                dir: at,
                already: true,
            })
        }
        Some(at) if !hello.sealed => Err(Failure::refused(format!(
            "session {} is mounted at {} already",
            session.id,
            at.display()
        ))
        .hint(format!("govfs unmount {}", session.agent))),
        _ => Err(Failure::refused(format!(
            "session {} is in use by a run (server {}, uid {})",
            session.id, hello.pid, hello.uid
        ))
        .hint("wait until it ends, or join it with another `govfs run`")),
    }
}

/// Returns the place of mounts that nobody gave one: beneath the state directory.
fn default_place(session: &Session) -> Result<PathBuf, Failure> {
    let repo = session
        .dir
        .parent()
        .and_then(Path::parent)
        .unwrap_or(&session.dir);
    let digest = crate::domain::digest::Digest::of(repo.as_os_str().as_bytes()).hex();
    let state = keys::state_dir()?;
    Ok(state
        .join("mounts")
        .join(&digest[..12])
        .join(session.agent.as_str()))
}

/// Prepares a server of the session; how it gets its mount is added by the caller.
pub fn server(site: &Site, session: &Session) -> Result<Program, Failure> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(session.dir.join("server.log"))
        .map_err(|error| fault(&session.dir, &error))?;
    // Whatever the caller left open (a lock, a pipe) would live as long as the server.
    crate::sandbox::pass::keep_descriptors().map_err(Failure::failed)?;
    let mut server = Program::new(own_program()?);
    server
        .arg("-C")
        .arg(site.repo.root())
        .arg("serve")
        .arg(session.id.as_str());
    server.envs(crate::app::serve::HEAP);
    server.stdout(Stdio::piped()).stderr(log);
    Ok(server)
}

/// Returns this program's own path, also after its file was replaced.
pub fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program's own file: {error}")))
}

/// Starts a server and returns when it serves.
pub fn start(server: &mut Program, session: &Session) -> Result<(), Failure> {
    let from = fs::metadata(session.dir.join("server.log")).map_or(0, |meta| meta.len());
    let mut child = server
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot start the server: {error}")))?;
    let mut said = String::new();
    if let Some(out) = child.stdout.take() {
        // The end of the pipe without a line means that the server ended.
        BufReader::new(out)
            .read_line(&mut said)
            .map_err(Failure::failed)?;
    }
    if said.ends_with('\n') {
        Ok(())
    } else {
        Err(why_not(child, session, from))
    }
}

/// Says what a server that did not start had to say.
fn why_not(mut child: Child, session: &Session, from: u64) -> Failure {
    let status = child.wait().ok().and_then(|status| status.code());
    let mut text = String::new();
    if let Ok(mut log) = File::open(session.dir.join("server.log")) {
        let _ = std::io::Seek::seek(&mut log, std::io::SeekFrom::Start(from));
        let _ = log.read_to_string(&mut text); // what can be read is shown
    }
    let find = |mark: &str| {
        text.lines()
            .rev()
            .find_map(|line| line.strip_prefix(mark))
            .map(str::to_owned)
    };
    let message = find("error: ").unwrap_or_else(|| "the server ended before it served".to_owned());
    let kind = crate::app::failure::Kind::of_code(status.unwrap_or(1));
    let failure = Failure::new(kind, message);
    match find("hint: ") {
        Some(hint) => failure.hint(hint),
        None => failure.hint(format!("see {}", session.dir.join("server.log").display())),
    }
}

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
fn clear_over(site: &mut Site, agent: &AgentName, dir: &Path) -> Result<(), Failure> {
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

/// Lets a child inherit a descriptor under its number.
pub fn inheritable(descriptor: BorrowedFd<'_>) -> Result<i32, Failure> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map_err(Failure::failed)?;
    Ok(descriptor.as_raw_fd())
}

fn fault(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
