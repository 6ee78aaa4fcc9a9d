//! Private keys and copies of checkpoints, both outside the repository.
//!
//! Owns two places in the operator's home:
//!
//! - `$XDG_CONFIG_HOME/govfs/key`, mode 0600: one line `<origin> <key>` for each
//!   ledger, the key being 32 bytes in base64; a line `<origin> <key> next` is a
//!   key that has been made but does not yet sign. The file is replaced whole
//!   (made with `O_EXCL`, synced, renamed) under a lock on `key.lock`.
//! - `$XDG_STATE_HOME/govfs/checkpoints/<origin>`: every checkpoint that was
//!   signed or seen, each followed by an empty line, newest last; only appended to.
//!
//! A key file that others may read, that belongs to somebody else or that has a
//! line nobody wrote is refused, never repaired. Rotation has two steps, so that
//! a crash between them loses no key: [`Keys::stage`] makes the next key, the
//! ledger gets its entry signed by the old one, [`Keys::promote`] puts it in force.
//!
//! Never shows a private key and never decides which key is in force.

mod copies;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::fs::{File, OpenOptions};
use std::io;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::checkpoint::{Origin, SecretKey};

pub use copies::{Copies, Kept};

/// No operator has more ledgers than fit into this.
const KEY_FILE_MAX: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("neither {variable} nor HOME is an absolute path: there is no place for keys")]
    NoHome { variable: &'static str },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the key file {} may be used by others (mode {mode:03o}), so it is not used", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("the key file {} belongs to uid {owner}, not to you (uid {uid})", path.display())]
    Owner { path: PathBuf, owner: u32, uid: u32 },
    #[error("the key file {}, line {line}: not `<origin> <key>`", path.display())]
    Line { path: PathBuf, line: usize },
    #[error("there is a key for {0} already")]
    Exists(Origin),
    #[error("no key here for {0}")]
    Missing(Origin),
    #[error("no randomness from the kernel: {0}")]
    Random(String),
}

