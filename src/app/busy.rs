//! Which processes keep a mount busy.

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// Returns the processes (that this user may look at) with a file, directory or
/// mapping in the mount at `dir`; the server itself does not count.
pub fn users(dir: &Path, server: u32) -> Vec<u32> {
    let Some(device) = device(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid != server && pid != std::process::id() && uses(&entry.path(), device) {
            found.push(pid);
        }
    }
    found
}

fn uses(process: &Path, mount: (u32, u32)) -> bool {
    let on_device = |path: &Path| device(path) == Some(mount);
    let fixed = ["cwd", "root", "exe"]
        .iter()
        .any(|name| on_device(&process.join(name)));
    fixed
        || ["fd", "map_files"].iter().any(|dir| {
            let entries = fs::read_dir(process.join(dir))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .map(|entry| entry.path())
                .any(|path| on_device(&path))
        })
}

/// Returns the device that a file is on. No server is asked: other processes have
/// files open in mounts whose servers are stuck, and must not hold us up.
fn device(path: &Path) -> Option<(u32, u32)> {
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()).ok()?;
    Some((found.stx_dev_major, found.stx_dev_minor))
}
