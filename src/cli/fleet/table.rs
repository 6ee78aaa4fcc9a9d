//! The live table of `govfs fleet run`: a line for each plan under way, and one for all.
//!
//! Owns: how what the coordinator tells looks on a terminal. It is drawn where the
//! person looks: on stderr where that is the terminal, else on stdout. What is
//! over leaves the table; what needs a person stays above it. Never decides anything.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::app::fleet::telling::Told;
use crate::domain::names::{AgentName, PlanId};
use crate::domain::screen::calm;

/// How often the table moves.
const FRAME: Duration = Duration::from_millis(120);
const HEAD: &str = "  PLAN                         AGENT             TIME  STEP";
const LINE: &str = "{spinner} {prefix} {elapsed:>5}  {msg}";
const TOTAL: &str = "[{bar:30}] {pos}/{len} done  {msg}";

pub(super) struct Table {
    all: MultiProgress,
    head: ProgressBar,
    total: ProgressBar,
    lines: BTreeMap<PlanId, ProgressBar>,
    agents: BTreeMap<PlanId, AgentName>,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Table {
    pub(super) fn new() -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::stdout()
        };
        let all = MultiProgress::with_draw_target(target);
        let head = all.add(ProgressBar::new_spinner().with_style(style("{msg}")));
        head.set_message(HEAD);
        let total = all.add(ProgressBar::new(0));
        total.set_style(style(TOTAL).progress_chars("=> "));
        Self {
            all,
            head,
            total,
            lines: BTreeMap::new(),
            agents: BTreeMap::new(),
        }
    }

    pub(super) fn tell(&mut self, told: &Told) {
        let [done, busy, blocked, all] = told.counts;
        self.total.set_length(all as u64);
        self.total.set_position(done as u64);
        let Some(plan) = &told.plan else {
            let why = told.reason.as_deref().unwrap_or_default();
            self.total.set_message(calm(why).into_owned());
            return;
        };
        self.total
            .set_message(format!("{busy} under way, {blocked} blocked"));
        if let Some(agent) = &told.agent {
            self.agents.insert(plan.clone(), agent.clone());
        }
        if matches!(told.event, "merge" | "block" | "declined") {
            self.leave(plan, told);
        } else {
            self.move_on(plan, told);
        }
    }

    /// Takes a plan out of the table; what a person should know stays above it.
    fn leave(&mut self, plan: &PlanId, told: &Told) {
        if let Some(line) = self.lines.remove(plan) {
            line.finish_and_clear();
            self.all.remove(&line);
        }
        if told.event != "merge" {
            let why = told.reason.as_deref().unwrap_or_default();
            let _ = self
                .all
                .println(format!("{plan}: {}: {}", told.event, calm(why))); // nobody looks
        }
    }

    fn move_on(&mut self, plan: &PlanId, told: &Told) {
        let line = self.lines.entry(plan.clone()).or_insert_with(|| {
            let line = ProgressBar::new_spinner().with_style(style(LINE));
            let line = self.all.insert_before(&self.total, line);
            line.enable_steady_tick(FRAME);
            line
        });
        let agent = self.agents.get(plan).map_or("-", AgentName::as_str);
        line.set_prefix(format!("{plan:<28} {agent:<16}"));
        let mut step = told.event.to_owned();
        if let Some(attempt) = told.attempt.filter(|attempt| *attempt > 1) {
            step.push_str(&format!(" {attempt}"));
        }
        if let Some(status) = told.status.filter(|status| *status != 0) {
            step.push_str(&format!(" with {status}"));
        }
        if let Some(why) = &told.reason {
            step.push_str(&format!(": {}", calm(why)));
        }
        line.set_message(step);
    }

    pub(super) fn close(self) {
        for line in self.lines.values() {
            line.finish_and_clear();
        }
        self.head.finish_and_clear();
        self.total.finish_and_clear();
    }
}
