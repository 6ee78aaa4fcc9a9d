//! A work queue in YAML: `tasks` with ids, owners, statuses, `depends_on` and
//! `acceptance_checks`, as our own export writes it and others keep by hand.
//!
//! `title` is the plan's description and `notes` its prompt. An owner of a task
//! that is still to do becomes the plan's agent, unless it only names the lane.

use std::collections::BTreeSet;

use crate::domain::import::yaml::{Node, What};
use crate::domain::import::{IMPORT_TYPE, Ids, Imported, Notes, yaml};
use crate::domain::names::{AgentName, PlanId};
use crate::domain::pattern::Pattern;
use crate::domain::plan::fields::{At, Problems};
use crate::domain::plan::{Check, Command, Plan, PlanClaims, Run};
use crate::domain::queue::QueueState;

const LISTS: [&str; 4] = ["tasks", "plans", "queue", "items"];
/// Keys of a task that only say what the rest says too.
const SILENT: [&str; 3] = ["sha256", "branch", "completed_at"];

pub(super) fn read(
    file: &str,
    text: &str,
    problems: &mut Problems<'_>,
    notes: &mut Notes,
) -> Vec<Imported> {
    let Some(root) = yaml::parse(text, problems) else {
        if problems.is_empty() {
            problems.add(1, "", "the document is empty");
        }
        return Vec::new();
    };
    let found = LISTS.iter().find_map(|key| Some((*key, root.get(key)?)));
    let (name, list) = match (&root.what, found) {
        (What::List(_), _) => ("tasks", &root),
        (_, Some(found)) => found,
        _ => {
            problems.add(root.line, "tasks", "is missing: a list of tasks");
            return Vec::new();
        }
    };
    let mut ids = Ids::default();
    let mut out = Vec::new();
    for (at, id, node) in tasks(name, list, problems) {
        let mut task = Task::new(at, node, problems);
        let read = task.read(file, id, &mut ids, problems);
        notes.ignored(task.unknown());
        out.extend(read);
    }
    out
}

/// Returns each task with its key and, where tasks are a map, its id.
fn tasks<'a>(
    name: &str,
    list: &'a Node,
    problems: &mut Problems<'_>,
) -> Vec<(String, Option<&'a String>, &'a Node)> {
    match &list.what {
        What::List(items) => {
            let item = |(at, node)| (format!("{name}[{at}]"), None, node);
            items.iter().enumerate().map(item).collect()
        }
        What::Map(pairs) => {
            let pair = |(id, node): &'a (String, Node)| (format!("{name}.{id}"), Some(id), node);
            pairs.iter().map(pair).collect()
        }
        What::Null => Vec::new(),
        What::Text(_) => {
            problems.add(list.line, name, "must be a list of tasks, not a text");
            Vec::new()
        }
    }
}

/// One task, and which of its keys were asked for.
struct Task<'a> {
    path: String,
    line: u32,
    node: &'a Node,
    asked: BTreeSet<&'static str>,
}

impl<'a> Task<'a> {
    fn new(path: String, node: &'a Node, problems: &mut Problems<'_>) -> Self {
        if !matches!(node.what, What::Map(_)) {
            let message = format!("must be a map, not {}", node.kind());
            problems.add(node.line, path.clone(), message);
        }
        Self {
            path,
            line: node.line,
            node,
            asked: BTreeSet::from(SILENT),
        }
    }

