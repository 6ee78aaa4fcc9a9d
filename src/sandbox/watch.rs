//! Keeps covered what the view covers, while the program runs.
//!
//! What is attached stands on a name of the host's. Where a program outside puts another file in that place, the
//! kernel takes the mount away or moves it with the old file, and what has the name now is open to the agent. Owns:
//! which names these are, the watch on the directories that lead to them, and covering them again from a child in the
//! session's namespaces. What stood open meanwhile is told to the caller; what cannot be covered ends the session.
//! Never decides what is shown, hidden or writable: that is the plan's.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::poll;
use nix::sched::CloneFlags;
use nix::sched::setns;
use nix::sys::inotify::AddWatchFlags;
use nix::sys::inotify::InitFlags;
use nix::sys::inotify::Inotify;
use nix::sys::inotify::WatchDescriptor;
use nix::sys::wait::waitpid;
use rustix::fs::AtFlags;
use rustix::fs::StatxAttributes;
use rustix::fs::StatxFlags;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::place::make_file;
use crate::sandbox::place::open_place;
use crate::sandbox::plan::Plan;
use crate::sandbox::raise;
use crate::sandbox::spec::Anchor;
use crate::sandbox::spec::Spec;
use crate::sandbox::sys;
use crate::sandbox::view;

/// Nothing is there, or can be made there: with these rights not, and so not by the program.
const CLOSED: [ErrorKind; 4] = [
    ErrorKind::NotFound,
    ErrorKind::NotADirectory,
    ErrorKind::PermissionDenied,
    ErrorKind::ReadOnlyFilesystem,
];
/// How often covering is tried where more changes meanwhile, and how long the next change is waited for.
const TRIES: u32 = 16;
const PAUSE: u8 = 20;
const FAILED: &str = "cannot watch what is covered";

/// What was replaced from outside while the program ran, and stood open to it until it was covered again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uncovered {
    pub path: PathBuf,
    /// It is hidden, and could be read; otherwise it is read-only, and could be written.
    pub hidden: bool,
}

#[derive(Debug)]
enum Kind {
    Hidden,
    /// Beneath a writable directory. Without `own` something else stands there than what the host has.
    Shown {
        writable: bool,
        directory: bool,
        own: bool,
    },
}

/// A name that has to stay covered.
#[derive(Debug)]
struct Cover {
    path: PathBuf,
    kind: Kind,
}

/// Of one launch in tier A.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    anchor: &'a Anchor,
    ids: Option<(u32, u32)>,
    inotify: Inotify,
    directories: HashMap<WatchDescriptor, PathBuf>,
    covers: Vec<Cover>,
    /// The program's mount namespace, once the view in it stands.
    view: Option<OwnedFd>,
    /// Which covers may be gone, by their number.
    due: BTreeSet<usize>,
    uncovered: BTreeSet<Uncovered>,
}

