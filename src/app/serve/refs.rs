//! The repository's refs, as a living mount shows them.
//!
//! Owns: noticing that the operator may have pruned what the session was shown, and
//! having the private git directory mended. Looks only where a prune leaves traces,
//! so that nothing is read while nothing was pruned. Never adds a ref.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::answers::Desk;
use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::git::private::mend_refs;

const PACKED: &str = "packed-refs";
/// What a prune of objects changes, with what a deletion of branches does.
const TRACES: [&str; 3] = [PACKED, "objects", "objects/pack"];

/// When the traces changed last.
pub(super) type Traces = [Option<SystemTime>; TRACES.len()];

/// Returns how the repository stands now.
pub(super) fn traces(common: &Path) -> Traces {
    TRACES.map(|name| fs::metadata(common.join(name)).ok()?.modified().ok())
}

impl Desk {
    /// Takes refs out of the mount whose commits are pruned, if any may be.
    pub(super) fn mend_refs(&self, site: &Site) -> Result<(), Failure> {
        let common = site.repo.common_dir();
        let now = traces(common);
        if *self.traces.lock() == now {
            return Ok(());
        }
        let (dir, shown) = (self.session.dir.join("git"), self.session.dir.join("refs"));
        if mend_refs(&dir, common, &shown).map_err(Failure::failed)?
            && let Some(server) = self.server.read().as_ref()
        {
            server.overlay().renamed_in_gitdir(PACKED.as_bytes());
        }
        *self.traces.lock() = now;
        Ok(())
    }
}
