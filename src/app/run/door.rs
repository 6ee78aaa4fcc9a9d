//! The way into a session's mount: joined where it is up, raised where it is not.
//!
//! Owns: the hold on the session's one server, and what a launch needs of the
//! mount. Invariants: a session has one server, owned by one uid; a server that
//! nobody holds any more ends. Two runs that start together end up in one mount.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::app::control::{Answer, Ask, Live};
use crate::app::failure::{Failure, Kind};
use crate::app::live;
use crate::app::mount;
use crate::app::session::{Lock, Session};
use crate::app::site::Site;
use crate::domain::path::percent_decode;
use crate::sandbox::{self, Anchor, Identity, MountSource};

/// How long a server may take to start or to end while another run waits for it.
const TURN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(2);
const QUESTION: Duration = Duration::from_secs(60);
/// How long settling and sealing may take at the end.
const END: Duration = Duration::from_secs(120);
/// The kernel asks for at most this much at a time.
const OPTIONS: &str = "max_read=1048576";

/// A mount that stays up while this is held.
#[derive(Debug)]
pub struct Door {
    live: Live,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In namespaces of its own, at the repository's path.
    Sealed(Anchor),
    /// On the host.
    Host(PathBuf),
}

impl Door {
    /// Joins the session's mount, or raises one.
    pub fn open(site: &Site, session: &Session, identity: Identity) -> Result<Self, Failure> {
        let begin = Instant::now();
        loop {
            if let Some(live) = Live::connect(&session.dir).map_err(Failure::failed)? {
                if let Some(door) = join(session, live)? {
                    return Ok(door);
                }
            } else if is_free(session)? {
                match raise(site, session, identity) {
                    Err(failure) if failure.kind == Kind::Refused => {} // another run was faster
                    raised => return raised,
                }
            }
            if begin.elapsed() > TURN {
                return Err(held(session));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Returns where the launch finds the mount.
    pub fn source(&self) -> MountSource<'_> {
        match &self.place {
            Place::Sealed(anchor) => MountSource::Join(anchor),
            Place::Host(dir) => MountSource::Dir(dir.clone()),
        }
    }

    /// Returns the uid that the mount's files belong to.
    pub fn uid(&self) -> u32 {
        self.live.hello.uid
    }

    /// Gives up the hold, with everything settled and sealed.
    pub fn leave(mut self, site: &mut Site, session: &Session) -> Result<(), Failure> {
        match self.live.ask(&Ask::Leave, QUESTION) {
            // A server that ends settles and seals by itself.
            Ok(Answer::Ending) => {
                self.live.wait_for_end(END).map_err(Failure::failed)?;
                mount::wait_for_end(session, END)
            }
            Ok(Answer::Done) => live::seal(site, &session.id),
            Ok(other) => Err(Failure::failed(format!("unexpected answer {other:?}"))),
            Err(error) => Err(Failure::failed(format!(
                "the session's server does not answer: {error}"
            ))),
        }
    }
}

/// Holds a live server's mount; `None` where it is ending just now.
fn join(session: &Session, mut live: Live) -> Result<Option<Door>, Failure> {
    let own = nix::unistd::geteuid().as_raw();
    if !live.hello.sealed && (own == 0 || live.hello.uid != own) {
        let at = place_of(&live);
        return Err(Failure::refused(format!(
            "session {} is mounted at {} for uid {} (server {})",
            session.id,
            at.display(),
            live.hello.uid,
            live.hello.pid
        ))
        .hint(format!("govfs unmount {}", session.agent)));
    }
    match live.ask(&Ask::Hold, QUESTION) {
        Ok(Answer::Done) => {}
        Ok(_) | Err(_) => return Ok(None),
    }
    if !live.hello.sealed {
        let place = Place::Host(place_of(&live));
        return Ok(Some(Door { live, place }));
    }
    let anchor = live.anchor(QUESTION).map_err(Failure::failed)?;
    let Ok([user, mount]) = <[OwnedFd; 2]>::try_from(anchor) else {
        return Err(Failure::failed("the server did not hand over its mount"));
    };
    let place = Place::Sealed(Anchor { user, mount });
    Ok(Some(Door { live, place }))
}

fn place_of(live: &Live) -> PathBuf {
    let bytes = percent_decode(&live.hello.at).unwrap_or_default();
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Says whether no server has the session: whoever has its lock is starting or ending.
fn is_free(session: &Session) -> Result<bool, Failure> {
    let lock = Lock::take(&session.dir).map_err(Failure::failed)?;
    Ok(lock.is_some())
}

fn held(session: &Session) -> Failure {
    let holder = std::fs::read_to_string(session.dir.join("lock")).unwrap_or_default();
    let pid = holder.split_whitespace().nth(1).unwrap_or("unknown");
    Failure::refused(format!(
        "session {} is being served by process {pid}, which does not answer uid {}",
        session.id,
        nix::unistd::geteuid()
    ))
    .hint(format!(
        "run as the user whose process that is, or end it: govfs unmount {} --force",
        session.agent
    ))
}

/// Raises the mount at the repository's own path, and starts its server.
fn raise(site: &Site, session: &Session, identity: Identity) -> Result<Door, Failure> {
    let root = site.repo.root();
    let raised = sandbox::raise(root, identity, OPTIONS)?;
    let user = mount::inheritable(&raised.anchor.user)?;
    let mounts = mount::inheritable(&raised.anchor.mount)?;
    let mut server = mount::server(site, session)?;
    server
        .arg("--at")
        .arg(root)
        .arg("--sealed")
        .arg(user.to_string())
        .arg(mounts.to_string())
        .arg("--uid")
        .arg(raised.uid.to_string())
        .arg("--gid")
        .arg(raised.gid.to_string());
    mount::start(server.stdin(Stdio::from(raised.fuse)), session)?;
    let live = Live::connect(&session.dir).map_err(Failure::failed)?;
    let mut live = live.ok_or_else(|| Failure::failed("the session's server ended at once"))?;
    match live.ask(&Ask::Hold, QUESTION) {
        Ok(Answer::Done) => Ok(Door {
            live,
            place: Place::Sealed(raised.anchor),
        }),
        other => Err(Failure::failed(format!(
            "the session's server does not answer: {other:?}"
        ))),
    }
}
