//! The graph of dependencies: components, cycles, reachability, the stable order.
//!
//! Owns: the plans by number and the walks over them. Invariants: the numbers follow
//! the ids, so nothing depends on the order in which plans were given; no walk
//! recurses, however long a chain is. Never looks at claims.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::VecDeque;

use crate::domain::dag::{Fact, Finding, Member};
use crate::domain::names::{PlanId, distance};
use crate::domain::plan::Plan;

/// For how many unknown ids a similar known one is looked for.
const GUESSES_MAX: usize = 50;

/// Plans by index, in the order of their ids; of two with one id the first given.
#[derive(Debug)]
pub struct Graph<'a> {
    members: Vec<Member<'a>>,
    index: HashMap<&'a PlanId, usize>,
    needs: Vec<Vec<usize>>,
    needed_by: Vec<Vec<usize>>,
    /// Each plan's component of mutually dependent plans. A component has a
    /// higher number than all that it depends on.
    component: Vec<usize>,
    components: Vec<Vec<usize>>,
}

impl<'a> Graph<'a> {
    pub fn new(given: &[Member<'a>]) -> Self {
        let mut members = given.to_vec();
        members.sort_by_key(|member| &member.plan.id);
        members.dedup_by_key(|member| &member.plan.id);
        let ids = members.iter().enumerate();
        let index: HashMap<_, _> = ids.map(|(at, member)| (&member.plan.id, at)).collect();
        let mut needs = vec![Vec::new(); members.len()];
        let mut needed_by = vec![Vec::new(); members.len()];
        for (at, member) in members.iter().enumerate() {
            for id in &member.plan.dependencies {
                if let Some(&on) = index.get(id) {
                    needs[at].push(on);
                    needed_by[on].push(at);
                }
            }
        }
        let components = components(&needs);
        let mut component = vec![0; members.len()];
        for (number, plans) in components.iter().enumerate() {
            for &at in plans {
                component[at] = number;
            }
        }
        Self {
            members,
            index,
            needs,
            needed_by,
            component,
            components,
        }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn member(&self, at: usize) -> &Member<'a> {
        &self.members[at]
    }

    pub fn find(&self, id: &PlanId) -> Option<usize> {
        self.index.get(id).copied()
    }

    pub fn plan(&self, id: &PlanId) -> Option<&'a Plan> {
        self.find(id).map(|at| self.members[at].plan)
    }

    pub(super) fn component_of(&self, at: usize) -> usize {
        self.component[at]
    }

    pub(super) fn component_count(&self) -> usize {
        self.components.len()
    }

    /// Calls `visit` with each component and one that it depends on.
    pub(super) fn component_edges(&self, number: usize, mut visit: impl FnMut(usize)) {
        for &at in &self.components[number] {
            for &on in &self.needs[at] {
                if self.component[on] != number {
                    visit(self.component[on]);
                }
            }
        }
    }

