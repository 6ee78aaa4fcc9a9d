//! The way into a session's mount: joined where it is up, raised where it is not.
//!
//! Owns: the hold on the session's one server, and what a launch needs of the
//! mount. Invariants: a session has one server, owned by one uid; a server that
//! nobody holds any more ends. Two runs that start together end up in one mount.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::app::control::{Answer, Ask, Entered, Live};
use crate::app::failure::{Failure, Kind};
use crate::app::mount;
use crate::app::session::{Lock, Session, Wish};
use crate::app::site::Site;
use crate::app::unmount;
use crate::domain::event::{Launched, Tier};
use crate::domain::names::AgentName;
use crate::domain::path::{percent_decode, percent_encode};
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
    /// The server, where this run started it.
    server: Option<Child>,
    /// The mount was made for this run.
    pub(super) is_new: bool,
}

#[derive(Debug)]
enum Place {
    /// In namespaces of its own, at the repository's path.
    Sealed(Anchor),
    /// On the host, of tier B or C; `own` where it was mounted for this run.
    Host { dir: PathBuf, tier: Tier, own: bool },
}

impl Place {
    fn source(&self) -> MountSource<'_> {
        match self {
            Self::Sealed(anchor) => MountSource::Join(anchor),
            Self::Host { dir, .. } => MountSource::Dir(dir.clone()),
        }
    }
}

impl Door {
    /// Joins the mount of the agent's session, where it is sealed and there is nothing else to do for that.
    pub fn joined(
        site: &Site,
        agent: &AgentName,
        meanwhile: impl FnOnce(),
    ) -> Result<Option<(Self, Entered)>, Failure> {
        let entered = Live::enter(&site.store, agent, meanwhile).map_err(Failure::failed)?;
        let Some((live, entered, anchor)) = entered else {
            return Ok(None);
        };
        refuse_other_place(site, &live)?;
        let place = Place::Sealed(anchor_of(anchor)?);
        let door = Self {
            live,
            place,
            server: None,
            is_new: false,
        };
        Ok(Some((door, entered)))
    }