impl<'a> Watch<'a> {
    /// Watches the ways to everything that the plan covers. Called before anything is covered, it misses no change.
    pub(super) fn new(spec: &Spec, plan: &Plan, anchor: &'a Anchor) -> Result<Self, SealError> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify = inotify.map_err(|errno| {
            let error = SealError::errno(Layer::Hidden, FAILED, errno);
            match errno {
                Errno::EMFILE => error.fix("sysctl fs.inotify.max_user_instances=1024"),
                _ => error,
            }
        })?;
        let mut watch = Self {
            anchor,
            ids: plan.ids,
            inotify,
            directories: HashMap::new(),
            covers: covers(spec, plan),
            view: None,
            due: BTreeSet::new(),
            uncovered: BTreeSet::new(),
        };
        watch.watch_ways()?;
        Ok(watch)
    }

    /// The view stands, in this mount namespace: what is uncovered from now on can be covered again.
    pub(super) fn begin(&mut self, view: OwnedFd) {
        self.view = Some(view);
    }

    /// Returns what is readable when something changed.
    pub(super) fn changes(&self) -> Option<BorrowedFd<'_>> {
        self.view.as_ref().map(|_| self.inotify.as_fd())
    }

    pub(super) fn uncovered(self) -> Vec<Uncovered> {
        self.uncovered.into_iter().collect()
    }

    /// Covers again whatever the changes that were noticed have uncovered.
    pub(super) fn cover_again(&mut self) -> Result<(), SealError> {
        self.notice()?;
        // More can change while this is done, and be the reason that it fails.
        let mut tries = 0;
        while let Err(error) = self.cover_due() {
            tries += 1;
            if tries == TRIES {
                return Err(error);
            }
            let _ = poll(
                &mut [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)],
                PAUSE,
            );
            self.notice()?;
        }
        Ok(())
    }

    fn cover_due(&mut self) -> Result<(), SealError> {
        let Some(view) = self.view.as_ref().filter(|_| !self.due.is_empty()) else {
            return Ok(());
        };
        let (anchor, ids) = (self.anchor, self.ids);
        let (covers, due) = (&self.covers, &self.due);
        let mut open = Vec::new();
        let mut done = Err(SealError::new(Layer::Hidden, FAILED));
        let mut work = || {
            done = enter(anchor, view, ids).and_then(|()| {
                for cover in due.iter().filter_map(|&at| covers.get(at)) {
                    if cover.put_back()? {
                        open.extend(cover.told());
                    }
                }
                Ok(())
            });
        };
        raise::single_thread()?;
        let child = sys::fork_sharing(&mut work).context(Layer::Hidden, FAILED)?;
        while waitpid(child, None) == Err(Errno::EINTR) {}
        self.uncovered.extend(open);
        done.map(|()| self.due.clear())
    }

    /// Reads what changed: covers that it can have uncovered are due. A directory on the way to one may be new.
    fn notice(&mut self) -> Result<(), SealError> {
        let mut is_way = false;
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(SealError::errno(Layer::Hidden, FAILED, errno)),
            };
            for event in events {
                let changed = match (self.directories.get(&event.wd), &event.name) {
                    (Some(directory), Some(name)) => directory.join(name),
                    _ if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) => PathBuf::from("/"),
                    _ => continue,
                };
                for (at, cover) in self.covers.iter().enumerate() {
                    if cover.path.starts_with(&changed) {
                        is_way |= cover.path != changed;
                        self.due.insert(at);
                    }
                }
            }
        }
        if is_way { self.watch_ways() } else { Ok(()) }
    }

    /// Watches every directory that leads to a cover, as far as they exist. Whoever may not list a directory cannot
    /// watch it, nor does a program of theirs change it.
    fn watch_ways(&mut self) -> Result<(), SealError> {
        let ways = self
            .covers
            .iter()
            .flat_map(|cover| cover.path.ancestors().skip(1));
        let ways: BTreeSet<&Path> = ways.collect();
        let what = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB // what was closed may be open now
            | AddWatchFlags::IN_ONLYDIR;
        for way in ways {
            match self.inotify.add_watch(way, what) {
                Ok(watched) => {
                    self.directories.insert(watched, way.to_owned());
                }
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                Err(errno) => {
                    let what = format!("cannot watch {}", way.display());
                    let error = SealError::errno(Layer::Hidden, &what, errno);
                    return Err(match errno {
                        Errno::ENOSPC => error.fix("sysctl fs.inotify.max_user_watches=524288"),
                        _ => error,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Lists what a change outside can uncover: what is hidden, there or not, and what stands beneath a writable directory.
fn covers(spec: &Spec, plan: &Plan) -> Vec<Cover> {
    let hidden = plan.hidden.iter().chain(&plan.unseen);
    let hidden = hidden.filter(|path| {
        spec.has(Layer::Hidden)
            && !spec.hidden_mounts.contains(path)
            && (!plan.is_private(path) || plan.is_shown(path))
    });
    let hidden = hidden.map(|path| Cover {
        path: path.clone(),
        kind: Kind::Hidden,
    });
    let is_beneath = |path: &Path| {
        let mut places = plan.places.iter().filter(|place| place.writable);
        places.any(|place| path != place.path && path.starts_with(&place.path))
    };
    let shown = plan.places.iter().filter(|place| is_beneath(&place.path));
    let shown = shown.map(|place| Cover {
        path: place.path.clone(),
        kind: Kind::Shown {
            writable: place.writable,
            directory: place.directory,
            own: place.source == place.path,
        },
    });
    hidden.chain(shown).collect()
}

/// Enters the program's view as the program's user, with the rights that built it.
fn enter(anchor: &Anchor, view: &OwnedFd, ids: Option<(u32, u32)>) -> Result<(), SealError> {
    setns(&anchor.user, CloneFlags::CLONE_NEWUSER)
        .context(Layer::UserNamespace, "cannot join the session's")?;
    setns(view, CloneFlags::CLONE_NEWNS)
        .context(Layer::MountNamespace, "cannot join the program's")?;
    ids.map_or(Ok(()), |(uid, gid)| view::become_agent(uid, gid))
}

impl Cover {
    /// Covers the name where it is open. Returns whether it was.
    fn put_back(&self) -> Result<bool, SealError> {
        let found = match self.kind {
            Kind::Hidden => fs::canonicalize(&self.path),
            Kind::Shown { directory, .. } => self.stand(directory),
        };
        let open = found.and_then(|place| Ok((!is_mount(&place)?).then_some(place)));
        match (open, &self.kind) {
            (Ok(None), _) => Ok(false),
            (Ok(Some(place)), Kind::Hidden) => view::cover(&place).map(|()| true),
            (Ok(Some(_)), Kind::Shown { own: false, .. }) => Err(self.lost("it is not the host's")),
            (Ok(Some(place)), Kind::Shown { writable, .. }) => {
                let clone = if *writable {
                    view::clone(&place)
                } else {
                    view::clone_read_only(&place)
                };
                view::attach_at(&clone?, &place).map(|()| true)
            }
            (Err(error), _) if CLOSED.contains(&error.kind()) => Ok(false),
            (Err(error), _) => Err(self.lost(&error.to_string())),
        }
    }

    /// Returns the name itself, with something there to be covered: nothing could be made there by the program.
    fn stand(&self, directory: bool) -> io::Result<PathBuf> {
        match open_place(&self.path) {
            Err(Errno::ENOENT) if directory => {
                let mut builder = DirBuilder::new();
                builder.recursive(true).mode(0o700).create(&self.path)?;
            }
            Err(Errno::ENOENT) => make_file(&self.path)?,
            found => drop(found?),
        }
        Ok(self.path.clone())
    }

    fn lost(&self, why: &str) -> SealError {
        let path = self.path.display();
        let what = format!("{path} was replaced from outside and cannot be covered again: {why}");
        SealError::new(Layer::Hidden, what).fix("put it back as it was, and run again")
    }

    fn told(&self) -> Option<Uncovered> {
        let hidden = match self.kind {
            Kind::Hidden => true,
            Kind::Shown { writable: true, .. } => return None, // only the way to what is told by itself
            Kind::Shown { .. } => false,
        };
        Some(Uncovered {
            path: self.path.clone(),
            hidden,
        })
    }
}

fn is_mount(path: &Path) -> io::Result<bool> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(rustix::fs::CWD, path, flags, StatxFlags::TYPE)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
