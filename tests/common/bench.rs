//! Stand-ins for what is behind an overlay: a base that is a map, and a gate that
//! keeps its entries in a list and its versions in a directory.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part; a test says what it found by failing"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use govfs::domain::base::{Base, BaseEntry, BaseKind, Oid};
use govfs::domain::digest::Digest;
use govfs::domain::gate::{Denial, Gate, Grant, Kept, Permit, Recorded, Refusal, Rules, Tried};
use govfs::domain::logop::{Actor, LogOp};
use govfs::domain::path::RepoPath;
use govfs::domain::pattern::Pattern;
use govfs::domain::time::Timestamp;
use govfs::domain::zone::gitdir_rule;
use govfs::vfs::overlay::{Gitdir, History, Logged, Options, Overlay, Parts, Share, Since};

pub const BASE_TIME: i64 = 1_700_000_000;

pub fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

pub fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.as_bytes()).unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    File(Vec<u8>, bool),
    Link(Vec<u8>),
}

/// A base whose files are in a map; names in `target`, `node_modules` or ending in `.o` are ignored.
#[derive(Debug, Default)]
pub struct MapBase {
    things: BTreeMap<RepoPath, Thing>,
    dirs: BTreeMap<[u8; 20], Arc<[BaseEntry]>>,
}

fn oid(path: &RepoPath) -> Oid {
    let digest = Digest::of(path.as_bytes());
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&digest.0[..20]);
    Oid(bytes)
}

impl MapBase {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let things = files.iter().map(|(at, text)| {
            let thing = match text.strip_prefix("-> ") {
                Some(target) => Thing::Link(target.into()),
                None => Thing::File(text.as_bytes().to_vec(), text.starts_with("#!")),
            };
            (path(at), thing)
        });
        Self::of(things.collect())
    }

    pub fn of(things: BTreeMap<RepoPath, Thing>) -> Self {
        let mut lists: BTreeMap<RepoPath, BTreeMap<Vec<u8>, BaseEntry>> = BTreeMap::new();
        lists.entry(RepoPath::root()).or_default();
        for (at, thing) in &things {
            let kind = match thing {
                Thing::File(_, exec) => BaseKind::File { exec: *exec },
                Thing::Link(_) => BaseKind::Symlink,
            };
            let mut kind = kind;
            let mut at = at.clone();
            while let Some(dir) = at.parent() {
                let entry = BaseEntry {
                    name: at.name().to_vec(),
                    kind,
                    oid: oid(&at),
                };
                lists
                    .entry(dir.clone())
                    .or_default()
                    .insert(at.name().to_vec(), entry);
                kind = BaseKind::Dir;
                at = dir;
            }
        }
        let dirs = lists.into_iter().map(|(at, list)| {
            let list: Vec<BaseEntry> = list.into_values().collect();
            (oid(&at).0, list.into())
        });
        let dirs = dirs.collect();
        Self { things, dirs }
    }
}

impl Base for MapBase {
    fn root(&self) -> Oid {
        oid(&RepoPath::root())
    }

    fn list(&self, oid: &Oid) -> io::Result<Arc<[BaseEntry]>> {
        self.dirs
            .get(&oid.0)
            .cloned()
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn size(&self, path: &RepoPath, entry: &BaseEntry) -> io::Result<u64> {
        Ok(self.read(path, entry)?.len() as u64)
    }

    fn read(&self, path: &RepoPath, _entry: &BaseEntry) -> io::Result<Vec<u8>> {
        match self.things.get(path) {
            Some(Thing::File(bytes, _) | Thing::Link(bytes)) => Ok(bytes.clone()),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no {path} in the base"),
            )),
        }
    }

    fn ignored(&self, path: &RepoPath, _is_dir: bool) -> io::Result<bool> {
        let inside = path
            .components()
            .any(|name| name == b"target" || name == b"node_modules");
        Ok(inside || path.as_bytes().ends_with(b".o"))
    }

    fn time(&self) -> i64 {
        BASE_TIME
    }
}

