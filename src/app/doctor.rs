//! `doctor`: what this machine can enforce, and what a bug report needs.
//!
//! Owns: the answer in words and numbers; the trying is the sandbox's. A bundle
//! holds facts about the machine and the program, and counts, never contents,
//! paths of files, keys or environment values.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::app::failure::Failure;
use crate::app::mount;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::state::Kind;
use crate::sandbox::probe::{self, Tried};

/// What was found.
#[derive(Debug)]
pub struct Findings {
    /// `A`, `B` or `C`; none where nothing can be mounted.
    pub tier: Option<&'static str>,
    pub layers: Vec<Layer>,
    pub landlock: i32,
    pub kernel: String,
}

/// One layer, tried for real.
#[derive(Debug)]
pub struct Layer {
    pub name: &'static str,
    pub ok: bool,
    pub evidence: String,
    pub fix: Option<String>,
}

impl From<Tried> for Layer {
    fn from(tried: Tried) -> Self {
        Self {
            name: tried.layer.name(),
            ok: tried.ok,
            evidence: tried.evidence,
            fix: tried.fix,
        }
    }
}

/// Tries every layer.
pub fn examine() -> Result<Findings, Failure> {
    let found = probe::probe()?;
    let tier = found.tier.map(|tier| match tier {
        crate::sandbox::Tier::A => "A",
        crate::sandbox::Tier::B => "B",
        crate::sandbox::Tier::C => "C",
    });
    Ok(Findings {
        tier,
        layers: found.layers.into_iter().map(Layer::from).collect(),
        landlock: found.landlock_version,
        kernel: line_of("/proc/sys/kernel/osrelease"),
    })
}

impl Findings {
    /// Fails with the missing layers where the whole seal does not hold.
    pub fn verdict(&self) -> Result<(), Failure> {
        if self.tier == Some("A") {
            return Ok(());
        }
        let missing: Vec<&str> = self.missing().map(|layer| layer.name).collect();
        let tier = self.tier.map_or("no tier holds".to_owned(), |tier| {
            format!("only tier {tier} holds")
        });
        let failure = Failure::machine(format!("{tier}: missing {}", missing.join(", ")));
        let fix = self.missing().find_map(|layer| layer.fix.as_ref());
        Err(match fix {
            Some(fix) => failure.hint(fix),
            None => failure,
        })
    }

    fn missing(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| !layer.ok)
    }

    pub fn fields(&self) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "name": layer.name,
                    "ok": layer.ok,
                    "evidence": layer.evidence,
                    "fix": layer.fix,
                })
            })
            .collect();
        json!({
            "tier": self.tier,
            "layers": layers,
            "landlock": self.landlock,
            "kernel": self.kernel,
        })
    }
}

/// Returns the `AppArmor` profile that lets this program make user namespaces.
pub fn apparmor_profile() -> Result<String, Failure> {
    Ok(probe::apparmor_profile(&mount::own_program()?))
}

fn line_of(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Writes what a bug report needs into one JSON file, which must not be there yet.
pub fn bundle(findings: &Findings, dir: &Path, file: &Path) -> Result<(), Failure> {
    let document = json!({
        "schema": "govfs/bundle/v1",
        "version": env!("CARGO_PKG_VERSION"),
        "machine": findings.fields(),
        "system": system(),
        "repository": repository(dir),
    });
    let text = without_home(&serde_json::to_string_pretty(&document).map_err(Failure::failed)?);
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", file.display()));
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(fault)?;
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .map_err(fault)
}

/// A home's path names its owner.
fn without_home(text: &str) -> String {
    match std::env::var("HOME") {
        Ok(home) if home.len() > 1 => text.replace(&home, "~"),
        _ => text.to_owned(),
    }
}

fn system() -> Value {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or_default();
    let limits = [
        "/proc/sys/user/max_user_namespaces",
        "/proc/sys/kernel/unprivileged_userns_clone",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "/proc/sys/kernel/yama/ptrace_scope",
        "/sys/kernel/security/lsm",
    ];
    let limits: Value = limits
        .into_iter()
        .map(|limit| (limit.to_owned(), Value::from(line_of(limit))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json!({
        "name": name.trim_matches('"'),
        "architecture": std::env::consts::ARCH,
        "root": nix::unistd::geteuid().is_root(),
        "settings": limits,
    })
}

/// Counts what is in the ledger; names and contents stay where they are.
fn repository(dir: &Path) -> Value {
    let counted = Site::open(dir).and_then(|mut site| {
        let needs = [
            Need::All(Kind::Agent),
            Need::All(Kind::Session),
            Need::All(Kind::Claim),
        ];
        let state = site.ledger.state(&needs)?;
        Ok(json!({
            "agents": state.agents.len(),
            "sessions": state.sessions.len(),
            "claims": state.claims.len(),
            "entries": site.ledger.lines()?.size()?,
        }))
    });
    counted.unwrap_or_else(|failure| json!({ "error": format!("{:?}", failure.kind) }))
}
