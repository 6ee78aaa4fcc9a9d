//! What a server does by itself: seals, renewals, new rules.
//!
//! Invariants: a seal is appended only after the log and the versions that it
//! names are durable; a duty that fails is said in the server's log and tried
//! again, and never stops the serving.

use std::sync::atomic::Ordering;

use super::answers::Desk;
use super::record;
use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::command::Command;
use crate::domain::event::{Event, Sealed};
use crate::domain::gate::Rules;
use crate::domain::state::State;

impl Desk {
    /// One round of duties.
    pub(super) fn beat(&self, site: &mut Site) {
        let leases = self
            .follow_ledger(site)
            .and_then(|()| self.look_after_leases(site));
        let refs = self.mend_refs(site);
        // Its own duty: what is written is sealed also where no lease can be renewed.
        let sealed = if self.seal_is_due() {
            self.seal(site)
        } else {
            Ok(())
        };
        for failure in [leases, refs, sealed].into_iter().filter_map(Result::err) {
            tracing::warn!(%failure, "a duty failed and will be tried again");
        }
    }

    /// Takes in what other commands did, also where none of them could tell this server.
    fn follow_ledger(&self, site: &mut Site) -> Result<(), Failure> {
        let pulse = site.ledger.pulse()?;
        if pulse == *self.pulse.lock() {
            Ok(())
        } else {
            self.reload(site)
        }
    }

    pub(super) fn note_leases(&self, state: &State, rules: &Rules) {
        let ends = rules.claims.iter().filter_map(|grant| grant.until_boot_ms);
        self.lease_end_ms
            .store(ends.min().unwrap_or(u64::MAX), Ordering::Relaxed);
        let now = clock::now();
        let half = state.claims_of(&self.session.agent).map(|claim| {
            now.boot_ms
                + claim
                    .lease
                    .left_ms(&now)
                    .saturating_sub(claim.lease.ttl_ms / 2)
        });
        self.renew_ms
            .store(half.min().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Renews leases that are half over, of a session that has been active since
    /// they were last renewed; ends those that are over.
    fn look_after_leases(&self, site: &mut Site) -> Result<(), Failure> {
        let now = clock::boot_ms();
        let Some(keeper) = self.keeper() else {
            return Ok(());
        };
        if now >= self.lease_end_ms.load(Ordering::Relaxed) {
            site.act(|_| Ok(()))?; // every turn begins by ending what is due
            return self.reload(site);
        }
        let due = now >= self.renew_ms.load(Ordering::Relaxed);
        if due && keeper.active_ms() > self.renewed_ms.load(Ordering::Relaxed) {
            self.renewed_ms.store(now, Ordering::Relaxed);
            let command = Command::Renew {
                agent: self.session.agent.clone(),
            };
            site.command(&command)?;
            return self.reload(site);
        }
        Ok(())
    }

    /// Says whether anything was logged that no seal of this server binds.
    pub(super) fn has_unsealed(&self) -> bool {
        let sealed = self.sealed.load(Ordering::Relaxed);
        self.keeper().is_some_and(|keeper| keeper.count() != sealed)
    }

    fn seal_is_due(&self) -> bool {
        let Some(keeper) = self.keeper() else {
            return false;
        };
        let fresh = keeper
            .count()
            .saturating_sub(self.sealed.load(Ordering::Relaxed));
        let age = clock::boot_ms().saturating_sub(self.sealed_ms.load(Ordering::Relaxed));
        fresh >= self.seal_entries || (fresh > 0 && age >= self.seal_interval_ms)
    }

    /// Binds everything logged so far into the ledger.
    pub(super) fn seal(&self, site: &mut Site) -> Result<(), Failure> {
        let Some(keeper) = self.keeper() else {
            return Ok(());
        };
        let _alone = self.sealing.lock();
        let seal = keeper
            .seal()
            .map_err(|error| Failure::failed(format!("the write log is not durable: {error}")))?;
        self.sealed_ms.store(clock::boot_ms(), Ordering::Relaxed);
        if seal.count == self.sealed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sealed = Sealed {
            count: seal.count,
            head: seal.head,
            root: seal.root,
            scratch: Some(self.scratch()),
        };
        record(site, &self.session, Event::Seal(sealed))?;
        self.sealed.store(seal.count, Ordering::Relaxed);
        Ok(())
    }
}
