//! Which processes keep a mount busy.
//!
//! Asked by the names that the kernel gives to what a process holds, never by
//! looking at the files themselves: some other mount among them may not answer.

use std::fs;
use std::path::Path;

/// Returns the processes (that this user may look at) with a file, directory or
/// mapping in the mount at `dir`; the server itself does not count.
pub fn users(dir: &Path, server: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid != server && pid != std::process::id() && uses(&entry.path(), dir) {
            found.push(pid);
        }
    }
    found
}

fn uses(process: &Path, dir: &Path) -> bool {
    let inside = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(dir));
    let fixed = ["cwd", "root", "exe"]
        .iter()
        .any(|name| inside(&process.join(name)));
    fixed
        || ["fd", "map_files"].iter().any(|links| {
            let entries = fs::read_dir(process.join(links))
                .into_iter()
                .flatten()
                .flatten();
            entries.map(|entry| entry.path()).any(|link| inside(&link))
        })
}
