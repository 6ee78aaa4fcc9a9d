//! Sessions that run: fixing where a write log ends while claims change hands.
//!
//! Owns: [`fence`], the one way to end what a session may write. Whoever ends a
//! claim first fixes the cut: entries of the session's log after it do not count.

use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::event::Cut;
use crate::domain::names::SessionId;

/// A session that is held still while its claims change.
#[derive(Debug)]
pub struct Fence {
    cut: Option<Cut>,
}

impl Fence {
    /// Returns the last entry that counts; `None` where the session has written nothing.
    pub fn cut(&self) -> Option<Cut> {
        self.cut.clone()
    }

    /// Lets the session go on, under the claims that it has now.
    pub fn lift(self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Holds a session still and says where its log ends.
pub fn fence(_site: &Site, _session: &SessionId) -> Result<Fence, Failure> {
    Ok(Fence { cut: None })
}
