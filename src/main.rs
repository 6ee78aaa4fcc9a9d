//! The program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    govfs::cli::run(std::env::args_os())
}
