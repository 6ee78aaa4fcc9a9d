//! The file system as the program sees it, built inside the program's mount namespace after its plan.
//!
//! The order of building: clone every source while it can still be reached; become the agent's uid; make all of
//! the host read-only, without set-id bits and devices; lay private directories over `/tmp`, `/run`, `/dev` and
//! `/proc`; attach what is writable or shown elsewhere, parents first; cover what is hidden; last the governed
//! mount over the repository's own path. Every source is the file that the plan saw (device and inode are
//! compared), and no place is reached through a symbolic link, so an agent of yesterday cannot bend the view of
//! today. Nothing of the host is changed but directories that the spec asks to be made.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::mount::MsFlags;
use nix::mount::mount;

use crate::sandbox::absent;
use crate::sandbox::absent::Skeleton;
use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::fix;
use crate::sandbox::place::file_id;
use crate::sandbox::place::make_directory;
use crate::sandbox::place::open_place;
use crate::sandbox::place::target;
use crate::sandbox::plan::PROGRAM_DIRECTORY;
use crate::sandbox::plan::Place;
use crate::sandbox::plan::Plan;
use crate::sandbox::plan::SHARED_MEMORY;
use crate::sandbox::rules;
use crate::sandbox::spec::Spec;
use crate::sandbox::sys;
use crate::sandbox::sys::Change;

/// A file without content or rights, shown where a hidden file's name has to stay.
const NOTHING: &str = "/run/govfs/nothing";
/// In every default `PATH`, and the place of what an operator installs.
const USUAL_PROGRAMS: &str = "/usr/local/bin";
/// Holds a link to the govfs program, to lay over the usual place.
const LINK_DIRECTORY: &str = "/run/govfs/link";

enum Shown {
    Tree(OwnedFd),
    Rebuilt(Skeleton),
}

