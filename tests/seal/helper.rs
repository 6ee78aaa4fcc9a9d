//! The helper processes: one that launches, one that serves a small file system in memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use govfs::sandbox;
use govfs::sandbox::Anchor;
use govfs::sandbox::Bind;
use govfs::sandbox::Identity;
use govfs::sandbox::Layer;
use govfs::sandbox::MountSource;
use govfs::sandbox::SealError;
use govfs::sandbox::Spec;
use govfs::sandbox::Tier;
use govfs::sandbox::Writable;
use serde::Deserialize;
use serde::Serialize;

/// One launch as the tests write it down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) repo: PathBuf,
    /// Where the session's mount is made, if not over the repository.
    pub(crate) raised_at: Option<PathBuf>,
    /// A directory to show as the mount; a FUSE mount of two files if there is none.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) network: bool,
    pub(crate) unix_sockets: bool,
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) hidden: Vec<PathBuf>,
    pub(crate) copies: Vec<(PathBuf, PathBuf)>,
    pub(crate) readonly: Vec<(PathBuf, PathBuf)>,
    pub(crate) copy_room: Option<PathBuf>,
    pub(crate) without: Vec<Layer>,
    /// Launch this often over one mount.
    pub(crate) repeat: usize,
    /// Measure each launch, and say the median and the 95th percentile on stderr.
    pub(crate) measure: bool,
    /// Another program to run over the same mount at the same time.
    pub(crate) second: Vec<String>,
    /// `B` or `C` for a lower tier.
    pub(crate) tier: String,
    /// The kernel id of a root operator's agent, if not the usual one.
    pub(crate) outside: Option<u32>,
}

impl Job {
    fn spec(&self) -> Spec {
        let argv = self.argv.iter().map(OsString::from).collect();
        let mut spec = Spec::new(self.repo.clone(), own_path(), argv);
        if let Some(cwd) = &self.cwd {
            spec.cwd.clone_from(cwd);
        }
        spec.home.clone_from(&self.home);
        spec.env = self
            .env
            .iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        if let Some(outside) = self.outside {
            spec.identity = Identity::Mapped {
                inside: 1000,
                outside,
            };
        }
        spec.tier = match self.tier.as_str() {
            "B" => Tier::B,
            "C" => Tier::C,
            _ => Tier::A,
        };
        spec.network = self.network;
        spec.unix_sockets = self.unix_sockets;
        spec.writable = self
            .writable
            .iter()
            .map(|path| Writable {
                path: path.clone(),
                create: false,
            })
            .collect();
        spec.hidden.clone_from(&self.hidden);
        let bind = |(source, place): &(PathBuf, PathBuf)| Bind {
            source: source.clone(),
            place: place.clone(),
        };
        spec.copies = self.copies.iter().map(bind).collect();
        spec.readonly = self.readonly.iter().map(bind).collect();
        spec.copy_room.clone_from(&self.copy_room);
        spec.without.clone_from(&self.without);
        spec
    }
}

pub(crate) fn own_path() -> PathBuf {
    std::env::current_exe().expect("own path")
}

/// `--helper JOB`: launches and passes the status on; 125 and the error's words on stderr when it cannot.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let job: Job = serde_json::from_str(&args[0]).expect("a job");
    match launch(&job) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(error) => {
            report(&error);
            ExitCode::from(125)
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the helper's error is what the tests read"
)]
fn report(error: &SealError) {
    eprintln!("seal error: {error}");
    eprintln!("hint: {}", error.fix.as_deref().unwrap_or("-"));
}

