//! What the program is to see, decided outside: every path of the spec resolved and checked against the host.
//!
//! A plan opens nothing for writing and changes nothing but directories that the spec asks to be made. It never
//! lets a writable path hold, or lie in, the repository or what is hidden.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::owners;
use crate::sandbox::place::FileId;
use crate::sandbox::place::file_id;
use crate::sandbox::rules;
use crate::sandbox::spec::Identity;
use crate::sandbox::spec::MountSource;
use crate::sandbox::spec::Spec;
use crate::sandbox::spec::Tier;

/// Where the govfs program stands inside; its directory is first in `PATH`.
pub(super) const PROGRAM_DIRECTORY: &str = "/run/govfs/bin";

/// Directories of the host that the program gets empty and for itself.
const PRIVATE: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// Another, in a `/dev` that is the program's own too.
pub(super) const SHARED_MEMORY: &str = "/dev/shm";

/// What is no file of anybody's.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// One thing to attach.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about one path"
)]
pub(super) struct Place {
    /// Where it is attached.
    pub(super) path: PathBuf,
    pub(super) source: PathBuf,
    pub(super) directory: bool,
    pub(super) writable: bool,
    /// Device and inode of the source as the plan saw it.
    pub(super) identity: (u64, u64),
    /// The detached tree, where it had to be made outside.
    pub(super) tree: Option<OwnedFd>,
    /// The operator's home: attached first, and rebuilt from its open entries if it is closed to the agent.
    pub(super) home: bool,
    pub(super) closed: bool,
    /// To be written through, but a copy of the session's, for its owners cannot be mapped.
    pub(super) copied: bool,
}

/// The whole view, decided.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) repo: PathBuf,
    pub(super) repo_source: PathBuf,
    /// The host's own file where the session's mount has to stand.
    pub(super) ungoverned: Option<FileId>,
    pub(super) private: Vec<PathBuf>,
    pub(super) places: Vec<Place>,
    pub(super) hidden: Vec<PathBuf>,
    /// What is hidden by name and not there on the host; in the session's older namespaces it may be.
    pub(super) unseen: Vec<PathBuf>,
    /// The agent's ids inside, if they are not the caller's.
    pub(super) ids: Option<(u32, u32)>,
}

impl Plan {
    /// Resolves and checks every path of the spec against the host.
    pub(super) fn new(spec: &Spec, source: &MountSource<'_>) -> Result<Self, SealError> {
        let repo = resolved(&spec.repo)?;
        let (repo_source, ungoverned) = match source {
            MountSource::Join(_) => {
                let there = file_id(rustix::fs::CWD, &repo);
                let there =
                    there.context(Layer::View, &format!("cannot see {}", repo.display()))?;
                (repo.clone(), Some(there))
            }
            MountSource::Dir(directory) => (resolved(directory)?, None),
        };
        let private = private_directories();
        // Most secrets that a charter names are not there; one look is cheaper than resolving each name.
        let named = spec.hidden.iter().chain(&spec.kept).cloned();
        let (unseen, there): (Vec<PathBuf>, Vec<PathBuf>) =
            named.partition(|path| is_missing(path));
        let there = there.iter().map(|path| settled(path));
        let hidden = there.chain(spec.hidden_mounts.iter().cloned()).collect();
        let mut plan = Self {
            repo,
            repo_source,
            ungoverned,
            private,
            places: Vec::new(),
            hidden,
            unseen,
            ids: None,
        };
        if let Identity::Mapped { inside, .. } = spec.identity {
            plan.ids = Some((inside, inside));
        }
        plan.add_home(spec)?;
        plan.add_name_service();
        plan.add_places(spec)?;
        plan.places
            .sort_by_key(|place| (!place.home, place.path.components().count()));
        if let Identity::Mapped { outside, .. } = spec.identity
            && spec.tier == Tier::A
        {
            let room = spec.copy_room.as_deref();
            let namespace = match source {
                MountSource::Join(anchor) => anchor.owners.as_ref(),
                MountSource::Dir(_) => None,
            };
            owners::show_to(outside, namespace, &mut plan.places, room)?;
        }
        Ok(plan)
    }

