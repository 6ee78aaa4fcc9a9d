//! The startup text for an agent of a role: what it may do, what it has, what to read first.
//!
//! Owns: the text. It is assembled from the charter, the agent's plan and its
//! claims, and says nothing that the kernel does not hold it to.

use std::fmt::Write as _;

use crate::app::failure::Failure;
use crate::app::plan::no_law;
use crate::app::queue::Board;
use crate::app::site::Site;
use crate::domain::charter::{Charter, ClaimMode, Role};
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::pattern::Pattern;
use crate::domain::plan::{Check, Plan};
use crate::domain::queue::Item;
use crate::domain::state::State;

/// For whom the text is.
#[derive(Clone, Debug)]
pub struct For {
    pub role: RoleName,
    pub agent: Option<AgentName>,
    pub plan: Option<PlanId>,
}

/// Writes the text.
pub fn brief(site: &mut Site, whom: &For) -> Result<String, Failure> {
    let board = Board::read(site, false)?;
    let law = board.state.law.clone().ok_or_else(no_law)?;
    let Some(role) = law.roles.get(&whom.role) else {
        let known: Vec<&str> = law.roles.keys().map(RoleName::as_str).collect();
        return Err(
            Failure::missing(format!("the charter defines no role {}", whom.role))
                .hint(format!("it defines {}", known.join(", "))),
        );
    };
    let item = match &whom.plan {
        Some(id) => Some(board.queue.get(id).ok_or_else(|| {
            Failure::missing(format!("there is no plan {id}")).hint("govfs plan list")
        })?),
        None => own_plan(&board, whom),
    };
    Ok(text(&law, role, whom, item, &board))
}

/// The plan that the agent works on.
fn own_plan<'a>(board: &'a Board, whom: &For) -> Option<&'a Item> {
    let agent = whom.agent.as_ref()?;
    let mut items = board.queue.0.values();
    items.find(|item| item.owner.as_ref() == Some(agent) && !item.is_done())
}

fn text(law: &Charter, role: &Role, whom: &For, item: Option<&Item>, board: &Board) -> String {
    let mut out = String::new();
    let name = &whom.role;
    match &whom.agent {
        Some(agent) => {
            let _ = writeln!(out, "# You are {agent}, of the role {name}\n");
        }
        None => {
            let _ = writeln!(out, "# The role {name}\n");
        }
    }
    if let Some(brief) = &role.brief {
        let _ = writeln!(out, "{}\n", brief.trim());
    }
    rules(&mut out, law, role);
    lanes(&mut out, law, &whom.role);
    match item {
        Some(item) => plan(&mut out, &item.plan),
        None => next(&mut out, board, &whom.role),
    }
    if let Some(agent) = &whom.agent {
        claims(&mut out, &board.state, agent);
    }
    reading(&mut out, role, item.map(|item| &item.plan));
    out
}

fn rules(out: &mut String, law: &Charter, role: &Role) {
    out.push_str("## How you work\n\n");
    out.push_str(
        "- You may read everything. You may write what is claimed for you and nothing else.\n",
    );
    out.push_str("- \"Permission denied\" is an answer: read `.govfs/denials`, claim the path, or leave it alone.\n");
    out.push_str("- Git works as usual, on a private copy: what you commit reaches nobody before the merge.\n");
    if law.claims.mode == ClaimMode::FirstWrite {
        out.push_str("- The first write to a free path claims it.\n");
    } else {
        out.push_str("- Claim a path before you write it: `govfs claim PATTERN`.\n");
    }
    let _ = writeln!(out, "- Your role may claim within: {}", list(&role.paths));
    let _ = writeln!(out, "- Nobody writes: {}", list(&law.paths.protected));
    let checks = &law.merge.checks;
    if !checks.is_empty() {
        let _ = writeln!(
            out,
            "- Before a merge these must pass: {}",
            checks.join(", ")
        );
    }
    out.push('\n');
}

