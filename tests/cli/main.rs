//! The program's verbs, as people and scripts call them.

#[path = "../common/mod.rs"]
mod common;

mod claims;
mod fleet;
mod growth;
mod ledger;
mod plans;
mod queue;
mod views;
