//! The graph as text: for people, for `dot` and for Mermaid.
//!
//! Owns: the three drawings, and the order of the plans in them: a cycle is drawn
//! like everything else. Never judges the graph.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use crate::domain::dag::graph::Graph;
use crate::domain::names::PlanId;
use crate::domain::plan::Plan;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    Text,
    Dot,
    Mermaid,
}

impl FromStr for Drawing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "dot" => Ok(Self::Dot),
            "mermaid" => Ok(Self::Mermaid),
            other => Err(format!("{other} is none of text, dot, mermaid")),
        }
    }
}

/// Draws the graph; `label` says what stands beside a plan's id, e.g. its state.
/// An edge leads from a dependency to the plan that waits for it.
pub fn draw(graph: &Graph<'_>, drawing: Drawing, label: impl Fn(&PlanId) -> String) -> String {
    let plans = listed(graph);
    match drawing {
        Drawing::Text => text(&plans, label),
        Drawing::Dot => dot(&plans, label),
        Drawing::Mermaid => mermaid(&plans, label),
    }
}

/// Returns the plans in their order; those in or behind a cycle come last, by name.
fn listed<'a>(graph: &Graph<'a>) -> Vec<&'a Plan> {
    let order = graph.order();
    let mut plans: Vec<&Plan> = order.iter().filter_map(|id| graph.plan(id)).collect();
    if plans.len() < graph.len() {
        let known: std::collections::BTreeSet<_> = order.iter().collect();
        let all = (0..graph.len()).map(|at| graph.member(at).plan);
        plans.extend(all.filter(|plan| !known.contains(&plan.id)));
    }
    plans
}

fn text(plans: &[&Plan], label: impl Fn(&PlanId) -> String) -> String {
    let mut out = String::new();
    for plan in plans {
        let _ = write!(out, "{}", plan.id);
        let label = label(&plan.id);
        if !label.is_empty() {
            let _ = write!(out, " [{label}]");
        }
        if !plan.dependencies.is_empty() {
            let ids: Vec<&str> = plan.dependencies.iter().map(PlanId::as_str).collect();
            let _ = write!(out, " <- {}", ids.join(", "));
        }
        out.push('\n');
    }
    out
}

fn dot(plans: &[&Plan], label: impl Fn(&PlanId) -> String) -> String {
    let mut out = String::from("digraph plans {\n  rankdir=LR;\n  node [shape=box];\n");
    for plan in plans {
        let caption = caption(&plan.id, &label(&plan.id), "\\n");
        let _ = writeln!(out, "  \"{}\" [label=\"{caption}\"];", plan.id);
    }
    for (plan, id) in edges(plans) {
        let _ = writeln!(out, "  \"{id}\" -> \"{}\";", plan.id);
    }
    out.push_str("}\n");
    out
}

fn mermaid(plans: &[&Plan], label: impl Fn(&PlanId) -> String) -> String {
    let mut out = String::from("flowchart LR\n");
    let mut names: BTreeMap<&PlanId, String> = BTreeMap::new();
    for plan in plans {
        let name = format!("p{}", names.len());
        let caption = caption(&plan.id, &label(&plan.id), "<br/>");
        let _ = writeln!(out, "  {name}[\"{caption}\"]");
        names.insert(&plan.id, name);
    }
    for (plan, id) in edges(plans) {
        let (Some(from), Some(to)) = (names.get(id), names.get(&plan.id)) else {
            continue; // an unknown dependency is a finding, not a box
        };
        let _ = writeln!(out, "  {from} --> {to}");
    }
    out
}

fn edges<'a>(plans: &'a [&Plan]) -> impl Iterator<Item = (&'a Plan, &'a PlanId)> {
    let each = |plan: &'a &Plan| plan.dependencies.iter().map(move |id| (*plan, id));
    plans.iter().flat_map(each)
}

/// Ids need no quoting; labels are cut to what needs none either.
fn caption(id: &PlanId, label: &str, gap: &str) -> String {
    let plain = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | ',');
    let label: String = label.chars().filter(plain).collect();
    match label.as_str() {
        "" => id.to_string(),
        label => format!("{id}{gap}{label}"),
    }
}
