//! Which keys are known, and what a request with one of them is told. Pure: times and random
//! numbers are arguments, and what is to be stored is answered.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{Fingerprint, IdempotencyKey, KEY_RECORD_VERSION, KeyRecord, Outcome};

/// How long a key is remembered.
pub const RETENTION_MS: i64 = 24 * 60 * 60 * 1000;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Keys. Overflow rule: the oldest one whose request does not run is forgotten before its
    /// time; when all run, a new one is refused.
    pub keys: usize,
    /// Bytes of kept answers. Overflow rule: the oldest answers are given up; their keys stay, so
    /// that nothing is carried out twice.
    pub bytes: u64,
}

/// What a request is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// It is to be carried out, once this is stored.
    Run(Vec<Change>),
    /// The first one with its key runs.
    Wait,
    /// What the first one came to.
    Ended(Outcome),
    /// The key belongs to another request.
    Reused,
    /// So many requests run that no key can be forgotten.
    Full,
}

/// Something to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record of a key. A kept answer that it does not speak of is not needed any more.
    Put(IdempotencyKey, KeyRecord),
    /// Neither record nor kept answer is needed any more.
    Forget(IdempotencyKey),
}

/// A key that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What is stored of it.
    pub record: KeyRecord,
    /// Whether its request runs in this life of the manager.
    pub running: bool,
}

/// Place of a key by age; the attempt makes it unique.
type Age = (i64, Uuid);

/// The keys that are known.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    known: HashMap<IdempotencyKey, Known>,
    /// All keys, the oldest first.
    by_age: BTreeMap<Age, IdempotencyKey>,
    /// Keys with a kept answer, the oldest first.
    kept: BTreeMap<Age, IdempotencyKey>,
    kept_bytes: u64,
}

impl Ledger {
    /// Knows what was stored.
    pub fn new(
        limits: Limits,
        stored: impl IntoIterator<Item = (IdempotencyKey, KeyRecord)>,
    ) -> Self {
        let mut ledger = Self {
            limits,
            known: HashMap::new(),
            by_age: BTreeMap::new(),
            kept: BTreeMap::new(),
            kept_bytes: 0,
        };
        for (key, record) in stored {
            ledger.insert(key, Known { record, running: false });
        }
        ledger
    }

    fn insert(&mut self, key: IdempotencyKey, known: Known) {
        self.remove(&key);
        let age = age(&known.record);
        if matches!(known.record.outcome, Outcome::Kept { .. }) {
            self.kept_bytes += known.record.outcome.kept_bytes();
            self.kept.insert(age, key.clone());
        }
        self.by_age.insert(age, key.clone());
        self.known.insert(key, known);
    }

    fn remove(&mut self, key: &IdempotencyKey) -> Option<Known> {
        let known = self.known.remove(key)?;
        let age = age(&known.record);
        self.by_age.remove(&age);
        if self.kept.remove(&age).is_some() {
            self.kept_bytes -= known.record.outcome.kept_bytes();
        }
        Some(known)
    }

    /// A request with a key comes.
    ///
    /// One that `may_repeat` is carried out again where it is not known how far the first one came.
    pub fn begin(
        &mut self,
        key: &IdempotencyKey,
        fingerprint: &Fingerprint,
        may_repeat: bool,
        attempt: Uuid,
        now: i64,
    ) -> Begin {
        let mut changes = Vec::new();
        match self.known.get(key) {
            Some(known) if known.running || !is_over(&known.record, now) => {
                if known.record.fingerprint != *fingerprint {
                    return Begin::Reused;
                }
                let unknown =
                    matches!(known.record.outcome, Outcome::Begun | Outcome::Unknown { .. });
                match (known.running, unknown && may_repeat) {
                    (true, _) => return Begin::Wait,
                    (false, false) => return Begin::Ended(known.record.outcome.clone()),
                    (false, true) => {}
                }
            }
            Some(_) => {}
            None if self.known.len() >= self.limits.keys => {
                let idle = |key: &&IdempotencyKey| !self.is_running(key);
                let Some(oldest) = self.by_age.values().find(idle).cloned() else {
                    return Begin::Full;
                };
                self.remove(&oldest);
                changes.push(Change::Forget(oldest));
            }
            None => {}
        }
        let record = KeyRecord {
            version: KEY_RECORD_VERSION,
            attempt,
            fingerprint: fingerprint.clone(),
            begun_at: now,
            outcome: Outcome::Begun,
        };
        self.insert(key.clone(), Known { record: record.clone(), running: true });
        changes.push(Change::Put(key.clone(), record));
        Begin::Run(changes)
    }

