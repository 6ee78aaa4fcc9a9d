//! `verify`: is the ledger whole?
//!
//! Looks at the entries themselves first: chain, tree, the projections' idea of the
//! end. The first fault is the answer: what and where.

use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::digest::Digest;
use crate::domain::entry::Chain;
use crate::domain::event::Entry;
use crate::domain::proof::Tree;
use crate::domain::state::State;
use crate::store::ledger::LedgerError;

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub deep: bool,
}

/// What was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    pub root: Digest,
    pub deep: bool,
}

pub fn verify(site: &mut Site, options: &Options) -> Result<Report, Failure> {
    let lines = site.ledger.lines()?;
    let mut chain = Chain::new(Digest::ZERO);
    let mut tree = Tree::new();
    let mut fold = State::default();
    lines.forward(0, &mut |_, bytes| {
        let (line, leaf) = chain.push(bytes)?;
        tree.push(leaf);
        if options.deep {
            fold.apply(&Entry::from_line(&line, leaf).map_err(LedgerError::from)?);
        }
        Ok(true)
    })?;
    let (end, frontier) = lines.tail()?;
    if end.seq() != chain.seq() || end.prev() != chain.prev() || frontier.root() != tree.root() {
        return Err(Failure::integrity(format!(
            "the ledger has {} entries, but {} were recorded",
            chain.seq(),
            end.seq()
        )));
    }
    if options.deep
        && let Some(difference) = lines.compare(&fold)?
    {
        return Err(Failure::integrity(format!("projection {difference}")));
    }
    Ok(Report {
        entries: chain.seq(),
        root: tree.root(),
        deep: options.deep,
    })
}
