//! The charter's anchor command: hands a checkpoint to somebody who keeps it elsewhere.
//!
//! Owns: running it, with the signed note on its standard input, a time limit, and as
//! much of its answer as an entry holds. It runs as the operator and outside the
//! repository, so that a name in it is never a file that an agent wrote. Its failure
//! stops nothing: the entry says that the checkpoint was not anchored, and why.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::domain::charter::CharterCommand;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(15);
/// How much of its answer is recorded.
const ANSWER_MAX: u64 = 4096;
const LOOK: Duration = Duration::from_millis(5);

/// Runs the command; the error is why the checkpoint is not anchored.
pub(super) fn ask(command: &CharterCommand, note: &str) -> Result<String, String> {
    within(command, note, LIMIT)
}

fn within(command: &CharterCommand, note: &str, limit: Duration) -> Result<String, String> {
    let mut child = prepare(command)
        .spawn()
        .map_err(|error| format!("it does not start: {error}"))?;
    let mut input = child.stdin.take();
    let note = note.to_owned();
    // One that does not read all of it may still answer.
    let write = std::thread::spawn(move || {
        let _ = input.as_mut().map(|input| input.write_all(note.as_bytes()));
    });
    let answer = collect(child.stdout.take());
    let complaint = collect(child.stderr.take());
    let ended = wait(&mut child, limit);
    // Whoever it left behind would keep its output open.
    end_group(&child);
    drop(write.join());
    let (answer, complaint) = (joined(answer), joined(complaint));
    match ended {
        Ok(Some(status)) if status.success() => Ok(answer),
        Ok(Some(status)) => Err(format!("{status}: {complaint}")),
        Ok(None) => Err(format!("no answer within {} s", limit.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

fn prepare(command: &CharterCommand) -> Command {
    let mut prepared = match command {
        CharterCommand::Shell(text) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", text]);
            shell
        }
        CharterCommand::Argv(argv) => {
            let mut program = Command::new(argv.first().map_or("", String::as_str));
            program.args(argv.get(1..).unwrap_or_default());
            program
        }
    };
    prepared
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    prepared
}

/// Reads to the end, so that nobody blocks on a full pipe, and keeps the beginning.
fn collect(source: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut source) = source {
            let _ = source.by_ref().take(ANSWER_MAX).read_to_end(&mut kept);
            let _ = std::io::copy(&mut source, &mut std::io::sink());
        }
        kept
    })
}

fn joined(text: JoinHandle<Vec<u8>>) -> String {
    let bytes = text.join().unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() > limit {
            end_group(child);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

fn end_group(child: &Child) {
    if let Ok(id) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> CharterCommand {
        CharterCommand::Shell(text.to_owned())
    }

    #[test]
    fn the_answer_is_what_it_prints_and_silence_ends() {
        assert_eq!(ask(&shell("cat"), "a note\n"), Ok("a note".to_owned()));
        assert_eq!(ask(&shell("pwd"), "unread"), Ok("/".to_owned()));
        let argv = CharterCommand::Argv(vec!["echo".into(), "kept as 7".into()]);
        assert_eq!(ask(&argv, ""), Ok("kept as 7".to_owned()));
        let failed = ask(&shell("echo away >&2; exit 3"), "").unwrap_err();
        assert!(failed.contains('3') && failed.contains("away"), "{failed}");
        let missing = CharterCommand::Argv(vec!["/nowhere/at/all".into()]);
        assert!(ask(&missing, "").unwrap_err().contains("does not start"));
        let begin = Instant::now();
        let slow = within(&shell("sleep 60 & sleep 60"), "", Duration::from_millis(50));
        assert!(slow.unwrap_err().contains("no answer"));
        assert!(begin.elapsed() < Duration::from_secs(20));
        let long = ask(&shell("yes | head -c 1000000"), "").unwrap();
        assert!(long.len() <= 4096);
    }
}
