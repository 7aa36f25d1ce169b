//! Answers to reads, kept as they were written: what is asked again while nothing has changed costs
//! no read of the store.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cm_core::ids::ThreadId;
use cm_core::rows::{RowIndex, RowKey};

/// Bytes of answers and indexes of all sessions. Overflow rule: the sessions that were not read for
/// the longest time are forgotten.
const MOST_BYTES: usize = 32 << 20;

/// Bytes of one answer. Overflow rule: a longer one is written each time.
const LONGEST: usize = 8 << 20;

/// Answers that are kept of one session. Overflow rule: the oldest one is forgotten.
const MOST_ANSWERS: usize = 4;

/// Bytes that a kept answer takes beside its own, about.
const OVERHEAD: usize = 256;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// The whole session.
    Detail,
    /// A page of the transcript.
    Transcript {
        /// The row behind the page.
        before: Option<RowKey>,
        /// Rows of the page.
        limit: usize,
    },
    /// A page of turns.
    Turns {
        /// The turn behind the page.
        before: Option<u32>,
        /// Turns of the page.
        limit: usize,
    },
}

/// What is kept of one session.
#[derive(Debug, Default)]
struct OfThread {
    /// What its rows are known by; it outlives changes.
    index: Option<Arc<RowIndex>>,
    /// The state of the session that the answers show.
    revision: u64,
    answers: VecDeque<(Question, Bytes)>,
    bytes: usize,
    /// When it was used last.
    used: u64,
}

impl OfThread {
    fn weigh(&mut self) {
        let answers: usize = self.answers.iter().map(|(_, answer)| answer.len() + OVERHEAD).sum();
        let index = self.index.as_ref().map_or(0, |index| index.weight());
        self.bytes = OVERHEAD + answers + index;
    }
}

/// Answers of all sessions, on the control arbiter. Cloned into every thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    threads: HashMap<ThreadId, OfThread>,
    /// The sessions by when they were used last.
    by_use: BTreeMap<u64, ThreadId>,
    bytes: usize,
    uses: u64,
}

impl State {
    /// Changes what is kept of a session, and makes room.
    fn change(&mut self, id: &ThreadId, change: impl FnOnce(&mut OfThread)) {
        self.uses += 1;
        let known = self.threads.entry(id.clone()).or_default();
        self.by_use.remove(&known.used);
        self.bytes -= known.bytes;
        known.used = self.uses;
        change(known);
        known.weigh();
        self.bytes += known.bytes;
        self.by_use.insert(known.used, id.clone());
        while self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, id: &ThreadId) {
        if let Some(known) = self.threads.remove(id) {
            self.by_use.remove(&known.used);
            self.bytes -= known.bytes;
        }
    }
}

impl Answers {
    /// The answer to a question about a session in this state.
    pub(super) fn get(&self, id: &ThreadId, revision: u64, question: Question) -> Option<Bytes> {
        let mut state = self.0.borrow_mut();
        let known = state.threads.get(id).filter(|known| known.revision == revision)?;
        let (_, answer) = known.answers.iter().find(|(asked, _)| *asked == question)?;
        let answer = answer.clone();
        state.change(id, |_| {});
        Some(answer)
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, id: &ThreadId, revision: u64, question: Question, answer: &Bytes) {
        if answer.len() > LONGEST {
            return;
        }
        self.0.borrow_mut().change(id, |known| {
            if known.revision != revision {
                known.answers.clear();
                known.revision = revision;
            }
            known.answers.retain(|(asked, _)| *asked != question);
            if known.answers.len() >= MOST_ANSWERS {
                known.answers.pop_front();
            }
            known.answers.push_back((question, answer.clone()));
        });
    }

    /// What the rows of a session are known by; empty when nothing is.
    pub(super) fn index(&self, id: &ThreadId) -> Arc<RowIndex> {
        let state = self.0.borrow();
        state.threads.get(id).and_then(|known| known.index.clone()).unwrap_or_default()
    }

    /// Keeps what the rows of a session are known by.
    pub(super) fn keep_index(&self, id: &ThreadId, index: Arc<RowIndex>) {
        let newer = |known: &Arc<RowIndex>| {
            (known.next_row(), known.next_turn()) < (index.next_row(), index.next_turn())
        };
        let state = self.0.borrow();
        let is_news =
            state.threads.get(id).and_then(|known| known.index.as_ref()).is_none_or(newer);
        drop(state);
        if is_news {
            self.0.borrow_mut().change(id, |known| known.index = Some(index));
        }
    }

    /// Nothing of a session is kept any more.
    pub(super) fn forget(&self, id: &ThreadId) {
        self.0.borrow_mut().remove(id);
    }

    /// What has changed of turns that were known as ended makes the index of a session untrue.
    pub(super) fn turns_changed(&self, id: &ThreadId, oldest: u32) {
        let mut state = self.0.borrow_mut();
        let index = state.threads.get(id).and_then(|known| known.index.as_ref());
        if index.is_some_and(|index| oldest < index.next_turn()) {
            state.change(id, |known| known.index = None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ThreadId {
        ThreadId::parse(text).unwrap()
    }

    #[test]
    fn an_answer_is_of_one_state_and_one_question() {
        let answers = Answers::default();
        let page = |limit| Question::Transcript { before: None, limit };
        answers.keep(&id("a"), 1, page(5), &Bytes::from_static(b"five"));
        answers.keep(&id("a"), 1, page(6), &Bytes::from_static(b"six"));
        assert_eq!(answers.get(&id("a"), 1, page(5)).as_deref(), Some(&b"five"[..]));
        assert_eq!(answers.get(&id("a"), 1, Question::Detail), None);
        assert_eq!(answers.get(&id("a"), 2, page(5)), None);
        assert_eq!(answers.get(&id("b"), 1, page(5)), None);
        answers.keep(&id("a"), 2, page(6), &Bytes::from_static(b"more"));
        assert_eq!(answers.get(&id("a"), 1, page(5)), None);
        assert_eq!(answers.get(&id("a"), 2, page(6)).as_deref(), Some(&b"more"[..]));
        answers.forget(&id("a"));
        assert_eq!(answers.get(&id("a"), 2, page(6)), None);
        assert_eq!(answers.0.borrow().bytes, 0);
    }

    #[test]
    fn what_was_not_read_for_long_makes_room() {
        let answers = Answers::default();
        let answer = Bytes::from(vec![0; 4 << 20]);
        for number in 0..6 {
            answers.keep(&id(&format!("s{number}")), 1, Question::Detail, &answer);
        }
        assert!(answers.get(&id("s0"), 1, Question::Detail).is_some());
        for number in 6..8 {
            answers.keep(&id(&format!("s{number}")), 1, Question::Detail, &answer);
        }
        assert!(answers.get(&id("s0"), 1, Question::Detail).is_some(), "it was used");
        assert!(answers.get(&id("s1"), 1, Question::Detail).is_none());
        assert!(answers.0.borrow().bytes <= MOST_BYTES);
        let long = Bytes::from(vec![0; LONGEST + 1]);
        answers.keep(&id("long"), 1, Question::Detail, &long);
        assert!(answers.get(&id("long"), 1, Question::Detail).is_none());
    }
}
