//! Roles, and who reviews whom.
//!
//! Owns: the tables `roles`, `agents` and `reviews`; every role that one of them
//! names must be defined.

use std::collections::BTreeMap;

use crate::domain::charter::Diversity;
use crate::domain::charter::ReviewRule;
use crate::domain::charter::Reviews;
use crate::domain::charter::Role;
use crate::domain::charter::defaults;
use crate::domain::charter::read::Empty;
use crate::domain::charter::read::Reader;
use crate::domain::charter::read::Section;
use crate::domain::charter::settings::patterns;
use crate::domain::charter::settings::patterns_or;
use crate::domain::charter::values::engine;
use crate::domain::charter::values::name;
use crate::domain::charter::values::pattern;
use crate::domain::names::RoleName;

pub(super) fn roles(
    reader: &Reader<'_>,
    section: &mut Section<'_, '_>,
) -> BTreeMap<RoleName, Role> {
    let mut roles = BTreeMap::new();
    let mut named: Vec<(usize, String, RoleName)> = Vec::new();
    for (text, mut section) in section.named(reader) {
        let role = Role {
            paths: (section.list(reader, "paths", Empty::Senseless, pattern))
                .unwrap_or_else(|| patterns(&["**"])),
            engine: section.parsed(reader, "engine", engine),
            reviews: role_list(reader, &mut section, "reviews", &mut named),
            reviewed_by: role_list(reader, &mut section, "reviewed-by", &mut named),
            brief: section.text(reader, "brief").map(|text| text.text),
            read_first: patterns_or(reader, &mut section, "read-first", &[]),
        };
        let key = section.key("");
        section.finish(reader);
        match name::<RoleName>(&text.text) {
            Ok(name) => _ = roles.insert(name, role),
            Err(message) => reader.fault(text.at, key.trim_end_matches('.'), message),
        }
    }
    if roles.is_empty()
        && let Ok(name) = defaults::ROLE.parse()
    {
        roles.insert(name, any_path());
    }
    for (at, key, name) in named {
        must_exist(reader, &roles, at, &key, &name);
    }
    roles
}

/// The role of a charter that defines none.
fn any_path() -> Role {
    Role {
        paths: patterns(&["**"]),
        engine: None,
        reviews: Vec::new(),
        reviewed_by: Vec::new(),
        brief: None,
        read_first: Vec::new(),
    }
}

/// Reads a list of roles; whether they exist is seen when all are known.
fn role_list(
    reader: &Reader<'_>,
    section: &mut Section<'_, '_>,
    key: &'static str,
    named: &mut Vec<(usize, String, RoleName)>,
) -> Vec<RoleName> {
    let at = section.at_of(key);
    let list = section.list(reader, key, Empty::Senseless, name::<RoleName>);
    let list = list.unwrap_or_default();
    named.extend(list.iter().map(|name| (at, section.key(key), name.clone())));
    list
}

fn must_exist(
    reader: &Reader<'_>,
    roles: &BTreeMap<RoleName, Role>,
    at: usize,
    key: &str,
    name: &RoleName,
) {
    if !roles.contains_key(name) {
        let known: Vec<&str> = roles.keys().map(RoleName::as_str).collect();
        let known = known.join(", ");
        reader.fault(
            at,
            key,
            format!("no role `{name}` is defined; defined: {known}"),
        );
    }
}

pub(super) fn default_role(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
    roles: &BTreeMap<RoleName, Role>,
) -> RoleName {
    let at = section.at_of("default-role");
    let given = section.parsed(reader, "default-role", name::<RoleName>);
    let key = section.key("default-role");
    section.finish(reader);
    if let Some(name) = given {
        must_exist(reader, roles, at, &key, &name);
        return name;
    }
    let fallback = defaults::ROLE.parse::<RoleName>().ok();
    if let Some(name) = fallback.filter(|name| roles.contains_key(name)) {
        return name;
    }
    // Several roles and none called `agent`: which one newcomers get must be said.
    if roles.len() > 1 {
        let message =
            "several roles are defined; say which one an agent gets that was added without";
        reader.fault(at, &key, message);
    }
    // `roles` makes sure of one.
    roles
        .keys()
        .next()
        .cloned()
        .unwrap_or_else(|| unreachable!("a charter has a role"))
}

pub(super) fn reviews(
    reader: &Reader<'_>,
    mut section: Section<'_, '_>,
    roles: &BTreeMap<RoleName, Role>,
) -> Reviews {
    let diversities = [
        ("off", Diversity::Off),
        ("prefer", Diversity::Prefer),
        ("require", Diversity::Require),
    ];
    let required = section.count(reader, "required", 0).unwrap_or(0);
    let engine_diversity = section.choice(reader, "engine-diversity", &diversities);
    let mut demands = Vec::new();
    for mut rule in section.each(reader, "rules") {
        let mut named = Vec::new();
        let paths = rule.list(reader, "paths", Empty::Senseless, pattern);
        let given = ReviewRule {
            paths: paths.unwrap_or_default(),
            roles: role_list(reader, &mut rule, "roles", &mut named),
            person: rule.boolean(reader, "person").unwrap_or(false),
        };
        for (at, key, name) in named {
            must_exist(reader, roles, at, &key, &name);
        }
        if !rule.has("paths") {
            reader.fault(
                rule.at(),
                &rule.key("paths"),
                "is missing; say which paths the rule is for",
            );
        }
        if given.roles.is_empty() && !given.person && !rule.has("roles") {
            let message = "asks for nobody; name `roles`, or set `person = true`";
            reader.fault(rule.at(), &rule.key("roles"), message);
        }
        rule.finish(reader);
        demands.push(given);
    }
    section.finish(reader);
    Reviews {
        required,
        engine_diversity: engine_diversity.unwrap_or(Diversity::Prefer),
        rules: demands,
    }
}
