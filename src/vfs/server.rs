//! A mount that serves: the threads around the kernel's door.
//!
//! Owns: mounting (or taking a descriptor that somebody else mounted), the request
//! threads, the one thread that sends invalidations, the settler, and the
//! orderly end. Invariants: no request thread ever sends an invalidation
//! (the kernel would wait for itself); when `stop` returns, everything has settled.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{BackgroundSession, Config, INodeNo, MountOption, Notifier, Session, SessionACL};

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::umount2;

use crate::vfs::counters::Counters;
use crate::vfs::fuse::Door;
use crate::vfs::overlay::Notice;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::Settler;

/// More request threads than this cost more in wake-ups than they bring.
const THREADS: usize = 2;
/// How long the kernel may take to write mapped pages back before one goes on without.
const FLUSH: Duration = Duration::from_secs(30);
/// How long a mount that is to end may be busy.
const BUSY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// Where the kernel's end comes from.
#[derive(Debug)]
pub enum Mounting {
    /// Mount at this directory.
    At(PathBuf),
    /// Somebody mounted already and handed the descriptor over.
    Fd(OwnedFd),
}

/// How a mount is to be made.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Let every uid in, not only the server's own.
    pub allow_other: bool,
    /// Serve `user.*` attributes. Without them the kernel saves one request on the
    /// first write after each change of attributes (it asks for `security.capability`).
    pub xattrs: bool,
    pub now: fn() -> SystemTime,
}

/// A mount that is being served.
pub struct Server {
    overlay: Arc<Overlay>,
    counters: Arc<Counters>,
    /// Where it was mounted, if it was mounted here.
    at: Option<PathBuf>,
    session: Option<BackgroundSession>,
    notices: Option<Sender<Notice>>,
    notifier: Option<JoinHandle<()>>,
    settler: Option<Settler>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?})", self.overlay)
    }
}

/// Starts to serve an overlay; returns when the kernel and the threads are ready.
pub fn serve(
    mounting: Mounting,
    overlay: Arc<Overlay>,
    options: ServeOptions,
) -> io::Result<Server> {
    let counters = Arc::new(Counters::default());
    let door = Door::new(Arc::clone(&overlay), Arc::clone(&counters), options);
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config.acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    config.mount_options = vec![
        MountOption::FSName("govfs".into()),
        MountOption::Subtype("govfs".into()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
    ];
    let at = match &mounting {
        Mounting::At(dir) => Some(dir.canonicalize()?),
        Mounting::Fd(_) => None,
    };
    let session = match mounting {
        Mounting::At(dir) => match mount_directly(&dir, options.allow_other)? {
            Some(fd) => Session::from_fd(door, fd, config.acl, config)?,
            // Not ours to mount: the set-uid helper may.
            None => Session::new(door, dir, &config)?,
        },
        Mounting::Fd(fd) => Session::from_fd(door, fd, SessionACL::All, config)?,
    };
    let session = session.spawn()?;
    let (sender, receiver) = mpsc::channel();
    overlay.notify_with(sender.clone());
    let kernel = session.notifier();
    let notifier = std::thread::Builder::new()
        .name("notifier".into())
        .spawn(move || send_notices(&receiver, &kernel))?;
    let settler = Settler::start(&overlay)?;
    Ok(Server {
        overlay,
        counters,
        at,
        session: Some(session),
        notices: Some(sender),
        notifier: Some(notifier),
        settler: Some(settler),
    })
}

fn send_notices(receiver: &Receiver<Notice>, kernel: &Notifier) {
    while let Ok(notice) = receiver.recv() {
        let sent = match &notice {
            Notice::Attributes(ino) => kernel.inval_inode(INodeNo(*ino), -1, 0),
            // A directory's data is the kernel's memory of its listing.
            Notice::Data(ino) | Notice::Listing(ino) => kernel.inval_inode(INodeNo(*ino), 0, 0),
            Notice::Entry { dir, name } => {
                kernel.inval_entry(INodeNo(*dir), OsStr::from_bytes(name))
            }
            Notice::Flushed(done) => {
                let _ = done.send(()); // whoever waited has given up
                Ok(())
            }
            Notice::End => return,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, ?notice, "the kernel did not take a notice");
        }
    }
}

