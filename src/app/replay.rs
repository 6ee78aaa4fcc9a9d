//! `replay`: decide every command again from the entries, and compare.
//!
//! Time comes from the entries, outcomes of checks are facts in them, so the same
//! rules must give the same verdicts.

use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::command::differs;
use crate::domain::digest::Digest;
use crate::domain::entry::Chain;
use crate::domain::event::Entry;
use crate::domain::state::State;
use crate::store::ledger::LedgerError;

/// What came out the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    pub refusals: u64,
}

/// Replays up to and including entry `to`. The first difference is the answer.
pub fn replay(site: &mut Site, to: Option<u64>) -> Result<Report, Failure> {
    let mut chain = Chain::new(Digest::ZERO);
    let mut state = State::default();
    let mut report = Report::default();
    let mut difference = None;
    site.ledger.lines()?.forward(0, &mut |seq, bytes| {
        if to.is_some_and(|to| seq > to) {
            return Ok(false);
        }
        let (line, leaf) = chain.push(bytes)?;
        let entry = Entry::from_line(&line, leaf).map_err(LedgerError::from)?;
        difference = differs(&state, &entry).map(|what| format!("entry {seq}: {what}"));
        report.entries += 1;
        report.refusals += u64::from(line.get("decision") == Some(br#""deny""#));
        state.apply(&entry);
        Ok(difference.is_none())
    })?;
    if let Some(to) = to
        && report.entries <= to
        && difference.is_none()
    {
        return Err(Failure::missing(format!("there is no entry {to}")).hint("govfs log"));
    }
    match difference {
        Some(what) => Err(Failure::integrity(what)),
        None => Ok(report),
    }
}
