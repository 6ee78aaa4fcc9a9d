//! The merge commit: who, what it says, and its signature.
//!
//! Owns: the author and committer, the message with its trailers, and signing
//! as git is configured to (`commit.gpgsign`, `gpg.format`). The signing program
//! is the operator's, runs as the operator in the repository's common directory
//! or a private temporary one, and gets the commit's bytes alone; where it fails
//! there is no commit.
//!
//! Never lets an agent's words pass for a trailer of ours or reach a terminal
//! as control characters.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use git2::{Config, ObjectType};

use super::{Promote, PromoteError, Result, Stage, io_error, to_git};
use crate::domain::base::Oid;

/// A name and an address, as a commit carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
}

impl Person {
    /// Returns an agent as an author.
    pub fn agent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            email: format!("{name}@govfs.invalid"),
        }
    }
}

/// What a commit is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitSpec {
    pub tree: Oid,
    pub parents: Vec<Oid>,
    pub author: Person,
    /// The whole message; see [`message_with_trailers`].
    pub message: String,
    /// Seconds since 1970, and minutes east of UTC.
    pub time: (i64, i32),
}

/// Returns a message that ends in `trailers`. Lines of `text` that would pass
/// for one of ours, and control characters, are taken out.
pub fn message_with_trailers(text: &str, trailers: &[(&str, String)]) -> String {
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.chars().filter(|&c| c == '\t' || !hidden(c)).collect())
        .filter(|line: &String| !passes_for_ours(line))
        .map(|line: String| line.trim_end().to_owned())
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let start = lines.iter().position(|line| !line.is_empty()).unwrap_or(0);
    let lines = &lines[start..];
    let mut out = lines.join("\n");
    if !out.is_empty() {
        out.push('\n');
    }
    if !trailers.is_empty() && !out.is_empty() && !ends_in_trailers(lines) {
        out.push('\n');
    }
    for (key, value) in trailers {
        let value: String = value.chars().filter(|&c| !hidden(c)).collect();
        out.extend([key, ": ", value.as_str(), "\n"]);
    }
    out
}

/// Control characters, and those that reorder text.
fn hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn passes_for_ours(line: &str) -> bool {
    let start = line.trim_start().get(..6);
    start.is_some_and(|start| start.eq_ignore_ascii_case("govfs-")) && line.contains(':')
}