    fn add_home(&mut self, spec: &Spec) -> Result<(), SealError> {
        let Some(home) = &spec.home else {
            return Ok(());
        };
        let Ok(home) = fs::canonicalize(home) else {
            return Ok(());
        };
        // In the repository, home is what the session's mount shows of it.
        if home == Path::new("/") || self.private.contains(&home) || home.starts_with(&self.repo) {
            return Ok(());
        }
        if self.ids.is_some() || self.is_private(&home) {
            let place = Place::new(home.clone(), home, false)?;
            self.places.push(Place {
                home: true,
                ..place
            });
        }
        Ok(())
    }

    /// Name servers are often configured in a file under `/run`.
    fn add_name_service(&mut self) {
        let Ok(file) = fs::canonicalize("/etc/resolv.conf") else {
            return;
        };
        if self.is_private(&file)
            && let Ok(place) = Place::new(file.clone(), file, false)
        {
            self.places.push(place);
        }
    }

    fn add_places(&mut self, spec: &Spec) -> Result<(), SealError> {
        for writable in &spec.writable {
            if writable.create && fs::symlink_metadata(&writable.path).is_err() {
                let mut builder = fs::DirBuilder::new();
                builder
                    .recursive(true)
                    .mode(0o700)
                    .create(&writable.path)
                    .context(
                        Layer::View,
                        &format!(
                            "cannot make the writable directory {}",
                            writable.path.display()
                        ),
                    )?;
            }
            let path = resolved(&writable.path)?;
            self.refuse_governed(&path)?;
            self.refuse_holder(&path, &spec.kept)?;
            self.places.push(Place::new(path.clone(), path, true)?);
        }
        for copy in &spec.copies {
            let place = settled(&copy.place);
            self.refuse_governed(&place)?;
            self.places
                .push(Place::new(place, resolved(&copy.source)?, true)?);
        }
        for bind in &spec.readonly {
            self.places.push(Place::new(
                settled(&bind.place),
                resolved(&bind.source)?,
                false,
            )?);
        }
        let program = resolved(&spec.program)?;
        self.places.push(Place::new(
            Path::new(PROGRAM_DIRECTORY).join("govfs"),
            program,
            false,
        )?);
        Ok(())
    }

    /// A writable path may not hold, or lie in, what the mount governs, by whatever name it is reached, nor lie in
    /// what is hidden.
    fn refuse_governed(&self, path: &Path) -> Result<(), SealError> {
        let id = |path: &Path| file_id(rustix::fs::CWD, path).ok();
        let is_above = |one: &Path, other: &Path| {
            let wanted = id(one);
            let mut above = other.ancestors();
            other.starts_with(one) || wanted.is_some() && above.any(|path| id(path) == wanted)
        };
        if KERNEL.iter().any(|own| path.starts_with(own)) && !path.starts_with(SHARED_MEMORY) {
            return cannot_be_writable(path, "is the kernel's own");
        }
        if is_above(path, &self.repo) {
            return cannot_be_writable(path, "contains the repository");
        }
        if is_above(&self.repo, path) {
            return cannot_be_writable(path, "lies in the repository");
        }
        if self.hidden.iter().any(|hidden| path.starts_with(hidden)) {
            return cannot_be_writable(path, "is hidden from the agent");
        }
        Ok(())
    }

    /// What is hidden stays so only while its directory cannot be moved away; what the operator's programs obey
    /// could be made where it is not yet.
    fn refuse_holder(&self, path: &Path, kept: &[PathBuf]) -> Result<(), SealError> {
        if let Some(kept) = kept.iter().find(|kept| settled(kept).starts_with(path)) {
            let why = format!("contains {}, which is git's or govfs's own", kept.display());
            return cannot_be_writable(path, &why);
        }
        let unseen = self.unseen.iter().map(|path| settled(path));
        let mut hidden = self.hidden.iter().cloned().chain(unseen);
        match hidden.find(|hidden| hidden.starts_with(path) && hidden.parent() != Some(path)) {
            Some(hidden) => {
                let why = format!("contains {}, which is hidden", hidden.display());
                cannot_be_writable(path, &why)
            }
            None => Ok(()),
        }
    }

