//! The asking end: a program inside a mount, which has files and nothing else.
//!
//! Owns: one question at a time over two files of its own name, so that many
//! programs ask beside each other.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::inside::{Question, Reply};

const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(1);

/// Asks through the mount at `root`.
pub fn ask(root: &Path, question: &Question) -> Result<Reply, Failure> {
    let control = root.join(".govfs");
    let tag = format!("{}-{}", std::process::id(), clock::wall().0);
    let request = control.join(format!("request.{tag}"));
    let answer = control.join(format!("answer.{tag}"));
    let text = serde_json::to_vec(question).map_err(Failure::failed)?;
    let fault = |error: io::Error| {
        Failure::failed(format!("this mount does not answer: {error}"))
            .hint("its server may have ended: ask the operator")
    };
    let mut file = OpenOptions::new()
        .write(true)
        .open(&request)
        .map_err(fault)?;
    file.write_all(&text).map_err(fault)?;
    drop(file);
    let begin = Instant::now();
    loop {
        match fs::read(&answer) {
            Ok(bytes) => return serde_json::from_slice(&bytes).map_err(Failure::failed),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            Err(error) if begin.elapsed() > PATIENCE => return Err(fault(error)),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