/// The sources, cloned before anything is covered.
struct Sources {
    repo: OwnedFd,
    places: Vec<Shown>,
    devices: Vec<(&'static str, OwnedFd)>,
}

/// Builds the view in the current mount namespace, which must be the program's own.
pub(super) fn build(plan: &mut Plan, spec: &Spec) -> Result<(), SealError> {
    let sources = collect(plan)?;
    if let Some((uid, gid)) = plan.ids {
        become_agent(uid, gid)?;
    }
    if spec.has(Layer::ReadOnly) {
        close_host()?;
    }
    private_mounts(plan, spec, &sources)?;
    let mut trees = sources.places.into_iter();
    let homes = plan.places.iter().filter(|place| place.home).count();
    let mut ways = Vec::new();
    for (place, tree) in plan.places.iter().zip(trees.by_ref().take(homes)) {
        show(plan, place, tree, &mut ways)?;
    }
    let covered = if spec.has(Layer::Hidden) {
        make_absent(plan)?
    } else {
        Vec::new()
    };
    for (place, tree) in plan.places.iter().skip(homes).zip(trees) {
        show(plan, place, tree, &mut ways)?;
    }
    for path in &covered {
        cover(path)?;
    }
    let target = target(plan, &plan.repo, true, &mut ways)?;
    attach(&sources.repo, &target, &plan.repo)?;
    show_program(plan)?;
    protect(Path::new("/run/govfs"))?;
    protect(Path::new("/dev"))
}

fn collect(plan: &mut Plan) -> Result<Sources, SealError> {
    let repo = clone(&plan.repo_source)?;
    refuse_ungoverned(plan, &repo)?;
    let writable = Change {
        set: sys::ATTR_NO_SUID | sys::ATTR_NO_DEV,
        clear: 0,
        recursive: true,
    };
    change(&repo, writable, &plan.repo_source)?;
    let mut places = Vec::new();
    for place in &mut plan.places {
        if place.closed {
            let hidden = names_in(&plan.hidden, &place.source);
            places.push(Shown::Rebuilt(Skeleton::of(&place.source, &hidden, true)?));
            continue;
        }
        let tree = match place.tree.take() {
            Some(tree) => tree,
            None => clone(&place.source)?,
        };
        same_file(&tree, place)?;
        let mut attributes = writable;
        if !place.writable {
            attributes.set |= sys::ATTR_READ_ONLY;
        }
        change(&tree, attributes, &place.source)?;
        places.push(Shown::Tree(tree));
    }
    let mut devices = Vec::new();
    for name in rules::DEVICES {
        let path = Path::new("/dev").join(name);
        if path.exists() {
            let tree = clone(&path)?;
            let set = sys::ATTR_NO_SUID | sys::ATTR_NO_EXEC | sys::ATTR_READ_ONLY;
            change(
                &tree,
                Change {
                    set,
                    clear: 0,
                    recursive: false,
                },
                &path,
            )?;
            devices.push((name, tree));
        }
    }
    Ok(Sources {
        repo,
        places,
        devices,
    })
}

/// Refuses the host's own directory where the session's mount should stand: the mount may have been made elsewhere,
/// for another worktree of the repository.
fn refuse_ungoverned(plan: &Plan, repo: &OwnedFd) -> Result<(), SealError> {
    let failed = format!("cannot see {}", plan.repo_source.display());
    let here = file_id(repo, "").context(Layer::View, &failed)?;
    if plan.ungoverned != Some(here) {
        return Ok(());
    }
    let what = format!(
        "the session's mount does not stand at {}",
        plan.repo.display()
    );
    Err(SealError::new(Layer::FuseMount, what)
        .fix("run it in the worktree where the session was mounted, or end that run first"))
}

/// Refuses a source that is another file here than it was outside (mounted over since the session began).
fn same_file(tree: &OwnedFd, place: &Place) -> Result<(), SealError> {
    let shown = nix::sys::stat::fstat(tree).context(
        Layer::View,
        &format!("cannot see {}", place.source.display()),
    )?;
    if (shown.st_dev, shown.st_ino) == place.identity {
        return Ok(());
    }
    let what = format!(
        "{} was mounted after the session's mount was made",
        place.source.display()
    );
    Err(SealError::new(Layer::View, what)
        .fix("unmount the session (`govfs unmount AGENT`) and run again"))
}

fn c_path(path: &Path) -> Result<CString, SealError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SealError::new(Layer::View, format!("{} has a NUL byte", path.display())))
}

pub(super) fn clone(path: &Path) -> Result<OwnedFd, SealError> {
    sys::clone_tree(&c_path(path)?)
        .map_err(|errno| fix::mounting(&format!("cannot clone {}", path.display()), errno))
}

fn change(tree: &OwnedFd, change: Change, path: &Path) -> Result<(), SealError> {
    sys::change_mount(tree.as_fd(), change)
        .map_err(|errno| fix::mounting(&format!("cannot restrict {}", path.display()), errno))
}

/// Takes the agent's ids. Capabilities over the program's own namespaces stay until they are dropped.
pub(super) fn become_agent(uid: u32, gid: u32) -> Result<(), SealError> {
    let (uid, gid) = (
        nix::unistd::Uid::from_raw(uid),
        nix::unistd::Gid::from_raw(gid),
    );
    nix::unistd::setgroups(&[]).context(Layer::OwnUid, "cannot drop groups")?;
    nix::unistd::setresgid(gid, gid, gid).context(Layer::OwnUid, "cannot take the agent's gid")?;
    nix::unistd::setresuid(uid, uid, uid).context(Layer::OwnUid, "cannot take the agent's uid")
}

fn close_host() -> Result<(), SealError> {
    let root = open_place(Path::new("/")).context(Layer::ReadOnly, "cannot open /")?;
    let set = sys::ATTR_READ_ONLY | sys::ATTR_NO_SUID | sys::ATTR_NO_DEV;
    sys::change_mount(
        root.as_fd(),
        Change {
            set,
            clear: 0,
            recursive: true,
        },
    )
    .context(Layer::ReadOnly, "cannot make the host read-only")
}

