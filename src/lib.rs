//! govfs: a governed file system for several coding agents on one git repository.
//!
//! Each agent works in its own mount of the repository. It may write only what it
//! has claimed; every change is an entry of a hash-chained ledger before it is
//! acknowledged; one governed merge promotes the mount back to `main`. The kernel
//! asks govfs about every operation, so an agent that calls no API is governed too.
//!
//! # The map of the house
//!
//! ```text
//! main ─► cli ─► app ─┬─► vfs ─────┐
//!                     ├─► store ───┼─► domain   pure: values in, values out
//!                     ├─► git ─────┤
//!                     └─► sandbox ─┘            adapters never see each other
//! ```
//!
//! | room | owns | alone names |
//! |---|---|---|
//! | [`domain`] | paths, patterns, the charter, claims, the gate's rules, entries and their chain, tree proofs, the layer, plans, the queue, reviews, merge verdicts. No I/O, no clock, no randomness. | `sha2`, `ed25519-dalek`, globs |
//! | [`vfs`] | the overlay engine, and the kernel's door: `fuse` only translates, `overlay` acts | `fuser` |
//! | [`store`] | the ledger and its projections (every SQL statement), the write logs, the versions on disk, the keys | `rusqlite` |
//! | [`git`] | base trees in, commits out, compare-and-swap of refs, the agent's private git directory | `git2` |
//! | [`sandbox`] | namespaces, Landlock, seccomp, terminals, exec | `landlock`, `seccompiler`; `unsafe` |
//! | [`app`] | one use case a file: opens the adapters, asks `domain`, applies the answer. The clock, and `Failure` | |
//! | [`cli`] | one verb a file: arguments in, screens and JSON out | `clap` |
//!
//! `tests/tidy.rs` fails on an arrow that is not drawn here.
//!
//! # How state changes
//!
//! Every change of state is an entry. `decide(state, command)` gives events or a
//! refusal, `apply(state, event)` folds one in; both are pure. The store appends
//! the events and updates its projections in one transaction, so replay is the
//! same code as running, and there is nothing to edit by hand. A session's layer
//! is the same idea: the fold of its write log over the base commit.
//!
//! # A write's way
//!
//! kernel → `vfs::fuse` → `vfs::overlay`: inode → path → zone → the gate's permit
//! → one line appended to the write log → the bytes into a private working file →
//! reply. When the file settles, its bytes become an immutable version under their
//! SHA-256, and a `version` entry follows. A merge computes its tree from those
//! entries alone, and holds every version against the writes that made it.

pub mod app;
pub mod cli;
pub mod domain;
pub mod git;
pub mod sandbox;
pub mod store;
pub mod vfs;
