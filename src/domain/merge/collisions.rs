//! Names that are one and the same on another system.
//!
//! Owns: the comparison (case folded, canonically decomposed; bytes that are no
//! UTF-8 by ASCII case) and the search among the siblings of each new name. Each
//! touched directory is listed once.

use std::collections::{BTreeMap, BTreeSet};

use unicode_normalization::UnicodeNormalization as _;

use super::{Facts, MergeRefusal, Proposed};
use crate::domain::path::RepoPath;

pub(super) fn judge(proposed: &[Proposed], facts: &Facts<'_>, out: &mut Vec<MergeRefusal>) {
    let mut asked: BTreeSet<RepoPath> = BTreeSet::new();
    let mut by_dir: BTreeMap<RepoPath, BTreeSet<RepoPath>> = BTreeMap::new();
    for change in proposed.iter().filter(|change| change.introduced()) {
        let path = &change.path;
        for part in path.ancestors().chain(std::iter::once(path.clone())) {
            if !asked.insert(part.clone()) {
                continue;
            }
            match (facts.before.node)(&part) {
                Ok(None) => {
                    let dir = part.parent().unwrap_or_default();
                    by_dir.entry(dir).or_default().insert(part);
                }
                Ok(Some(_)) => {}
                Err(why) => out.push(unreadable(&part, why)),
            }
        }
    }
    for (dir, introduced) in &by_dir {
        match (facts.after.names)(dir) {
            Ok(names) => one(introduced, &names, out),
            Err(why) => out.push(unreadable(dir, why)),
        }
    }
}

fn unreadable(path: &RepoPath, why: String) -> MergeRefusal {
    MergeRefusal::at(
        "unreadable",
        path,
        why,
        "repair the repository and merge again",
    )
}

/// Compares the new names of one directory with all of its names.
fn one(introduced: &BTreeSet<RepoPath>, names: &[Vec<u8>], out: &mut Vec<MergeRefusal>) {
    let mut same: BTreeMap<Vec<u8>, Vec<&Vec<u8>>> = BTreeMap::new();
    for name in names {
        same.entry(fold(name)).or_default().push(name);
    }
    for path in introduced {
        let name = path.name();
        let Some(others) = same.get(&fold(name)) else {
            continue;
        };
        let Some(other) = others.iter().find(|other| other.as_slice() != name) else {
            continue;
        };
        let shown = crate::domain::path::percent_encode(other);
        let (rule, how) = if decompose(name) == decompose(other) {
            ("normalisation-collision", "spelled with other code points")
        } else {
            ("case-collision", "in another case")
        };
        let reason = format!("its directory has {shown}, the same name {how}");
        let hint = "give one of them another name";
        out.push(MergeRefusal::at(rule, path, reason, hint));
    }
}

fn decompose(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => text.nfd().collect::<String>().into_bytes(),
        Err(_) => name.to_vec(),
    }
}

fn fold(name: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(name) {
        Ok(text) => {
            // Upper before lower: `ß` and `SS`, the two sigmas and long `s` meet there.
            let lower = text.nfd().collect::<String>().to_uppercase().to_lowercase();
            lower.nfd().collect::<String>().into_bytes()
        }
        Err(_) => name.to_ascii_lowercase(),
    }
}
