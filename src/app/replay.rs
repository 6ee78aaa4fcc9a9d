//! `replay`: decide every command again from the entries, and compare.
//!
//! Time comes from the entries, outcomes of checks are facts in them, so the same
//! rules must give the same verdicts. Every merge is computed again from the
//! session's log and must give the same tree; every verdict about one is given
//! again from the ledger as it was then.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::failure::Failure;
use crate::app::merge::again::{self, Again};
use crate::app::site::Site;
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
    /// What cannot be computed any more.
    pub remarks: Vec<String>,
}

/// Replays up to and including entry `to`. The first difference is the answer.
pub fn replay(site: &mut Site, to: Option<u64>) -> Result<Report, Failure> {
    let mut chain = Chain::new(Digest::ZERO);
    let mut state = State::default();
    let mut report = Report::default();
    let mut run: Vec<Entry> = Vec::new();
    let mut difference = None;
    let mut moves = Vec::new();
    let mut verdicts: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
    let mut dropped = BTreeSet::new();
    site.ledger.lines()?.forward(0, &mut |seq, bytes| {
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
        if let Event::Gc(body) = &entry.event {
            dropped.extend(body.versions.iter().copied());
        }
        if let Event::Merge(body) = &entry.event {
            let judged = body.judged.unwrap_or(seq).min(seq);
            verdicts.entry(judged).or_default().push(entry.clone());
        }
        if again::moved_a_branch(&entry) {
            moves.push(entry.clone());
        }
        run.push(entry);
        Ok(difference.is_none())
    })?;
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
    compute(site, &moves, &dropped, &mut report)?;
    judge(site, verdicts, &dropped, &mut report)?;
    Ok(report)
}

/// Decides what one command gave, folds it in, and says where the verdict differs.
fn decide_again(state: &mut State, run: &mut Vec<Entry>) -> Option<String> {
    let difference = differ(state, run).map(|(seq, what)| format!("entry {seq}: {what}"));
    for entry in run.drain(..) {
        state.apply(&entry);
    }
    difference
}

/// Gives every verdict about a merge again, each from the entries that it rested on.
fn judge(
    site: &mut Site,
    verdicts: BTreeMap<u64, Vec<Entry>>,
    dropped: &BTreeSet<Digest>,
    report: &mut Report,
) -> Result<(), Failure> {
    let (mut state, mut at) = (State::default(), 0);
    for (judged, entries) in verdicts {
        site.ledger.lines()?.forward(at, &mut |seq, bytes| {
            if seq < judged {
                let line =
                    Line::parse(bytes).map_err(|fault| LedgerError::Damaged(fault.to_string()))?;
                state.apply(&Entry::from_line(&line, leaf(bytes))?);
            }
            Ok(seq < judged)
        })?;
        at = judged;
        for entry in entries {
            let done = again::judge_again(site, &state, &entry, dropped)?;
            if note(&entry, done, report)? {
                report.merges += 1;
            }
        }
    }
    Ok(())
}

/// Takes up what came of it: whether it was the same, or a remark; a difference ends the replay.
fn note(entry: &Entry, again: Again, report: &mut Report) -> Result<bool, Failure> {
    let seq = entry.seq;
    match again {
        Again::Same => return Ok(true),
        Again::Gone(why) => {
            let remark = format!("entry {seq}: {why}");
            if !report.remarks.contains(&remark) {
                report.remarks.push(remark);
            }
        }
        Again::Differs(what) => return Err(Failure::integrity(format!("entry {seq}: {what}"))),
    }
    Ok(false)
}

/// Computes every merge and revert again. The first difference is the answer.
fn compute(
    site: &mut Site,
    moves: &[Entry],
    dropped: &BTreeSet<Digest>,
    report: &mut Report,
) -> Result<(), Failure> {
    for entry in moves {
        let done = again::again(site, entry, dropped)?;
        if note(entry, done, report)? {
            report.trees += 1;
        }
    }
    Ok(())
}