fn launch(job: &Job) -> Result<i32, SealError> {
    let spec = job.spec();
    if let Some(directory) = &job.directory {
        return repeat(job, &spec, &MountSource::Dir(directory.clone()));
    }
    let at = job.raised_at.as_ref().unwrap_or(&job.repo);
    let raised = sandbox::raise(at, spec.identity, "max_read=131072")?;
    let mut server = Command::new(own_path())
        .args(["--serve", &raised.uid.to_string()])
        .stdin(Stdio::from(raised.fuse))
        .spawn()
        .expect("a server");
    let joined = (!job.second.is_empty()).then(|| second(job, &raised.anchor));
    let result = repeat(job, &spec, &MountSource::Join(&raised.anchor));
    if let Some(mut joined) = joined {
        assert!(
            joined.wait().expect("the second run's end").success(),
            "the second run succeeds"
        );
    }
    drop(raised.anchor);
    let in_order = server.wait().expect("the server's end").success();
    assert!(
        in_order || result.is_err(),
        "the server ends in order with its mount"
    );
    result
}

/// Starts a second run of the session, in a process of its own as another `run` would be.
fn second(job: &Job, anchor: &Anchor) -> std::process::Child {
    let job = Job {
        argv: job.second.clone(),
        second: Vec::new(),
        ..job.clone()
    };
    let job = serde_json::to_string(&job).expect("a job");
    let descriptor = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    Command::new(own_path())
        .args([
            "--join",
            &job,
            &descriptor(&anchor.user),
            &descriptor(&anchor.mount),
        ])
        .stdin(Stdio::null())
        .spawn()
        .expect("a second run")
}

/// `--join JOB USER MOUNT`: launches over a mount whose namespaces another process holds.
pub(crate) fn join(args: &[String]) -> ExitCode {
    let job: Job = serde_json::from_str(&args[0]).expect("a job");
    let open = |path: &str| OwnedFd::from(std::fs::File::open(path).expect("a namespace"));
    let anchor = Anchor {
        user: open(&args[1]),
        mount: open(&args[2]),
        owners: None,
    };
    match sandbox::launch(&job.spec(), &MountSource::Join(&anchor)) {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(255)),
        Err(error) => {
            report(&error);
            ExitCode::from(125)
        }
    }
}

fn repeat(job: &Job, spec: &Spec, source: &MountSource<'_>) -> Result<i32, SealError> {
    let mut took = Vec::new();
    for _ in 1..job.repeat {
        let start = Instant::now();
        let status = sandbox::launch(spec, source)?;
        took.push(start.elapsed());
        assert_eq!(status, 0, "every launch but the last is to succeed");
    }
    if job.measure {
        say_times(&mut took);
    }
    sandbox::launch(spec, source)
}

#[expect(clippy::print_stderr, reason = "figures are for people")]
fn say_times(took: &mut [Duration]) {
    took.sort();
    let plain = || Command::new("/bin/true").status().expect("a plain run");
    let mut bare: Vec<Duration> = (0..took.len())
        .map(|_| {
            let start = Instant::now();
            plain();
            start.elapsed()
        })
        .collect();
    bare.sort();
    let (middle, high) = (took.len() / 2, took.len() * 95 / 100);
    eprintln!(
        "sealed p50 {:?} p95 {:?}; plain p50 {:?} p95 {:?}",
        took[middle], took[high], bare[middle], bare[high]
    );
}

/// `--serve UID`: serves a file system in memory on the FUSE device that is stdin.
pub(crate) fn serve() -> ExitCode {
    let uid = std::env::args()
        .nth(2)
        .and_then(|text| text.parse().ok())
        .expect("a uid");
    let device: OwnedFd = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .expect("a device");
    let files = Files {
        uid,
        files: Mutex::new(BTreeMap::from([(
            "claimed.txt".into(),
            b"claimed\n".to_vec(),
        )])),
    };
    let config = fuser::Config::default();
    match fuser::Session::from_fd(files, device, fuser::SessionACL::All, config)
        .map(fuser::Session::spawn)
    {
        Ok(Ok(session)) => match session.join() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        _ => ExitCode::FAILURE,
    }
}

