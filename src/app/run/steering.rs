//! What in an agent's own state directory steers it wherever it runs: settings, hooks, instructions, plug-ins.
//!
//! Owns: which names these are, and how each state directory is opened: written through but for those names, which
//! are shown read-only, or as the session's own copy where everything in it steers. So nothing that an agent writes
//! under the seal is obeyed by a later run outside of it. A name that is not there yet is made, empty, because only
//! what is there can be shown read-only.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::app::failure::Failure;
use crate::sandbox::{Bind, Writable, make_file};

/// How one state directory or file is opened to its agent.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) writable: Vec<Writable>,
    pub(super) readonly: Vec<Bind>,
    /// It is the session's own copy instead.
    pub(super) copied: bool,
}

/// Names in state directories; a directory's ends in a slash, and one after a question mark is not made where it is
/// not there: only what the operator has put into another of these leads to it.
const STEERING: &[(&str, &[&str])] = &[
    (
        "~/.augment",
        &[
            "settings.json",
            "user-guidelines.md",
            "agents/",
            "commands/",
            "rules/",
        ],
    ),
    (
        "~/.claude",
        &[
            "settings.json",
            "settings.local.json",
            "CLAUDE.md",
            "?statusline.sh",
            "?statusline-command.sh",
            "agents/",
            "commands/",
            "hooks/",
            "local/",
            "output-styles/",
            "plugins/",
            "rules/",
            "skills/",
            "workflows/",
        ],
    ),
    (
        "~/.cline",
        &[
            "data/settings/",
            "hooks/",
            "rules/",
            "skills/",
            "workflows/",
        ],
    ),
    (
        "~/.codex",
        &[
            ".env",
            "config.toml",
            "hooks.json",
            "AGENTS.md",
            "AGENTS.override.md",
            "agents/",
            "packages/",
            "plugins/",
            "prompts/",
            "rules/",
            "skills/",
        ],
    ),
    (
        "~/.continue",
        &[
            ".env",
            "config.json",
            "config.ts",
            "config.yaml",
            "mcpServers/",
            "prompts/",
            "rules/",
        ],
    ),
    (
        "~/.copilot",
        &[
            "config.json",
            "copilot-instructions.md",
            "mcp-config.json",
            "agents/",
            "hooks/",
            "pkg/",
            "skills/",
        ],
    ),
    (
        "~/.cursor",
        &[
            "argv.json",
            "cli-config.json",
            "hooks.json",
            "mcp.json",
            "agents/",
            "commands/",
            "extensions/",
            "rules/",
            "skills/",
        ],
    ),
    (
        "~/.factory",
        &[
            "config.json",
            "settings.json",
            "settings.local.json",
            "mcp.json",
            "AGENTS.md",
            "bin/",
            "commands/",
            "droids/",
            "hooks/",
            "plugins/",
            "skills/",
        ],
    ),
    (
        "~/.gemini",
        &[
            "settings.json",
            "trustedFolders.json",
            ".env",
            "GEMINI.md",
            "agents/",
            "commands/",
            "extensions/",
            "hooks/",
            "policies/",
            "skills/",
            "tmp/bin/",
        ],
    ),
    (
        "~/.kimi",
        &["config.json", "config.toml", "mcp.json", "skills/"],
    ),
    ("~/.local/share/crush", &["crush.json"]),
    ("~/.local/share/opencode", &["bin/"]),
    (
        "~/.openhands",
        &[
            "agent_settings.json",
            "settings.json",
            "mcp.json",
            "hooks/",
            "microagents/",
            "skills/",
        ],
    ),
    (
        "~/.pi",
        &[
            "agent/settings.json",
            "agent/models.json",
            "agent/AGENTS.md",
            "agent/APPEND_SYSTEM.md",
            "agent/SYSTEM.md",
            "agent/bin/",
            "agent/extensions/",
            "agent/git/",
            "agent/npm/",
            "agent/prompts/",
            "agent/skills/",
            "agent/themes/",
            "agent/tools/",
        ],
    ),
    (
        "~/.qwen",
        &[
            "settings.json",
            "trustedFolders.json",
            ".env",
            "QWEN.md",
            "agents/",
            "commands/",
            "extensions/",
            "skills/",
        ],
    ),
    (
        "~/.vibe",
        &[
            ".env",
            "config.toml",
            "agents/",
            "prompts/",
            "skills/",
            "tools/",
        ],
    ),
];

/// Everything in these steers: configuration, programs that were fetched, and settings and state in one file.
const COPIED: [&str; 3] = ["~/.cache/", "~/.config/", "~/.claude.json"];

