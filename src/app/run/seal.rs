//! What the seal around one run is told: the pinned charter's word and the caller's flags.
//!
//! Owns: which of the host's paths are writable, copied, hidden, which variables are
//! passed, and the list of widenings that the `launch` entry names. Never opens
//! anything to the agent that neither charter nor caller named.

use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::mount;
use crate::app::mounts;
use crate::app::run::door::Door;
use crate::app::run::{Job, places, room, steering};
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::charter::{HostPath, Sandbox};
use crate::domain::event::Tier;
use crate::domain::path::percent_encode;
use crate::domain::programs;
use crate::sandbox::{self, Bind, Identity, MountSource, Spec, Writable};

/// A spec, and in words what it opens beyond the repository.
pub(super) struct Sealed {
    pub(super) spec: Spec,
    pub(super) widenings: Vec<String>,
    /// A directory for temporary files where no view has one of its own; it goes with this.
    _temporary: Option<TempDir>,
}

/// Puts together what the launch is told.
pub(super) fn spec(
    site: &Site,
    session: &Session,
    rules: &Sandbox,
    job: &Job,
    door: &Door,
) -> Result<Sealed, Failure> {
    let home = places::home();
    let mut spec = Spec::new(
        site.repo.root().to_owned(),
        mount::own_program()?,
        job.argv.clone(),
    );
    spec.cwd.clone_from(&job.cwd);
    spec.tier = match door.tier() {
        Tier::A => sandbox::Tier::A,
        Tier::B => sandbox::Tier::B,
        Tier::C => sandbox::Tier::C,
    };
    // A mount of the host belongs to whoever made it, and that is the caller.
    if let MountSource::Dir(_) = door.source() {
        spec.identity = Identity::Own;
    }
    spec.network = job.network.unwrap_or(rules.network);
    spec.unix_sockets = rules.af_unix;
    spec.env = environment(rules, job, session);
    spec.hidden = hidden(site, rules, job, home.as_deref())?;
    spec.kept = kept(site)?;
    let has_view = spec.tier == sandbox::Tier::A;
    // What lies in the repository is what the mount shows of it.
    let root = site.repo.root();
    let find = |path: &HostPath| {
        places::on_host(path, home.as_deref()).filter(|place| !place.starts_with(root))
    };
    let own = states(rules, job, &find, has_view)?;
    spec.writable = own.writable;
    spec.writable.extend(writable(rules, job, &find));
    spec.readonly = own.readonly;
    let room = room::of(site, session)?;
    let mut copied = Vec::new();
    // A copy in the place of the operator's own needs a mount namespace; without one the caches stay closed.
    if has_view {
        let caches = rules.copied.iter().chain(own.copied);
        (spec.copies, copied) = copies(&room, caches, &find, &spec.writable, &spec.hidden)?;
    }
    let temporary = (spec.tier == sandbox::Tier::B)
        .then(|| temporary(&mut spec))
        .transpose()?;
    spec.copy_room = Some(room.join("writable"));
    spec.home = home;
    let mut widenings = widenings(&spec, job);
    widenings.extend(copied);
    Ok(Sealed {
        spec,
        widenings,
        _temporary: temporary,
    })
}

/// Returns where other sessions stand, which are none of this one's business. No widening, and slow to read: no
/// entry waits for it.
pub(super) fn other_mounts(site: &Site) -> Vec<PathBuf> {
    let mut mounts = mounts::governed();
    mounts.retain(|path| !path.starts_with(site.repo.root()));
    mounts
}

/// Makes a directory for temporary files, which the write rules alone would close, and says so in `TMPDIR`.
fn temporary(spec: &mut Spec) -> Result<TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("govfs-").tempdir();
    let made = made
        .map_err(|error| Failure::failed(format!("no directory for temporary files: {error}")))?;
    spec.writable.push(Writable {
        path: made.path().to_owned(),
        create: false,
    });
    spec.env.retain(|(name, _)| name != "TMPDIR");
    spec.env.push(("TMPDIR".into(), made.path().into()));
    Ok(made)
}

/// Returns what the program's environment is: what the charter passes, what the caller adds, and who it is.
fn environment(rules: &Sandbox, job: &Job, session: &Session) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| rules.passes(name)))
        .collect();
    let given = job.env.iter().filter_map(|(name, value)| {
        let value = value.clone().or_else(|| env::var_os(name))?;
        Some((name.clone(), value))
    });
    let own = [
        ("GOVFS_AGENT", session.agent.as_str()),
        ("GOVFS_SESSION", session.id.as_str()),
    ];
    let own = own
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()));
    for (name, value) in given.chain(own).collect::<Vec<_>>() {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    env
}

