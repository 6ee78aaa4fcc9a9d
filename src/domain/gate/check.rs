//! The single checks of the gate, by name, so that a test can leave one out and see that something gets through.
//!
//! Owns: the names. In a release build every check is kept, whatever is asked for; in others nothing but a test
//! asks for less.

use super::Tried;

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A rule of [`super::RULES`]: nothing is refused by it.
    Rule(&'static str),
    /// The question about one kind of operation: it is not asked.
    Asking(Tried),
    /// The question about what lies beneath a renamed directory.
    Beneath,
}

/// The checks that are made: all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept(Option<Check>);

impl Kept {
    /// All but one, for tests.
    #[doc(hidden)]
    pub const fn without(check: Check) -> Self {
        Self(Some(check))
    }

    /// Says whether a check is made.
    pub fn has(self, check: Check) -> bool {
        !cfg!(debug_assertions) || self.0 != Some(check)
    }

    /// Says whether a rule refuses.
    pub fn rule(self, rule: &'static str) -> bool {
        self.has(Check::Rule(rule))
    }
}