fn private_mounts(plan: &Plan, spec: &Spec, sources: &Sources) -> Result<(), SealError> {
    let owner = plan.owner();
    for directory in &plan.private {
        let mode = if directory == Path::new("/run") {
            "mode=0755"
        } else {
            "mode=1777"
        };
        tmpfs(directory, &format!("{mode}{owner}"), MsFlags::empty())?;
    }
    tmpfs(
        Path::new("/dev"),
        &format!("mode=0755{owner}"),
        MsFlags::MS_NOEXEC,
    )?;
    for (name, tree) in &sources.devices {
        let path = Path::new("/dev").join(name);
        fs::write(&path, "").context(Layer::View, "cannot make a device's place")?;
        attach(
            tree,
            &open_place(&path).context(Layer::View, "cannot open a device's place")?,
            &path,
        )?;
    }
    make_directory(Path::new(SHARED_MEMORY))?;
    tmpfs(
        Path::new(SHARED_MEMORY),
        &format!("mode=1777{owner}"),
        MsFlags::MS_NOEXEC,
    )?;
    device_links()?;
    mount_terminals()?;
    make_directory(Path::new("/run/govfs"))?;
    tmpfs(
        Path::new("/run/govfs"),
        &format!("mode=0755{owner}"),
        MsFlags::empty(),
    )?;
    let mut nothing = fs::OpenOptions::new();
    nothing
        .write(true)
        .create_new(true)
        .mode(0o000)
        .open(NOTHING)
        .context(Layer::View, "cannot make an empty file")?;
    if spec.has(Layer::PidNamespace) {
        mount_processes()
    } else {
        Ok(())
    }
}

pub(super) fn tmpfs(place: &Path, options: &str, flags: MsFlags) -> Result<(), SealError> {
    let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(options)).map_err(|errno| {
        fix::mounting(
            &format!("cannot mount a private {}", place.display()),
            errno,
        )
    })
}

/// A login shell sets `PATH` anew, so the program also stands in a directory that every such path has. This is a
/// convenience: where the directory cannot be laid over, the head of the inherited `PATH` has to do.
fn show_program(plan: &Plan) -> Result<(), SealError> {
    let usual = Path::new(USUAL_PROGRAMS);
    let beside = |path: &Path| path.starts_with(usual) || usual.starts_with(path);
    let mut touched = plan.places.iter().filter(|place| !place.home);
    if touched.any(|place| beside(&place.path))
        || plan.hidden.iter().any(|path| beside(path))
        || beside(&plan.repo)
    {
        return Ok(());
    }
    // What is mounted below would not show through. The host's mounts are locked here, so that none of them can be
    // left out of a clone: that fails instead.
    let Ok(alone) = sys::clone_mount(&c_path(usual)?) else {
        return Ok(());
    };
    std::mem::forget(alone); // to let a clone go the kernel waits: it goes with this process
    make_directory(Path::new(LINK_DIRECTORY))?;
    let program = Path::new(PROGRAM_DIRECTORY).join("govfs");
    std::os::unix::fs::symlink(program, Path::new(LINK_DIRECTORY).join("govfs"))
        .context(Layer::View, "cannot make a link to govfs")?;
    let layers = format!("lowerdir={LINK_DIRECTORY}:{USUAL_PROGRAMS}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
    let _ = mount(
        Some("overlay"),
        usual,
        Some("overlay"),
        flags,
        Some(layers.as_str()),
    );
    Ok(())
}

fn device_links() -> Result<(), SealError> {
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        std::os::unix::fs::symlink(target, Path::new("/dev").join(name))
            .context(Layer::View, "cannot make a link in /dev")?;
    }
    Ok(())
}

