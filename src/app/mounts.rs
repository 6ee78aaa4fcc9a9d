//! Where governed mounts stand in this process's view of the machine, and whether they answer.
//!
//! Owns: reading the mount table, and looking at a place without being held up by a
//! server that is dead or silent. Never mounts or unmounts.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::major;
use nix::sys::statfs::statfs;

/// How long a mount may take to answer a statfs before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// As much as most mount tables hold.
const INFO_BYTES: usize = 32 << 10;

/// Returns the mount points of all governed mounts that can be seen.
pub fn governed() -> Vec<PathBuf> {
    let info = info().unwrap_or_default();
    let mounts = info.lines().filter_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let place = fields.split(' ').nth(4)?;
        is_governed(kind).then(|| unescape(place))
    });
    mounts.collect()
}

/// Reads the mount table. The file says no size, so that room is made for it beforehand: each read costs the kernel.
fn info() -> std::io::Result<String> {
    let mut info = String::with_capacity(INFO_BYTES);
    fs::File::open("/proc/self/mountinfo")?.read_to_string(&mut info)?;
    Ok(info)
}

/// Returns the governed mount that `dir` lies in.
pub fn around(dir: &Path) -> Option<PathBuf> {
    // What lies on a disk lies in no mount of ours, and the mount table is not read for it.
    if fs::metadata(dir).is_ok_and(|meta| major(meta.dev()) != 0) {
        return None;
    }
    let dir = std::path::absolute(dir).ok()?;
    let dir = fs::canonicalize(&dir).unwrap_or(dir);
    let mounts = governed()
        .into_iter()
        .filter(|mount| dir.starts_with(mount));
    mounts.max_by_key(|mount| mount.components().count())
}

/// What a place says when somebody looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It answers, or is not there.
    Well,
    /// A mount whose server is dead.
    Dead,
    /// A mount whose server does not answer.
    Silent,
}

/// Looks at a place without waiting for ever: a silent server holds up whoever asks.
pub fn look(dir: &Path) -> Looked {
    let (sender, answer) = mpsc::channel();
    let place = dir.to_owned();
    // Left behind where it hangs; it ends with this process.
    let asking = std::thread::Builder::new().spawn(move || {
        // Attributes may come from the kernel's cache, of a dead server too; this never does.
        let _ = sender.send(statfs(&place).err());
    });
    if asking.is_err() {
        return Looked::Silent;
    }
    match answer.recv_timeout(PATIENCE) {
        Ok(Some(Errno::ENOTCONN)) => Looked::Dead,
        Ok(_) => Looked::Well,
        Err(_) => Looked::Silent,
    }
}

/// Returns the number of the kernel's connection to the governed mount at `dir`.
pub fn connection(dir: &Path) -> Option<u64> {
    let info = info().ok()?;
    info.lines().rev().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let here = is_governed(kind) && unescape(fields.get(4)?) == dir;
        let (_, minor) = fields.get(2).filter(|_| here)?.split_once(':')?;
        minor.parse().ok()
    })
}

/// Cuts a connection to its server: the mount fails closed from then on.
pub fn cut_off(connection: u64) -> std::io::Result<()> {
    fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1")
}

/// Tells by type and source, of which an unprivileged mount may show only the latter.
fn is_governed(kind: &str) -> bool {
    kind.starts_with("fuse.govfs ") || kind.starts_with("fuse govfs ")
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = rest.get(1..4).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(code) if first == b'\\' => {
                bytes.push(code);
                rest = &rest[4..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::unescape;
    use std::path::Path;

    #[test]
    fn a_mount_point_with_spaces_is_read_back() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape(r"/a\04"), Path::new(r"/a\04"));
    }
}
