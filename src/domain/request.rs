//! Requests: what an agent asks of a person, and how that stands.
//!
//! Owns: what a request is for, in words; whether it still waits; which one is asked
//! twice. A request belongs to its session and is over with it. It is answered once:
//! whoever answers looks with [`answerable`] in the turn that records the answer, so
//! that of two only one finds it waiting. The fold takes every answer, as older
//! ledgers hold several to one request.

use crate::domain::command::{Need, No, Refusal};
use crate::domain::event::{Mode, Requested};
use crate::domain::names::SessionId;
use crate::domain::pattern::Pattern;
use crate::domain::screen::calm;
use crate::domain::state::{Kind, RequestRow, RequestState, RowKey, SessionState, State};

/// How a request stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Waiting,
    Granted,
    Denied,
    /// Nobody answered while its session was open.
    Over(SessionState),
}

impl Standing {
    /// The word on screens and in JSON.
    pub fn text(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Granted => "granted",
            Self::Denied => "denied",
            Self::Over(_) => "over",
        }
    }
}

/// Says whether what names these patterns asks for a merge: a claim names at least one.
pub fn is_merge(patterns: &[Pattern]) -> bool {
    patterns.is_empty()
}

/// Says what is wished for: `write docs`, or `merge: MESSAGE`.
pub fn wish(mode: Mode, patterns: &[Pattern], reason: &str) -> String {
    if is_merge(patterns) {
        let reason = calm(reason.trim());
        let gap = if reason.is_empty() { "" } else { ": " };
        return format!("merge{gap}{reason}");
    }
    let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    let mode = match mode {
        Mode::Read => "read",
        Mode::Write => "write",
    };
    format!("{mode} {}", patterns.join(" "))
}

impl RequestRow {
    pub fn is_merge(&self) -> bool {
        is_merge(&self.patterns)
    }

    /// The name of what it asks for in JSON.
    pub fn kind(&self) -> &'static str {
        if self.is_merge() { "merge" } else { "claim" }
    }

    pub fn wish(&self) -> String {
        wish(self.mode, &self.patterns, &self.reason)
    }

    /// Says how it stands; its session must be loaded.
    pub fn standing(&self, state: &State) -> Standing {
        match self.state {
            RequestState::Granted => return Standing::Granted,
            RequestState::Denied => return Standing::Denied,
            RequestState::Waiting => {}
        }
        let session = self.session.as_ref().and_then(|id| state.sessions.get(id));
        match session.map(|row| row.state) {
            Some(SessionState::Open) | None => Standing::Waiting,
            Some(over) => Standing::Over(over),
        }
    }
}

/// Returns the request's row.
pub fn need(number: u64) -> Need {
    Need::Row(RowKey::new(Kind::Request, &number))
}

/// Returns the row that tells whether a request's session is open.
pub fn session_need(row: &RequestRow) -> Option<Need> {
    let session = row.session.as_ref()?;
    Some(Need::Row(RowKey::new(Kind::Session, session)))
}

/// Returns the request that is about to be answered, or why it takes no answer.
pub fn answerable(state: &State, number: u64) -> Result<&RequestRow, Refusal> {
    let Some(row) = state.requests.get(&number) else {
        return Err(Refusal::new(
            No::Missing,
            "no-request",
            format!("there is no request {number}"),
            "govfs requests",
        ));
    };
    let refuse = |rule, message| Refusal::new(No::Rule, rule, message, "govfs requests --all");
    match row.standing(state) {
        Standing::Waiting => Ok(row),
        Standing::Over(how) => {
            let how = match how {
                SessionState::Merged => "merged",
                _ => "abandoned",
            };
            Err(refuse(
                "request-over",
                format!(
                    "request {number} is over: {}'s session was {how}",
                    row.agent
                ),
            ))
        }
        answer => {
            let why = calm(row.answer.as_deref().unwrap_or_default().trim());
            let gap = if why.is_empty() { "" } else { ": " };
            Err(refuse(
                "answered",
                format!("request {number} was answered: {}{gap}{why}", answer.text()),
            ))
        }
    }
}