/// A gate by [`Rules`], whose log is a list.
#[derive(Debug)]
pub struct ListGate {
    pub rules: Mutex<Rules>,
    pub log: Mutex<Vec<Logged>>,
    pub denials: Mutex<Vec<Denial>>,
    pub dir: PathBuf,
    work: PathBuf,
    /// The first write to a free path claims it.
    pub first_write: AtomicBool,
    pub full: AtomicBool,
    /// By which names the bytes of versions stand in the work directory.
    kept: Mutex<BTreeMap<Digest, Vec<PathBuf>>>,
}

impl ListGate {
    /// A working file goes after its version's entry: were it gone before, a kill
    /// between the two would lose bytes that were acknowledged.
    fn check_order(&self, op: &LogOp) {
        if let LogOp::Version { sha256, .. } | LogOp::Recovered { sha256, .. } = op {
            let kept = self.kept.lock().unwrap();
            let mut names = kept.get(sha256).unwrap().iter();
            assert!(names.any(|name| name.exists()), "{op:?} came too late");
        }
    }

    pub fn claims(&self, claims: &[&str]) {
        *self.rules.lock().unwrap() = rules(claims);
    }

    pub fn ops(&self) -> Vec<LogOp> {
        self.log
            .lock()
            .unwrap()
            .iter()
            .map(|logged| logged.op.clone())
            .collect()
    }

    pub fn version_bytes(&self, sha256: &Digest) -> Vec<u8> {
        std::fs::read(self.dir.join(sha256.hex())).unwrap()
    }

    pub fn denied_rules(&self) -> Vec<(String, Tried, &'static str)> {
        let denials = self.denials.lock().unwrap();
        let all = denials.iter();
        all.map(|denial| (denial.path.encode(), denial.tried, denial.refusal.rule))
            .collect()
    }
}

pub fn rules(claims: &[&str]) -> Rules {
    let grants = claims.iter().zip(1..).map(|(text, id)| Grant {
        id,
        pattern: pattern(text),
        until_boot_ms: None,
        beyond_role: false,
    });
    Rules::new(grants.collect())
}

impl Gate for ListGate {
    fn permit(&self, tried: Tried, path: &RepoPath, _by: &Actor) -> Result<Permit, Refusal> {
        self.rules.lock().unwrap().decide(tried, path, 0)
    }

    fn attempt(&self, path: &RepoPath, _by: &Actor) -> bool {
        if self.first_write.load(Ordering::SeqCst) && !self.writable(path) {
            let mut rules = self.rules.lock().unwrap();
            let mut claims = rules.claims.clone();
            claims.push(Grant {
                id: claims.len() as u64 + 1,
                pattern: Pattern::exactly(path).unwrap(),
                until_boot_ms: None,
                beyond_role: false,
            });
            *rules = Rules::new(claims);
        }
        self.writable(path)
    }

    fn writable(&self, path: &RepoPath) -> bool {
        self.rules
            .lock()
            .unwrap()
            .decide(Tried::Write, path, 0)
            .is_ok()
    }

    fn uniform(&self, dir: &RepoPath) -> bool {
        self.rules.lock().unwrap().uniform(dir)
    }

    fn leads_to_claim(&self, path: &RepoPath) -> bool {
        self.rules.lock().unwrap().leads(path, 0)
    }

    fn claimed_names(&self, dir: &RepoPath) -> Vec<Vec<u8>> {
        self.rules.lock().unwrap().names_in(dir)
    }

    fn guards(&self, path: &RepoPath) -> bool {
        self.rules.lock().unwrap().guards(path)
    }