    fn is_running(&self, key: &IdempotencyKey) -> bool {
        self.known.get(key).is_some_and(|known| known.running)
    }

    /// The record of an attempt as it will be once it has ended so; `None` when it is forgotten or
    /// another one has taken its place. Nothing changes before [`Ledger::ended`].
    pub fn ending(
        &self,
        key: &IdempotencyKey,
        attempt: Uuid,
        outcome: Outcome,
    ) -> Option<KeyRecord> {
        let known = self.known.get(key).filter(|known| known.record.attempt == attempt)?;
        Some(KeyRecord { outcome, ..known.record.clone() })
    }

    /// An attempt has ended, and that is stored. Answers what is given up for it.
    pub fn ended(&mut self, key: &IdempotencyKey, record: KeyRecord) -> Vec<Change> {
        if self.ending(key, record.attempt, Outcome::Begun).is_none() {
            return Vec::new();
        }
        self.insert(key.clone(), Known { record, running: false });
        let mut changes = Vec::new();
        while self.kept_bytes > self.limits.bytes
            && let Some(oldest) = self.kept.values().next().cloned()
            && let Some(mut known) = self.remove(&oldest)
        {
            known.record.outcome = known.record.outcome.without_answer();
            changes.push(Change::Put(oldest.clone(), known.record.clone()));
            self.insert(oldest, known);
        }
        changes
    }

    /// An attempt did nothing, and that is stored or could not be.
    pub fn undone(&mut self, key: &IdempotencyKey, attempt: Uuid) {
        if self.ending(key, attempt, Outcome::Begun).is_some() {
            self.remove(key);
        }
    }

    /// Forgets keys whose time is over, at most `limit`.
    pub fn expire(&mut self, now: i64, limit: usize) -> Vec<Change> {
        let over = |key: &&IdempotencyKey| {
            self.known.get(*key).is_some_and(|known| !known.running && is_over(&known.record, now))
        };
        // They stand by age, so that the first which is not over is behind all that are.
        let young = |key: &&IdempotencyKey| {
            self.known.get(*key).is_some_and(|known| !is_over(&known.record, now))
        };
        let keys = self.by_age.values().take_while(|key| !young(key)).filter(over).take(limit);
        let keys: Vec<IdempotencyKey> = keys.cloned().collect();
        for key in &keys {
            self.remove(key);
        }
        keys.into_iter().map(Change::Forget).collect()
    }

    /// Keys, and those whose requests run.
    pub fn count(&self) -> (usize, usize) {
        (self.known.len(), self.known.values().filter(|known| known.running).count())
    }

    /// Bytes of kept answers.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }
}

fn age(record: &KeyRecord) -> Age {
    (record.begun_at, record.attempt)
}