fn lanes(out: &mut String, law: &Charter, name: &RoleName) {
    let by = law.reviewers_of(name);
    let of: Vec<&RoleName> = law
        .roles
        .keys()
        .filter(|other| law.reviewers_of(other).contains(&name))
        .collect();
    let ways: Vec<&crate::domain::charter::ReviewRule> = law
        .reviews
        .rules
        .iter()
        .filter(|rule| rule.roles.contains(name))
        .collect();
    if by.is_empty() && of.is_empty() && ways.is_empty() && law.reviews.required == 0 {
        return;
    }
    let joined = |roles: &[&RoleName]| {
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        roles.join(", ")
    };
    out.push_str("## Reviews\n\n");
    if !by.is_empty() {
        let _ = writeln!(out, "- Your changes are reviewed by: {}", joined(&by));
    } else if law.reviews.required > 0 {
        let _ = writeln!(
            out,
            "- Your changes need {} approvals",
            law.reviews.required
        );
    }
    if !of.is_empty() {
        let _ = writeln!(out, "- You review changes of: {}", joined(&of));
    }
    for rule in ways {
        let _ = writeln!(out, "- You must approve changes of: {}", list(&rule.paths));
    }
    out.push_str("- Nobody approves their own. An approval is for one exact candidate.\n\n");
}

fn plan(out: &mut String, plan: &Plan) {
    let _ = writeln!(out, "## Your plan: {} ({})\n", plan.id, plan.kind);
    if !plan.description.is_empty() {
        let _ = writeln!(out, "{}\n", plan.description.trim());
    }
    let claims = &plan.claims;
    let lists = [
        ("Change", &claims.files),
        ("Tests", &claims.tests),
        ("Rely on, unchanged", &claims.read),
    ];
    for (what, patterns) in lists {
        if !patterns.is_empty() {
            let _ = writeln!(out, "- {what}: {}", list(patterns));
        }
    }
    if !plan.dependencies.is_empty() {
        let ids: Vec<&str> = plan.dependencies.iter().map(PlanId::as_str).collect();
        let _ = writeln!(out, "- It builds on: {}", ids.join(", "));
    }
    for check in &plan.acceptance {
        let _ = writeln!(
            out,
            "- It is done when this passes: {}",
            Check::shown(check)
        );
    }
    let after = &plan.postconditions;
    if after.tests_pass {
        out.push_str("- The tests pass.\n");
    }
    if let Some(delta) = after.coverage_delta {
        let _ = writeln!(out, "- Coverage changes by at least {delta}.");
    }
    if after.tests_not_dropped {
        out.push_str("- No test is dropped.\n");
    }
    for command in &after.commands {
        let _ = writeln!(out, "- This passes: {}", command.shown());
    }
    if let Some(prompt) = plan.run.as_ref().and_then(|run| run.prompt.as_ref()) {
        let _ = writeln!(out, "\n{}", prompt.trim());
    }
    out.push('\n');
}

fn next(out: &mut String, board: &Board, role: &RoleName) {
    out.push_str("## Your work\n\n");
    match board.next(role) {
        Ok(advice) => {
            if let Some(id) = &advice.plan {
                let _ = writeln!(out, "You have no plan yet. Next is {id}:");
                for reason in &advice.reasons {
                    let _ = writeln!(out, "- {reason}");
                }
            } else {
                let _ = writeln!(out, "You have no plan: {}.", advice.reasons.join("; "));
            }
        }
        Err(failure) => {
            let _ = writeln!(out, "{failure}");
        }
    }
    out.push('\n');
}

fn claims(out: &mut String, state: &State, agent: &AgentName) {
    let held: Vec<String> = state
        .claims_of(agent)
        .map(|claim| {
            let mode = crate::app::claim::mode_text(claim.mode);
            format!("- {mode} {}", claim.pattern)
        })
        .collect();
    out.push_str("## Claimed for you\n\n");
    if held.is_empty() {
        out.push_str("Nothing yet.\n\n");
    } else {
        let _ = writeln!(out, "{}\n", held.join("\n"));
    }
}

fn reading(out: &mut String, role: &Role, plan: Option<&Plan>) {
    out.push_str("## Read first\n\n- governor.md: how agents work here\n");
    let mut shown: Vec<&Pattern> = Vec::new();
    let own = plan.map(|plan| &plan.claims.read);
    for pattern in role.read_first.iter().chain(own.into_iter().flatten()) {
        if !shown.contains(&pattern) {
            shown.push(pattern);
            let _ = writeln!(out, "- {pattern}");
        }
    }
}

fn list(patterns: &[Pattern]) -> String {
    let all: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    all.join(" ")
}
