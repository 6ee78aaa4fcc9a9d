//! From the block's tables to the typed charter.
//!
//! Owns: which keys there are, what each may hold, and the checks across keys
//! (a role that nobody defined, a check that does not exist). One function a table.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::charter::CHARTER_FILE;
use crate::domain::charter::Charter;
use crate::domain::charter::Check;
use crate::domain::charter::ClaimMode;
use crate::domain::charter::Claims;
use crate::domain::charter::Facts;
use crate::domain::charter::HostPath;
use crate::domain::charter::Ledger;
use crate::domain::charter::Merge;
use crate::domain::charter::Paths;
use crate::domain::charter::Plans;
use crate::domain::charter::Sandbox;
use crate::domain::charter::Transient;
use crate::domain::charter::TransientRule;
use crate::domain::charter::VALIDATORS;
use crate::domain::charter::defaults;
use crate::domain::charter::lanes;
use crate::domain::charter::read::Empty;
use crate::domain::charter::read::Reader;
use crate::domain::charter::read::Section;
use crate::domain::charter::values::branch;
use crate::domain::charter::values::host_path;
use crate::domain::charter::values::is_word;
use crate::domain::charter::values::name;
use crate::domain::charter::values::pattern;
use crate::domain::charter::values::size;
use crate::domain::charter::values::variable;
use crate::domain::digest::Digest;
use crate::domain::event::Tier;
use crate::domain::pattern::Pattern;

/// Reads the whole block. What is faulty is noted in the reader and defaulted here.
pub(super) fn charter(reader: &Reader<'_>, digest: Digest) -> Charter {
    let table = reader.table();
    let mut root = Section::root(&table);
    let mut roles_section = root.section(reader, "roles");
    let roles = lanes::roles(reader, &mut roles_section);
    let checks = checks(reader, &mut root);
    let charter = Charter {
        digest,
        paths: paths(reader, root.section(reader, "paths")),
        claims: claims(reader, root.section(reader, "claims")),
        scratch: one_list(reader, root.section(reader, "scratch"), defaults::SCRATCH),
        transient: transient(reader, root.section(reader, "transient")),
        share: one_list(reader, root.section(reader, "share"), &[]),
        default_role: lanes::default_role(reader, root.section(reader, "agents"), &roles),
        sandbox: sandbox(reader, root.section(reader, "sandbox")),
        reviews: lanes::reviews(reader, root.section(reader, "reviews"), &roles),
        plans: plans(reader, &mut root),
        facts: facts(reader, root.section(reader, "facts")),
        merge: merge(reader, root.section(reader, "merge"), &checks),
        ledger: ledger(reader, root.section(reader, "ledger")),
        roles,
        checks,
    };
    root.finish(reader);
    charter
}

/// Compiles a list of defaults; the tests see that each one does.
pub(super) fn patterns(defaults: &[&str]) -> Vec<Pattern> {
    defaults
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
}

pub(super) fn patterns_or(
    reader: &Reader<'_>,
    section: &mut Section<'_, '_>,
    key: &'static str,
    defaults: &[&str],
) -> Vec<Pattern> {
    (section.list(reader, key, Empty::Fine, pattern)).unwrap_or_else(|| patterns(defaults))
}

fn paths(reader: &Reader<'_>, mut section: Section<'_, '_>) -> Paths {
    let mut protected = patterns_or(reader, &mut section, "protected", &[]);
    protected.extend(patterns_or(reader, &mut section, "also-protected", &[]));
    if !protected
        .iter()
        .any(|one| one.source() == CHARTER_FILE.as_bytes())
    {
        protected.splice(0..0, patterns(&[CHARTER_FILE]));
    }
    let sensitive = section.list(reader, "sensitive", Empty::Fine, pattern);
    let also_sensitive = patterns_or(reader, &mut section, "also-sensitive", &[]);
    section.finish(reader);
    Paths {
        protected,
        sensitive,
        also_sensitive,
    }
}

fn claims(reader: &Reader<'_>, mut section: Section<'_, '_>) -> Claims {
    let modes = [
        ("explicit", ClaimMode::Explicit),
        ("first-write", ClaimMode::FirstWrite),
    ];
    let mode = section.choice(reader, "mode", &modes);
    let ttl = section.duration(reader, "ttl");
    section.finish(reader);
    Claims {
        mode: mode.unwrap_or(ClaimMode::Explicit),
        ttl_ms: ttl.unwrap_or(defaults::TTL_MS),
    }
}