/// Returns the waiting request of `session` that asks for just the same.
pub fn same(state: &State, session: &SessionId, wanted: &Requested) -> Option<u64> {
    let same = |row: &RequestRow| {
        row.state == RequestState::Waiting
            && row.session.as_ref() == Some(session)
            && row.mode == wanted.mode
            && row.patterns == wanted.patterns
            && row.ttl_ms == wanted.ttl_ms
            && row.reason == wanted.reason
    };
    let found = state.requests.iter().find(|(_, row)| same(row));
    found.map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::Oid;
    use crate::domain::digest::Digest;
    use crate::domain::entry::leaf;
    use crate::domain::event::{Abandoned, Answered, Draft, Entry, Event, Pinned, SessionOpened};
    use crate::domain::logop::Bytes;
    use crate::domain::time::Timestamp;

    const REQUEST: u64 = 1;

    fn fold(state: &mut State, seq: u64, event: Event) {
        let session = "a-1".parse().expect("a session");
        let draft = Draft::new(event)
            .by(&"a".parse().expect("a name"))
            .within(Some(&session));
        state.apply(&Entry {
            seq,
            ts: Timestamp(1),
            leaf: leaf(&seq.to_be_bytes()),
            agent: draft.agent,
            session: draft.session,
            event: draft.event,
        });
    }

    fn wanted(patterns: &[&str], reason: &str) -> Requested {
        let pattern = |text: &&str| text.parse().expect("a pattern");
        Requested {
            mode: Mode::Write,
            patterns: patterns.iter().map(pattern).collect(),
            ttl_ms: 60_000,
            reason: reason.to_owned(),
        }
    }

    /// A session with one request.
    fn asked(wanted: Requested) -> State {
        let mut state = State::default();
        let opened = SessionOpened {
            base: Oid([1; 20]),
            branch: "main".to_owned(),
            charter: Digest::ZERO,
            config: Pinned {
                autocrlf: String::new(),
                eol: String::new(),
                ignore_case: false,
            },
            root: Bytes(b"/r".to_vec()),
            plan: None,
        };
        fold(&mut state, 0, Event::Session(opened));
        fold(&mut state, REQUEST, Event::Request(wanted));
        state
    }

    fn answered() -> Answered {
        Answered {
            request: REQUEST,
            reason: "not\nnow".to_owned(),
        }
    }

    fn refused(state: &State, number: u64) -> String {
        let refusal = answerable(state, number).expect_err("no answer is due");
        refusal.message
    }

    #[test]
    fn a_request_is_answered_once_and_while_its_session_is_open() {
        let open = asked(wanted(&["docs"], "why"));
        assert!(answerable(&open, REQUEST).is_ok());
        assert_eq!(refused(&open, 7), "there is no request 7");
        let mut denied = open.clone();
        fold(&mut denied, 2, Event::Deny(answered()));
        assert_eq!(
            refused(&denied, REQUEST),
            r"request 1 was answered: denied: not\nnow"
        );
        let mut over = open.clone();
        let abandoned = || {
            Event::Abandon(Abandoned {
                claims: Vec::new(),
                count: 0,
                reason: None,
            })
        };
        fold(&mut over, 2, abandoned());
        assert_eq!(
            refused(&over, REQUEST),
            "request 1 is over: a's session was abandoned"
        );
        // An answer that was given stands, whatever comes of the session.
        fold(&mut denied, 3, abandoned());
        assert_eq!(
            denied.requests[&REQUEST].standing(&denied),
            Standing::Denied
        );
    }

    #[test]
    fn only_the_very_same_wish_of_the_same_session_is_the_same() {
        let mut state = asked(wanted(&["docs"], "why"));
        let session = "a-1".parse().expect("a session");
        let other = "a-2".parse().expect("a session");
        let found = |state: &State, wanted| same(state, &session, &wanted);
        assert_eq!(found(&state, wanted(&["docs"], "why")), Some(REQUEST));
        assert_eq!(found(&state, wanted(&["docs"], "for this")), None);
        assert_eq!(found(&state, wanted(&["docs/x"], "why")), None);
        assert_eq!(found(&state, wanted(&[], "why")), None);
        let mut longer = wanted(&["docs"], "why");
        longer.ttl_ms += 1;
        assert_eq!(found(&state, longer), None);
        assert_eq!(same(&state, &other, &wanted(&["docs"], "why")), None);
        fold(&mut state, 2, Event::Grant(answered()));
        assert_eq!(same(&state, &session, &wanted(&["docs"], "why")), None);
    }

    #[test]
    fn a_merge_is_not_worded_as_a_claim() {
        for (patterns, reason, words) in [
            (&["merge"][..], "why", "write merge"),
            (&["docs", "src/*"], "", "write docs src/*"),
            (&[], "all\ngreen", r"merge: all\ngreen"),
            (&[], " ", "merge"),
        ] {
            let wanted = wanted(patterns, reason);
            assert_eq!(wish(Mode::Write, &wanted.patterns, reason), words);
        }
    }
}
