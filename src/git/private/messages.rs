//! What the agent's own commits say, read as plain data.
//!
//! The private git directory is written by the agent. So nothing of it is opened
//! as a repository here: HEAD and the ref are read as files, links not followed,
//! commits as objects, and whatever is odd is no message.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use git2::Odb;

use crate::domain::base::Oid;

/// No HEAD or ref is larger; of a larger `packed-refs` the rest is not looked at.
const FILE_MAX: u64 = 1 << 20;
/// A longer message is cut.
const MESSAGE_MAX: usize = 16 << 10;

/// Returns the messages of the commits from HEAD down to `base`, newest first.
pub fn own_messages(dir: &Path, common_dir: &Path, base: Oid, limit: usize) -> Vec<String> {
    let mut out = Vec::new();
    let (Some(mut at), Some(odb)) = (head(dir), objects(dir, common_dir)) else {
        return out;
    };
    let base = git2::Oid::from_bytes(&base.0).unwrap_or(git2::Oid::ZERO_SHA1);
    while at != base && out.len() < limit {
        let Some((parent, message)) = commit(&odb, at) else {
            return Vec::new();
        };
        out.push(message);
        match parent {
            Some(parent) => at = parent,
            // A history of its own says nothing about this base.
            None => return Vec::new(),
        }
    }
    out
}

fn objects(dir: &Path, common_dir: &Path) -> Option<Odb<'static>> {
    let odb = Odb::new().ok()?;
    for place in [dir.join("objects"), common_dir.join("objects")] {
        let place = crate::git::base::in_text(&place).ok()?;
        odb.add_disk_alternate(&place).ok()?;
    }
    Some(odb)
}

fn commit(odb: &Odb<'_>, at: git2::Oid) -> Option<(Option<git2::Oid>, String)> {
    let object = odb.read(at).ok()?;
    if object.kind() != git2::ObjectType::Commit {
        return None;
    }
    let bytes = object.data();
    let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let text = &bytes[end + 2..];
    let parent = bytes[..end]
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"parent "))
        .and_then(id);
    let text = &text[..text.len().min(MESSAGE_MAX)];
    Some((parent, String::from_utf8_lossy(text).into_owned()))
}

fn id(hex: &[u8]) -> Option<git2::Oid> {
    git2::Oid::from_str(std::str::from_utf8(hex).ok()?.trim()).ok()
}

fn head(dir: &Path) -> Option<git2::Oid> {
    let text = read(&dir.join("HEAD"))?;
    let Some(name) = text.strip_prefix("ref:") else {
        return id(text.as_bytes());
    };
    let name = name.trim();
    let plain = name.starts_with("refs/heads/") && !name.contains("..");
    if !plain {
        return None;
    }
    match read(&dir.join(name)) {
        Some(text) => id(text.as_bytes()),
        None => packed(dir, name),
    }
}

fn packed(dir: &Path, name: &str) -> Option<git2::Oid> {
    let text = read(&dir.join("packed-refs"))?;
    text.lines().find_map(|line| {
        let (hex, of) = line.split_once(' ')?;
        (of == name).then(|| id(hex.as_bytes()))?
    })
}

fn read(path: &Path) -> Option<String> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}
