//! The desk: what a server answers to the commands that talk to it.
//!
//! Owns: the parts of the running server behind one door, the answer to each
//! question, and who holds the mount open. Every answer that changes something is
//! made of the same few steps: rules first, then what was past them drains.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::ground::{Shown, pinned_charter, state_for};
use super::holders::Holders;
use super::{End, refs};
use crate::app::claim::{self, Answer as ClaimAnswer, Patience};
use crate::app::control::{Answer, Ask, FORMAT, Handler, Hello, Sealing};
use crate::app::failure::Failure;
use crate::app::keeper::{FirstWrite, Keeper, rules_of};
use crate::app::seen;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::charter::ClaimMode;
use crate::domain::claim::Ask as ClaimAsk;
use crate::domain::event::{Mode, Scratch};
use crate::domain::gate::Halt;
use crate::domain::path::{RepoPath, percent_encode};
use crate::domain::pattern::Pattern;
use crate::sandbox::Anchor;
use crate::vfs::server::Server;

mod launches;

/// How long the end of a server waits for an answer that is on its way.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A running server's parts.
pub(super) struct Desk {
    pub session: Session,
    dir: PathBuf,
    shown: Shown,
    anchor: Option<Anchor>,
    keeper: OnceLock<Arc<Keeper>>,
    pub(super) server: RwLock<Option<Server>>,
    ends: Mutex<Option<Sender<End>>>,
    speaking: RwLock<()>,
    holders: Holders,
    /// The way to the ledger by which launches are recorded.
    launches: Mutex<Option<Site>>,
    pub(super) seal_entries: u64,
    pub(super) seal_interval_ms: u64,
    pub(super) sealed: AtomicU64,
    pub(super) sealed_ms: AtomicU64,
    /// One seal at a time, so that they are recorded in order.
    pub(super) sealing: Mutex<()>,
    pub(super) pulse: Mutex<i64>,
    /// Held while rules are put in force, so that a freeze and a reload never cross.
    frozen: Mutex<bool>,
    /// When the first of the session's leases ends, on the boot clock.
    pub(super) traces: Mutex<refs::Traces>,
    pub(super) lease_end_ms: AtomicU64,
    pub(super) renewed_ms: AtomicU64,
    /// When its leases should be renewed if it is active.
    pub(super) renew_ms: AtomicU64,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Desk({})", self.session.id)
    }
}

impl Desk {
    pub(super) fn new(
        site: &Site,
        session: &Session,
        shown: &Shown,
        anchor: Option<Anchor>,
    ) -> Result<Self, Failure> {
        let mut reading = Site::open(site.repo.root())?;
        let state = state_for(&mut reading, session)?;
        let charter = pinned_charter(&state, session)?;
        Ok(Self {
            session: session.clone(),
            dir: site.repo.root().to_owned(),
            shown: shown.clone(),
            anchor,
            keeper: OnceLock::new(),
            server: RwLock::new(None),
            ends: Mutex::new(None),
            speaking: RwLock::new(()),
            holders: Holders::default(),
            launches: Mutex::new(None),
            seal_entries: u64::from(charter.ledger.seal_entries),
            seal_interval_ms: charter.ledger.seal_interval_ms,
            sealed: AtomicU64::new(session.row.sealed.as_ref().map_or(0, |row| row.count)),
            sealed_ms: AtomicU64::new(crate::app::clock::boot_ms()),
            sealing: Mutex::new(()),
            pulse: Mutex::new(0),
            frozen: Mutex::new(false),
            traces: Mutex::new(refs::traces(site.repo.common_dir())),
            lease_end_ms: AtomicU64::new(u64::MAX),
            renewed_ms: AtomicU64::new(0),
            renew_ms: AtomicU64::new(u64::MAX),
        })
    }

    /// The repository's directory, for whoever opens its own way to the ledger.
    pub(super) fn site(&self) -> PathBuf {
        self.dir.clone()
    }

    pub(super) fn open(&self, server: Server, keeper: Arc<Keeper>, ends: Sender<End>) {
        let _ = self.keeper.set(keeper); // only once: a server opens once
        *self.server.write() = Some(server);
        *self.ends.lock() = Some(ends);
    }

