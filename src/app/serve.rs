//! The process that serves one session's mount.
//!
//! Owns: its life in order: the session's lock, the overlay, the mount, the
//! `mount` entry, the control socket, the duties (seals, renewals, new rules), and
//! an orderly end (flush, settle, seal, `unmount` entry) however the mount ends:
//! asked for, by `umount(8)`, by a signal, or when the last launcher that held it
//! is gone. Never listens to anything inside the mount but the kernel and the
//! control zone.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use crate::app::control::{self, Listener};
use crate::app::failure::Failure;
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::app::virtuals::Virtuals;
use crate::domain::command::Command;
use crate::domain::event::{Draft, Event, Mounted, Tier, Unmounted};
use crate::domain::logop::Bytes;
use crate::domain::names::SessionId;
use crate::sandbox::{Anchor, pass};
use crate::vfs::server::{Mounting, ServeOptions, serve as serve_mount};

mod answers;
mod duty;
pub mod ground;
mod holders;
mod refs;

use answers::Desk;
use ground::{Doors, Opened, Shown};

/// How often the server looks after seals, leases and the ledger's changes.
const BEAT: Duration = Duration::from_millis(500);

/// How long a sealed mount waits for the launcher that made it.
const UNHELD: Duration = Duration::from_secs(10);

/// What a server is started for.
#[derive(Debug)]
pub struct Orders {
    /// The repository.
    pub dir: PathBuf,
    pub session: SessionId,
    pub shown: Shown,
    /// The anchor of a sealed mount, inherited under these numbers; its FUSE device is
    /// then the standard input.
    pub inherited: Option<Vec<i32>>,
}

/// Takes over what a launcher made: the device from standard input, and the namespaces.
fn inherit(numbers: &[i32]) -> Result<(Mounting, Anchor), Failure> {
    let device = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(Failure::failed)?;
    let open = |number: &i32| pass::inherited(*number).map_err(Failure::failed);
    let namespaces = numbers.iter().map(open).collect::<Result<_, _>>()?;
    let anchor = Anchor::of(namespaces)
        .ok_or_else(|| Failure::usage("a sealed mount has two namespaces at least"))?;
    // What came under numbers is no program's that this one starts.
    pass::keep_descriptors().map_err(Failure::failed)?;
    Ok((Mounting::Fd(device), anchor))
}

/// Why the server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody asked, also while files are open.
    Asked,
    /// Nobody holds the sealed mount any more.
    Left,
    /// The mount is gone already.
    Unmounted,
}

/// Serves until the mount ends. `ready` hears when programs may use it.
pub fn serve(orders: Orders, ready: impl FnOnce(&Path)) -> Result<(), Failure> {
    let (mounting, anchor) = match &orders.inherited {
        Some(numbers) => inherit(numbers).map(|(device, anchor)| (device, Some(anchor)))?,
        None => (Mounting::At(orders.shown.place.clone()), None),
    };
    let _ = nix::unistd::setsid(); // a leader already has a session of its own
    raise_descriptors();
    crate::git::base::remember_no_objects();
    let signals = take_signals()?;
    let mut site = Site::open(&orders.dir)?;
    let row = session::load(&mut site, &orders.session)?;
    let session = Session::of(&site, &orders.session, &row);
    let desk = Arc::new(Desk::new(&site, &session, &orders.shown, anchor)?);
    let doors = Doors {
        control: Box::new({
            let desk = Arc::clone(&desk);
            move |keeper| Arc::new(Virtuals::new(keeper, &desk.session, desk.site())) as _
        }),
        first_write: desk.first_write(&mut site)?,
    };
    let opened = ground::open(&mut site, &session, &orders.shown, doors)?;
    if let Some(loss) = &opened.loss {
        tracing::warn!(
            entry = loss.entry,
            bytes = loss.len,
            "the log's torn end was cut"
        );
    }
    let options = ServeOptions {
        allow_other: orders.shown.allow_other,
        xattrs: true,
        now: SystemTime::now,
    };
    let server =
        serve_mount(mounting, opened.overlay, options).map_err(|error| cannot_mount(&error))?;
    let listener = Listener::bind(&session.dir).map_err(Failure::failed)?;
    control::name(&site.store, &session.agent, &session.dir).map_err(Failure::failed)?;
    let (sender, ends) = mpsc::channel();
    desk.open(server, opened.keeper, sender);
    record(
        &mut site,
        &session,
        mounted(&orders.shown, opened.loss.map(|loss| loss.len)),
    )?;
    desk.reload(&mut site)?;
    listen(listener, &desk)?;
    watch_signals(signals, &desk)?;
    ready(&orders.shown.place);
    let end = wait(&desk, &mut site, &ends);
    let finished = finish(&desk, &mut site, &session, &orders.shown, end);
    desk.last_word();
    finished
}

/// Says what is missing where this machine gives no mount.
fn cannot_mount(error: &std::io::Error) -> Failure {
    if !nix::unistd::geteuid().is_root() && crate::git::base::program("fusermount3").is_none() {
        return Failure::machine("cannot mount: there is no fusermount3, which mounts for users")
            .hint("install fuse3, or use govfs run, which needs none");
    }
    Failure::machine(format!("cannot mount: {error}")).hint("govfs doctor")
}

