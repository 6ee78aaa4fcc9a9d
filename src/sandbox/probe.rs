//! Tries each layer for real.
