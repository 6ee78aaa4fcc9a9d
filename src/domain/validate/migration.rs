//! `migration-order`: migrations of one directory form one line.
//!
//! A migration is a claimed literal file whose name holds a number after at most
//! a letter (`0007_users.sql`, `V12__x.sql`, `20260401120000-y.rb`).

use std::collections::BTreeMap;

use crate::domain::dag::{Finding, Graph, Member};
use crate::domain::path::RepoPath;
use crate::domain::plan::Plan;
use crate::domain::validate::{Facts, Validator, ValidatorTable};

/// The migrations that plans of the set are to write, by directory.
pub(super) struct Rivals<'a>(BTreeMap<RepoPath, Vec<(&'a Plan, Number<'a>)>>);

/// The digits of a name, without leading zeros: longer is greater, then by digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Number<'a> {
    len: usize,
    digits: &'a [u8],
}

impl std::fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.digits {
            b"" => "0",
            digits => std::str::from_utf8(digits).unwrap_or("?"),
        })
    }
}

fn number(name: &[u8]) -> Option<Number<'_>> {
    let rest = match name {
        [first, rest @ ..] if first.is_ascii_alphabetic() => rest,
        all => all,
    };
    let end = rest.iter().position(|b| !b.is_ascii_digit());
    let digits = &rest[..end.unwrap_or(rest.len())];
    if digits.is_empty() {
        return None;
    }
    let zeros = digits.iter().take_while(|&&b| b == b'0').count();
    let digits = &digits[zeros..];
    let len = digits.len();
    Some(Number { len, digits })
}

/// Returns the migrations that `plan` claims: their place in the list, directory and number.
fn migrations(plan: &Plan) -> impl Iterator<Item = (usize, RepoPath, &RepoPath, Number<'_>)> {
    let files = plan.claims.files.iter().enumerate();
    files.filter_map(|(at, pattern)| {
        let path = pattern.literal()?;
        Some((at, path.parent()?, path, number(path.name())?))
    })
}

pub(super) fn directories(plan: &Plan) -> impl Iterator<Item = RepoPath> {
    migrations(plan).map(|(_, directory, _, _)| directory)
}

impl<'a> Rivals<'a> {
    pub(super) fn new(members: &[Member<'a>], table: &ValidatorTable) -> Self {
        let mut out: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for member in members.iter().filter(|member| !member.done) {
            let validators = table.of(&member.plan.kind).unwrap_or_default();
            if !validators.contains(&Validator::MigrationOrder) {
                continue;
            }
            for (_, directory, _, number) in migrations(member.plan) {
                let rival = (member.plan, number);
                out.entry(directory).or_default().push(rival);
            }
        }
        Self(out)
    }
}

pub(super) fn judge(
    plan: &Plan,
    graph: &Graph<'_>,
    rivals: &Rivals<'_>,
    facts: &Facts,
    out: &mut Vec<Finding>,
) {
    let before = graph.ancestors(&plan.id);
    for (at, directory, path, number) in migrations(plan) {
        let refuse = |message: String| {
            Finding::new(
                plan,
                "migration-order",
                &format!("claims.files[{at}]"),
                message,
            )
        };
        let Some(names) = facts.listings.get(&directory) else {
            out.push(refuse(format!("what {directory} holds is not known")));
            continue;
        };
        if names.contains(path.name()) {
            continue; // an existing migration is edited, its place is fixed
        }
        let last = names.iter().filter_map(|name| self::number(name)).max();
        if let Some(last) = last.filter(|last| *last >= number) {
            let message = format!("{path} comes after nothing newer than migration {last}");
            out.push(refuse(format!("{message}: number it higher")));
        }
        for (other, theirs) in rivals.0.get(&directory).into_iter().flatten() {
            if other.id == plan.id || *theirs > number {
                continue;
            }
            if *theirs == number {
                let message = format!("plan {} has a migration {number} there too", other.id);
                out.push(refuse(message));
            } else if !before.contains(&other.id) {
                let message = format!(
                    "migration {theirs} of plan {} comes first, so this plan must depend on it",
                    other.id
                );
                out.push(refuse(message));
            }
        }
    }
}