    /// Joins the session's mount, or raises one of the tier.
    pub fn open(site: &mut Site, session: &Session, tier: Tier) -> Result<Self, Failure> {
        let begin = Instant::now();
        loop {
            let met = Live::join(&session.dir).map_err(Failure::failed)?;
            if let Some((live, anchor)) = met {
                if anchor.is_some() {
                    refuse_other_place(site, &live)?;
                }
                if let Some(door) = join(session, live, anchor, tier)? {
                    return Ok(door);
                }
            } else if is_free(session)? {
                let raised = match tier {
                    Tier::A => raise(site, session),
                    Tier::B | Tier::C => mount_on_host(site, session, tier),
                };
                match raised {
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

    /// Returns the tier that this way in can hold.
    pub fn tier(&self) -> Tier {
        match &self.place {
            Place::Sealed(_) => Tier::A,
            Place::Host { tier, .. } => *tier,
        }
    }

    /// Returns where the launch finds the mount.
    pub fn source(&self) -> MountSource<'_> {
        self.place.source()
    }

    /// Returns the uid that the mount's files belong to.
    pub fn uid(&self) -> u32 {
        self.live.hello.uid
    }

    /// Asks the session's server to record a launch; meanwhile the caller prepares it.
    pub fn begin_launch(&mut self, launched: &Launched) -> bool {
        let ask = Ask::Launch {
            launched: Box::new(launched.clone()),
        };
        self.live.begin(&ask, QUESTION).is_ok()
    }

    /// Returns where the launch finds the mount, and what says whether the launch that was begun is in the ledger.
    pub fn launching(&mut self) -> (MountSource<'_>, impl FnOnce() -> bool) {
        let live = &mut self.live;
        let recorded = || matches!(live.answer(), Ok(Answer::Done));
        (self.place.source(), recorded)
    }

    /// Gives up the hold, with everything settled and sealed.
    pub fn leave(mut self, site: &mut Site, session: &Session) -> Result<(), Failure> {
        if let Place::Host { own: true, .. } = self.place {
            drop(self.live);
            // Without a pid namespace something may have stayed behind: it loses the mount.
            return unmount::unmount(site, &session.agent, true).map(drop);
        }
        match self.live.ask(&Ask::Leave, QUESTION) {
            // A server that ends settles and seals before it is gone.
            Ok(Answer::Ending) => {
                self.live.wait_for_end(END).map_err(Failure::failed)?;
                unmount::wait_for_end(session, END)?;
                // Not left to the system's first process, which in a container may reap nobody.
                self.server.map_or(Ok(()), |mut server| {
                    server.wait().map(drop).map_err(Failure::failed)
                })
            }
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Failed { why }) => Err(Failure::failed(why)),
            Ok(other) => Err(Failure::failed(format!("unexpected answer {other:?}"))),
            Err(error) => Err(Failure::failed(format!(
                "the session's server does not answer: {error}"
            ))),
        }
    }
}

/// Holds a live server's mount; `None` where it is ending just now.
fn join(
    session: &Session,
    mut live: Live,
    anchor: Option<Vec<OwnedFd>>,
    tier: Tier,
) -> Result<Option<Door>, Failure> {
    if let Some(anchor) = anchor {
        return Ok(Some(Door {
            live,
            place: Place::Sealed(anchor_of(anchor)?),
            server: None,
            is_new: false,
        }));
    }
    let own = nix::unistd::geteuid().as_raw();
    // A root operator's sealed agent has another uid than the operator's own mount.
    let other = live.hello.uid != own || (own == 0 && tier == Tier::A);
    if other {
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
    if !matches!(live.ask(&Ask::Hold, QUESTION), Ok(Answer::Done)) {
        return Ok(None);
    }
    let place = Place::Host {
        dir: place_of(&live),
        tier,
        own: false,
    };
    Ok(Some(Door {
        live,
        place,
        server: None,
        is_new: false,
    }))
}

fn anchor_of(descriptors: Vec<OwnedFd>) -> Result<Anchor, Failure> {
    Anchor::of(descriptors).ok_or_else(|| Failure::failed("the server did not hand over its mount"))
}

/// A sealed mount stands at one path alone: in another worktree, or after the repository was moved, it does not. And
/// it is for one user: another's agent would have ids there that its namespaces do not know.
fn refuse_other_place(site: &Site, live: &Live) -> Result<(), Failure> {
    let hello = &live.hello;
    let owner = live.owner().map_err(Failure::failed)?;
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(Failure::refused(format!(
            "session {} runs for uid {owner} (server {})",
            hello.session, hello.pid
        ))
        .hint("run it as that user, or here under another agent's name, or end that run first"));
    }
    let here = percent_encode(site.repo.root().as_os_str().as_bytes());
    if hello.root == here {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "session {} runs for {}, and its mount stands only there (server {})",
        hello.session,
        hello.root.trim_end_matches('/'),
        hello.pid
    ))
    .hint("run it there, or here under another agent's name, or end that run first"))
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

/// Mounts on the host, for a run with less than a whole seal.
fn mount_on_host(site: &mut Site, session: &Session, tier: Tier) -> Result<Door, Failure> {
    let wish = Wish {
        agent: session.agent.clone(),
        claims: Vec::new(),
        base: None,
        plan: None,
    };
    let standing = mount::mount_for(site, &wish, None, tier)?;
    let live = hold(session)?;
    let place = Place::Host {
        dir: standing.dir,
        tier,
        own: !standing.already,
    };
    Ok(Door {
        live,
        place,
        server: None,
        is_new: true,
    })
}

/// Raises the mount at the repository's own path, and starts its server.
fn raise(site: &Site, session: &Session) -> Result<Door, Failure> {
    let root = site.repo.root();
    let raised = sandbox::raise(root, Identity::of_caller(), OPTIONS)?;
    // First: preparing the server closes everything to it, then these are opened again.
    let mut server = mount::server(site, session)?;
    server.arg("--at").arg(root).arg("--sealed");
    for descriptor in raised.anchor.descriptors() {
        server.arg(mount::inheritable(descriptor)?.to_string());
    }
    server
        .arg("--uid")
        .arg(raised.uid.to_string())
        .arg("--gid")
        .arg(raised.gid.to_string());
    let server = mount::start(server.stdin(Stdio::from(raised.fuse)), session)?;
    Ok(Door {
        live: hold(session)?,
        server: Some(server),
        place: Place::Sealed(raised.anchor),
        is_new: true,
    })
}

/// Takes hold of a server that was just started.
fn hold(session: &Session) -> Result<Live, Failure> {
    let live = Live::connect(&session.dir).map_err(Failure::failed)?;
    let mut live = live.ok_or_else(|| Failure::failed("the session's server ended at once"))?;
    match live.ask(&Ask::Hold, QUESTION) {
        Ok(Answer::Done) => Ok(live),
        other => Err(Failure::failed(format!(
            "the session's server does not answer: {other:?}"
        ))),
    }
}
