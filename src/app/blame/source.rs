//! Which entry of a session's write log brought each line that its merge brought.
//!
//! Owns: the versions that a path had in a session, through its renames and atomic
//! saves, and the walk back through them: a line comes from the first version that
//! it has stood in ever since. Where contents are past retention the walk ends
//! early, at an entry that surely had the line.

use std::collections::{BTreeMap, HashMap};

use crate::app::failure::Failure;
use crate::app::merge::work;
use crate::app::serve::ground;
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::convert::{Conversion, to_git};
use crate::domain::digest::Digest;
use crate::domain::event::Merged;
use crate::domain::logop::LogOp;
use crate::domain::names::SessionId;
use crate::domain::path::RepoPath;
use crate::git::promote::{Promote, kept_lines};
use crate::store::versions::Versions;

/// Larger contents are not compared.
const COMPARED_MAX: u64 = 16 << 20;
/// Of more versions only the latest are looked at.
const STEPS_MAX: usize = 1000;

/// A version that a path had, and the entry that says so.
type Step = (u64, Digest);

type Histories = BTreeMap<RepoPath, Vec<Step>>;

/// One session's versions, by the path that they have in the end.
pub(super) struct Source {
    histories: Histories,
    conversions: crate::git::base::GitBase,
    versions: Versions,
}

impl Source {
    /// Reads what the session had written when it was merged.
    pub(super) fn read(site: &mut Site, id: &SessionId, body: &Merged) -> Result<Self, Failure> {
        let mut row = session::load(site, id)?;
        row.base = body.base;
        let session = Session::of(site, id, &row);
        let mut histories = Histories::new();
        work::read(&session, body.count, &mut |seq, op, _| {
            follow(&mut histories, seq, op);
        })?;
        Ok(Self {
            histories,
            conversions: ground::base(site, &session)?,
            versions: Versions::of(&site.store),
        })
    }

    /// Returns for each of `numbers` (lines of the merged file, from 0) the entry that brought it.
    pub(super) fn entries(
        &self,
        promote: &Promote,
        body: &Merged,
        path: &RepoPath,
        numbers: &[usize],
    ) -> Result<HashMap<usize, u64>, Failure> {
        let mut found = HashMap::new();
        let record = body.paths.iter().find(|record| record.path == *path);
        let (Some(record), Some(steps)) = (record, self.histories.get(path)) else {
            return Ok(found);
        };
        let Some((&(last, _), _)) = steps.split_last() else {
            return Ok(found);
        };
        let (Some(own), Some(result)) = (record.session, record.result) else {
            return Ok(found);
        };
        let blob = |oid| promote.blob(oid).map_err(Failure::failed);
        let mut new = blob(own)?;
        let mut open: Vec<(usize, usize)> = if own == result {
            numbers.iter().map(|&number| (number, number)).collect()
        } else {
            let kept = kept_lines(&new, &blob(result)?).map_err(Failure::failed)?;
            let own = |number: &usize| Some((*number, *kept.get(number)?));
            numbers.iter().filter_map(own).collect()
        };
        found.extend(numbers.iter().map(|&number| (number, last)));
        let conversion = self.conversions.conversion(path).unwrap_or_default();
        let pairs = steps.windows(2).rev().take(STEPS_MAX);
        for pair in pairs {
            let Some(old) = self.content(&pair[0].1, &conversion) else {
                break;
            };
            let kept = kept_lines(&old, &new).map_err(Failure::failed)?;
            open.retain_mut(|(number, here)| match kept.get(here) {
                Some(before) => {
                    *here = *before;
                    found.insert(*number, pair[0].0);
                    true
                }
                None => false,
            });
            if open.is_empty() {
                break;
            }
            new = old;
        }
        Ok(found)
    }

    /// Returns a version as git would store it; nothing where it is not kept, or large.
    fn content(&self, sha256: &Digest, conversion: &Conversion) -> Option<Vec<u8>> {
        if self.versions.size(sha256)? > COMPARED_MAX {
            return None;
        }
        let bytes = self.versions.read(sha256).ok()?;
        let stored = to_git(&bytes, conversion, None).map(std::borrow::Cow::into_owned);
        Some(stored.unwrap_or(bytes))
    }
}

/// Follows every path's versions; what replaces a file goes on from what that had.
fn follow(all: &mut Histories, seq: u64, op: &LogOp) {
    match op {
        LogOp::Version { path, sha256, .. } | LogOp::Recovered { path, sha256, .. } => {
            all.entry(path.clone()).or_default().push((seq, *sha256));
        }
        LogOp::Rename {
            path, to, exchange, ..
        } => {
            let moved = take(all, path);
            let back = if *exchange { take(all, to) } else { Vec::new() };
            for (old, steps) in moved {
                let Some(new) = old.rebase(path, to) else {
                    continue;
                };
                all.entry(new).or_default().extend(steps);
            }
            let back = back.into_iter();
            all.extend(back.filter_map(|(old, steps)| Some((old.rebase(to, path)?, steps))));
        }
        _ => {}
    }
}

fn take(all: &mut BTreeMap<RepoPath, Vec<Step>>, at: &RepoPath) -> Vec<(RepoPath, Vec<Step>)> {
    let found: Vec<RepoPath> = all
        .keys()
        .filter(|path| path.starts_with(at))
        .cloned()
        .collect();
    found
        .into_iter()
        .filter_map(|path| all.remove_entry(&path))
        .collect()
}
