//! Restart policy: a pure decision about a child that ended.
//!
//! Backoff is exponential with full jitter (each delay is drawn from `0..=ceiling`), restarts are
//! counted in a sliding window, and a child that exceeds the window is marked failed instead of
//! taking its parent down: the child is an external program that may be in the middle of an
//! upgrade, so a slow probe goes on and a person can restart it by hand.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a child that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only when it did not end by itself in order.
    Transient,
    /// Never.
    Temporary,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// It ended in order.
    Normal,
    /// It failed: an error, a crash, a signal.
    Failed,
    /// It panicked.
    Panicked,
}

/// The numbers behind the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Ceiling of the first delay.
    pub backoff_start: Duration,
    /// Ceiling that the delays grow to.
    pub backoff_max: Duration,
    /// A child that lived this long starts over at the first delay.
    pub healthy_after: Duration,
    /// How many restarts within [`Policy::window`] are allowed.
    pub intensity: u32,
    /// The sliding window.
    pub window: Duration,
    /// How long after a child failed it is probed once more.
    pub probe_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff_start: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(60),
            intensity: 5,
            window: Duration::from_secs(30),
            probe_after: Duration::from_secs(60),
        }
    }
}

/// What happened to a child so far. Times count from any fixed moment of the caller's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// When the current life began; `None` before the first.
    started_at: Option<Duration>,
    /// Restarts inside the window, oldest first.
    recent: VecDeque<Duration>,
    /// Restarts since the child was last healthy; the exponent of the backoff.
    streak: u32,
    /// Restarts ever.
    total: u64,
    /// Whether the child is marked failed.
    failed: bool,
}

/// What to do about a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after the delay.
    Restart {
        /// How long to wait.
        after: Duration,
    },
    /// Mark it failed; start a single probe after the delay.
    GiveUp {
        /// How long until the probe.
        probe_after: Duration,
    },
    /// Leave it ended.
    Done,
}

impl History {
    /// Notes that a life began.
    pub fn started(&mut self, now: Duration) {
        self.started_at = Some(now);
    }

    /// Notes that the current life has proven healthy: it lived for [`Policy::healthy_after`].
    pub fn healthy(&mut self) {
        self.streak = 0;
        self.failed = false;
        self.recent.clear();
    }

    /// Notes a restart that was asked for: it counts, but not against the child.
    pub fn restarted(&mut self) {
        self.total += 1;
    }

    /// Forgets everything that counts against the child, before a restart by hand.
    pub fn forgive(&mut self) {
        self.healthy();
    }

