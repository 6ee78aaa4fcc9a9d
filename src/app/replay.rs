//! `replay`: decide every command again from the entries, and compare.
//!
//! Time comes from the entries, outcomes of checks are facts in them, so the same
//! rules must give the same verdicts. Every merge is computed again from the
//! session's log and must give the same tree; every verdict about one is given
//! again from the ledger as it was then; every sync finds the same conflicts.

use std::collections::BTreeSet;

use crate::app::failure::Failure;
use crate::app::merge::again::{self, Again};
use crate::app::site::Site;
use crate::app::sync;
use crate::domain::command::{differ, goes_on};
use crate::domain::digest::Digest;
use crate::domain::entry::{Chain, Line, leaf};
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
    /// The merges, and refusals of one, that were judged the same.
    pub merges: u64,
    /// The syncs, and refusals of one, that found the same conflicts.
    pub syncs: u64,
    /// What cannot be computed any more.
    pub remarks: Vec<String>,
}

impl Report {
    /// Notes what came of computing an entry again; a difference is the answer.
    fn note(&mut self, seq: u64, again: Again) -> Result<(), Failure> {
        match again {
            Again::Same => Ok(()),
            Again::Gone(why) => {
                let remark = format!("entry {seq}: {why}");
                if !self.remarks.contains(&remark) {
                    self.remarks.push(remark);
                }
                Ok(())
            }
            Again::Differs(what) => Err(Failure::integrity(format!("entry {seq}: {what}"))),
        }
    }
}

/// Replays up to and including entry `to`. The first difference is the answer.
pub fn replay(site: &mut Site, to: Option<u64>) -> Result<Report, Failure> {
    let mut chain = Chain::new(Digest::ZERO);
    let mut state = State::default();
    let mut report = Report::default();
    let mut run: Vec<Entry> = Vec::new();
    let mut difference = None;
    let mut moves = Vec::new();
    let mut dropped: Option<BTreeSet<Digest>> = None;
    loop {
        let mut judged = None;
        let from = chain.seq();
        site.ledger.lines()?.forward(from, &mut |seq, bytes| {
            if to.is_some_and(|to| seq > to) {
                return Ok(false);
            }
            let (line, leaf) = chain.push(bytes)?;
            let entry = Entry::from_line(&line, leaf).map_err(LedgerError::from)?;
            if run.last().is_none_or(|last| !goes_on(last, &entry)) {
                difference = decide_again(&mut state, &mut run);
            }
            report.entries += 1;
            report.refusals += u64::from(line.get("decision") == Some(br#""deny""#));
            if again::moved_a_branch(&entry) || matches!(entry.event, Event::Sync(_)) {
                moves.push(entry.clone());
            }
            if again::has_verdict(&entry) {
                judged = Some(entry.clone()); // the state stays as it was before this one
            }
            run.push(entry);
            Ok(difference.is_none() && judged.is_none())
        })?;
        let Some(entry) = judged.filter(|_| difference.is_none()) else {
            break;
        };
        let dropped = match &dropped {
            Some(dropped) => dropped,
            None => dropped.insert(dropped_contents(site)?),
        };
        let again = again::judged_again(site, &state, &entry, dropped)?;
        report.merges += u64::from(again == Again::Same);
        report.note(entry.seq, again)?;
    }
    let difference = difference.or_else(|| decide_again(&mut state, &mut run));
    if let Some(to) = to
        && report.entries <= to
        && difference.is_none()
    {
        return Err(Failure::missing(format!("there is no entry {to}")).hint("govfs log"));
    }
    if let Some(what) = difference {
        return Err(Failure::integrity(what));
    }
    let dropped = match dropped {
        Some(dropped) => dropped,
        None => dropped_contents(site)?,
    };
    compute(site, &moves, &dropped, &mut report)?;
    Ok(report)
}

/// Returns every content that `gc` has dropped, whenever that was.
fn dropped_contents(site: &mut Site) -> Result<BTreeSet<Digest>, Failure> {
    let mut dropped = BTreeSet::new();
    site.ledger.lines()?.forward(0, &mut |_, bytes| {
        let line = Line::parse(bytes).map_err(|fault| LedgerError::Damaged(fault.to_string()))?;
        if line.op == "gc"
            && let Event::Gc(body) = Entry::from_line(&line, leaf(bytes))?.event
        {
            dropped.extend(body.versions);
        }
        Ok(true)
    })?;
    Ok(dropped)
}

/// Decides what one command gave, folds it in, and says where the verdict differs.
fn decide_again(state: &mut State, run: &mut Vec<Entry>) -> Option<String> {
    let difference = differ(state, run).map(|(seq, what)| format!("entry {seq}: {what}"));
    for entry in run.drain(..) {
        state.apply(&entry);
    }
    difference
}

/// Computes every merge, revert and sync again. The first difference is the answer.
fn compute(
    site: &mut Site,
    moves: &[Entry],
    dropped: &BTreeSet<Digest>,
    report: &mut Report,
) -> Result<(), Failure> {
    for entry in moves {
        let seq = entry.seq;
        let (again, same) = match (&entry.event, &entry.session) {
            (Event::Sync(body), Some(session)) => {
                (sync::again(site, session, body)?, &mut report.syncs)
            }
            _ => (again::again(site, entry, dropped)?, &mut report.trees),
        };
        *same += u64::from(again == Again::Same);
        report.note(seq, again)?;
    }
    Ok(())
}