/// Takes as many descriptors as the machine lets us have: a shell's usual 1024 are few
/// for a server. The overlay makes do with what there is.
fn raise_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "the limit of descriptors stays as it is");
    }
}

/// Blocks the signals that a thread of their own will take; before any thread starts.
fn take_signals() -> Result<SigSet, Failure> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ] {
        signals.add(signal);
    }
    signals.thread_block().map_err(Failure::failed)?;
    Ok(signals)
}

fn watch_signals(signals: SigSet, desk: &Arc<Desk>) -> Result<(), Failure> {
    let desk = Arc::clone(desk);
    let watch = move || {
        while let Ok(signal) = signals.wait() {
            if signal == Signal::SIGUSR1 {
                tracing::info!(stats = desk.stats(), "requests so far");
            } else {
                desk.end(End::Asked);
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map(drop)
        .map_err(Failure::failed)
}

fn listen(listener: Listener, desk: &Arc<Desk>) -> Result<(), Failure> {
    let handler = Arc::clone(desk) as Arc<dyn crate::app::control::Handler>;
    std::thread::Builder::new()
        .name("listener".into())
        .spawn(move || {
            if let Err(error) = listener.serve(&handler) {
                tracing::error!(%error, "the control socket is gone");
            }
        })
        .map(drop)
        .map_err(Failure::failed)
}

/// Does its duties until something ends the mount.
fn wait(desk: &Desk, site: &mut Site, ends: &Receiver<End>) -> End {
    let began = Instant::now();
    loop {
        match ends.recv_timeout(BEAT) {
            Ok(end) => return end,
            Err(mpsc::RecvTimeoutError::Timeout) if desk.is_over() => return End::Unmounted,
            Err(mpsc::RecvTimeoutError::Timeout)
                if (began.elapsed() > UNHELD || is_caller_gone()) && desk.is_abandoned() =>
            {
                return End::Left;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => desk.beat(site),
            Err(mpsc::RecvTimeoutError::Disconnected) => return End::Unmounted,
        }
    }
}

fn finish(
    desk: &Desk,
    site: &mut Site,
    session: &Session,
    shown: &Shown,
    end: End,
) -> Result<(), Failure> {
    let settled = desk.close(end);
    let sealed = desk.seal(site);
    if let Some(Err(error)) = desk.keeper().map(|keeper| keeper.release()) {
        tracing::warn!(%error, "the log keeps room that it will not need");
    }
    let forced = end == End::Asked;
    let unmounted = Unmounted {
        dir: bytes(&shown.place),
        forced,
    };
    record(site, session, Event::Unmount(unmounted))?;
    settled.map_err(|error| Failure::failed(format!("not every file settled: {error}")))?;
    sealed
}

fn mounted(shown: &Shown, lost: Option<u64>) -> Event {
    Event::Mount(Mounted {
        dir: bytes(&shown.place),
        uid: shown.uid,
        pid: std::process::id(),
        lost,
        tier: (!shown.sealed).then_some(shown.tier),
    })
}

fn bytes(path: &Path) -> Bytes {
    Bytes(path.as_os_str().as_bytes().to_vec())
}

/// Appends a fact about the session.
pub fn record(site: &mut Site, session: &Session, event: Event) -> Result<(), Failure> {
    let is_over = matches!(event, Event::Seal(_) | Event::Unmount(_));
    let draft = Draft::new(event)
        .by(&session.agent)
        .within(Some(&session.id));
    if is_over {
        return site.bind(draft);
    }
    match site.command(&Command::Fact(Box::new(draft)))?.refusal {
        Some(refusal) => Err(refusal.into()),
        None => Ok(()),
    }
}

/// Opens a session that nothing serves: what is done in it is done by this process.
pub fn without_mount(site: &mut Site, session: &Session) -> Result<Opened, Failure> {
    let (uid, gid) = own_ids();
    let root = site.repo.root().to_owned();
    let shown = Shown {
        uid,
        gid,
        place: root.clone(),
        sealed: false,
        tier: Tier::C,
        allow_other: false,
    };
    let inside = session.clone();
    let doors = Doors {
        control: Box::new(move |keeper| Arc::new(Virtuals::new(keeper, &inside, root)) as _),
        first_write: None,
    };
    ground::open(site, session, &shown, doors)
}

/// Returns the ids of this process.
pub fn own_ids() -> (u32, u32) {
    (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    )
}

/// Says whether the launcher has let go of its end of the pipe, as it does when it ends.
fn is_caller_gone() -> bool {
    let out = std::io::stdout();
    let mut watched = [PollFd::new(out.as_fd(), PollFlags::empty())];
    let found = poll(&mut watched, PollTimeout::ZERO);
    found.is_ok_and(|count| count > 0)
}

/// Says on the caller's pipe that the mount serves.
pub fn announce(place: &Path) {
    let mut out = std::io::stdout();
    let _ = out.write_all(place.as_os_str().as_bytes()); // a caller that is gone needs no answer
    let _ = out.write_all(b"\n");
    let _ = out.flush();
}