/// Says whether the last paragraph, not being the subject, consists of trailers.
fn ends_in_trailers(lines: &[String]) -> bool {
    let Some(gap) = lines.iter().rposition(String::is_empty) else {
        return false;
    };
    lines[gap + 1..].iter().all(|line| {
        line.split_once(": ").is_some_and(|(key, _)| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    })
}

impl Promote {
    /// Returns git's configured identity, else `govfs <govfs@localhost>`; never fails for want of one.
    pub fn operator(&self) -> Person {
        let config = self.repo.config().ok();
        let text = |key: &str| {
            let config = config.as_ref()?;
            config
                .get_string(key)
                .ok()
                .filter(|text| !text.trim().is_empty())
        };
        let env = |key: &str| {
            std::env::var(key)
                .ok()
                .filter(|text| !text.trim().is_empty())
        };
        let name = env("GIT_COMMITTER_NAME")
            .or_else(|| text("committer.name"))
            .or_else(|| text("user.name"));
        let email = env("GIT_COMMITTER_EMAIL")
            .or_else(|| text("committer.email"))
            .or_else(|| text("user.email"));
        Person {
            name: name.unwrap_or_else(|| "govfs".to_owned()),
            email: email.unwrap_or_else(|| "govfs@localhost".to_owned()),
        }
    }
}

impl Stage {
    /// Stages the commit, signed where git is configured to sign.
    pub fn commit(&mut self, spec: &CommitSpec) -> Result<Oid> {
        let buffer = self.commit_buffer(spec)?;
        let signature = match Signer::configured(&self.disk, &self.disk.operator())? {
            Some(signer) => Some(signer.sign(&buffer)?),
            None => None,
        };
        let bytes = match signature {
            Some(signature) => attach(&buffer, &signature),
            None => buffer,
        };
        self.write(ObjectType::Commit, &bytes)
    }

    fn commit_buffer(&self, spec: &CommitSpec) -> Result<Vec<u8>> {
        self.view().names(spec.tree)?;
        let mut out = format!("tree {}\n", spec.tree);
        for parent in &spec.parents {
            self.view().tree_of(*parent)?;
            out.extend(["parent ", &parent.to_string(), "\n"]);
        }
        let (seconds, east) = spec.time;
        let sign = if east < 0 { '-' } else { '+' };
        let zone = format!("{sign}{:02}{:02}", east.abs() / 60, east.abs() % 60);
        let mut person = |field: &str, who: &Person, otherwise: &str| {
            let (name, email) = (clean(&who.name, otherwise), clean(&who.email, otherwise));
            out.push_str(field);
            out.extend([" ", &name, " <", &email, "> "]);
            out.extend([&seconds.to_string(), " ", &zone, "\n"]);
        };
        person("author", &spec.author, "agent");
        person("committer", &self.disk.operator(), "govfs");
        out.push('\n');
        out.push_str(&spec.message.replace('\0', ""));
        Ok(out.into_bytes())
    }
}

/// Drops what cannot stand in a commit's header.
fn clean(text: &str, otherwise: &str) -> String {
    let text: String = text
        .chars()
        .filter(|&c| !hidden(c) && !matches!(c, '<' | '>'))
        .collect();
    match text.trim() {
        "" => otherwise.to_owned(),
        text => text.to_owned(),
    }
}

/// Puts the signature into the header, as its last field.
fn attach(buffer: &[u8], signature: &str) -> Vec<u8> {
    let end = buffer
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .map_or(buffer.len(), |at| at + 1);
    let mut out = buffer[..end].to_vec();
    let folded = signature.trim_end().replace('\n', "\n ");
    out.extend_from_slice(b"gpgsig ");
    out.extend_from_slice(folded.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&buffer[end..]);
    out
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenPgp,
    X509,
    Ssh,
}

/// The configured way to sign.
struct Signer {
    format: Format,
    program: String,
    key: String,
    /// Where the program runs: a directory of the operator's.
    dir: PathBuf,
}

impl Signer {
    fn configured(view: &Promote, operator: &Person) -> Result<Option<Self>> {
        let config = view.repo.config()?.snapshot()?;
        match config.get_bool("commit.gpgsign") {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let format = match text(&config, "gpg.format").as_deref() {
            None | Some("openpgp") => Format::OpenPgp,
            Some("x509") => Format::X509,
            Some("ssh") => Format::Ssh,
            Some(other) => return Err(refuse(other, "gpg.format is unknown")),
        };
        let program = match format {
            Format::OpenPgp => {
                text(&config, "gpg.openpgp.program").or_else(|| text(&config, "gpg.program"))
            }
            Format::X509 => text(&config, "gpg.x509.program"),
            Format::Ssh => text(&config, "gpg.ssh.program"),
        };
        let program = program.unwrap_or_else(|| {
            match format {
                Format::OpenPgp => "gpg",
                Format::X509 => "gpgsm",
                Format::Ssh => "ssh-keygen",
            }
            .to_owned()
        });
        let dir = view.common_dir();
        let key = match (text(&config, "user.signingkey"), format) {
            (Some(key), _) => key,
            (None, Format::Ssh) => default_ssh_key(&config, &dir)?,
            (None, _) => format!("{} <{}>", operator.name, operator.email),
        };
        Ok(Some(Self {
            format,
            program,
            key,
            dir,
        }))
    }

    fn sign(&self, buffer: &[u8]) -> Result<String> {
        match self.format {
            Format::OpenPgp | Format::X509 => self.sign_gpg(buffer),
            Format::Ssh => self.sign_ssh(buffer),
        }
    }

    fn sign_gpg(&self, buffer: &[u8]) -> Result<String> {
        let program = expand(&self.program);
        let mut command = Command::new(&program);
        command.args(["--status-fd=2", "-bsau", &self.key]);
        command.current_dir(&self.dir);
        let output = self.feed(command, buffer)?;
        let status = String::from_utf8_lossy(&output.stderr);
        let made = status
            .lines()
            .any(|line| line.starts_with("[GNUPG:] SIG_CREATED "));
        if !output.status.success() || !made {
            return Err(refuse(&self.program, &last_words(&output.stderr)));
        }
        self.armoured(output.stdout)
    }

    fn sign_ssh(&self, buffer: &[u8]) -> Result<String> {
        let dir = tempfile::tempdir().map_err(io_error("temporary directory"))?;
        let file = dir.path().join("commit");
        std::fs::write(&file, buffer).map_err(io_error("temporary file"))?;
        let mut command = Command::new(expand(&self.program));
        command.args(["-Y", "sign", "-n", "git", "-f"]);
        let literal = self.key.strip_prefix("key::").or_else(|| {
            let listed = self.key.starts_with("ssh-") || self.key.starts_with("ecdsa-");
            listed.then_some(self.key.as_str())
        });
        if let Some(literal) = literal {
            // A public key by itself: its private half is in the operator's ssh agent.
            let public = dir.path().join("key.pub");
            std::fs::write(&public, format!("{literal}\n")).map_err(io_error("temporary file"))?;
            command.arg(&public).arg("-U");
        } else {
            command.arg(expand(&self.key));
        }
        command.arg(&file).current_dir(&self.dir);
        let output = self.feed(command, b"")?;
        if !output.status.success() {
            return Err(refuse(&self.program, &last_words(&output.stderr)));
        }
        let signature = std::fs::read(dir.path().join("commit.sig"))
            .map_err(|error| refuse(&self.program, &error.to_string()))?;
        self.armoured(signature)
    }

    fn feed(&self, mut command: Command, buffer: &[u8]) -> Result<std::process::Output> {
        let failed = |error: std::io::Error| refuse(&self.program, &error.to_string());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read to the end says why on its own stderr.
            let _ = stdin.write_all(buffer);
        }
        child.wait_with_output().map_err(failed)
    }

    fn armoured(&self, bytes: Vec<u8>) -> Result<String> {
        let text = String::from_utf8(bytes)
            .map_err(|_| refuse(&self.program, "the signature is not text"))?;
        let text = text.replace('\r', "");
        if text.trim_start().starts_with("-----BEGIN ") {
            Ok(text)
        } else {
            Err(refuse(&self.program, "no signature came back"))
        }
    }
}

fn text(config: &Config, key: &str) -> Option<String> {
    config.get_string(key).ok().filter(|text| !text.is_empty())
}

/// Asks `gpg.ssh.defaultKeyCommand`, as git does without `user.signingKey`.
fn default_ssh_key(config: &Config, dir: &Path) -> Result<String> {
    let none = || {
        refuse(
            "ssh-keygen",
            "neither user.signingKey nor gpg.ssh.defaultKeyCommand is set",
        )
    };
    let program = text(config, "gpg.ssh.defaultKeyCommand").ok_or_else(none)?;
    let output = Command::new("sh")
        .args(["-c", &program])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| refuse(&program, &error.to_string()))?;
    let words = String::from_utf8_lossy(&output.stdout);
    match words.lines().next() {
        Some(line) if output.status.success() && !line.trim().is_empty() => {
            Ok(line.trim().to_owned())
        }
        _ => Err(refuse(&program, &last_words(&output.stderr))),
    }
}