    pub(super) fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.keeper.get()
    }

    pub(super) fn end(&self, end: End) {
        if let Some(ends) = self.ends.lock().as_ref() {
            let _ = ends.send(end); // the server is ending already
        }
    }

    /// Waits until every answer that is on its way is sent; nobody is waited for long.
    pub(super) fn last_word(&self) {
        drop(self.speaking.try_write_for(LAST_WORD));
    }

    pub(super) fn is_over(&self) -> bool {
        self.server.read().as_ref().is_none_or(Server::is_over)
    }

    pub(super) fn stats(&self) -> String {
        let server = self.server.read();
        let mut text = server.as_ref().map(Server::stats).unwrap_or_default();
        if let Some(keeper) = self.keeper() {
            let times = keeper
                .latency()
                .map(|latency| format!(" {}", latency.times()));
            text.push_str(&format!(
                "entries {}{}\nrefused {}\n",
                keeper.count(),
                times.unwrap_or_default(),
                keeper.refused()
            ));
        }
        text
    }

    /// Takes the mount down and settles what is left.
    pub(super) fn close(&self, end: End) -> std::io::Result<()> {
        let Some(server) = self.server.write().take() else {
            return Ok(());
        };
        self.note_seen(server.overlay());
        if end == End::Unmounted {
            return server.wait();
        }
        let settled = server.settle_all().map(drop).map_err(std::io::Error::other);
        // A sealed mount goes with its namespaces.
        if !self.shown.sealed
            && let Err(error) = server.unmount(true)
        {
            tracing::warn!(%error, "the mount could not be detached; it ends with this process");
        }
        server.leave();
        settled
    }

    /// Takes the mount away, unless files are open there.
    fn stop(&self) -> Answer {
        let server = self.server.read();
        let Some(server) = server.as_ref().filter(|_| !self.shown.sealed) else {
            return Answer::Failed {
                why: "the mount is held by a run".into(),
            };
        };
        if let Err(error) = server.settle_all() {
            return Answer::Failed {
                why: format!("not every file settled: {error}"),
            };
        }
        match server.unmount(false) {
            Ok(()) => Answer::Done,
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Answer::Busy,
            Err(error) => Answer::Failed {
                why: format!("the mount cannot be taken away: {error}"),
            },
        }
    }

    /// Reads the session's rules from the ledger and puts them in force.
    pub(super) fn reload(&self, site: &mut Site) -> Result<(), Failure> {
        let frozen = self.frozen.lock();
        *self.pulse.lock() = site.ledger.pulse()?;
        let state = state_for(site, &self.session)?;
        let mut rules = rules_of(&state, &self.session.agent, &self.session.id);
        self.note_leases(&state, &rules);
        if *frozen && rules.halt.is_none() {
            rules.halt = Some(Halt::Frozen);
        }
        if let Some(keeper) = self.keeper() {
            keeper.set_rules(rules);
        }
        drop(frozen);
        if let Some(server) = self.server.read().as_ref() {
            server.overlay().refresh();
        }
        self.mend_refs(site)
    }

    fn reload_now(&self) -> Answer {
        match Site::open(&self.dir).and_then(|mut site| self.reload(&mut site)) {
            Ok(()) => Answer::Done,
            Err(failure) => Answer::Failed {
                why: failure.message,
            },
        }
    }

    /// Claims the path of a first write, where the charter says so.
    pub(super) fn first_write(
        self: &Arc<Self>,
        site: &mut Site,
    ) -> Result<Option<FirstWrite>, Failure> {
        let state = state_for(site, &self.session)?;
        if pinned_charter(&state, &self.session)?.claims.mode != ClaimMode::FirstWrite {
            return Ok(None);
        }
        let desk = Arc::downgrade(self);
        Ok(Some(Box::new(move |path: &RepoPath| {
            desk.upgrade().is_some_and(|desk| desk.claim_first(path))
        })))
    }

    fn claim_first(&self, path: &RepoPath) -> bool {
        let Ok(pattern) = Pattern::exactly(path) else {
            return false;
        };
        let ask = ClaimAsk::new(self.session.agent.clone(), Mode::Write, vec![pattern]);
        let claimed = Site::open(&self.dir).and_then(|mut site| {
            match claim::claim(&mut site, ask, Patience::None)? {
                ClaimAnswer::Granted(_) => self.reload(&mut site).map(|()| true),
                ClaimAnswer::Refused(_) => Ok(false),
            }
        });
        claimed.unwrap_or_else(|failure| {
            tracing::warn!(%failure, %path, "a first write could not be claimed");
            false
        })
    }

    /// Lets everything that had passed the old rules finish, and returns the log's end then.
    fn drain(&self) -> u64 {
        if let Some(server) = self.server.read().as_ref() {
            server.overlay().drain();
        }
        self.keeper().map_or(0, |keeper| keeper.count())
    }

    fn settle(&self) -> Answer {
        let server = self.server.read();
        let (Some(server), Some(keeper)) = (server.as_ref(), self.keeper()) else {
            return Answer::Failed {
                why: "the mount is ending".into(),
            };
        };
        if let Err(error) = server.settle_all() {
            return Answer::Failed {
                why: format!("not every file settled: {error}"),
            };
        }
        self.note_seen(server.overlay());
        match keeper.seal() {
            Ok(seal) => {
                let scratch = self.scratch();
                Answer::Settled(Sealing {
                    count: seal.count,
                    head: seal.head,
                    root: seal.root,
                    scratch_files: scratch.files,
                    scratch_bytes: scratch.bytes,
                })
            }
            Err(error) => Answer::Failed {
                why: format!("the log is not durable: {error}"),
            },
        }
    }

    /// Writes down what was read, for the merge's advice; without it there is less advice.
    fn note_seen(&self, overlay: &crate::vfs::overlay::Overlay) {
        if let Err(error) = seen::note(&self.session.dir, &overlay.read_paths()) {
            tracing::warn!(%error, "what was read could not be noted");
        }
    }

    fn freeze(&self) -> Answer {
        if let Some(keeper) = self.keeper() {
            if let Some(server) = self.server.read().as_ref()
                && let Err(error) = server.settle_all()
            {
                return Answer::Failed {
                    why: format!("not every file settled: {error}"),
                };
            }
            let mut frozen = self.frozen.lock();
            *frozen = true;
            keeper.halt(Some(Halt::Frozen));
            drop(frozen);
            self.drain();
        }
        let answer = self.settle();
        if matches!(answer, Answer::Failed { .. }) {
            self.thaw();
        }
        answer
    }

    fn thaw(&self) -> Answer {
        *self.frozen.lock() = false;
        self.reload_now()
    }

    /// Counts what lies in scratch; a file that vanishes meanwhile is not counted.
    pub(super) fn scratch(&self) -> Scratch {
        let mut size = Scratch { files: 0, bytes: 0 };
        let mut dirs = vec![self.session.dir.join("scratch")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => dirs.push(entry.path()),
                    Ok(meta) => {
                        size.files += 1;
                        size.bytes += meta.len();
                    }
                    Err(_) => {}
                }
            }
        }
        size
    }

    /// Counts one hold less, and says whether the mount ends with it.
    fn let_go_of(&self) -> bool {
        self.holders
            .leave(self.shown.sealed, || self.end(End::Left))
    }

    fn settle_and_seal(&self) -> Result<(), Failure> {
        if let Some(server) = self.server.read().as_ref() {
            let settled = server.settle_all();
            settled.map_err(|error| Failure::failed(format!("not every file settled: {error}")))?;
        }
        if !self.has_unsealed() {
            return Ok(()); // what the last seal bound was durable before its entry
        }
        self.seal(&mut Site::open(&self.dir)?)
    }

    fn hold(&self) -> Answer {
        if self.holders.join() {
            return Answer::Done;
        }
        Answer::Failed {
            why: "the mount is ending".into(),
        }
    }

    /// Says whether the launcher that made a sealed mount went away before it could hold it.
    pub(super) fn is_abandoned(&self) -> bool {
        self.shown.sealed && self.holders.is_abandoned()
    }

    fn hello(&self) -> Hello {
        use std::os::unix::ffi::OsStrExt;
        let at = if self.shown.sealed {
            &[][..]
        } else {
            self.shown.place.as_os_str().as_bytes()
        };
        Hello {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uid: self.shown.uid,
            session: self.session.id.to_string(),
            at: percent_encode(at),
            root: percent_encode(self.dir.as_os_str().as_bytes()),
            sealed: self.shown.sealed,
        }
    }
}