/// Returns what is absent: secrets, and everything of govfs and git but the mount.
fn hidden(
    site: &Site,
    rules: &Sandbox,
    job: &Job,
    home: Option<&Path>,
) -> Result<Vec<PathBuf>, Failure> {
    let root = site.repo.root();
    let mut hidden = Vec::new();
    for home in homes(home) {
        let listed = rules.hidden.iter();
        hidden.extend(listed.flat_map(|path| places::everywhere(path, Some(&home))));
        hidden.extend(OWN.iter().map(|own| home.join(own)));
    }
    let listed = rules.hidden.iter();
    hidden.extend(listed.flat_map(|path| places::everywhere(path, None)));
    hidden.sort_unstable();
    hidden.dedup();
    for path in &job.hidden {
        // Its link may lead there, too.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        if real.starts_with(root) {
            return Err(Failure::usage(format!(
                "--hide {}: it lies in the repository, of which a run sees what is committed",
                path.display()
            ))
            .hint("what an agent may write there, its claims say"));
        }
        hidden.push(path.clone());
    }
    // What lies in the repository is under the mount already; what a link there leads to is not.
    let leads_out = |path: &PathBuf| {
        let real = std::fs::canonicalize(path);
        real.is_ok_and(|real| !real.starts_with(root))
    };
    hidden.retain(|path| !path.starts_with(root) || leads_out(path));
    Ok(hidden)
}

/// Returns what is absent, and never to be made by an agent either: git's and govfs's own.
fn kept(site: &Site) -> Result<Vec<PathBuf>, Failure> {
    let mut kept = vec![
        site.repo.common_dir().to_owned(),
        site.repo.git_dir().to_owned(),
        keys::config_dir()?,
        keys::state_dir()?,
    ];
    kept.retain(|path| !path.starts_with(site.repo.root()));
    Ok(kept)
}

/// Where keys and copies of checkpoints lie unless the environment says otherwise, which it may for this run alone.
const OWN: [&str; 2] = [".config/govfs", ".local/state/govfs"];

/// Returns where the operator's secrets are: at home, and in the home that the account has, where that is another.
fn homes(home: Option<&Path>) -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = home.map(Path::to_owned).into_iter().collect();
    let own = nix::unistd::geteuid().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let account = accounts.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()? == own).then(|| fields.nth(2).map(PathBuf::from))?
    });
    homes.extend(account.filter(|account| account.is_absolute() && home != Some(account)));
    homes
}

/// Says where a charter's path lies outside the repository.
type Find<'a> = dyn Fn(&HostPath) -> Option<PathBuf> + 'a;

/// What is open of the state directories of the agents that are started.
#[derive(Default)]
struct States<'a> {
    writable: Vec<Writable>,
    readonly: Vec<Bind>,
    copied: Vec<&'a HostPath>,
}

/// Opens the state of the agents named on the command line. It is made where an agent is started for the first time;
/// a single file only where the agent gets a copy of it.
fn states<'a>(
    rules: &'a Sandbox,
    job: &Job,
    find: &Find<'_>,
    has_view: bool,
) -> Result<States<'a>, Failure> {
    let mut states = States::default();
    let words: Vec<String> = job
        .argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let started = programs::started(&words);
    for path in &rules.states {
        let place = find(path).filter(|_| is_state_of(path.as_str(), &started));
        // A directory is made.
        let is_open = |place: &PathBuf| place.exists() || place.extension().is_none();
        let may_be =
            |place: &PathBuf| is_open(place) || has_view && steering::is_copied(path.as_str());
        let Some(place) = place.filter(|place| may_be(place)) else {
            continue;
        };
        // The caller's own word goes before what is known of agents; and what lies in a copied cache is copied with it.
        let caches = rules.copied.iter();
        let mut caches = caches.filter_map(find);
        let in_cache = caches.any(|cache| place.starts_with(&cache) && cache.is_dir());
        if job.writable.contains(&place) || (in_cache && has_view) {
            continue;
        }
        let opened = steering::open(path.as_str(), &place, has_view)?;
        states.writable.extend(opened.writable);
        states.readonly.extend(opened.readonly);
        if opened.copied {
            states.copied.push(path);
        }
    }
    Ok(states)
}

/// Returns what is written through to the operator's own.
fn writable(rules: &Sandbox, job: &Job, find: &Find<'_>) -> Vec<Writable> {
    let listed = rules.writable.iter();
    let listed = listed.filter_map(find);
    let listed = listed.filter(|path| path.exists());
    let listed = listed.map(|path| Writable { path, create: true });
    let asked = job.writable.iter().map(|path| Writable {
        path: path.clone(),
        create: false,
    });
    listed.chain(asked).collect()
}

/// Programs whose state lies under another name.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("agent", "cursor"),
    ("auggie", "augment"),
    ("cn", "continue"),
    ("droid", "factory"),
    ("mini", "mini-swe-agent"),
];

/// Names that are everyday words of scripts; their agents are known by the program's own name.
const EVERYDAY: [&str; 1] = ["continue"];

