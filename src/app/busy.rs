//! Which processes keep a mount busy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the processes (that this user may look at) with a file, directory or
/// mapping in the mount at `dir`; the server itself does not count.
pub fn users(dir: &Path, server: u32) -> Vec<u32> {
    let Ok(device) = fs::metadata(dir).map(|meta| meta.dev()) else {
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

fn uses(process: &Path, device: u64) -> bool {
    let on_device = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.dev() == device);
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