/// Reads a section that is only its `paths`.
fn one_list(reader: &Reader<'_>, mut section: Section<'_, '_>, defaults: &[&str]) -> Vec<Pattern> {
    let paths = patterns_or(reader, &mut section, "paths", defaults);
    section.finish(reader);
    paths
}

fn transient(reader: &Reader<'_>, mut section: Section<'_, '_>) -> Transient {
    let rules = [
        ("derived", TransientRule::Derived),
        ("broad", TransientRule::Broad),
    ];
    let rule = section.choice(reader, "rule", &rules);
    let names = section.list(reader, "names", Empty::Fine, |text| {
        if text.contains('/') || text == "**" {
            return Err(format!("`{text}` must be a single name, as in `*.tmp`"));
        }
        pattern(text)
    });
    section.finish(reader);
    Transient {
        rule: rule.unwrap_or(TransientRule::Derived),
        names: names.unwrap_or_default(),
    }
}

fn sandbox(reader: &Reader<'_>, mut section: Section<'_, '_>) -> Sandbox {
    let tiers = [("A", Tier::A), ("B", Tier::B), ("C", Tier::C)];
    let given = section.has("writable");
    let mut sandbox = Sandbox {
        least_tier: section.choice(reader, "tier", &tiers),
        network: section.boolean(reader, "network").unwrap_or(true),
        af_unix: section.boolean(reader, "af-unix").unwrap_or(false),
        states: if given { Vec::new() } else { known_states() },
        writable: host_paths(reader, &mut section, ["writable", "also-writable"], &[]),
        copied: host_paths(
            reader,
            &mut section,
            ["copied", "also-copied"],
            defaults::COPIED,
        ),
        hidden: host_paths(
            reader,
            &mut section,
            ["hidden", "also-hidden"],
            defaults::HIDDEN,
        ),
        environment: with_more(
            reader,
            &mut section,
            ["environment", "also-environment"],
            defaults::ENVIRONMENT,
            variable,
        ),
    };
    // What the charter says of a directory by name goes before what is known of agents.
    let named = [&sandbox.writable, &sandbox.copied, &sandbox.hidden];
    sandbox
        .states
        .retain(|state| !named.iter().any(|list| list.contains(state)));
    let lists = [
        ("writable", &sandbox.writable),
        ("copied", &sandbox.copied),
        ("hidden", &sandbox.hidden),
    ];
    let mut seen: BTreeMap<&HostPath, &str> = BTreeMap::new();
    for (list, paths) in lists {
        for path in paths {
            if let Some(other) = seen.insert(path, list).filter(|other| *other != list) {
                let message = format!("`{}` is both {other} and {list}", path.as_str());
                reader.fault(section.at(), &section.key(list), message);
            }
        }
    }
    section.finish(reader);
    sandbox
}

/// Returns where known agents keep their state.
fn known_states() -> Vec<HostPath> {
    let all = defaults::STATES.iter();
    all.filter_map(|text| host_path(text).ok()).collect()
}

