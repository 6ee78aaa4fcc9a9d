//! `replay`: decide every command again from the entries, and compare.
//!
//! Time comes from the entries, outcomes of checks are facts in them, so the same
//! rules must give the same verdicts. Every merge is computed again from the
//! session's log and must give the same tree.

use std::collections::BTreeSet;

use crate::app::failure::Failure;
use crate::app::merge::again::{self, Again};
use crate::app::site::Site;
use crate::domain::command::differs;
use crate::domain::digest::Digest;
use crate::domain::entry::Chain;
use crate::domain::event::{Entry, Event};
use crate::domain::state::State;
use crate::store::ledger::LedgerError;

/// What came out the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    pub refusals: u64,
    /// The merges and reverts that gave the same tree.
    pub trees: u64,
    /// What cannot be computed any more.
    pub remarks: Vec<String>,
}

/// Replays up to and including entry `to`. The first difference is the answer.
pub fn replay(site: &mut Site, to: Option<u64>) -> Result<Report, Failure> {
    let mut chain = Chain::new(Digest::ZERO);
    let mut state = State::default();
    let mut report = Report::default();
    let mut difference = None;
    let mut moves = Vec::new();
    let mut dropped = BTreeSet::new();
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
        if let Event::Gc(body) = &entry.event {
            dropped.extend(body.versions.iter().copied());
        }
        if again::moved_a_branch(&entry) {
            moves.push(entry);
        }
        Ok(difference.is_none())
    })?;
    if let Some(to) = to
        && report.entries <= to
        && difference.is_none()
    {
        return Err(Failure::missing(format!("there is no entry {to}")).hint("govfs log"));
    }
    if let Some(what) = difference {
        return Err(Failure::integrity(what));
    }
    compute(site, &moves, &dropped, &mut report)?;
    Ok(report)
}

/// Computes every merge and revert again. The first difference is the answer.
fn compute(
    site: &mut Site,
    moves: &[Entry],
    dropped: &BTreeSet<Digest>,
    report: &mut Report,
) -> Result<(), Failure> {
    for entry in moves {
        let seq = entry.seq;
        match again::again(site, entry, dropped)? {
            Again::Same => report.trees += 1,
            Again::Gone(why) => report.remarks.push(format!("entry {seq}: {why}")),
            Again::Differs(what) => {
                return Err(Failure::integrity(format!("entry {seq}: {what}")));
            }
        }
    }
    Ok(())
}