    /// Returns the plans that depend on `id`, directly or through others, by name.
    pub fn dependents(&self, id: &PlanId) -> BTreeSet<&'a PlanId> {
        self.spread(id, &self.needed_by)
    }

    /// Returns the plans that `id` depends on, directly or through others, by name.
    pub fn ancestors(&self, id: &PlanId) -> BTreeSet<&'a PlanId> {
        self.spread(id, &self.needs)
    }

    fn spread(&self, id: &PlanId, edges: &[Vec<usize>]) -> BTreeSet<&'a PlanId> {
        let mut seen = vec![false; self.len()];
        let mut todo: Vec<usize> = self.find(id).into_iter().collect();
        while let Some(at) = todo.pop() {
            for &next in &edges[at] {
                if !std::mem::replace(&mut seen[next], true) {
                    todo.push(next);
                }
            }
        }
        let ids = seen.iter().zip(&self.members).filter(|(seen, _)| **seen);
        ids.map(|(_, member)| &member.plan.id).collect()
    }

    /// Returns the dependencies that no plan of the set has.
    pub(super) fn unknown(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        for member in &self.members {
            for (at, id) in member.plan.dependencies.iter().enumerate() {
                if self.index.contains_key(id) {
                    continue;
                }
                let near = (out.len() < GUESSES_MAX).then(|| self.nearest(id));
                let near = near
                    .flatten()
                    .map_or(String::new(), |near| format!("; is {near} meant?"));
                let message = format!("there is no plan {id}{near}");
                let key = format!("plan.dependencies[{at}]");
                out.push(Finding::new(
                    member.plan,
                    "unknown-dependency",
                    &key,
                    message,
                ));
            }
        }
        out
    }

    /// Returns the known id that differs least, if it differs little.
    fn nearest(&self, id: &PlanId) -> Option<&'a PlanId> {
        let limit = 1 + id.as_str().len() / 5;
        let ids = self.members.iter().map(|member| &member.plan.id);
        ids.filter(|known| known.as_str().len().abs_diff(id.as_str().len()) <= limit)
            .map(|known| (distance(known.as_str(), id.as_str()), known))
            .filter(|(distance, _)| *distance <= limit)
            .min()
            .map(|(_, known)| known)
    }

    /// Returns one shortest cycle of each set of plans that depend on one another.
    pub(super) fn cycles(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        for plans in &self.components {
            let Some(&start) = plans.iter().min() else {
                continue;
            };
            let Some(cycle) = self.cycle(start) else {
                continue;
            };
            let ids: Vec<PlanId> = cycle.iter().map(|&at| self.id(at).clone()).collect();
            let plan = self.members[start].plan;
            let mut shown: Vec<&str> = ids.iter().map(PlanId::as_str).collect();
            shown.push(plan.id.as_str());
            let message = format!("the dependencies form a cycle: {}", shown.join(" -> "));
            let next = ids.get(1).unwrap_or(&plan.id);
            let at = plan.dependencies.iter().position(|id| id == next);
            let key = format!("plan.dependencies[{}]", at.unwrap_or(0));
            let finding = Finding::new(plan, "cycle", &key, message);
            out.push(finding.with(Fact::Cycle(ids)));
        }
        out
    }

    /// Returns a shortest way from `start` to itself, within its component.
    fn cycle(&self, start: usize) -> Option<Vec<usize>> {
        let home = self.component[start];
        let mut from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &next in &self.needs[at] {
                if next == start {
                    let mut way = vec![at];
                    while let Some(&before) = from.get(way.last().unwrap_or(&start)) {
                        way.push(before);
                    }
                    way.reverse();
                    return Some(way);
                }
                if self.component[next] == home && !from.contains_key(&next) {
                    from.insert(next, at);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    fn id(&self, at: usize) -> &'a PlanId {
        &self.members[at].plan.id
    }

    /// Returns the plans with dependencies first; among those that are free, by
    /// priority and then by name. Plans in or behind a cycle are left out.
    pub fn order(&self) -> Vec<PlanId> {
        let mut missing: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        let rank = |at: usize| Reverse((self.members[at].plan.rank(), at));
        let free = (0..self.len()).filter(|&at| missing[at] == 0);
        let mut free: BinaryHeap<_> = free.map(rank).collect();
        let mut out = Vec::with_capacity(self.len());
        while let Some(Reverse((_, at))) = free.pop() {
            out.push(self.id(at).clone());
            for &next in &self.needed_by[at] {
                missing[next] -= 1;
                if missing[next] == 0 {
                    free.push(rank(next));
                }
            }
        }
        out
    }
}

/// Returns the strongly connected components, each after all that it leads to.
/// Tarjan's algorithm with its own stack: a chain of plans may be very long.
fn components(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const NEW: usize = usize::MAX;
    let mut number = vec![NEW; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut on_stack = vec![false; edges.len()];
    let (mut stack, mut out, mut count) = (Vec::new(), Vec::new(), 0);
    for root in 0..edges.len() {
        let mut calls = if number[root] == NEW {
            vec![(root, 0)]
        } else {
            Vec::new()
        };
        while let Some((at, child)) = calls.pop() {
            if child == 0 {
                number[at] = count;
                low[at] = count;
                count += 1;
                stack.push(at);
                on_stack[at] = true;
            } else {
                low[at] = low[at].min(low[edges[at][child - 1]]);
            }
            let fresh = (child..edges[at].len()).find(|&next| {
                let to = edges[at][next];
                if on_stack[to] {
                    low[at] = low[at].min(number[to]);
                }
                number[to] == NEW
            });
            if let Some(next) = fresh {
                calls.push((at, next + 1));
                calls.push((edges[at][next], 0));
            } else if low[at] == number[at] {
                let cut = stack.iter().rposition(|&other| other == at).unwrap_or(0);
                let plans = stack.split_off(cut);
                for &plan in &plans {
                    on_stack[plan] = false;
                }
                out.push(plans);
            }
        }
    }
    out
}
