//! Where governed mounts stand in this process's view of the machine.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Returns the mount points of all governed mounts that can be seen.
pub fn governed() -> Vec<PathBuf> {
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = info.lines().filter_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let place = fields.split(' ').nth(4)?;
        is_governed(kind).then(|| unescape(place))
    });
    mounts.collect()
}

/// Returns the governed mount that `dir` lies in.
pub fn around(dir: &Path) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    let dir = fs::canonicalize(&dir).unwrap_or(dir);
    let mounts = governed()
        .into_iter()
        .filter(|mount| dir.starts_with(mount));
    mounts.max_by_key(|mount| mount.components().count())
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
