//! What the program says about itself while it works, on its standard error.
//!
//! Owns: how much is said. `RUST_LOG` chooses; without it a server tells what it
//! does and a command only what goes wrong, more with `-v`. A server's standard
//! error is its log. Never results: these are the command line's.

use std::io::Write;

use tracing_subscriber::EnvFilter;

/// Returns what a command says where `RUST_LOG` does not choose.
pub fn level(quiet: bool, verbose: u8) -> &'static str {
    match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    }
}

/// Begins to tell; only the first call in a process counts.
pub fn begin(otherwise: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(otherwise));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Forgiving(std::io::stderr()))
        .with_ansi(false);
    let _ = log.try_init();
}

/// A log that may be lost: on a full disk the subscriber would otherwise end the
/// thread that had something to say.
struct Forgiving<W>(W);

impl<W: Write> Write for Forgiving<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}