impl Handler for Desk {
    fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Hello => Answer::Hello(self.hello()),
            Ask::Hold => self.hold(),
            Ask::Join if self.anchor.is_none() => Answer::Hello(self.hello()),
            Ask::Join => match self.hold() {
                Answer::Done => Answer::Joined(self.hello()),
                failed => failed,
            },
            Ask::Enter { agent } => self.enter(&agent).unwrap_or_else(|failure| Answer::Failed {
                why: failure.message,
            }),
            Ask::Leave => Answer::Failed {
                why: "this connection holds nothing".into(),
            },
            Ask::Launch { launched } => self.record_launch(*launched),
            Ask::Refresh => self.reload_now(),
            Ask::Thaw => self.thaw(),
            Ask::Fence { claims } => {
                if let Some(keeper) = self.keeper() {
                    keeper.fence(&claims);
                }
                Answer::Cut {
                    count: self.drain(),
                }
            }
            Ask::Settle => self.settle(),
            Ask::Freeze => self.freeze(),
            Ask::Stats => Answer::Stats { text: self.stats() },
            Ask::Stop { detach: false } => self.stop(),
            Ask::Stop { detach: true } => {
                self.end(End::Asked);
                Answer::Done
            }
        }
    }

    fn leave(&self) -> Answer {
        // The last one to leave ends the mount, which settles and seals by itself.
        let others = self.holders.others();
        if (others || !self.shown.sealed)
            && let Err(failure) = self.settle_and_seal()
        {
            self.let_go_of();
            return Answer::Failed {
                why: failure.message,
            };
        }
        if self.let_go_of() {
            Answer::Ending
        } else {
            Answer::Done
        }
    }

    fn let_go(&self) {
        self.let_go_of();
    }

    fn anchor(&self) -> Vec<BorrowedFd<'_>> {
        self.anchor
            .as_ref()
            .map_or_else(Vec::new, Anchor::descriptors)
    }

    fn speaking(&self) -> &RwLock<()> {
        &self.speaking
    }
}
