//! Agents that bring a sandbox of their own, which cannot work inside this one, and the switch that turns it off.
//!
//! A table of what is known; nothing is decided by it. Inside the seal no further namespaces, mounts or Landlock
//! exceptions can be made, so such a sandbox fails there, and is not needed there.

use std::ffi::OsString;

use crate::domain::programs;

/// Program, a word of its command line that shows the sandbox is off already, and what to say otherwise.
const KNOWN: &[(&str, &[&str], &str)] = &[
    (
        "codex",
        &[
            "danger-full-access",
            "--dangerously-bypass-approvals-and-sandbox",
            "--yolo",
        ],
        "codex brings its own sandbox, which cannot start inside this one: add `--sandbox danger-full-access`",
    ),
    (
        "claude",
        &["--no-sandbox"],
        "if the sandbox of claude is on, it cannot start inside this one: set `\"sandbox\": {\"enabled\": false}` in its settings",
    ),
    (
        "gemini",
        &["--no-sandbox", "--sandbox=false"],
        "if the sandbox of gemini is on, it cannot start inside this one: leave out `--sandbox` and unset GEMINI_SANDBOX",
    ),
    (
        "qwen",
        &["--no-sandbox", "--sandbox=false"],
        "if the sandbox of qwen is on, it cannot start inside this one: leave out `--sandbox` and unset QWEN_SANDBOX",
    ),
    (
        "bwrap",
        &[],
        "bubblewrap cannot start inside this sandbox: run the program itself",
    ),
    (
        "srt",
        &[],
        "sandbox-runtime cannot start inside this sandbox: run the program itself",
    ),
    (
        "firejail",
        &[],
        "firejail cannot start inside this sandbox: run the program itself",
    ),
    (
        "unshare",
        &[],
        "no namespaces can be made inside this sandbox: run the program itself",
    ),
    (
        "landrun",
        &[],
        "landrun is not needed inside this sandbox: run the program itself",
    ),
    (
        "docker",
        &[],
        "docker's socket is out of reach inside this sandbox",
    ),
    (
        "podman",
        &[],
        "podman cannot make namespaces inside this sandbox",
    ),
];

/// Returns what to tell somebody who runs an agent that brings its own sandbox.
pub fn brings_own_sandbox(argv: &[OsString]) -> Option<&'static str> {
    let words: Vec<String> = argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut started = programs::started(&words).into_iter();
    let (_, off, hint) = started.find_map(|name| {
        let name = name.trim_end_matches("-cli").trim_end_matches("-code");
        KNOWN.iter().find(|(known, _, _)| *known == name)
    })?;
    let is_off = words
        .iter()
        .any(|word| off.iter().any(|switch| word.contains(switch)));
    if is_off { None } else { Some(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_with_a_sandbox_are_recognised_until_it_is_off() {
        let says = |line: &str| {
            let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            brings_own_sandbox(&argv)
        };
        for line in [
            "codex",
            "/usr/local/bin/codex exec hello",
            "npx -y @openai/codex@latest exec hello",
            "claude -p hello",
            "npx @anthropic-ai/claude-code",
            "gemini",
            "npx @google/gemini-cli",
            "timeout 5 codex exec hello",
            "env A=b bwrap --ro-bind / / sh",
            "srt npm test",
            "bash -c codex",
        ] {
            assert!(says(line).is_some(), "{line}");
        }
        for line in [
            "codex exec --sandbox danger-full-access hello",
            "codex -c sandbox_mode=danger-full-access exec",
            "aider",
            "opencode run hello",
            "python3 codex_test.py",
        ] {
            assert!(says(line).is_none(), "{line}");
        }
    }
}
