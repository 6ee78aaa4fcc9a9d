//! Where a charter's path lies on this host.
//!
//! Owns: the home that `~` stands for, and the variables by which programs are told of another directory than the
//! one beneath it. Never looks at what is there.

use std::env;
use std::path::{Path, PathBuf};

use crate::domain::charter::HostPath;

/// A directory, and the variable that says where it lies instead.
const MOVED: [(&str, &str); 13] = [
    ("~/.aws/config", "AWS_CONFIG_FILE"),
    ("~/.cache", "XDG_CACHE_HOME"),
    ("~/.cargo", "CARGO_HOME"),
    ("~/.claude", "CLAUDE_CONFIG_DIR"),
    ("~/.codex", "CODEX_HOME"),
    ("~/.config", "XDG_CONFIG_HOME"),
    ("~/.docker", "DOCKER_CONFIG"),
    ("~/.gnupg", "GNUPGHOME"),
    ("~/.gradle", "GRADLE_USER_HOME"),
    ("~/.local/share", "XDG_DATA_HOME"),
    ("~/.local/state", "XDG_STATE_HOME"),
    ("~/.npmrc", "NPM_CONFIG_USERCONFIG"),
    ("~/go", "GOPATH"),
];

pub fn home() -> Option<PathBuf> {
    let home = PathBuf::from(env::var_os("HOME")?);
    home.is_absolute().then_some(home)
}

/// Returns where a program of the caller's looks for a charter's path.
pub fn on_host(path: &HostPath, home: Option<&Path>) -> Option<PathBuf> {
    moved(path, |name| env::var_os(name).map(PathBuf::from)).or_else(|| usual(path, home))
}

/// Returns every place where a charter's path may lie: secrets stay where they were when a variable leads elsewhere.
pub fn everywhere(path: &HostPath, home: Option<&Path>) -> impl Iterator<Item = PathBuf> {
    let (here, usual) = (on_host(path, home), usual(path, home));
    let usual = usual.filter(|usual| here.as_ref() != Some(usual));
    here.into_iter().chain(usual)
}

/// Returns where a charter's path lies unless a variable says otherwise.
fn usual(path: &HostPath, home: Option<&Path>) -> Option<PathBuf> {
    match path.as_str().strip_prefix("~/") {
        Some(rest) => home.map(|home| home.join(rest)),
        None => Some(PathBuf::from(path.as_str())),
    }
}

fn moved(path: &HostPath, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    MOVED.iter().find_map(|(usual, name)| {
        let rest = Path::new(path.as_str()).strip_prefix(usual).ok()?;
        let place = variable(name).filter(|place| place.is_absolute())?;
        // Nothing joined would still add a slash.
        Some(if rest == Path::new("") {
            place
        } else {
            place.join(rest)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_moves_what_lies_beneath_its_directory() {
        let variable = |name: &str| match name {
            "XDG_CONFIG_HOME" => Some(PathBuf::from("/conf")),
            "CODEX_HOME" => Some(PathBuf::from("relative")),
            "CLAUDE_CONFIG_DIR" => Some(PathBuf::from("/claude")),
            _ => None,
        };
        for (path, place) in [
            ("~/.config/gh", Some("/conf/gh")),
            ("~/.claude", Some("/claude")),
            ("~/.claude.json", None),
            ("~/.codex", None),
            ("~/.ssh", None),
            ("/etc/secret", None),
        ] {
            let path: HostPath = serde_json::from_value(path.into()).unwrap();
            assert_eq!(moved(&path, variable), place.map(PathBuf::from), "{path:?}");
        }
    }
}
