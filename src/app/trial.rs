//! Trials: one program on one tree, sealed, with nothing that it could change.
//!
//! Owns: the view (the tree as a checkout would show it, read-only, with a scratch
//! area that is dropped afterwards), the seal around the program, its time limit
//! and what of its output is kept. Validators, conditions and acceptance checks
//! run so: the command is the charter's or a plan's, but what it starts may be a
//! file that an agent wrote. A trial is two processes of our own, a launcher of
//! one thread and a server; when the launcher dies, everything of it ends. The
//! tree has no `.git`. Never touches a session or the ledger.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::mount::own_program;
use crate::app::run::places;
use crate::app::serve::ground::{
    Shown, asked, base_options, directory, eol_of, objects_seen, options as options_of, shares,
};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::charter::Charter;
use crate::domain::digest::Digest;
use crate::domain::event::Tier;
use crate::domain::gate::{Denial, Gate, Permit, Recorded, Refusal, Rules, Tried};
use crate::domain::logop::{Actor, LogOp};
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::validate::external::{ANSWER_BYTES_MAX, Outcome};
use crate::domain::zone::gitdir_rule;
use crate::git::base::GitBase;
use crate::git::private::{EXCLUDE, PrivateSpec, object_dirs, prepare, prepare_index};
use crate::sandbox::{self, Identity, MountSource, Spec};
use crate::vfs::overlay::{Caller, Control, Gitdir, History, Overlay, Parts, Since};
use crate::vfs::server::{Mounting, ServeOptions, serve as serve_mount};

/// Where trials keep their scratch while they run, inside the store.
const TRIALS: &str = "trials";
/// The most that is kept of what a program says on its standard error.
const COMPLAINT_BYTES_MAX: usize = 1 << 20;
/// How the launcher tells its own failure from the program's.
const MARK: &str = "govfs trial: ";
/// The status of a launcher that could not start the program.
const NOT_STARTED: i32 = 125;
/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(4);
/// How long a mapped server may take to say that it serves.
const READY: &str = "ready\n";
const OPTIONS: &str = "max_read=1048576";
/// In whose name a trial's git would commit.
const AGENT: &str = "trial";

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    pub tree: Oid,
    pub argv: Vec<String>,
    pub stdin: Option<&'a [u8]>,
    pub limit: Duration,
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub outcome: Outcome,
    pub ms: u64,
    /// What it said on standard output and then on standard error.
    pub output: Vec<u8>,
}

/// Runs one trial to its end.
pub fn run(site: &Site, trial: &Trial<'_>) -> Ended {
    let began = Instant::now();
    let ended = attempt(site, trial);
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (outcome, output) = ended.unwrap_or_else(|error| {
        let reason = error.to_string();
        (Outcome::Failed { reason }, Vec::new())
    });
    Ended {
        outcome,
        ms,
        output,
    }
}

fn attempt(site: &Site, trial: &Trial<'_>) -> Result<(Outcome, Vec<u8>), Failure> {
    let room = Room::make(&site.store)?;
    let mut child = launcher(site, trial, &room)?;
    let input = trial.stdin.unwrap_or_default().to_vec();
    let writer = child.stdin.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let _ = pipe.write_all(&input); // a program need not read what it is told
        })
    });
    let out = child.stdout.take().map(|pipe| keep(pipe, ANSWER_BYTES_MAX));
    let err = child
        .stderr
        .take()
        .map(|pipe| keep(pipe, COMPLAINT_BYTES_MAX));
    let status = wait(&mut child, trial.limit)?;
    let stdout = out.map(joined).unwrap_or_default();
    let stderr = err.map(joined).unwrap_or_default();
    if let Some(writer) = writer {
        let _ = writer.join(); // it only writes
    }
    let mut output = stdout.clone();
    output.extend_from_slice(&stderr);
    let outcome = match status {
        None => Outcome::TimedOut {
            after_ms: u64::try_from(trial.limit.as_millis()).unwrap_or(u64::MAX),
        },
        Some(status) => outcome(status, &stdout, &stderr),
    };
    Ok((outcome, output))
}

fn launcher(site: &Site, trial: &Trial<'_>, room: &Room) -> Result<Child, Failure> {
    Program::new(own_program()?)
        .arg("-C")
        .arg(site.repo.root())
        .args(["trial", &trial.tree.to_string(), "--room"])
        .arg(&room.0)
        .arg("--")
        .args(&trial.argv)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::failed)
}

/// Reads a stream to its end, and keeps its beginning.
fn keep(mut pipe: impl Read + Send + 'static, most: usize) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut block = [0; 1 << 14];
        while let Ok(len @ 1..) = pipe.read(&mut block) {
            let room = most.saturating_sub(kept.len());
            kept.extend_from_slice(&block[..len.min(room)]);
        }
        kept
    })
}

fn joined(reader: JoinHandle<Vec<u8>>) -> Vec<u8> {
    reader.join().unwrap_or_default()
}