fn host_paths(
    reader: &Reader<'_>,
    section: &mut Section<'_, '_>,
    keys: [&'static str; 2],
    defaults: &[&str],
) -> Vec<HostPath> {
    with_more(reader, section, keys, defaults, host_path)
}

/// Reads a list that replaces the default one and a list that adds to it.
fn with_more<T: PartialEq>(
    reader: &Reader<'_>,
    section: &mut Section<'_, '_>,
    [key, more]: [&'static str; 2],
    defaults: &[&str],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    let given = section.list(reader, key, Empty::Fine, &parse);
    let defaults = || {
        defaults
            .iter()
            .filter_map(|text| parse(text).ok())
            .collect()
    };
    let mut all = given.unwrap_or_else(defaults);
    for one in (section.list(reader, more, Empty::Fine, &parse)).unwrap_or_default() {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

fn checks(reader: &Reader<'_>, root: &mut Section<'_, '_>) -> Vec<Check> {
    programs(reader, root.section(reader, "checks"), defaults::CHECK_MS)
}

/// Reads a table of named programs with their time limits.
fn programs(reader: &Reader<'_>, mut section: Section<'_, '_>, limit_ms: u64) -> Vec<Check> {
    let mut out = Vec::new();
    for (name, mut section) in section.named(reader) {
        let command = section.command(reader, "command");
        let timeout = section.duration(reader, "timeout");
        if !section.has("command") {
            reader.fault(
                section.at(),
                &section.key("command"),
                "is missing; say what to run",
            );
        }
        if !is_word(&name.text) {
            let key = section.key("");
            let message = "a name is one word of A-Z a-z 0-9 . _ -";
            reader.fault(name.at, key.trim_end_matches('.'), message);
        }
        section.finish(reader);
        if let Some(command) = command {
            out.push(Check {
                name: name.text,
                command,
                timeout_ms: timeout.unwrap_or(limit_ms),
            });
        }
    }
    out
}

fn plans(reader: &Reader<'_>, root: &mut Section<'_, '_>) -> Plans {
    let external = programs(
        reader,
        root.section(reader, "validators"),
        defaults::VALIDATOR_MS,
    );
    let mut external: BTreeMap<String, Check> = external
        .into_iter()
        .map(|check| (check.name.clone(), check))
        .collect();
    external.retain(|name, _| {
        let taken = VALIDATORS.contains(&name.as_str());
        if taken {
            let message = "is the name of a built-in validator; choose another";
            reader.fault(0, &format!("validators.{name}"), message);
        }
        !taken
    });
    let mut section = root.section(reader, "plans");
    let required = section.boolean(reader, "required").unwrap_or(false);
    let mut types = section.section(reader, "types");
    let mut validators: BTreeMap<String, Vec<String>> = (defaults::VALIDATORS.iter())
        .map(|(kind, list)| {
            (
                (*kind).to_owned(),
                list.iter().map(ToString::to_string).collect(),
            )
        })
        .collect();
    for (kind, list) in types.lists(reader, |text| {
        if VALIDATORS.contains(&text) || external.contains_key(text) {
            return Ok(text.to_owned());
        }
        let known: Vec<&str> = VALIDATORS
            .into_iter()
            .chain(external.keys().map(String::as_str))
            .collect();
        Err(format!(
            "no validator `{text}` is defined; known: {}",
            known.join(", ")
        ))
    }) {
        validators.insert(kind, list);
    }
    section.finish(reader);
    Plans {
        required,
        validators,
        external,
    }
}

fn facts(reader: &Reader<'_>, mut section: Section<'_, '_>) -> Facts {
    let facts = Facts {
        schema_version: section.command(reader, "schema-version"),
        feature_flags: section.command(reader, "feature-flags"),
        coverage: section.command(reader, "coverage"),
        tests: section.command(reader, "tests"),
        test_files: section.list(reader, "test-files", Empty::Fine, pattern),
        timeout_ms: (section.duration(reader, "timeout")).unwrap_or(defaults::FACT_MS),
    };
    section.finish(reader);
    facts
}

fn merge(reader: &Reader<'_>, mut section: Section<'_, '_>, checks: &[Check]) -> Merge {
    let known: BTreeSet<&str> = checks.iter().map(|check| check.name.as_str()).collect();
    let required = section.list(reader, "checks", Empty::Fine, |text| {
        if known.contains(text) {
            return Ok(text.to_owned());
        }
        Err(format!(
            "no check `{text}` is defined; write [checks.{text}] with its command"
        ))
    });
    let all = || checks.iter().map(|check| check.name.clone()).collect();
    let merge = Merge {
        target: (section.parsed(reader, "target", branch))
            .unwrap_or_else(|| defaults::TARGET.to_owned()),
        checks: required.unwrap_or_else(all),
        people: (section.list(reader, "people", Empty::Fine, name)).unwrap_or_default(),
    };
    section.finish(reader);
    merge
}

fn ledger(reader: &Reader<'_>, mut section: Section<'_, '_>) -> Ledger {
    let ledger = Ledger {
        keep_contents_ms: (section.duration(reader, "keep-contents")).unwrap_or(defaults::KEEP_MS),
        seal_entries: (section.count(reader, "seal-entries", 1)).unwrap_or(defaults::SEAL_ENTRIES),
        seal_interval_ms: (section.duration(reader, "seal-interval")).unwrap_or(defaults::SEAL_MS),
        anchor: section.command(reader, "anchor"),
        session_quota: section.parsed(reader, "session-quota", size),
    };
    section.finish(reader);
    ledger
}
