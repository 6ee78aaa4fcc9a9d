//! What a DAG-TOML file says of itself, computed again.
//!
//! Owns: entry points, leaves, layers, totals and the critical path. A stated value
//! that differs is a fault that names both.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::import::dag_toml::Unit;
use crate::domain::plan::fields::{At, Fields, Problems};

pub(super) fn check(
    units: &BTreeMap<String, Unit>,
    root: &mut Fields<'_>,
    problems: &mut Problems<'_>,
) {
    if let Some(mut meta) = root.table("meta", problems)
        && let Some(at) = meta.integer("total_units", problems)
    {
        same(&at, count(units.len()), "units", problems);
    }
    let Some(mut computed) = root.table("computed", problems) else {
        return;
    };
    let blocked: BTreeSet<&str> = units.values().flat_map(depends_on).collect();
    let names = || units.iter().map(|(name, unit)| (name.as_str(), unit));
    let entries = names().filter(|(_, unit)| unit.depends_on.is_empty());
    let leaves = names().filter(|(name, _)| !blocked.contains(name));
    let entries: BTreeSet<&str> = entries.map(|(name, _)| name).collect();
    let leaves: BTreeSet<&str> = leaves.map(|(name, _)| name).collect();
    set("entry_points", &entries, &mut computed, problems);
    set("leaf_nodes", &leaves, &mut computed, problems);
    critical(units, &leaves, &mut computed, problems);
    layers(units, &mut computed, problems);
    totals(units, &mut computed, problems);
}

fn depends_on(unit: &Unit) -> impl Iterator<Item = &str> {
    unit.depends_on.iter().map(|at| at.value.as_str())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn same(at: &At<i64>, real: i64, what: &str, problems: &mut Problems<'_>) {
    if at.value != real {
        let message = format!("says {}, but there are {real} {what}", at.value);
        problems.add(at.line, at.key.clone(), message);
    }
}

fn set(
    key: &'static str,
    real: &BTreeSet<&str>,
    computed: &mut Fields<'_>,
    problems: &mut Problems<'_>,
) {
    if !computed.has(key) {
        return;
    }
    let line = computed.line();
    let listed = computed.strings(key, problems);
    let stated: BTreeSet<&str> = listed.iter().map(|at| at.value.as_str()).collect();
    if stated != *real {
        let real: Vec<&str> = real.iter().copied().collect();
        let line = listed.first().map_or(line, |at| at.line);
        let message = format!("these are [{}]", real.join(", "));
        problems.add(line, computed.name(key), message);
    }
}

/// Checks the stated longest way through the graph, by lines of code.
fn critical(
    units: &BTreeMap<String, Unit>,
    leaves: &BTreeSet<&str>,
    computed: &mut Fields<'_>,
    problems: &mut Problems<'_>,
) {
    let path = computed.strings("critical_path", problems);
    let stated = computed.integer("critical_path_loc", problems);
    let names: Vec<&str> = path.iter().map(|at| at.value.as_str()).collect();
    let key = computed.name("critical_path");
    let line = path.first().map_or(computed.line(), |at| at.line);
    let (Some(first), Some(last)) = (names.first(), names.last()) else {
        if let Some(at) = stated {
            problems.add(at.line, at.key, "there is no critical_path");
        }
        return;
    };
    if let Some(unknown) = names.iter().find(|name| !units.contains_key(**name)) {
        problems.add(line, key, format!("there is no unit {unknown}"));
        return;
    }
    let loc = |name: &&str| units.get(*name).map_or(0, |unit| unit.loc);
    let follows = |pair: &[&str]| {
        let next = units.get(pair[1]);
        next.is_some_and(|unit| depends_on(unit).any(|id| id == pair[0]))
    };
    let begins = units
        .get(*first)
        .is_some_and(|unit| unit.depends_on.is_empty());
    if !names.windows(2).all(follows) || !begins || !leaves.contains(last) {
        let message = "is no way from an entry point to a leaf along dependencies";
        problems.add(line, key.clone(), message);
        return;
    }
    let sum: i64 = names.iter().map(loc).sum();
    if let Some(at) = stated {
        same(&at, sum, "lines along the path", problems);
    }
    if let Some(longest) = longest(units).filter(|longest| *longest > sum) {
        let message = format!("is {sum} lines long, but there is a way of {longest}");
        problems.add(line, key, message);
    }
}

/// Returns the lines of the longest way, or nothing where a cycle makes it endless.
fn longest(units: &BTreeMap<String, Unit>) -> Option<i64> {
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    let mut blocks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, unit) in units {
        let known: Vec<&str> = depends_on(unit)
            .filter(|id| units.contains_key(*id))
            .collect();
        missing.insert(name, known.len());
        for id in known {
            blocks.entry(id).or_default().push(name);
        }
    }
    let free = missing.iter().filter(|(_, count)| **count == 0);
    let mut free: Vec<&str> = free.map(|(name, _)| *name).collect();
    let mut before: BTreeMap<&str, i64> = BTreeMap::new();
    let (mut longest, mut seen) = (0, 0);
    while let Some(name) = free.pop() {
        let own = units.get(name).map_or(0, |unit| unit.loc);
        let way = own.saturating_add(before.get(name).copied().unwrap_or(0));
        longest = way.max(longest);
        seen += 1;
        for next in blocks.get(name).into_iter().flatten() {
            let most = before.entry(next).or_default();
            *most = way.max(*most);
            let left = missing.entry(next).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                free.push(next);
            }
        }
    }
    (seen == units.len()).then_some(longest)
}

fn layers(units: &BTreeMap<String, Unit>, computed: &mut Fields<'_>, problems: &mut Problems<'_>) {
    let mut real: BTreeMap<String, i64> = BTreeMap::new();
    for layer in units.values().filter_map(|unit| unit.layer.as_ref()) {
        *real.entry(format!("layer{}", layer.value)).or_default() += 1;
    }
    let Some(mut table) = computed.table("max_parallel", problems) else {
        return;
    };
    let stated = table.integers(problems);
    for (name, at) in &stated {
        same(
            at,
            real.get(name).copied().unwrap_or(0),
            "units in that layer",
            problems,
        );
    }
    for name in real.keys().filter(|name| !stated.contains_key(*name)) {
        problems.add(table.line(), table.name(name), "is missing");
    }
}

fn totals(units: &BTreeMap<String, Unit>, computed: &mut Fields<'_>, problems: &mut Problems<'_>) {
    let Some(mut table) = computed.table("loc_totals", problems) else {
        return;
    };
    for (name, at) in table.integers(problems) {
        let tier = name
            .strip_prefix("tier")
            .and_then(|tier| tier.parse::<u32>().ok());
        let counted =
            |unit: &&Unit| name == "all" || (tier.is_some() && unit.plan.priority == tier);
        let real = units.values().filter(counted).map(|unit| unit.loc).sum();
        same(&at, real, "lines", problems);
    }
}