    fn record(&self, op: &LogOp) -> io::Result<Recorded> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.check_order(op);
        let mut log = self.log.lock().unwrap();
        let seq = log.len() as u64;
        let ts = (BASE_TIME + 1000) * 1_000_000_000 + i64::try_from(seq).unwrap();
        log.push(Logged {
            seq,
            ts,
            op: op.clone(),
        });
        Ok(Recorded {
            seq,
            ts: Timestamp(ts),
        })
    }

    fn denied(&self, denial: &Denial) -> io::Result<()> {
        self.denials.lock().unwrap().push(denial.clone());
        self.record(&denial.entry()).map(|_| ())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn keep(&self, file: &File, name: &str, sha256: &Digest, take: bool) -> io::Result<bool> {
        let there = self.dir.join(sha256.hex());
        let source = self.work.join(name);
        let bytes = std::fs::read(&source)?;
        assert_eq!(
            Digest::of(&bytes),
            *sha256,
            "the bytes are not what their hash says"
        );
        assert_eq!(file.metadata()?.len(), bytes.len() as u64);
        let mut kept = self.kept.lock().unwrap();
        kept.entry(*sha256).or_default().push(source.clone());
        drop(kept);
        match (there.exists(), take) {
            (true, _) => {}
            (false, true) => std::fs::hard_link(source, there)?,
            (false, false) => std::fs::write(there, bytes)?,
        }
        Ok(take)
    }

    fn version(&self, sha256: &Digest) -> io::Result<File> {
        File::open(self.dir.join(sha256.hex()))
    }
}

/// A session's directories, its base and its gate.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub base: Arc<MapBase>,
    pub gate: Arc<ListGate>,
    pub uid: u32,
    pub share: Option<(RepoPath, PathBuf)>,
    pub control: Option<Arc<dyn govfs::vfs::overlay::Control>>,
    pub real_owners: bool,
    /// Which checks of the gate are made.
    pub checks: Kept,
}

impl Bench {
    pub fn new(files: &[(&str, &str)], claims: &[&str]) -> Self {
        Self::of(MapBase::new(files), claims)
    }

    pub fn of(base: MapBase, claims: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["work", "scratch", "git", "versions", "mnt"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let gate = ListGate {
            rules: Mutex::new(rules(claims)),
            log: Mutex::default(),
            denials: Mutex::default(),
            dir: dir.path().join("versions"),
            work: dir.path().join("work"),
            first_write: AtomicBool::new(false),
            full: AtomicBool::new(false),
            kept: Mutex::default(),
        };
        Self {
            dir,
            base: Arc::new(base),
            gate: Arc::new(gate),
            uid: nix::unistd::getuid().as_raw(),
            share: None,
            control: None,
            real_owners: false,
            checks: Kept::default(),
        }
    }

    pub fn mnt(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub fn options(&self) -> Options {
        Options {
            uid: self.uid,
            gid: self.uid,
            real_owners: self.real_owners,
            clock: Arc::new(|| (BASE_TIME + 500) * 1_000_000_000),
            scratch: Arc::new(|_, _| false),
            transient: Arc::new(|_| false),
            quiet: Duration::from_millis(50),
            kept: self.checks,
        }
    }

    /// Opens the overlay from the log as it stands.
    pub fn open(&self) -> Arc<Overlay> {
        self.try_open(true).unwrap()
    }

    pub fn try_open(&self, same_boot: bool) -> govfs::vfs::error::Result<Arc<Overlay>> {
        let at = |name: &str| open_dir(&self.dir.path().join(name));
        let parts = Parts {
            base: self.base.clone(),
            gate: self.gate.clone(),
            work: at("work"),
            scratch: at("scratch"),
            shares: (self.share.iter())
                .map(|(path, dir)| Share {
                    at: path.clone(),
                    dir: open_dir(dir),
                })
                .collect(),
            gitdir: Some(Gitdir {
                dir: at("git"),
                rule: gitdir_rule,
                prepare: Box::new(|| Ok(())),
            }),
            control: self.control.clone(),
            objects: Vec::new(),
        };
        let log = self.gate.log.lock().unwrap().clone();
        let voided = govfs::domain::layer::voided(log.iter().map(|logged| &logged.op));
        let named = |logged: &Logged| Some((logged.seq, logged.op.content()?));
        let unsealed: Vec<_> = log.iter().filter_map(named).collect();
        let since = if same_boot {
            Since::SameBoot
        } else {
            Since::Reboot {
                unsealed: &unsealed,
            }
        };
        let history = History {
            entries: &mut log.into_iter().map(Ok),
            voided: &voided,
        };
        Overlay::open(parts, self.options(), history, since)
    }
}

pub fn open_dir(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}