impl Server {
    pub fn overlay(&self) -> &Arc<Overlay> {
        &self.overlay
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns what `status -v` and SIGUSR1 show: a name and a number a line, and for
    /// requests how long they took.
    pub fn stats(&self) -> String {
        let numbers = self.overlay.numbers();
        format!(
            "nodes {}\nunsettled {}\ndescriptors {}\n{}",
            numbers.nodes,
            numbers.unsettled,
            numbers.descriptors,
            self.counters.lines()
        )
    }

    /// Has the kernel write mapped pages back, then settles every file.
    pub fn settle_all(&self) -> crate::vfs::error::Result<usize> {
        self.flush_mappings();
        self.overlay.settle_all()
    }

    /// Settles, and refuses every governed write until thawed.
    pub fn freeze(&self) -> crate::vfs::error::Result<usize> {
        self.flush_mappings();
        self.overlay.freeze();
        self.overlay.settle_all()
    }

    /// Asks the kernel for pages that programs changed through a mapping.
    fn flush_mappings(&self) {
        let Some(notices) = &self.notices else { return };
        for ino in self.overlay.mapped() {
            let _ = notices.send(Notice::Data(ino)); // the thread lives as long as we do
        }
        let (done, wait) = mpsc::channel();
        if notices.send(Notice::Flushed(done)).is_ok() {
            // Gone means there is no kernel to wait for.
            if let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(FLUSH) {
                tracing::warn!("the kernel takes long to write mapped pages back");
            }
        }
    }

    /// Serves until the mount ends, then settles everything.
    pub fn wait(mut self) -> io::Result<()> {
        let ended = self.session.take().map_or(Ok(()), BackgroundSession::join);
        self.finish().and(ended)
    }

    /// Takes the mount away. While files are open that fails with EBUSY and
    /// everything goes on, unless it is to be detached.
    pub fn unmount(&self, detach: bool) -> io::Result<()> {
        let at = self.at.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let flags = if detach {
            MntFlags::MNT_DETACH
        } else {
            MntFlags::empty()
        };
        match umount2(at, flags) {
            Err(nix::errno::Errno::EPERM) => fusermount(at, detach),
            done => Ok(done?),
        }
    }

    /// Unmounts, settles and ends. A mount that is busy for an instant, as while another
    /// process copies the table of mounts, is waited for.
    pub fn stop(self) -> io::Result<()> {
        let begin = Instant::now();
        self.flush_mappings();
        while let Err(error) = self.unmount(false) {
            if error.kind() != io::ErrorKind::ResourceBusy || begin.elapsed() > BUSY {
                return Err(error);
            }
            std::thread::sleep(LOOK);
        }
        self.wait()
    }

    /// Says whether the mount has ended from outside.
    pub fn is_over(&self) -> bool {
        (self.session.as_ref()).is_none_or(|session| session.guard.is_finished())
    }

    /// Lets go of a mount that is still busy: it fails closed when this process ends.
    pub fn leave(mut self) {
        self.settler = None;
        std::mem::forget(self.session.take());
    }

    fn finish(&mut self) -> io::Result<()> {
        self.settler = None;
        if let Some(notices) = self.notices.take() {
            let _ = notices.send(Notice::End);
        }
        if let Some(notifier) = self.notifier.take() {
            let _ = notifier.join(); // it only returns
        }
        self.overlay.settle_all().map_err(io::Error::other)?;
        // The kernel need not say that it forgot what was unlinked while open.
        self.overlay.sweep_work().map_err(io::Error::other)
    }
}

impl Drop for Server {
    /// A server that was neither stopped nor left takes its mount with it.
    fn drop(&mut self) {
        if self.session.is_some()
            && self.at.is_some()
            && let Err(error) = self.unmount(true)
        {
            tracing::warn!(%error, "a mount stays behind");
        }
    }
}

/// Mounts as whoever may: the type in the mount table is then `fuse.govfs`.
/// `None` where this process must not mount by itself.
fn mount_directly(dir: &Path, allow_other: bool) -> io::Result<Option<OwnedFd>> {
    let device = match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(device) => OwnedFd::from(device),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let others = if allow_other { ",allow_other" } else { "" };
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{others}",
        device.as_raw_fd(),
        nix::unistd::geteuid(),
        nix::unistd::getegid(),
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match nix::mount::mount(
        Some("govfs"),
        dir,
        Some("fuse.govfs"),
        flags,
        Some(data.as_str()),
    ) {
        Ok(()) => Ok(Some(device)),
        Err(nix::errno::Errno::EPERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Unmounts as an ordinary user: through the set-uid helper.
fn fusermount(at: &Path, detach: bool) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command
        .arg(if detach { "-uz" } else { "-u" })
        .arg("--")
        .arg(at);
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let kind = if said.contains("busy") {
        io::ErrorKind::ResourceBusy
    } else {
        io::ErrorKind::Other
    };
    Err(io::Error::new(kind, said))
}