fn is_over(record: &KeyRecord, now: i64) -> bool {
    now.saturating_sub(record.begun_at) >= RETENTION_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::new(text.as_bytes()).unwrap()
    }

    fn print(text: &str) -> Fingerprint {
        Fingerprint(text.to_owned())
    }

    /// A ledger with two keys and ten bytes, and the number of its next attempt.
    struct Bench(Ledger, u128);

    impl Bench {
        fn new() -> Self {
            Self(Ledger::new(Limits { keys: 2, bytes: 10 }, []), 0)
        }

        fn begin(&mut self, name: &str, asks: &str, now: i64) -> Begin {
            self.1 += 1;
            self.0.begin(&key(name), &print(asks), false, Uuid::from_u128(self.1), now)
        }

        fn end(&mut self, name: &str, attempt: u128, outcome: Outcome) -> Vec<Change> {
            let record = self.0.ending(&key(name), Uuid::from_u128(attempt), outcome);
            record.map(|record| self.0.ended(&key(name), record)).unwrap_or_default()
        }
    }

    fn kept(bytes: u64) -> Outcome {
        Outcome::Kept { status: 200, content_type: "application/json".to_owned(), bytes }
    }

    #[test]
    fn the_first_request_runs_and_the_others_wait_and_are_told_what_it_came_to() {
        let mut bench = Bench::new();
        assert!(matches!(bench.begin("a", "x", 0), Begin::Run(changes) if changes.len() == 1));
        assert_eq!(bench.begin("a", "x", 1), Begin::Wait);
        assert_eq!(bench.begin("a", "y", 1), Begin::Reused);
        assert!(bench.end("a", 1, kept(3)).is_empty());
        assert_eq!(bench.begin("a", "x", 2), Begin::Ended(kept(3)));
        assert_eq!(bench.begin("a", "y", 2), Begin::Reused);
        assert!(matches!(bench.begin("a", "y", RETENTION_MS), Begin::Run(_)), "its time is over");
    }

    #[test]
    fn what_began_before_a_restart_is_not_known_and_runs_again_only_where_it_may() {
        let mut bench = Bench::new();
        let Begin::Run(changes) = bench.begin("a", "x", 0) else { panic!() };
        let [Change::Put(_, record)] = &changes[..] else { panic!() };
        let stored = [(key("a"), record.clone())];
        bench.0 = Ledger::new(Limits { keys: 2, bytes: 10 }, stored);
        assert_eq!(bench.begin("a", "x", 1), Begin::Ended(Outcome::Begun));
        let again = bench.0.begin(&key("a"), &print("x"), true, Uuid::from_u128(9), 1);
        assert!(matches!(again, Begin::Run(_)));
        bench.end("a", 1, kept(1));
        assert_eq!(
            bench.begin("a", "x", 2),
            Begin::Wait,
            "a late end of the first changes nothing"
        );
    }

    #[test]
    fn an_attempt_that_did_nothing_leaves_the_key_free() {
        let mut bench = Bench::new();
        bench.begin("a", "x", 0);
        bench.0.undone(&key("a"), Uuid::from_u128(7));
        assert_eq!(bench.begin("a", "x", 0), Begin::Wait, "it was another one");
        bench.0.undone(&key("a"), Uuid::from_u128(1));
        assert!(matches!(bench.begin("a", "y", 0), Begin::Run(_)));
    }

    #[test]
    fn the_oldest_key_that_does_not_run_makes_room_and_one_that_runs_never_does() {
        let mut bench = Bench::new();
        bench.begin("a", "x", 0);
        bench.begin("b", "x", 1);
        assert_eq!(bench.begin("c", "x", 2), Begin::Full);
        bench.end("b", 2, kept(1));
        let Begin::Run(changes) = bench.begin("c", "x", 3) else { panic!() };
        assert_eq!(changes[0], Change::Forget(key("b")));
        assert_eq!(bench.0.count(), (2, 2));
        assert_eq!(bench.0.kept_bytes(), 0);
    }

    #[test]
    fn the_oldest_answers_make_room_and_their_keys_stay() {
        let mut bench = Bench::new();
        bench.begin("a", "x", 0);
        bench.begin("b", "x", 1);
        bench.end("a", 1, kept(6));
        let changes = bench.end("b", 2, kept(6));
        assert!(matches!(&changes[..], [Change::Put(name, _)] if *name == key("a")));
        assert_eq!(bench.0.kept_bytes(), 6);
        let gone = Begin::Ended(Outcome::NotKept { status: 200 });
        assert_eq!(bench.begin("a", "x", 2), gone, "it is not carried out again");
        assert_eq!(bench.begin("b", "x", 2), Begin::Ended(kept(6)));
    }

    #[test]
    fn keys_whose_time_is_over_are_forgotten_a_few_at_a_time_and_never_while_they_run() {
        let mut bench = Bench::new();
        bench.begin("a", "x", 0);
        bench.begin("b", "x", 1);
        bench.end("b", 2, kept(1));
        assert!(bench.0.expire(RETENTION_MS, 9).is_empty(), "b is younger and a runs");
        assert_eq!(bench.0.expire(RETENTION_MS + 1, 9), [Change::Forget(key("b"))]);
        bench.end("a", 1, kept(1));
        assert!(bench.0.expire(RETENTION_MS + 1, 0).is_empty());
        assert_eq!(bench.0.expire(RETENTION_MS + 1, 1), [Change::Forget(key("a"))]);
        assert_eq!((bench.0.count(), bench.0.kept_bytes()), ((0, 0), 0));
    }
}