fn io_error(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Returns `$XDG_CONFIG_HOME/govfs`. `variable` looks up the environment.
pub fn config_dir(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, KeyError> {
    xdg(&variable, "XDG_CONFIG_HOME", ".config")
}

/// Returns `$XDG_STATE_HOME/govfs`.
pub fn state_dir(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, KeyError> {
    xdg(&variable, "XDG_STATE_HOME", ".local/state")
}

/// An empty variable is an unset one; a relative path is none, says the XDG specification.
fn xdg(
    variable: &impl Fn(&str) -> Option<OsString>,
    name: &'static str,
    default: &str,
) -> Result<PathBuf, KeyError> {
    let absolute = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute(name)
        .or_else(|| absolute("HOME").map(|home| home.join(default)))
        .map(|base| base.join("govfs"))
        .ok_or(KeyError::NoHome { variable: name })
}

/// One line of the key file.
struct Held {
    origin: Origin,
    key: SecretKey,
    next: bool,
}

/// The operator's private keys.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
}

/// A key that may be staged beside the one in force.
#[derive(Clone, Debug)]
pub struct KeyPair {
    pub current: SecretKey,
    pub next: Option<SecretKey>,
}

impl Keys {
    /// Keeps keys in the directory `dir` ([`config_dir`]), which is made when a key is.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// Returns the key of `origin` and the one staged beside it.
    pub fn load(&self, origin: &Origin) -> Result<Option<KeyPair>, KeyError> {
        Ok(pair(&self.read()?, origin))
    }

    /// Makes a key for `origin`, which has none.
    pub fn create(&self, origin: &Origin) -> Result<SecretKey, KeyError> {
        self.change(|held| {
            if held.iter().any(|line| line.origin == *origin) {
                return Err(KeyError::Exists(origin.clone()));
            }
            let key = fresh()?;
            held.push(Held {
                origin: origin.clone(),
                key: key.clone(),
                next: false,
            });
            Ok(key)
        })
    }

    /// Makes the key that is to take over; one that is staged already stays.
    pub fn stage(&self, origin: &Origin) -> Result<KeyPair, KeyError> {
        self.change(|held| {
            let missing = || KeyError::Missing(origin.clone());
            let found = pair(held, origin).ok_or_else(missing)?;
            let next = match found.next {
                Some(next) => next,
                None => fresh()?,
            };
            held.retain(|line| line.origin != *origin || !line.next);
            held.push(Held {
                origin: origin.clone(),
                key: next.clone(),
                next: true,
            });
            Ok(KeyPair {
                current: found.current,
                next: Some(next),
            })
        })
    }

    /// Puts the staged key in force and forgets the old one.
    pub fn promote(&self, origin: &Origin) -> Result<SecretKey, KeyError> {
        self.change(|held| {
            let next = pair(held, origin).and_then(|found| found.next);
            let key = next.ok_or_else(|| KeyError::Missing(origin.clone()))?;
            held.retain(|line| line.origin != *origin);
            held.push(Held {
                origin: origin.clone(),
                key: key.clone(),
                next: false,
            });
            Ok(key)
        })
    }

    fn read(&self) -> Result<Vec<Held>, KeyError> {
        let path = self.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error(&path, source)),
        };
        check_private(&path, &file)?;
        let mut text = String::new();
        file.take(KEY_FILE_MAX)
            .read_to_string(&mut text)
            .map_err(|source| io_error(&path, source))?;
        let lines = text.lines().enumerate().map(|(at, line)| {
            parse(line).ok_or_else(|| KeyError::Line {
                path: path.clone(),
                line: at + 1,
            })
        });
        lines.collect()
    }

    /// Changes the file under its lock, whole and durably.
    fn change<T>(
        &self,
        edit: impl FnOnce(&mut Vec<Held>) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        make_private_dir(&self.dir)?;
        let lock_path = self.dir.join("key.lock");
        let lock = private_options()
            .read(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|source| io_error(&lock_path, source))?;
        lock.lock().map_err(|source| io_error(&lock_path, source))?;
        let mut held = self.read()?;
        let value = edit(&mut held)?;
        self.replace(&held)?;
        Ok(value)
    }

    fn replace(&self, held: &[Held]) -> Result<(), KeyError> {
        let fresh = self.dir.join("key.new");
        let replaced = (|| {
            // Under the lock only a crash can have left one.
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = private_options().create_new(true).open(&fresh)?;
            file.write_all(render(held).as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, self.path())?;
            File::open(&self.dir)?.sync_all()
        })();
        replaced.map_err(|source| io_error(&fresh, source))
    }
}

fn pair(held: &[Held], origin: &Origin) -> Option<KeyPair> {
    let find = |next| {
        held.iter()
            .find(|line| line.origin == *origin && line.next == next)
            .map(|line| line.key.clone())
    };
    Some(KeyPair {
        current: find(false)?,
        next: find(true),
    })
}

fn parse(line: &str) -> Option<Held> {
    let mut parts = line.split(' ');
    let origin = parts.next()?.parse().ok()?;
    let seed = STANDARD.decode(parts.next()?).ok()?.try_into().ok()?;
    let next = match (parts.next(), parts.next()) {
        (None, None) => false,
        (Some("next"), None) => true,
        _ => return None,
    };
    Some(Held {
        origin,
        key: SecretKey::of_bytes(&seed),
        next,
    })
}

fn render(held: &[Held]) -> String {
    held.iter().fold(String::new(), |mut text, line| {
        let key = STANDARD.encode(line.key.expose());
        let mark = if line.next { " next" } else { "" };
        let _ = writeln!(text, "{} {key}{mark}", line.origin);
        text
    })
}

fn fresh() -> Result<SecretKey, KeyError> {
    random().map(|seed| SecretKey::of_bytes(&seed))
}

/// Makes an origin that no other ledger has.
pub fn fresh_origin() -> Result<Origin, KeyError> {
    random().map(Origin::of_random)
}

fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(bytes)
}

/// Refuses a file that somebody else owns or may use.
fn check_private(path: &Path, file: &File) -> Result<(), KeyError> {
    let meta = file.metadata().map_err(|source| io_error(path, source))?;
    let uid = nix::unistd::geteuid().as_raw();
    if meta.uid() != uid {
        return Err(KeyError::Owner {
            path: path.to_owned(),
            owner: meta.uid(),
            uid,
        });
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn make_private_dir(dir: &Path) -> Result<(), KeyError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| io_error(dir, source))
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options
}