/// A flat directory of files. `claimed.txt` is writable; `other.txt` is there and may not be written.
struct Files {
    uid: u32,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

const OTHER: u64 = 2;
const CLAIMED: u64 = 3;
const TTL: Duration = Duration::from_secs(1);

impl Files {
    fn attr(&self, ino: u64) -> Option<fuser::FileAttr> {
        let (kind, perm, size) = match ino {
            1 => (fuser::FileType::Directory, 0o755, 0),
            OTHER => (fuser::FileType::RegularFile, 0o444, 6),
            CLAIMED => (fuser::FileType::RegularFile, 0o644, self.content(ino).len()),
            _ => return None,
        };
        let time = SystemTime::UNIX_EPOCH;
        Some(fuser::FileAttr {
            ino: fuser::INodeNo(ino),
            size: size as u64,
            blocks: 1,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: self.uid,
            gid: self.uid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn content(&self, ino: u64) -> Vec<u8> {
        let files = self.files.lock().expect("a lock");
        if ino == CLAIMED {
            files["claimed.txt"].clone()
        } else {
            b"other\n".to_vec()
        }
    }

    fn number(name: &OsStr) -> Option<u64> {
        match name.to_str() {
            Some("other.txt") => Some(OTHER),
            Some("claimed.txt") => Some(CLAIMED),
            _ => None,
        }
    }
}

impl fuser::Filesystem for Files {
    fn lookup(
        &self,
        _req: &fuser::Request,
        _parent: fuser::INodeNo,
        name: &OsStr,
        reply: fuser::ReplyEntry,
    ) {
        match Self::number(name).and_then(|number| self.attr(number)) {
            Some(attr) => reply.entry(&TTL, &attr, fuser::Generation(0)),
            None => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _req: &fuser::Request,
        ino: fuser::INodeNo,
        _fh: Option<fuser::FileHandle>,
        reply: fuser::ReplyAttr,
    ) {
        match self.attr(ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _req: &fuser::Request,
        ino: fuser::INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<fuser::FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: fuser::ReplyAttr,
    ) {
        if ino.0 != CLAIMED {
            return reply.error(fuser::Errno::EACCES);
        }
        if let Some(size) = size {
            let mut files = self.files.lock().expect("a lock");
            files
                .entry("claimed.txt".into())
                .or_default()
                .resize(usize::try_from(size).expect("a size"), 0);
        }
        match self.attr(ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _req: &fuser::Request,
        ino: fuser::INodeNo,
        _fh: fuser::FileHandle,
        offset: u64,
        size: u32,
        _flags: fuser::OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        reply: fuser::ReplyData,
    ) {
        let content = self.content(ino.0);
        let start = content
            .len()
            .min(usize::try_from(offset).expect("an offset"));
        let end = content.len().min(start + size as usize);
        reply.data(&content[start..end]);
    }

    fn write(
        &self,
        _req: &fuser::Request,
        ino: fuser::INodeNo,
        _fh: fuser::FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: fuser::WriteFlags,
        _flags: fuser::OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        reply: fuser::ReplyWrite,
    ) {
        if ino.0 != CLAIMED {
            return reply.error(fuser::Errno::EACCES);
        }
        let mut files = self.files.lock().expect("a lock");
        let content = files.entry("claimed.txt".into()).or_default();
        let start = usize::try_from(offset).expect("an offset");
        content.resize(content.len().max(start + data.len()), 0);
        content[start..start + data.len()].copy_from_slice(data);
        reply.written(u32::try_from(data.len()).expect("a length"));
    }

    fn readdir(
        &self,
        _req: &fuser::Request,
        _ino: fuser::INodeNo,
        _fh: fuser::FileHandle,
        offset: u64,
        mut reply: fuser::ReplyDirectory,
    ) {
        let names = [
            (1, ".", true),
            (1, "..", true),
            (OTHER, "other.txt", false),
            (CLAIMED, "claimed.txt", false),
        ];
        for (index, (ino, name, directory)) in names
            .into_iter()
            .enumerate()
            .skip(usize::try_from(offset).expect("an offset"))
        {
            let kind = if directory {
                fuser::FileType::Directory
            } else {
                fuser::FileType::RegularFile
            };
            if reply.add(fuser::INodeNo(ino), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
