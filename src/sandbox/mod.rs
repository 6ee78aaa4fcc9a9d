//! The seal around an agent: namespaces, Landlock, seccomp, terminals, exec. Alone holds `unsafe`.

mod absent;
mod bring;
mod error;
mod filter;
mod fix;
mod identity;
mod inside;
pub mod launch;
mod owners;
pub mod pass;
mod place;
mod plan;
pub mod probe;
mod program;
mod raise;
pub mod rules;
mod spec;
mod sys;
mod terminal;
mod view;
mod wire;

pub use bring::brings_own_sandbox;
pub use error::Layer;
pub use error::SealError;
pub use launch::Ending;
pub use launch::launch;
pub use launch::launch_when;
pub use raise::raise;
pub use spec::Anchor;
pub use spec::Bind;
pub use spec::Identity;
pub use spec::MountSource;
pub use spec::Raised;
pub use spec::Spec;
pub use spec::Tier;
pub use spec::Writable;
