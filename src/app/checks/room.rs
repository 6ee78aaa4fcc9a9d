//! The room that a check runs in: the candidate's tree, mounted read-only and sealed.
//!
//! Owns: raising the mount at the repository's own path, serving a tree that is no
//! branch's yet through the overlay with a gate that refuses every governed write,
//! scratch that nobody else sees, and the launch under the seal. What ignore rules
//! name may be written and is gone with the room. Nothing of it is logged.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::mount;
use crate::app::run::seal;
use crate::app::run::{self, Job};
use crate::app::serve::ground::{self, base_options, eol, pinned_charter, state_for};
use crate::app::session::{self, Session, Wish};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::charter::Charter;
use crate::domain::digest::Digest;
use crate::domain::event::Tier;
use crate::domain::gate::{Denial, Gate, Permit, Recorded, Refusal, Tried};
use crate::domain::logop::{Actor, LogOp};
use crate::domain::names::SessionId;
use crate::domain::path::RepoPath;
use crate::git::base::GitBase;
use crate::sandbox::{self, MountSource};
use crate::vfs::overlay::{Overlay, Parts};
use crate::vfs::server::{Mounting, ServeOptions, serve};

/// The kernel asks for at most this much at a time.
const OPTIONS: &str = "max_read=1048576";
const LOOK: Duration = Duration::from_millis(50);

/// Runs `argv` over `tree` and returns its exit status. In a process of one thread, because it forks.
pub fn run(
    site: &mut Site,
    id: &SessionId,
    tree: Oid,
    argv: Vec<OsString>,
) -> Result<i32, Failure> {
    let (session, charter) = open(site, id)?;
    let root = site.repo.root().to_owned();
    let room = tempfile::tempdir().map_err(Failure::failed)?;
    let raised = sandbox::raise(&root, run::identity(), OPTIONS)?;
    let mut server = serving(
        &root,
        id,
        tree,
        room.path(),
        raised.uid,
        raised.gid,
        raised.fuse,
    )?;
    let source = MountSource::Join(&raised.anchor);
    let job = Job {
        wish: Wish {
            agent: session.agent.clone(),
            claims: Vec::new(),
            base: None,
            plan: None,
        },
        cwd: root,
        argv,
        network: None,
        writable: Vec::new(),
        hidden: Vec::new(),
        env: Vec::new(),
        lowest: Tier::A,
    };
    let status = seal::spec(site, &session, &charter, &job, &source, run::identity()).and_then(
        |mut sealed| {
            // Neither what the operator keeps nor what the agent's own runs left behind.
            sealed.spec.writable.clear();
            sealed.spec.copies.clear();
            sandbox::launch(&sealed.spec, &source).map_err(Failure::from)
        },
    );
    drop(raised.anchor); // the mount ends, and its server with it
    let _ = server.wait(); // how it ended says nothing about the check
    status
}

fn open(site: &mut Site, id: &SessionId) -> Result<(Session, Charter), Failure> {
    let row = session::load(site, id)?;
    let session = Session::of(site, id, &row);
    let state = state_for(site, &session)?;
    let charter = pinned_charter(&state, &session)?;
    Ok((session, charter))
}

fn serving(
    root: &Path,
    id: &SessionId,
    tree: Oid,
    room: &Path,
    uid: u32,
    gid: u32,
    fuse: OwnedFd,
) -> Result<Child, Failure> {
    Program::new(mount::own_program()?)
        .arg("-C")
        .arg(root)
        .arg("serve-candidate")
        .arg(id.as_str())
        .arg(tree.to_string())
        .arg(room)
        .args(["--uid", &uid.to_string(), "--gid", &gid.to_string()])
        .stdin(Stdio::from(fuse))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| Failure::failed(format!("cannot serve the candidate: {error}")))
}

/// What a candidate's server is told.
#[derive(Debug)]
pub struct Orders {
    pub session: SessionId,
    pub tree: Oid,
    /// An empty directory for what is written.
    pub room: PathBuf,
    pub uid: u32,
    pub gid: u32,
}

/// Serves a tree on the FUSE device that is the standard input, until its mount is gone.
pub fn serve_tree(site: &mut Site, orders: &Orders) -> Result<(), Failure> {
    let (session, charter) = open(site, &orders.session)?;
    let device = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(Failure::failed)?;
    let common = site.repo.common_dir();
    let now = clock::wall().0 / 1_000_000_000;
    let base = GitBase::open_tree(
        common,
        orders.tree,
        now,
        base_options(common, eol(&session)),
    )
    .map_err(|error| Failure::failed(format!("the candidate cannot be read: {error}")))?;
    let parts = Parts {
        base: Arc::new(base),
        gate: Arc::new(Closed),
        work: place(&orders.room, "work")?,
        scratch: place(&orders.room, "scratch")?,
        shares: Vec::new(),
        gitdir: None,
        control: None,
        objects: Vec::new(),
    };
    let shown = ground::Shown {
        uid: orders.uid,
        gid: orders.gid,
        place: site.repo.root().to_owned(),
        sealed: true,
        allow_other: false,
    };
    let overlay = Overlay::open(parts, ground::options(charter, &shown), &[], true)
        .map_err(|error| Failure::failed(format!("the candidate cannot be shown: {error}")))?;
    let options = ServeOptions {
        allow_other: false,
        xattrs: false,
        now: SystemTime::now,
    };
    let server = serve(Mounting::Fd(device), overlay, options)
        .map_err(|error| Failure::machine(format!("cannot serve: {error}")))?;
    while !server.is_over() {
        std::thread::sleep(LOOK);
    }
    server.leave();
    Ok(())
}

fn place(room: &Path, name: &str) -> Result<OwnedFd, Failure> {
    let dir = room.join(name);
    let failed = |error: io::Error| Failure::failed(format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(&dir).map_err(failed)?;
    File::open(&dir).map(OwnedFd::from).map_err(failed)
}

/// The gate of a candidate: what is to be judged is not changed.
struct Closed;

fn closed() -> Refusal {
    Refusal::by_rule("frozen", "checks write to ignored paths and to /tmp")
}

fn nothing_here() -> io::Error {
    io::Error::from_raw_os_error(libc::EROFS)
}

impl Gate for Closed {
    fn permit(&self, _: Tried, _: &RepoPath, _: &Actor) -> Result<Permit, Refusal> {
        Err(closed())
    }

    fn writable(&self, _: &RepoPath) -> bool {
        false
    }

    fn leads_to_claim(&self, _: &RepoPath) -> bool {
        false
    }

    fn claimed_names(&self, _: &RepoPath) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn record(&self, _: &LogOp) -> io::Result<Recorded> {
        Err(nothing_here())
    }

    /// A check is not an agent: what it tried and was refused is its own affair.
    fn denied(&self, _: &Denial) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn keep(&self, _: &File, _: &str, _: &Digest, _: bool) -> io::Result<bool> {
        Err(nothing_here())
    }

    fn version(&self, _: &Digest) -> io::Result<File> {
        Err(nothing_here())
    }
}