/// Waits for the launcher; `None` when it had to be killed, its program with it.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, Failure> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(Failure::failed)? {
            return Ok(Some(status));
        }
        if began.elapsed() > limit {
            child
                .kill()
                .and_then(|()| child.wait())
                .map_err(Failure::failed)?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

fn outcome(status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Outcome {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let complaint = text(stderr);
    let own = complaint.lines().find_map(|line| line.strip_prefix(MARK));
    match (status.code(), status.signal()) {
        (Some(NOT_STARTED), _) if own.is_some() => Outcome::Failed {
            reason: own.unwrap_or_default().to_owned(),
        },
        (Some(code), _) if code > 128 => Outcome::Killed { signal: code - 128 },
        (Some(code), _) => Outcome::Exited {
            status: code,
            stdout: text(stdout),
        },
        (None, signal) => Outcome::Killed {
            signal: signal.unwrap_or_default(),
        },
    }
}

/// A trial's place on disk; gone when the trial is over.
#[derive(Debug)]
struct Room(PathBuf);

impl Room {
    fn make(store: &Path) -> Result<Self, Failure> {
        sweep(&store.join(TRIALS));
        let name = format!("{}-{}", std::process::id(), clock::wall().0);
        let dir = store.join(TRIALS).join(name);
        let room = Self(dir);
        for part in ["work", "scratch", "git"] {
            let part = room.0.join(part);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&part)
                .map_err(|error| Failure::failed(format!("{}: {error}", part.display())))?;
        }
        Ok(room)
    }
}

/// Removes the rooms of processes that are not there any more.
fn sweep(trials: &Path) {
    for entry in fs::read_dir(trials).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir_all(entry.path()); // as below
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What cannot be removed now is only in the way of nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The launcher: raises the view, starts its server, runs the program. Returns its status.
pub fn launch(site: &mut Site, tree: Oid, room: &Path, argv: Vec<OsString>) -> i32 {
    match try_launch(site, tree, room, argv) {
        Ok(status) => status,
        Err(failure) => {
            let line = failure.message.replace('\n', "; ");
            let _ = writeln!(io::stderr(), "{MARK}{line}"); // nobody may be there to read it
            NOT_STARTED
        }
    }
}

fn try_launch(
    site: &mut Site,
    tree: Oid,
    room: &Path,
    argv: Vec<OsString>,
) -> Result<i32, Failure> {
    // The process that set the time limit keeps it: when it is gone, nothing goes on.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Failure::failed)?;
    let state = site.ledger.state(&[])?;
    let law = state.law.ok_or_else(crate::app::plan::no_law)?;
    let identity = Identity::of_caller();
    let raised = sandbox::raise(site.repo.root(), identity, OPTIONS)?;
    let mut server = Program::new(own_program()?)
        .arg("-C")
        .arg(site.repo.root())
        .args(["trial-serve", &tree.to_string(), "--room"])
        .arg(room)
        .args(["--uid", &raised.uid.to_string()])
        .args(["--gid", &raised.gid.to_string()])
        .stdin(Stdio::from(raised.fuse))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Failure::failed)?;
    let mut said = [0; READY.len()];
    let ready = server
        .stdout
        .take()
        .map(|mut out| out.read_exact(&mut said));
    if !matches!(ready, Some(Ok(()))) {
        let _ = server.wait();
        return Err(Failure::machine("the view of the tree could not be served"));
    }
    let spec = spec(site, &law, argv)?;
    let status = sandbox::launch(&spec, &MountSource::Join(&raised.anchor));
    drop(raised.anchor); // the mount ends with its last namespace, and its server with the mount
    let _ = server.kill();
    let _ = server.wait();
    Ok(status?)
}

/// The seal: as the charter has it, without anything that is written through, and without keys.
fn spec(site: &Site, law: &Charter, argv: Vec<OsString>) -> Result<Spec, Failure> {
    let home = places::home();
    let mut spec = Spec::new(site.repo.root().to_owned(), own_program()?, argv);
    spec.network = law.sandbox.network;
    spec.env = std::env::vars_os()
        .filter(|(name, _)| {
            name.to_str()
                .is_some_and(|name| law.sandbox.passes(name) && !is_secret(name))
        })
        .collect();
    let listed = law.sandbox.hidden.iter();
    spec.hidden = listed
        .flat_map(|path| places::everywhere(path, home.as_deref()))
        .collect();
    spec.hidden.push(site.repo.common_dir().to_owned());
    spec.hidden.push(site.repo.git_dir().to_owned());
    spec.hidden.push(keys::config_dir()?);
    spec.hidden.push(keys::state_dir()?);
    spec.hidden_mounts = crate::app::mounts::governed();
    let root = site.repo.root();
    spec.hidden.retain(|path| !path.starts_with(root));
    spec.home = home;
    Ok(spec)
}

/// A check needs no key of anybody's.
fn is_secret(name: &str) -> bool {
    ["_KEY", "_TOKEN", "_SECRET", "_PASSWORD"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The server: shows the tree until the mount is gone.
pub fn serve(site: &mut Site, tree: Oid, room: &Path, uid: u32, gid: u32) -> Result<(), Failure> {
    let device = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(Failure::failed)?;
    let overlay = overlay(site, tree, room, uid, gid)?;
    let options = ServeOptions {
        allow_other: false,
        xattrs: false,
        now: SystemTime::now,
    };
    let server = serve_mount(Mounting::Fd(device), overlay, options)
        .map_err(|error| Failure::machine(format!("cannot mount: {error}")).hint("govfs doctor"))?;
    let mut out = io::stdout();
    out.write_all(READY.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::failed)?;
    server.wait().map_err(Failure::failed)
}

fn overlay(
    site: &mut Site,
    tree: Oid,
    room: &Path,
    uid: u32,
    gid: u32,
) -> Result<Arc<Overlay>, Failure> {
    let state = site.ledger.state(&[])?;
    let branch = Site::target(&state)?;
    let law = state.law.ok_or_else(crate::app::plan::no_law)?;
    let shown = Shown {
        uid,
        gid,
        place: site.repo.root().to_owned(),
        sealed: true,
        allow_other: false,
        tier: Tier::A,
    };
    let time = clock::wall().0 / 1_000_000_000;
    let common = site.repo.common_dir();
    let options = base_options(common, eol_of(&site.repo.pinned()));
    let base = GitBase::open_tree(common, tree, time, options)
        .map_err(|error| Failure::failed(format!("the tree {tree} cannot be read: {error}")))?;
    let base = Arc::new(base);
    let objects = object_dirs(common);
    let parts = Parts {
        base: Arc::clone(&base) as _,
        gate: Arc::new(Closed(Rules::new(Vec::new()))),
        work: directory(&room.join("work"))?,
        scratch: directory(&room.join("scratch"))?,
        shares: shares(site, &law),
        gitdir: gitdir(site, &branch, room, &base, objects.len())?,
        objects: objects
            .iter()
            .map(|dir| directory(dir))
            .collect::<Result<_, _>>()?,
        control: Some(Arc::new(Silent)),
    };
    let options = options_of(law.as_ref().clone(), &shown);
    let nothing = History {
        entries: &mut std::iter::empty(),
        voided: &BTreeSet::new(),
    };
    Overlay::open(parts, options, nothing, Since::SameBoot)
        .map_err(|error| Failure::failed(format!("the tree {tree} cannot be shown: {error}")))
}

/// A git directory of the trial's own: its branch at the merge target's tip, the
/// tree in its index, the repository's objects behind it. It goes with the room.
fn gitdir(
    site: &Site,
    branch: &str,
    room: &Path,
    base: &Arc<GitBase>,
    objects: usize,
) -> Result<Option<Gitdir>, Failure> {
    let Some(tip) = site.repo.tip(branch)? else {
        return Ok(None);
    };
    let dir = room.join("git");
    let objects = objects_seen(objects);
    let agent: AgentName = AGENT.parse().map_err(Failure::failed)?;
    let spec = PrivateSpec {
        common_dir: site.repo.common_dir(),
        objects: &objects,
        base: tip,
        branch,
        agent: &agent,
        cat: asked(),
        eol: eol_of(&site.repo.pinned()),
        exclude: EXCLUDE,
        shown: &room.join("refs"),
    };
    prepare(&dir, &spec).map_err(Failure::failed)?;
    let (base, place, inside) = (Arc::clone(base), site.repo.root().to_owned(), dir.clone());
    Ok(Some(Gitdir {
        dir: directory(&dir)?,
        rule: gitdir_rule,
        prepare: Box::new(move || {
            // Where it has no index to begin with, git makes one.
            prepare_index(&inside, &base, &inside, &place, EXCLUDE).map_err(io::Error::other)
        }),
    }))
}

/// A control zone in which nobody can ask for anything; git finds there that nothing changed.
struct Silent;

impl Control for Silent {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn read(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn submit(&self, _: &[u8], _: Caller) -> Vec<u8> {
        b"error: a trial asks for nothing\n".to_vec()
    }
}

/// A gate that nobody passes. What it refuses is no session's, so nothing is recorded.
struct Closed(Rules);

impl Gate for Closed {
    fn permit(&self, tried: Tried, path: &RepoPath, _: &Actor) -> Result<Permit, Refusal> {
        self.0.decide(tried, path, 0)
    }

    fn writable(&self, _: &RepoPath) -> bool {
        false
    }

    fn uniform(&self, _: &RepoPath) -> bool {
        true
    }

    fn leads_to_claim(&self, _: &RepoPath) -> bool {
        false
    }

    fn claimed_names(&self, _: &RepoPath) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn guards(&self, _: &RepoPath) -> bool {
        true
    }

    fn record(&self, _: &LogOp) -> io::Result<Recorded> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn denied(&self, _: &Denial) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn keep(&self, _: &File, _: &str, _: &Digest, _: bool) -> io::Result<bool> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn version(&self, _: &Digest) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }
}
