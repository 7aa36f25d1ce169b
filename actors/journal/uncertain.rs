//! Numbers that a life gave out and had no time to keep: it ended without order.
//!
//! A subscriber may have seen frames with such numbers. Whenever it comes back, be it some lives
//! later, it is told so; what it saw is not what is kept.

use cm_core::ids::Seq;
use serde::{Deserialize, Serialize};

/// Lives that are told apart. Overflow rule: the two oldest become one, with the numbers between
/// them: who comes back from there is told `reset` once too often.
const MOST: usize = 512;

/// The numbers behind the first and before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Lost {
    behind: Seq,
    before: Seq,
}

/// What was not kept, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Uncertain(Vec<Lost>);

impl Uncertain {
    /// Adds a life: everything up to `behind` is in the log, and `before` is where the next life
    /// begins.
    pub(super) fn add(&mut self, behind: Seq, before: Seq) {
        if before.0 <= behind.0.saturating_add(1) {
            return;
        }
        if self.0.len() >= MOST {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                next.behind = oldest.behind;
            }
        }
        self.0.push(Lost { behind, before });
    }

    /// Whether what lies before a position may not have been kept.
    pub(super) fn covers(&self, position: Seq) -> bool {
        self.0.iter().any(|lost| position > lost.behind && position < lost.before)
    }

    /// Forgets what is older than the log: positions there are refused for their age.
    pub(super) fn forget(&mut self, before: Seq) {
        self.0.retain(|lost| lost.before > before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_life_that_ended_without_order_is_remembered() {
        let mut uncertain = Uncertain::default();
        uncertain.add(Seq(0), Seq(0));
        assert_eq!(uncertain, Uncertain::default(), "the first start loses nothing");
        uncertain.add(Seq(5), Seq(100));
        uncertain.add(Seq(110), Seq(200));
        for (position, lost) in
            [(5, false), (6, true), (99, true), (100, false), (110, false), (111, true)]
        {
            assert_eq!(uncertain.covers(Seq(position)), lost, "{position}");
        }
        uncertain.forget(Seq(100));
        assert!(!uncertain.covers(Seq(6)) && uncertain.covers(Seq(111)));
    }

    #[test]
    fn too_many_lives_are_forgotten_on_the_safe_side() {
        let mut uncertain = Uncertain::default();
        for life in 0..2_000 {
            uncertain.add(Seq(life * 100 + 5), Seq(life * 100 + 100));
        }
        assert_eq!(uncertain.0.len(), MOST);
        for life in 0..2_000 {
            assert!(uncertain.covers(Seq(life * 100 + 6)), "{life}");
        }
        assert!(!uncertain.covers(Seq(1_999 * 100 + 5)));
    }
}