fn mount_terminals() -> Result<(), SealError> {
    make_directory(Path::new("/dev/pts"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = "newinstance,ptmxmode=0666,mode=0620";
    mount(
        Some("devpts"),
        "/dev/pts",
        Some("devpts"),
        flags,
        Some(options),
    )
    .map_err(|errno| fix::mounting("cannot mount a private /dev/pts", errno))
}

fn mount_processes() -> Result<(), SealError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
        .map_err(|errno| fix::mounting("cannot mount /proc of the new pid namespace", errno))
}

fn show(
    plan: &Plan,
    place: &Place,
    shown: Shown,
    ways: &mut Vec<PathBuf>,
) -> Result<(), SealError> {
    let target = target(plan, &place.path, place.directory, ways)?;
    match shown {
        Shown::Tree(tree) => attach(&tree, &target, &place.path),
        Shown::Rebuilt(skeleton) => skeleton.build(&plan.owner(), &plan.later()),
    }
}

fn names_in(hidden: &[PathBuf], directory: &Path) -> Vec<OsString> {
    let inside = hidden
        .iter()
        .filter(|path| path.parent() == Some(directory));
    inside
        .filter_map(|path| path.file_name())
        .map(OsString::from)
        .collect()
}

/// Makes the hidden paths absent. Returns those that can only be covered, once everything else is in place.
fn make_absent(plan: &Plan) -> Result<Vec<PathBuf>, SealError> {
    let writable: Vec<PathBuf> = plan
        .places
        .iter()
        .filter(|place| place.writable)
        .map(|place| place.path.clone())
        .collect();
    let unseen = plan.unseen.iter();
    let appeared = unseen.filter(|path| fs::symlink_metadata(path).is_ok());
    let (here, below): (Vec<PathBuf>, Vec<PathBuf>) = plan
        .hidden
        .iter()
        .chain(appeared)
        .cloned()
        .partition(|path| !plan.is_private(path) || plan.is_shown(path));
    // What lies in a private directory, and is not shown there, is absent already.
    drop(below);
    absent::remove(&here, &writable, &plan.owner(), &plan.later())
}

fn attach(tree: &OwnedFd, target: &OwnedFd, path: &Path) -> Result<(), SealError> {
    sys::attach(tree.as_fd(), target.as_fd())
        .map_err(|errno| fix::mounting(&format!("cannot attach {}", path.display()), errno))
}

/// Clones what lies at a path, read-only and without set-id bits and devices.
pub(super) fn clone_read_only(path: &Path) -> Result<OwnedFd, SealError> {
    let tree = clone(path)?;
    let set = sys::ATTR_NO_SUID | sys::ATTR_NO_DEV | sys::ATTR_READ_ONLY;
    change(
        &tree,
        Change {
            set,
            clear: 0,
            recursive: true,
        },
        path,
    )?;
    Ok(tree)
}

/// Attaches a tree over an existing place of the view.
pub(super) fn attach_at(tree: &OwnedFd, path: &Path) -> Result<(), SealError> {
    let target =
        open_place(path).context(Layer::View, &format!("cannot reach {}", path.display()))?;
    attach(tree, &target, path)
}

/// Covers a hidden path with nothing. What no longer exists in the view needs no cover.
pub(super) fn cover(path: &Path) -> Result<(), SealError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if metadata.is_dir() {
        return tmpfs(path, "mode=0000", MsFlags::MS_RDONLY);
    }
    attach_at(&clone_read_only(Path::new(NOTHING))?, path)
}

pub(super) fn protect(path: &Path) -> Result<(), SealError> {
    let failed = format!("cannot make {} read-only", path.display());
    let place = open_place(path).context(Layer::ReadOnly, &failed)?;
    let change = Change {
        set: sys::ATTR_READ_ONLY,
        clear: 0,
        recursive: false,
    };
    sys::change_mount(place.as_fd(), change).context(Layer::ReadOnly, &failed)
}