    /// Whether the child is marked failed.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Restarts ever.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Restarts that count in the window at `now`.
    pub fn in_window(&self, policy: &Policy, now: Duration) -> u32 {
        let count =
            self.recent.iter().filter(|at| now.saturating_sub(**at) < policy.window).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Decides about a child that ended at `now`, and notes the decision.
    ///
    /// `jitter` is a random number in `0.0..=1.0`; anything else counts as the nearest bound.
    pub fn ended(
        &mut self,
        restart: Restart,
        policy: &Policy,
        exit: ExitKind,
        now: Duration,
        jitter: f64,
    ) -> Decision {
        let wanted = match restart {
            Restart::Permanent => true,
            Restart::Transient => exit != ExitKind::Normal,
            Restart::Temporary => false,
        };
        let lived = self.started_at.take().map(|at| now.saturating_sub(at));
        if !wanted {
            return Decision::Done;
        }
        if lived.is_some_and(|lived| lived >= policy.healthy_after) {
            self.healthy();
        }
        while self.recent.front().is_some_and(|at| now.saturating_sub(*at) >= policy.window) {
            self.recent.pop_front();
        }
        // A failed child stays failed until a probe proves healthy; otherwise each probe would
        // open a new burst of restarts.
        if self.failed || self.recent.len() as u64 >= u64::from(policy.intensity) {
            self.failed = true;
            self.total += 1;
            return Decision::GiveUp { probe_after: policy.probe_after };
        }
        let doubled = 2u32.checked_pow(self.streak.min(31)).unwrap_or(u32::MAX);
        let ceiling = policy.backoff_start.saturating_mul(doubled).min(policy.backoff_max);
        let jitter = if jitter.is_nan() { 1.0 } else { jitter.clamp(0.0, 1.0) };
        self.recent.push_back(now);
        self.streak = self.streak.saturating_add(1);
        self.total += 1;
        Decision::Restart { after: ceiling.mul_f64(jitter) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_maximum() {
        let policy = Policy { intensity: 100, ..Policy::default() };
        let mut history = History::default();
        let mut delays = Vec::new();
        for step in 0..9 {
            let now = SECOND * step;
            history.started(now);
            if let Decision::Restart { after } =
                history.ended(Restart::Permanent, &policy, ExitKind::Failed, now, 1.0)
            {
                delays.push(after.as_millis());
            }
        }
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    #[test]
    fn a_healthy_life_starts_over() {
        let policy = Policy::default();
        let mut history = History::default();
        for _ in 0..4 {
            history.ended(Restart::Permanent, &policy, ExitKind::Failed, SECOND, 1.0);
        }
        history.started(SECOND);
        let decision =
            history.ended(Restart::Permanent, &policy, ExitKind::Failed, SECOND * 61, 1.0);
        assert_eq!(decision, Decision::Restart { after: policy.backoff_start });
    }

    #[test]
    fn over_the_intensity_it_gives_up_until_forgiven() {
        let policy = Policy::default();
        let mut history = History::default();
        for _ in 0..5 {
            let decision =
                history.ended(Restart::Permanent, &policy, ExitKind::Failed, SECOND, 0.0);
            assert!(matches!(decision, Decision::Restart { .. }));
        }
        let give_up = Decision::GiveUp { probe_after: policy.probe_after };
        let later = SECOND * 2;
        assert_eq!(
            history.ended(Restart::Permanent, &policy, ExitKind::Failed, later, 0.0),
            give_up
        );
        // The probe fails too, long after the window: still one probe at a time.
        let probe = SECOND * 100;
        history.started(probe);
        assert_eq!(
            history.ended(Restart::Permanent, &policy, ExitKind::Failed, probe, 0.0),
            give_up
        );
        history.forgive();
        assert!(matches!(
            history.ended(Restart::Permanent, &policy, ExitKind::Failed, probe, 0.0),
            Decision::Restart { .. }
        ));
    }

    #[test]
    fn who_is_restarted_depends_on_the_kind() {
        let policy = Policy::default();
        let decide = |restart, exit| History::default().ended(restart, &policy, exit, SECOND, 0.0);
        assert_ne!(decide(Restart::Permanent, ExitKind::Normal), Decision::Done);
        assert_eq!(decide(Restart::Transient, ExitKind::Normal), Decision::Done);
        assert_ne!(decide(Restart::Transient, ExitKind::Panicked), Decision::Done);
        assert_eq!(decide(Restart::Temporary, ExitKind::Panicked), Decision::Done);
    }

    proptest! {
        /// Whatever the history, no window ever sees more restarts than the intensity allows, and
        /// no delay leaves its bounds.
        #[test]
        fn the_intensity_is_never_exceeded(
            gaps in prop::collection::vec((0u64..40_000, 0u64..90_000, -0.5f64..1.5), 1..80),
            intensity in 0u32..8,
        ) {
            let policy = Policy { intensity, ..Policy::default() };
            let mut history = History::default();
            let mut now = Duration::ZERO;
            let mut restarts: Vec<Duration> = Vec::new();
            for (wait, lived, jitter) in gaps {
                now += Duration::from_millis(wait);
                history.started(now);
                let lived = Duration::from_millis(lived);
                now += lived;
                if lived >= policy.healthy_after {
                    restarts.clear();
                }
                match history.ended(Restart::Permanent, &policy, ExitKind::Failed, now, jitter) {
                    Decision::Restart { after } => {
                        prop_assert!(after <= policy.backoff_max);
                        restarts.push(now);
                        let inside = restarts.iter().filter(|at| now - **at < policy.window).count();
                        prop_assert!(inside <= intensity as usize);
                        prop_assert!(!history.is_failed());
                    }
                    Decision::GiveUp { .. } => prop_assert!(history.is_failed()),
                    Decision::Done => prop_assert!(false, "a permanent child is never done"),
                }
            }
        }
    }
}