/// Opens the state that the charter calls `name` and that lies at `place`; where `has_view` is not so, there is
/// nothing that could be shown in another way than it lies.
pub(super) fn open(name: &str, place: &Path, has_view: bool) -> Result<Opened, Failure> {
    if !place.exists() && is_closed(place) {
        return Ok(Opened::default());
    }
    let through = || Writable {
        path: place.to_owned(),
        create: true,
    };
    let names = STEERING.iter().find(|(state, _)| *state == name);
    let names = names.map_or(&[][..], |(_, names)| names);
    let mut opened = Opened {
        copied: has_view && is_copied(name),
        ..Opened::default()
    };
    // What a link leads to can be shown read-only, but the link itself, also one on the way, could be replaced.
    let is_link = |name: &&str| {
        let path = place.join(name.trim_matches(['?', '/']));
        path.ancestors()
            .take_while(|path| *path != place)
            .any(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()))
    };
    opened.copied |= has_view && names.iter().any(is_link);
    if opened.copied {
        if fs::symlink_metadata(place).is_err() {
            let made = if place.extension().is_some() {
                make_file(place)
            } else {
                make_directory(place)
            };
            made.map_err(|error| Failure::failed(format!("{}: {error}", place.display())))?;
        }
        return Ok(opened);
    }
    opened.writable.push(through());
    for name in names.iter().filter(|_| has_view) {
        let name = match name.strip_prefix('?') {
            Some(name) if fs::symlink_metadata(place.join(name)).is_err() => continue,
            Some(name) => name,
            None => name,
        };
        let fault = |error| Failure::failed(format!("{}: {error}", place.join(name).display()));
        guard(place, name, &mut opened).map_err(fault)?;
    }
    Ok(opened)
}

/// Says whether each session has its own copy of what the charter calls `name`.
pub(super) fn is_copied(name: &str) -> bool {
    COPIED.iter().any(|copied| name.starts_with(copied))
}

/// Shows one name read-only. A directory on the way to it is shown by itself, so that it cannot be moved away.
fn guard(place: &Path, name: &str, opened: &mut Opened) -> io::Result<()> {
    let path = place.join(name.trim_end_matches('/'));
    if !path.exists() && is_closed(place) {
        return Ok(()); // nobody makes it there
    }
    if let Some(way) = path.parent().filter(|way| *way != place)
        && !opened.writable.iter().any(|known| known.path == way)
    {
        make_directory(way)?;
        opened.writable.push(Writable {
            path: way.to_owned(),
            create: true,
        });
    }
    if name.ends_with('/') {
        make_directory(&path)?;
    } else {
        path.parent().map_or(Ok(()), make_directory)?;
        make_file(&path)?;
    }
    let source: PathBuf = path.clone();
    opened.readonly.push(Bind {
        source,
        place: path,
    });
    Ok(())
}

/// Says whether nothing can be made at a place by the operator, and so by no agent of theirs.
fn is_closed(place: &Path) -> bool {
    let mut there = place.ancestors().filter(|path| path.exists());
    there.next().is_some_and(|path| {
        faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS).is_err()
    })
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(opened: &Opened, root: &Path) -> Vec<String> {
        let below = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
        opened
            .readonly
            .iter()
            .map(|bind| below(&bind.place))
            .collect()
    }

    #[test]
    fn what_steers_an_agent_is_there_and_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let claude = dir.path().join(".claude");
        make_directory(&claude).unwrap();
        fs::write(claude.join("settings.json"), "{\"hooks\":{}}").unwrap();
        let opened = open("~/.claude", &claude, true).unwrap();
        let names = shown(&opened, &claude);
        for name in ["settings.json", "settings.local.json", "hooks", "plugins"] {
            assert!(names.contains(&name.to_owned()), "{names:?}");
            assert!(claude.join(name).exists());
        }
        let read = |name: &str| fs::read_to_string(claude.join(name)).unwrap();
        assert_eq!(read("settings.json"), "{\"hooks\":{}}");
        assert_eq!(read("settings.local.json"), "{}\n");
        assert_eq!(read("CLAUDE.md"), "");
    }

    #[test]
    fn a_directory_on_the_way_cannot_be_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let opened = open("~/.pi", dir.path(), true).unwrap();
        let way = dir.path().join("agent");
        assert!(opened.writable.iter().any(|one| one.path == way));
        assert!(shown(&opened, dir.path()).contains(&"agent/settings.json".to_owned()));
    }

    #[test]
    fn where_a_link_steers_the_session_has_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("config.toml")).unwrap();
        let opened = open("~/.codex", dir.path(), true).unwrap();
        assert!(opened.copied && opened.writable.is_empty());
        let fresh = dir.path().join("fresh");
        assert!(open("~/.config/goose", &fresh, true).unwrap().copied && fresh.is_dir());
        assert!(open("~/.claude.json", dir.path(), true).unwrap().copied);
        assert!(!open("~/.config/goose", dir.path(), false).unwrap().copied);
    }
}