    /// Returns where the program finds the mount: at the repository's own path, or without a mount namespace where
    /// it was mounted. The repository itself is never opened to it.
    pub(super) fn standing(&self, tier: Tier) -> &Path {
        match tier {
            Tier::A => &self.repo,
            Tier::B | Tier::C => &self.repo_source,
        }
    }

    /// Mount options that give a private directory to the agent.
    pub(super) fn owner(&self) -> String {
        self.ids
            .map_or_else(String::new, |(uid, gid)| format!(",uid={uid},gid={gid}"))
    }

    /// Returns what is attached after the directories are rebuilt, and whether each is a directory.
    pub(super) fn later(&self) -> Vec<(PathBuf, bool)> {
        let places = self.places.iter().filter(|place| !place.home);
        let mut later: Vec<_> = places
            .map(|place| (place.path.clone(), place.directory))
            .collect();
        later.push((self.repo.clone(), true));
        later
    }

    pub(super) fn is_shown(&self, path: &Path) -> bool {
        self.places
            .iter()
            .any(|place| path.starts_with(&place.path))
    }

    pub(super) fn is_private(&self, path: &Path) -> bool {
        let mut private = self.private.iter().map(PathBuf::as_path);
        path.starts_with(SHARED_MEMORY) || private.any(|private| path.starts_with(private))
    }

    /// Returns what the program writes to a copy of, though it was to be written through.
    pub(super) fn copied(&self) -> Vec<PathBuf> {
        let copied = self.places.iter().filter(|place| place.copied);
        copied.map(|place| place.path.clone()).collect()
    }

    /// Returns where the program may write, for Landlock.
    pub(super) fn write_allowed(&self, tier: Tier) -> Vec<PathBuf> {
        let mut allowed = rules::common_writable();
        if tier == Tier::A {
            allowed.extend(self.private.iter().cloned());
            allowed.push(PathBuf::from(SHARED_MEMORY));
        }
        allowed.extend(
            self.places
                .iter()
                .filter(|place| place.writable)
                .map(|place| place.path.clone()),
        );
        allowed.push(self.standing(tier).to_owned());
        allowed
    }
}

impl Place {
    fn new(place: PathBuf, source: PathBuf, writable: bool) -> Result<Self, SealError> {
        let metadata = fs::metadata(&source)
            .context(Layer::View, &format!("cannot show {}", source.display()))?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self {
            path: place,
            source,
            directory: metadata.is_dir(),
            writable,
            identity,
            tree: None,
            home: false,
            closed: false,
            copied: false,
        })
    }
}

fn cannot_be_writable(path: &Path, why: &str) -> Result<(), SealError> {
    let what = format!("{} cannot be writable: it {why}", path.display());
    Err(SealError::new(Layer::View, what).fix("name a narrower directory"))
}

/// Says whether nothing is there; what cannot be looked at may be.
fn is_missing(path: &Path) -> bool {
    let gone = [ErrorKind::NotFound, ErrorKind::NotADirectory];
    fs::symlink_metadata(path).is_err_and(|error| gone.contains(&error.kind()))
}

fn resolved(path: &Path) -> Result<PathBuf, SealError> {
    let what = format!("cannot find {}", path.display());
    let found = fs::canonicalize(path).context(Layer::View, &what);
    found.map_err(|error| error.fix("make it first, or name one that is there"))
}

/// Resolves what exists of a path and keeps the rest as it is.
fn settled(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(ancestor), path.strip_prefix(ancestor)) {
            // Nothing joined would still add a slash, and with it a claim to be a directory.
            return if rest == Path::new("") {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path.to_owned()
}

fn private_directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for path in PRIVATE {
        if let Ok(real) = fs::canonicalize(path)
            && !directories.iter().any(|known| real.starts_with(known))
        {
            directories.push(real);
        }
    }
    directories
}
