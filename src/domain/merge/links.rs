//! Symlinks that leave the tree.
//!
//! Owns: where a link leads, followed component by component through the other
//! links of the resulting tree, as the kernel would. A link may dangle inside
//! the tree; it may not leave it, enter git's directory or run in circles.

use super::{Facts, MergeRefusal, Node, Proposed, View};
use crate::domain::path::{RepoPath, is_git_alias};

/// Links followed before it counts as a circle, as in Linux.
const HOPS_MAX: usize = 40;
/// The longest target that Linux makes.
const TARGET_MAX: usize = 4095;

pub(super) fn judge(change: &Proposed, facts: &Facts<'_>, out: &mut Vec<MergeRefusal>) {
    let Some(target) = change.target.as_deref() else {
        return;
    };
    let hint = "point it at a path inside the repository";
    let mut refuse = |rule, reason: &str| {
        out.push(MergeRefusal::at(rule, &change.path, reason, hint));
    };
    if target.is_empty() || target.len() > TARGET_MAX {
        return refuse("symlink-target", "a target must have 1 to 4095 bytes");
    }
    if target.iter().any(u8::is_ascii_control) {
        refuse("symlink-target", "the target has control characters");
    }
    match walk(&change.path, target, &facts.after) {
        Ok(End::Inside) => {}
        Ok(End::Absolute) => refuse("symlink-absolute", "the target is absolute"),
        Ok(End::Outside) => refuse("symlink-escape", "the target leaves the repository"),
        Ok(End::Git) => refuse("symlink-git", "the target enters git's directory"),
        Ok(End::Circle) => refuse("symlink-circle", "the target leads back to itself"),
        Err(why) => refuse("unreadable", &why),
    }
}

/// Where a link leads in the end.
enum End {
    Inside,
    Absolute,
    Outside,
    Git,
    Circle,
}

fn walk(link: &RepoPath, target: &[u8], view: &View<'_>) -> Result<End, String> {
    let mut at = link.parent().unwrap_or_default();
    let mut rest = parts(target);
    let mut hops = 1;
    if target.starts_with(b"/") {
        return Ok(End::Absolute);
    }
    while let Some(part) = rest.pop() {
        match part.as_slice() {
            b"" | b"." => {}
            b".." => match at.parent() {
                Some(above) => at = above,
                None => return Ok(End::Outside),
            },
            name if is_git_alias(name) => return Ok(End::Git),
            name => {
                // A name that no path can hold leads nowhere.
                let Ok(next) = at.join(name) else {
                    return Ok(End::Inside);
                };
                let Some(Node::Symlink(inner)) = (view.node)(&next)? else {
                    at = next;
                    continue;
                };
                hops += 1;
                if hops > HOPS_MAX || next == *link {
                    return Ok(End::Circle);
                }
                if inner.starts_with(b"/") {
                    return Ok(End::Absolute);
                }
                rest.extend(parts(&inner));
            }
        }
    }
    Ok(End::Inside)
}

/// Returns the components of a target, last first.
fn parts(target: &[u8]) -> Vec<Vec<u8>> {
    let parts = target.split(|&b| b == b'/').rev();
    parts.map(<[u8]>::to_vec).collect()
}
