//! Under which ids a caller's agent runs.
//!
//! Owns: the choice. An ordinary user's agent has that user's; root's has a kernel uid that is nobody else's, which
//! in a container has to be one of the container's. Never changes an id.

use std::fs;
use std::ops::Range;

use crate::sandbox::spec::Identity;

/// The number by which a mapped agent knows itself, and the one that it has where every number is there.
const INSIDE: u32 = 1000;
const OUTSIDE: u32 = 100_000;
/// What the kernel shows in the place of an id that has no number.
const NOBODY: u32 = 65_534;

impl Identity {
    /// Returns the ids of an agent that this process launches.
    pub fn of_caller() -> Self {
        if !nix::unistd::geteuid().is_root() {
            return Self::Own;
        }
        let map = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        of_root(&map("uid_map"), || map("gid_map"))
    }
}

/// Chooses by the maps of root's own user namespace.
fn of_root(uids: &str, gids: impl FnOnce() -> String) -> Identity {
    let mapped = |outside| Identity::Mapped {
        inside: INSIDE,
        outside,
    };
    let uids = ranges(uids);
    if uids == [(0..u32::MAX, 0)] {
        return mapped(OUTSIDE); // no container's
    }
    let gids = ranges(&gids());
    let has = |id: u32| {
        let holds = |ranges: &[(Range<u32>, u32)]| ranges.iter().any(|(ids, _)| ids.contains(&id));
        holds(&uids) && holds(&gids)
    };
    let last = |(ids, _): &(Range<u32>, u32)| [ids.end - 1, ids.end.saturating_sub(2)];
    let ends = uids.iter().rev().flat_map(last);
    let mut candidates = std::iter::once(OUTSIDE).chain(ends);
    if let Some(id) = candidates.find(|id| *id != 0 && *id != NOBODY && has(*id)) {
        return mapped(id);
    }
    // Root is all that this container has; of the machine it may be an ordinary user.
    let root = uids.iter().find(|(ids, _)| ids.start == 0);
    match root {
        Some((_, outer)) if *outer != 0 => Identity::Own,
        _ => mapped(OUTSIDE), // named as missing when it is tried
    }
}

/// Reads a map of ids: those that are there, and what the first of them is one namespace further out.
fn ranges(map: &str) -> Vec<(Range<u32>, u32)> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        let (first, outer, count) = (next()?, next()?, next()?);
        (count > 0).then(|| (first..first.saturating_add(count), outer))
    };
    map.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_root_has_an_id_that_is_there() {
        let whole = "         0          0 4294967295\n";
        let mapped = |outside| Identity::Mapped {
            inside: 1000,
            outside,
        };
        for (uids, gids, identity) in [
            (whole, whole, mapped(100_000)),
            // A container of an ordinary user's, with the ids that the machine gave that user.
            (
                "0 1000 1\n1 100000 65536\n",
                "0 1000 1\n1 100000 65536\n",
                mapped(65_536),
            ),
            ("0 165536 65536\n", "0 165536 65536\n", mapped(65_535)),
            ("0 165536 65535\n", "0 165536 65535\n", mapped(65_533)),
            ("0 300000 200000\n", "0 300000 200000\n", mapped(100_000)),
            // One that has no other group, and one that has root alone.
            ("0 1000 1\n1 100000 65536\n", "0 1000 1\n", Identity::Own),
            ("0 1000 1\n", "0 1000 1\n", Identity::Own),
            // The machine's root in a namespace of its own is root still.
            ("0 0 1\n", "0 0 1\n", mapped(100_000)),
            ("", "", mapped(100_000)),
        ] {
            assert_eq!(of_root(uids, || gids.to_owned()), identity, "{uids}{gids}");
        }
    }
}
