//! From an older format of the store to this one.
//!
//! Owns: the steps, one a format. Only projections change, and in one transaction;
//! lines are never written again. Whoever calls has made sure that no older server
//! lives: one that opens the store meanwhile finds a newer format, and fails closed.

use rusqlite::{Connection, TransactionBehavior};

use super::schema::{CLAIMS, FORMAT};
use super::{LedgerError, fault, rows};
use crate::domain::state::{Kind, State};

/// Brings the store forward; of two processes one does it.
pub(super) fn forward(connection: &mut Connection) -> Result<(), LedgerError> {
    let doing = fault("bring the ledger forward");
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Exclusive)
        .map_err(&doing)?;
    let found: i64 = transaction
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(&doing)?;
    if (1..FORMAT).contains(&found) {
        claims_anew(&transaction)?;
        transaction
            .pragma_update(None, "user_version", FORMAT)
            .map_err(&doing)?;
    }
    transaction.commit().map_err(&doing)
}

/// Format 2 keeps the ends of each claim's pattern beside it, format 3 in both indexes too.
fn claims_anew(connection: &Connection) -> Result<(), LedgerError> {
    let doing = fault("bring the claims forward");
    let old = rows::all_of(connection, Kind::Claim)?;
    connection
        .execute_batch("DROP TABLE claim")
        .and_then(|()| connection.execute_batch(CLAIMS))
        .map_err(&doing)?;
    for (key, body) in old {
        let mut state = State::default();
        state.load(&key, &body)?;
        for claim in state.claims.values() {
            rows::insert_claim(connection, claim, &body).map_err(&doing)?;
        }
    }
    Ok(())
}