/// Expands a leading `~/` as git does for paths.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn refuse(program: &str, reason: &str) -> PromoteError {
    PromoteError::Signing {
        program: program.to_owned(),
        reason: reason.to_owned(),
    }
}

fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty() && !line.starts_with("[GNUPG:]"));
    line.unwrap_or("it ended with a failure").to_owned()
}

impl Promote {
    /// Returns the author's name and the committer's time of a commit.
    pub fn author_of(&self, commit: Oid) -> Result<(String, i64)> {
        let commit = self.repo.find_commit(to_git(commit))?;
        let name = String::from_utf8_lossy(commit.author().name_bytes()).into_owned();
        Ok((name, commit.time().seconds()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_stand_at_the_end_and_cannot_be_forged() {
        let ours = [("Govfs-Agent", "alice".to_owned())];
        let cases = [
            ("fix it", "fix it\n\nGovfs-Agent: alice\n"),
            ("\n\nfix\n\nbody\n\n", "fix\n\nbody\n\nGovfs-Agent: alice\n"),
            (
                "fix\n\nSigned-off-by: A <a@b>",
                "fix\n\nSigned-off-by: A <a@b>\nGovfs-Agent: alice\n",
            ),
            ("note: x", "note: x\n\nGovfs-Agent: alice\n"),
            (
                "fix\n\ngovfs-agent: mallory\n GOVFS-Checkpoint : x",
                "fix\n\nGovfs-Agent: alice\n",
            ),
            ("a\u{1b}[31m\u{202e}b", "a[31mb\n\nGovfs-Agent: alice\n"),
            ("", "Govfs-Agent: alice\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(message_with_trailers(text, &ours), expected, "{text:?}");
        }
        let split = [("Govfs-Plan", "p\nGovfs-Agent: bob".to_owned())];
        assert_eq!(
            message_with_trailers("x", &split),
            "x\n\nGovfs-Plan: pGovfs-Agent: bob\n"
        );
    }

    #[test]
    fn a_signature_is_the_headers_last_field() {
        let signed = attach(b"tree x\nauthor y\n\nmessage\n\nmore\n", "-----BEGIN\nab\n");
        assert_eq!(
            signed,
            b"tree x\nauthor y\ngpgsig -----BEGIN\n ab\n\nmessage\n\nmore\n"
        );
    }
}
