//! The one way out: results to stdout, everything else to stderr.
//!
//! Owns: JSON documents and their schema names, colour, notes, how a failure
//! looks, and that a reader who goes away is no failure.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::Color;
use crate::app::failure::Failure;

pub(super) struct Output {
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
    color: bool,
    stdout: BufWriter<io::Stdout>,
    /// The name in the schema of a failure's document; none where only results may be printed.
    failing: Option<String>,
    /// Something was printed already.
    spoke: bool,
    /// What the program ends with where nothing failed.
    pub status: u8,
    /// The reader went away, or the disk behind it is full.
    broken: Option<io::Error>,
}

/// The colours that screens use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
        }
    }
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool, verbose: u8, color: Color) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && io::stdout().is_terminal(),
        };
        Self {
            json,
            quiet,
            verbose,
            color,
            stdout: BufWriter::with_capacity(1 << 16, io::stdout()),
            failing: None,
            spoke: false,
            status: 0,
            broken: None,
        }
    }

    /// Names the verb whose document a failure prints where the verb printed none itself.
    #[must_use]
    pub(super) fn failing_as(mut self, verb: Option<String>) -> Self {
        self.failing = verb;
        self
    }

    /// Prints one line of a result.
    pub(super) fn line(&mut self, text: impl Display) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Prints bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.spoke = true;
        if self.broken.is_none()
            && let Err(error) = self.stdout.write_all(bytes)
        {
            self.broken = Some(error);
        }
    }

    /// Hands on what is buffered: a stream shows its lines as they come.
    pub(super) fn flush(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.stdout.flush()
        {
            self.broken = Some(error);
        }
    }

    /// Says whether there is nobody left to print for.
    pub(super) fn is_closed(&self) -> bool {
        self.broken.is_some()
    }

    /// Prints one document; `fields` must be an object.
    pub(super) fn document(&mut self, verb: &str, fields: Value) {
        let mut document = Map::new();
        document.insert(
            "schema".to_owned(),
            Value::String(format!("govfs/{verb}/v1")),
        );
        if let Value::Object(fields) = fields {
            document.extend(fields);
        }
        self.line(Value::Object(document));
    }

    /// Says something that is no result, on stderr.
    pub(super) fn note(&self, text: impl Display) {
        if !self.quiet {
            complain(&text);
        }
    }

    /// Suggests what to do next, to a person.
    pub(super) fn tip(&self, text: impl Display) {
        if !self.quiet && !self.json && io::stderr().is_terminal() {
            complain(&text);
        }
    }

    /// Colours `text` where colours are wanted.
    pub(super) fn paint(&self, ink: Ink, text: impl Display) -> String {
        if self.color {
            format!("\u{1b}[{}m{text}\u{1b}[0m", ink.code())
        } else {
            text.to_string()
        }
    }

    /// A script that asked for a document gets one, also for a refusal.
    fn failure(&mut self, failure: &Failure) {
        if !self.json || self.spoke {
            return;
        }
        if let Some(verb) = self.failing.take() {
            let error = json!({
                "kind": failure.kind.as_str(),
                "rule": failure.rule,
                "message": failure.message,
                "hint": failure.hint,
            });
            self.document(&verb, json!({ "error": error }));
        }
    }

    /// Ends the program: flushes, shows a failure, says the exit status.
    pub(super) fn finish(mut self, done: Result<(), Failure>) -> ExitCode {
        if let Err(failure) = &done {
            self.failure(failure);
        }
        self.flush();
        if let Err(failure) = done {
            complain(&format!("error: {}", failure.message));
            if let Some(hint) = &failure.hint {
                complain(&format!("hint: {hint}"));
            }
            return ExitCode::from(failure.kind.code());
        }
        match self.broken {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!("error: cannot write the result: {error}"));
                ExitCode::FAILURE
            }
            _ => ExitCode::from(self.status),
        }
    }
}

/// Shows what clap has to say: help is a result, a mistake is not.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // A reader of the help that goes away is no failure.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// A line on stderr; nobody may be there to read it.
fn complain(text: &impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
