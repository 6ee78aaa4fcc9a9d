//! The answers that wait to be fetched, by the name that their request chose.
//!
//! Owns: which of them is dropped when there are too many. One that was read goes
//! before one that was not, and of two the older. Invariants: at most
//! [`ANSWERS_MAX`] are kept, of together [`BYTES_MAX`] bytes; the newest always is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// More programs than ask at once; an agent that floods its own mount loses its own answers.
const ANSWERS_MAX: usize = 1024;
const BYTES_MAX: usize = 16 << 20;

/// One answer, and whether somebody has read it to its end.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) bytes: Vec<u8>,
    read: AtomicBool,
}

impl Given {
    /// Notes that it was read up to `end`.
    pub(super) fn was_read(&self, end: usize) {
        if end >= self.bytes.len() {
            self.read.store(true, Ordering::Relaxed);
        }
    }
}

/// The oldest first.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<VecDeque<(Vec<u8>, Arc<Given>)>>);

impl Answers {
    pub(super) fn get(&self, tag: &[u8]) -> Option<Arc<Given>> {
        let kept = self.0.lock();
        let found = kept.iter().find(|(name, _)| name == tag);
        found.map(|(_, given)| Arc::clone(given))
    }

    /// Takes away the answer to an earlier question of the same name.
    pub(super) fn remove(&self, tag: &[u8]) {
        self.0.lock().retain(|(name, _)| name != tag);
    }

    pub(super) fn put(&self, tag: Vec<u8>, bytes: Vec<u8>) {
        let mut kept = self.0.lock();
        kept.retain(|(name, _)| *name != tag);
        let held: usize = kept.iter().map(|(_, given)| given.bytes.len()).sum();
        let mut excess = (held + bytes.len()).saturating_sub(BYTES_MAX);
        while !kept.is_empty() && (kept.len() >= ANSWERS_MAX || excess > 0) {
            let read = |(_, given): &(_, Arc<Given>)| given.read.load(Ordering::Relaxed);
            let at = kept.iter().position(read).unwrap_or(0);
            if let Some((_, gone)) = kept.remove(at) {
                excess = excess.saturating_sub(gone.bytes.len());
            }
        }
        let given = Given {
            bytes,
            read: AtomicBool::new(false),
        };
        kept.push_back((tag, Arc::new(given)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(at: usize) -> Vec<u8> {
        format!("9{at}").into_bytes()
    }

    #[test]
    fn the_answer_that_goes_first_is_the_oldest_whatever_its_name() {
        let answers = Answers::default();
        for at in (0..=ANSWERS_MAX).rev() {
            answers.put(tag(at), b"x".to_vec());
        }
        assert!(answers.get(&tag(ANSWERS_MAX)).is_none(), "the oldest went");
        assert!((0..ANSWERS_MAX).all(|at| answers.get(&tag(at)).is_some()));
        answers.put(b"1".to_vec(), b"new".to_vec());
        assert!(answers.get(b"1").is_some(), "the newest is kept");
    }

    #[test]
    fn an_answer_that_was_read_goes_before_one_that_was_not() {
        let answers = Answers::default();
        for at in 0..ANSWERS_MAX {
            answers.put(tag(at), b"answer".to_vec());
        }
        answers.get(&tag(700)).expect("kept").was_read(3);
        answers.get(&tag(800)).expect("kept").was_read(6);
        answers.put(b"new".to_vec(), Vec::new());
        assert!(answers.get(&tag(800)).is_none(), "it was read to its end");
        assert!(answers.get(&tag(700)).is_some() && answers.get(&tag(0)).is_some());
        answers.put(b"newer".to_vec(), Vec::new());
        assert!(answers.get(&tag(0)).is_none(), "then the oldest");
        assert!(answers.get(b"new").is_some());
    }

    #[test]
    fn answers_are_bounded_by_their_bytes_too_and_a_name_has_one() {
        let answers = Answers::default();
        for at in 0..20 {
            answers.put(tag(at), vec![0; 1 << 20]);
        }
        let kept = (0..20).filter(|&at| answers.get(&tag(at)).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), (4..20).collect::<Vec<_>>());
        answers.put(b"huge".to_vec(), vec![0; BYTES_MAX + 1]);
        assert!(answers.get(&tag(19)).is_none() && answers.get(b"huge").is_some());
        answers.put(b"huge".to_vec(), b"small".to_vec());
        assert_eq!(answers.get(b"huge").expect("kept").bytes, b"small");
        answers.remove(b"huge");
        assert!(answers.get(b"huge").is_none());
    }
}
