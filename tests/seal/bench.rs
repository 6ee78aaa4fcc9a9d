//! Fixtures: a repository with something to protect, and runs of the helper as root or as an ordinary user.
