//! The seal around an agent: namespaces, Landlock, seccomp, terminals, exec. Alone holds `unsafe`.

pub mod launch;
pub mod probe;
pub mod rules;