    fn unknown(&self) -> Vec<&'a str> {
        match &self.node.what {
            What::Map(pairs) => {
                let names = pairs.iter().map(|(name, _)| name.as_str());
                names.filter(|name| !self.asked.contains(name)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns the value of the first of `keys` that is there and not null.
    fn node(&mut self, keys: &[&'static str]) -> Option<(String, &'a Node)> {
        self.asked.extend(keys);
        let found = keys.iter().find_map(|key| Some((key, self.node.get(key)?)));
        let (key, node) = found.filter(|(_, node)| node.what != What::Null)?;
        Some((format!("{}.{key}", self.path), node))
    }

    fn text(&mut self, keys: &[&'static str], problems: &mut Problems<'_>) -> Option<At<String>> {
        let (key, node) = self.node(keys)?;
        text(key, node, problems)
    }

    fn texts(&mut self, keys: &[&'static str], problems: &mut Problems<'_>) -> Vec<At<String>> {
        match self.node(keys) {
            Some((key, node)) => texts(&key, node, problems),
            None => Vec::new(),
        }
    }

    fn read(
        &mut self,
        file: &str,
        id: Option<&String>,
        ids: &mut Ids,
        problems: &mut Problems<'_>,
    ) -> Option<Imported> {
        let own = self.text(&["id"], problems);
        let own = own.or_else(|| {
            Some(At {
                line: self.line,
                key: format!("{}.id", self.path),
                value: id?.clone(),
            })
        });
        let Some(own) = own else {
            problems.add(self.line, format!("{}.id", self.path), "is missing");
            return None;
        };
        let kind = self.text(&["type"], problems);
        let kind = kind.map_or_else(|| IMPORT_TYPE.to_owned(), |at| at.value);
        let mut plan = Plan::bare(ids.id(&own, problems)?, &kind);
        file.clone_into(&mut plan.origin.file);
        plan.origin.note("plan", self.line);
        plan.origin.note("plan.id", own.line);
        self.head(&mut plan, ids, problems);
        plan.claims = self.claims(problems);
        plan.acceptance = self.checks(problems);
        let notes = self.text(&["notes", "prompt"], problems);
        let notes = notes.filter(|at| !at.value.trim().is_empty());
        plan.run = notes.map(|at| Run {
            command: None,
            prompt: Some(at.value),
        });
        let mut task = Imported::todo(plan, self.line);
        self.state(&mut task, problems);
        Some(task)
    }

    fn head(&mut self, plan: &mut Plan, ids: &mut Ids, problems: &mut Problems<'_>) {
        let role = self.text(&["role", "lane"], problems);
        plan.role = role.and_then(|at| at.parse(problems)).map(|at| at.value);
        let agent = self.text(&["agent"], problems);
        plan.agent = agent.and_then(|at| at.parse(problems)).map(|at| at.value);
        let title = self.text(&["title", "description", "summary"], problems);
        plan.description = title.map(|at| at.value).unwrap_or_default();
        plan.priority = self.priority(problems);
        let mut seen: BTreeSet<PlanId> = BTreeSet::new();
        for at in self.texts(&["depends_on", "dependencies"], problems) {
            let Some(id) = ids.id(&at, problems) else {
                continue;
            };
            plan.origin.note("plan.dependencies", at.line);
            if seen.insert(id.clone()) {
                plan.dependencies.push(id);
            } else {
                problems.add(at.line, at.key, "stands here twice");
            }
        }
    }

    fn priority(&mut self, problems: &mut Problems<'_>) -> Option<u32> {
        let at = self.text(&["priority"], problems)?;
        let digits = at.value.strip_prefix(['P', 'p']).unwrap_or(&at.value);
        match digits.parse() {
            Ok(number) if (1..=1_000_000).contains(&number) => Some(number),
            _ => {
                let message = "a priority is a whole number from 1 (most urgent)";
                problems.add(at.line, at.key, message);
                None
            }
        }
    }

    /// Reads `claims: {files, tests, read}`, or `files` as a list of its own.
    fn claims(&mut self, problems: &mut Problems<'_>) -> PlanClaims {
        let mut claims = PlanClaims::default();
        if let Some((key, node)) = self.node(&["claims"]) {
            match &node.what {
                What::Map(pairs) => {
                    for (name, list) in pairs {
                        let key = format!("{key}.{name}");
                        match name.as_str() {
                            "files" => claims.files = patterns(&key, list, problems),
                            "tests" => claims.tests = patterns(&key, list, problems),
                            "read" => claims.read = patterns(&key, list, problems),
                            _ => problems.add(list.line, key, "is none of files, tests, read"),
                        }
                    }
                }
                _ => claims.files = patterns(&key, node, problems),
            }
        }
        if let Some((key, node)) = self.node(&["files"]) {
            claims.files.extend(patterns(&key, node, problems));
        }
        claims
    }

    fn checks(&mut self, problems: &mut Problems<'_>) -> Vec<Check> {
        let Some((key, node)) = self.node(&["acceptance_checks", "acceptance", "checks"]) else {
            return Vec::new();
        };
        let one = std::slice::from_ref(node);
        let items = match &node.what {
            What::List(items) => items.as_slice(),
            _ => one,
        };
        let items = items.iter().enumerate();
        let check = |(at, node)| check(&format!("{key}[{at}]"), node, problems);
        items.filter_map(check).collect()
    }

    fn state(&mut self, task: &mut Imported, problems: &mut Problems<'_>) {
        if let Some(at) = self.text(&["status", "state"], problems) {
            let state = at.parse::<QueueState>(problems);
            task.state = state.map_or(QueueState::Todo, |at| at.value);
        }
        let owner = self.text(&["owner"], problems);
        let owner = owner.and_then(|at| at.parse::<AgentName>(problems));
        let owner = owner.map(|at| at.value);
        let lane = task.plan.role.as_ref().map(|role| role.as_str().to_owned());
        match (task.state, owner) {
            (QueueState::Todo, Some(owner)) => {
                let named = lane.as_deref() != Some(owner.as_str());
                if named && task.plan.agent.is_none() {
                    task.plan.agent = Some(owner);
                }
            }
            (_, owner) => task.owner = owner,
        }
        let commit = self.text(&["commit"], problems);
        task.commit = commit.map(|at| at.value);
        let reason = self.text(&["reason", "blocked_reason"], problems);
        task.reason = reason.map(|at| at.value);
    }
}

fn text(key: String, node: &Node, problems: &mut Problems<'_>) -> Option<At<String>> {
    if let What::Text(text) = &node.what {
        return Some(At {
            line: node.line,
            key,
            value: text.clone(),
        });
    }
    let message = format!("must be a text, not {}", node.kind());
    problems.add(node.line, key, message);
    None
}

/// Returns the texts of a list; one text is a list of one.
fn texts(key: &str, node: &Node, problems: &mut Problems<'_>) -> Vec<At<String>> {
    let one = std::slice::from_ref(node);
    let items = match &node.what {
        What::Null => return Vec::new(),
        What::List(items) => items.as_slice(),
        _ => one,
    };
    let items = items.iter().enumerate();
    let item = |(at, node)| text(format!("{key}[{at}]"), node, problems);
    items.filter_map(item).collect()
}

fn patterns(key: &str, node: &Node, problems: &mut Problems<'_>) -> Vec<Pattern> {
    let texts = texts(key, node, problems);
    let patterns = texts.into_iter().filter_map(|at| at.parse(problems));
    patterns.map(|at| at.value).collect()
}

/// Reads a check: a text, a list of arguments, or a map of `name` and `command`.
fn check(key: &str, node: &Node, problems: &mut Problems<'_>) -> Option<Check> {
    let (name, node) = match (&node.what, node.get("command")) {
        (What::Map(_), Some(command)) => {
            let name = node.get("name")?;
            (
                Some(text(format!("{key}.name"), name, problems)?.value),
                command,
            )
        }
        _ => (None, node),
    };
    let command = match &node.what {
        What::List(_) => {
            let words = texts(key, node, problems);
            Command::Argv(words.into_iter().map(|at| at.value).collect())
        }
        _ => Command::Shell(text(key.to_owned(), node, problems)?.value),
    };
    let empty = match &command {
        Command::Argv(words) => words.first().is_none_or(String::is_empty),
        Command::Shell(line) => line.trim().is_empty(),
    };
    if empty {
        problems.add(node.line, key, "the command is empty");
        return None;
    }
    Some(Check { name, command })
}
