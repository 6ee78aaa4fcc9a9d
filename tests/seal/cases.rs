//! The cases by name.

pub type Case = (&'static str, fn());

pub fn all() -> Vec<Case> {
    Vec::new()
}
