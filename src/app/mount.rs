//! Mounts on the host: starting a session's server.
//!
//! Owns: where a mount may stand, the server's start (detached, with nothing of the
//! caller's but a log and one pipe), and waiting until it serves. Says plainly that processes outside a sandbox
//! can go around such a mount.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};

use crate::app::control::Live;
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::mounts;
use crate::app::serve::ground::Shown;
use crate::app::serve::{self, Orders};
use crate::app::session::{self, Session, Wish};
use crate::app::site::Site;
use crate::app::unmount;
use crate::domain::event::Tier;
use crate::domain::path::percent_decode;
use crate::git::base::program;

/// How the C library keeps a server's heap. Left alone it gives each thread one of its
/// own, and keeps large tables' old places for ever once a large buffer was freed.
const HEAP: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", "524288"),
];
/// How attributes name Git LFS.
const LFS: &[u8] = b"filter=lfs";

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
    Place(PathBuf),
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
    let session = session::enter(site, wish)?;
    // Who mounts it at the same time waits here, and finds it mounted.
    let turn = File::open(&session.dir).map_err(|error| fault(&session.dir, &error))?;
    turn.lock().map_err(|error| fault(&session.dir, &error))?;
    mount_session(site, &session, dir, tier)
}

fn mount_session(
    site: &mut Site,
    session: &Session,
    dir: Option<&Path>,
    tier: Tier,
) -> Result<Standing, Failure> {
    let dir = match prepare(site, session, dir)? {
        Ready::Standing(standing) => return Ok(standing),
        Ready::Place(dir) => dir,
    };
    crate::sandbox::pass::keep_descriptors().map_err(Failure::failed)?;
    let mut server = server(site, session)?;
    server.arg("--at").arg(&dir);
    if tier == Tier::B {
        server.arg("--restricted");
    }
    if nix::unistd::geteuid().is_root() {
        server.arg("--allow-other");
    }
    start(server.stdin(Stdio::null()), session)?;
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
    let session = session::enter(&mut site, wish)?;
    let dir = match prepare(&mut site, &session, dir)? {
        Ready::Standing(standing) => {
            return Err(
                Failure::refused(format!("{} is mounted already", standing.dir.display()))
                    .hint(format!("govfs unmount {}", wish.agent)),
            );
        }
        Ready::Place(dir) => dir,
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

fn prepare(site: &mut Site, session: &Session, dir: Option<&Path>) -> Result<Ready, Failure> {
    let dir = match dir {
        Some(dir) => std::path::absolute(dir).map_err(Failure::failed)?,
        None => default_place(session)?,
    };
    if let Some(live) = Live::connect(&session.dir).map_err(Failure::failed)? {
        return standing_already(session, &live, &dir).map(Ready::Standing);
    }
    unmount::clear_stale(session, &dir)?;
    unmount::clear_over(site, &session.agent, &dir)?;
    refuse_place(site, &dir)?; // before anything is made there
    fs::create_dir_all(&dir).map_err(|error| fault(&dir, &error))?;
    let dir = fs::canonicalize(&dir).map_err(|error| fault(&dir, &error))?;
    refuse_place(site, &dir)?;
    Ok(Ready::Place(dir))
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
pub(super) fn default_place(session: &Session) -> Result<PathBuf, Failure> {
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
    server.envs(HEAP);
    server.stdout(Stdio::piped()).stderr(log);
    Ok(server)
}

/// Returns this program's own path, also after its file was replaced.
pub fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program's own file: {error}")))
}

/// Starts a server and returns when it serves. Whoever sees its end reaps it.
pub fn start(server: &mut Program, session: &Session) -> Result<Child, Failure> {
    let from = fs::metadata(session.dir.join("server.log")).map_or(0, |meta| meta.len());
    let mut child = server
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot start the server: {error}")))?;
    let mut said = Vec::new();
    if let Some(out) = child.stdout.take() {
        // The end of the pipe without a line means that the server ended.
        let mut out = BufReader::new(out);
        out.read_until(b'\n', &mut said).map_err(Failure::failed)?;
        // Kept: by its end the server knows that nobody comes any more.
        child.stdout = Some(out.into_inner());
    }
    if said.ends_with(b"\n") {
        Ok(child)
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

/// Lets a child inherit a descriptor under its number.
pub fn inheritable(descriptor: BorrowedFd<'_>) -> Result<i32, Failure> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map_err(Failure::failed)?;
    Ok(descriptor.as_raw_fd())
}

fn fault(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