/// Says whether one of the programs that the command line starts keeps its state there: `.codex` of
/// `npx @openai/codex`, `.claude.json` of `sh -c 'claude -p …'`. What is said to a program names none.
fn is_state_of(state: &str, started: &[String]) -> bool {
    let name = state.rsplit('/').next().unwrap_or(state);
    let name = name.trim_start_matches('.');
    let name = name.strip_suffix(".json").unwrap_or(name);
    let is_owner = |word: &String| {
        let starts = |rest: &str| rest.starts_with('-');
        OTHER_NAMES.contains(&(word, name))
            || (word == name && !EVERYDAY.contains(&name))
            || word.strip_prefix(name).is_some_and(starts)
    };
    started.iter().any(is_owner)
}

/// Returns the caches that each session has for itself, and in words which they are.
fn copies<'a>(
    room: &Path,
    caches: impl Iterator<Item = &'a HostPath>,
    find: &Find<'_>,
    writable: &[Writable],
    hidden: &[PathBuf],
) -> Result<(Vec<Bind>, Vec<String>), Failure> {
    let (mut copies, mut words) = (Vec::new(), Vec::new());
    for path in caches {
        let Some(place) = find(path).filter(|place| place.exists()) else {
            continue;
        };
        if writable.iter().any(|one| one.path == place) {
            continue;
        }
        let copy = room::copy(room, &place, hidden)?;
        let empty = if copy.empty { " (empty)" } else { "" };
        words.push(format!("copied {}{empty}", shown(&place)));
        // What is written through beneath a copy needs a place in it to stand at.
        for inner in writable
            .iter()
            .filter_map(|one| one.path.strip_prefix(&place).ok())
        {
            make_below(&copy.dir, inner, place.join(inner).is_file())
                .map_err(|error| Failure::failed(format!("{}: {error}", copy.dir.display())))?;
        }
        copies.push(Bind {
            source: copy.dir,
            place,
        });
    }
    Ok((copies, words))
}

/// Makes a directory or a file in a copy, by no link that an earlier run left there.
fn make_below(dir: &Path, inner: &Path, is_file: bool) -> std::io::Result<()> {
    let mut place = dir.to_owned();
    let mut names = inner.iter().peekable();
    while let Some(name) = names.next() {
        place.push(name);
        let is_file = is_file && names.peek().is_none();
        match std::fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() != is_file && !meta.is_symlink() => {}
            Ok(_) => return Err(ErrorKind::NotADirectory.into()),
            Err(_) if is_file => std::fs::write(&place, "")?,
            Err(_) => std::fs::create_dir(&place)?,
        }
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    percent_encode(path.as_os_str().as_bytes())
}

/// Says what the program may do beyond its mount.
fn widenings(spec: &Spec, job: &Job) -> Vec<String> {
    let mut widenings = Vec::new();
    if spec.network {
        widenings.push("network".to_owned());
    }
    if spec.unix_sockets {
        widenings.push("unix-sockets".to_owned());
    }
    for writable in &spec.writable {
        widenings.push(format!("writable {}", shown(&writable.path)));
    }
    for (name, _) in &job.env {
        widenings.push(format!("env {}", shown(Path::new(name))));
    }
    widenings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_its_own_agents() {
        let owns = |state: &str, line: &[&str]| {
            let words: Vec<String> = line.iter().map(ToString::to_string).collect();
            is_state_of(state, &programs::started(&words))
        };
        for (state, line) in [
            ("~/.codex", &["codex", "exec", "do it"][..]),
            ("~/.codex", &["npx", "-y", "@openai/codex@latest"]),
            ("~/.claude", &["/usr/local/bin/claude"]),
            ("~/.claude", &["npx", "@anthropic-ai/claude-code"]),
            ("~/.claude.json", &["sh", "-c", "cd src; claude -p 'x'"]),
            ("~/.gemini", &["node", "/opt/bin/gemini.js"]),
            ("~/.config/mini-swe-agent", &["mini"]),
            ("~/.local/share/opencode", &["opencode", "run"]),
            ("~/.cursor", &["cursor-agent"]),
            ("~/.continue", &["cn", "-p", "do it"]),
        ] {
            assert!(owns(state, line), "{state} {line:?}");
        }
        for (state, line) in [
            ("~/.codex", &["claude"][..]),
            (
                "~/.claude",
                &["sh", "-c", "echo x >~/.claude/settings.json"],
            ),
            ("~/.claude.json", &["sh", "-c", "cat ~/.claude.json"]),
            ("~/.pi", &["pip", "install"]),
            (
                "~/.cursor",
                &["claude", "-p", "fix the cursor of the agent"],
            ),
            ("~/.codex", &["git", "log", "--grep", "codex"]),
            (
                "~/.continue",
                &["sh", "-c", "for x in *; do continue; done"],
            ),
        ] {
            assert!(!owns(state, line), "{state} {line:?}");
        }
    }
}
