//! Who waits for whom, and in which order.

use super::*;
use crate::domain::claim::wait::{self, Waiting};

fn queue(requests: &[(&str, &[&str])]) -> Vec<Waiting> {
    let waiting = |(ticket, (who, what)): (usize, &(&str, &[&str]))| Waiting {
        ticket: ticket as u64 + 1,
        agent: agent(who),
        mode: Write,
        patterns: patterns(what),
    };
    requests.iter().enumerate().map(waiting).collect()
}

#[test]
fn whoever_asked_first_comes_first() {
    let mut house = House::new();
    house.claim("alice", Write, &["x"]);
    let queue = queue(&[("bob", &["x"]), ("carol", &["x", "y"]), ("dave", &["y"])]);
    let ahead = |house: &House, at: usize| {
        let mine = &queue[at];
        let found = wait::ahead(&house.state, &queue, mine, Some(mine.ticket));
        found
            .into_iter()
            .map(|conflict| conflict.holder.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ahead(&house, 0), Vec::<String>::new());
    assert_eq!(ahead(&house, 1), ["bob"]);
    assert_eq!(ahead(&house, 2), ["carol"]);
    // Without waiting one may pass carol, who must wait anyway, but not bob once it is his turn.
    let passer = Waiting {
        ticket: 99,
        ..queue[2].clone()
    };
    assert!(wait::ahead(&house.state, &queue, &passer, None).is_empty());
    house.release("alice", &[]);
    let eve = Waiting {
        ticket: 99,
        agent: agent("eve"),
        mode: Write,
        patterns: patterns(&["x"]),
    };
    let found = wait::ahead(&house.state, &queue, &eve, None);
    assert_eq!(found[0].holder, agent("bob"));
}

#[test]
fn a_circle_of_waiting_agents_is_found() {
    let mut house = House::new();
    house.claim("alice", Write, &["a"]);
    house.claim("bob", Write, &["b"]);
    house.claim("carol", Write, &["c"]);
    let queue = queue(&[("alice", &["b"]), ("bob", &["c"])]);
    let carol = Waiting {
        ticket: 9,
        agent: agent("carol"),
        mode: Write,
        patterns: patterns(&["a"]),
    };
    let circle = wait::deadlock(&house.state, &queue, &carol);
    let names: Vec<_> = circle.iter().map(AgentName::as_str).collect();
    assert_eq!(names, ["carol", "alice", "bob", "carol"]);
    let dave = Waiting {
        ticket: 9,
        agent: agent("dave"),
        mode: Write,
        patterns: patterns(&["a"]),
    };
    assert!(wait::deadlock(&house.state, &queue, &dave).is_empty());
    let mut closing = ask("carol", Write, &["a"]);
    closing.deadlock = circle;
    assert_eq!(
        house.run(&Command::Claim(closing)).expect("refused").rule,
        "deadlock"
    );
    house.replay();
}

#[test]
fn who_waits_for_me_is_not_ahead_of_me() {
    let mut house = House::new();
    house.claim("alice", Write, &["x"]);
    let queue = queue(&[("bob", &["x", "y"])]);
    let alice = Waiting {
        ticket: 9,
        agent: agent("alice"),
        mode: Write,
        patterns: patterns(&["y"]),
    };
    assert!(wait::ahead(&house.state, &queue, &alice, Some(9)).is_empty());
}
