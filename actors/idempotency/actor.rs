//! The one owner of all keys.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use cm_core::error::{ErrorCode, Failure};
use cm_core::idempotency::{Begin, Change, IdempotencyKey, KeyRecord, Ledger, Limits, Outcome};
use cm_core::restart::{ExitKind, Policy, Restart};
use serde_json::json;
use uuid::Uuid;

use super::handle::in_progress;
use super::messages::{BeginRequest, Ended, KeptAnswer, RequestEnded, Told};
use crate::clock;
use crate::failpoint;
use crate::handle::Handle;
use crate::store::{
    StoreError, StoreHandle, StoreValue, WriteBatch, put_change, read_kept_answer, read_keys,
};
use crate::supervisor::{ChildSpec, ExitGuard, Observe, Started};

/// Requests and their ends that may wait. Overflow rule: a request is refused with `overloaded`; an
/// end is lost, so that a repetition is told that the outcome is not known.
const MAILBOX: usize = 4096;

/// What is remembered: a few MiB of keys, and answers on the disk. Overflow rules: see [`Limits`].
const LIMITS: Limits = Limits { keys: 20_000, bytes: 64 << 20 };

/// Longest answer that is kept, in bytes. A longer one is given, and not given again.
pub const LONGEST_ANSWER: u64 = 1 << 20;

/// Requests that wait for another one with their key, or for the keys to be read. Overflow rule:
/// the next one is told so.
const MAX_WAITING: usize = 64;

/// How often keys whose time is over are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// Keys that are forgotten at once: one batch must not hold up others for long.
const EXPIRE_AT_ONCE: usize = 1000;

/// The one owner of all keys.
pub struct Idempotency {
    store: StoreHandle,
    guard: ExitGuard,
    /// What is known; `None` until it was read from the store.
    ledger: Option<Ledger>,
    /// Requests that wait for another one with their key.
    waiting: HashMap<IdempotencyKey, Vec<BeginRequest>>,
    /// Requests that came before the keys were read.
    early: Vec<BeginRequest>,
}

/// The spec of the owner of the keys.
pub fn idempotency_spec(
    handle: Handle<Idempotency>,
    store: StoreHandle,
    policy: Policy,
) -> ChildSpec {
    ChildSpec {
        name: "idempotency",
        restart: Restart::Permanent,
        policy,
        shutdown: Duration::from_millis(500),
        watch: None,
        start: Box::new(move |guard| {
            let actor = Idempotency {
                store: store.clone(),
                guard,
                ledger: None,
                waiting: HashMap::new(),
                early: Vec::new(),
            };
            let address = Idempotency::create(|ctx| {
                ctx.set_mailbox_capacity(MAILBOX);
                actor
            });
            handle.fill(address.clone());
            let clear = handle.clone();
            Started::of(address, || Stop, move || clear.clear())
        }),
    }
}

impl Idempotency {
    fn begin(&mut self, request: BeginRequest, ctx: &mut Context<Self>) {
        if request.reply.is_closed() {
            return;
        }
        let Some(ledger) = &mut self.ledger else {
            return wait(&mut self.early, request);
        };
        let BeginRequest { key, fingerprint, may_repeat, .. } = &request;
        let (attempt, now) = (Uuid::new_v4(), clock::now_ms());
        match ledger.begin(key, fingerprint, *may_repeat, attempt, now) {
            Begin::Run(changes) => self.run(request, attempt, &changes, ctx),
            Begin::Wait => wait(self.waiting.entry(key.clone()).or_default(), request),
            Begin::Ended(Outcome::Kept { status, content_type, .. }) => {
                self.replay(request, status, content_type, ctx);
            }
            Begin::Ended(outcome) => tell(request, Err(not_again(&outcome))),
            Begin::Reused => tell(request, Err(reused())),
            Begin::Full => {
                let message = "Too many requests with idempotency keys run; try again later.";
                tell(request, Err(Failure::new(ErrorCode::Overloaded, message)));
            }
        }
    }

    /// Lets a request be carried out as soon as it is on the disk that it began.
    fn run(
        &mut self,
        request: BeginRequest,
        attempt: Uuid,
        changes: &[Change],
        ctx: &mut Context<Self>,
    ) {
        let stored = self.stored(batch(changes, None));
        ctx.spawn(stored.into_actor(self).map(move |stored, actor, ctx| match stored {
            Ok(()) => {
                let key = request.key.clone();
                if request.reply.send(Ok(Told::Run(attempt))).is_err() {
                    // Nobody is there to carry it out.
                    let ended = Ended::NothingDone;
                    actor.ended(RequestEnded { key, attempt, ended, reply: None }, ctx);
                }
            }
            Err(error) => {
                let key = request.key.clone();
                tell(request, Err(error.failure()));
                actor.undone(&key, attempt, ctx);
            }
        }));
    }

    fn replay(
        &self,
        request: BeginRequest,
        status: u16,
        content_type: String,
        ctx: &mut Context<Self>,
    ) {
        let (store, key) = (self.store.clone(), request.key.clone());
        let read = async move { store.read(move |store| read_kept_answer(store, &key)).await };
        ctx.spawn(read.into_actor(self).map(move |read, _, _| {
            let told = match read {
                Ok(Some(body)) => {
                    let body = Bytes::from(body);
                    Ok(Told::Replay(KeptAnswer { status, content_type, body }))
                }
                Ok(None) => Err(not_again(&Outcome::NotKept { status })),
                Err(error) => Err(error.failure()),
            };
            tell(request, told);
        }));
    }

    fn ended(&mut self, ended: RequestEnded, ctx: &mut Context<Self>) {
        // Tests kill the program here: what was asked for is done, and its answer not kept.
        failpoint::pass("idempotency.ended").ok();
        let RequestEnded { key, attempt, ended, reply } = ended;
        let outcome = ended.outcome();
        let as_ended = outcome.clone().unwrap_or(Outcome::Begun);
        let ledger = self.ledger.as_ref();
        let Some(record) = ledger.and_then(|ledger| ledger.ending(&key, attempt, as_ended)) else {
            // Forgotten meanwhile, or another attempt has its place.
            return;
        };
        let change = match &outcome {
            Some(_) => Change::Put(key.clone(), record.clone()),
            None => Change::Forget(key.clone()),
        };
        let answer = match ended {
            Ended::Answered(answer) => Some(answer.body.into()),
            Ended::TooLong { .. } | Ended::NothingDone | Ended::Unknown { .. } => None,
        };
        let stored = self.stored(batch(&[change], answer));
        ctx.spawn(stored.into_actor(self).map(move |stored, actor, ctx| {
            if let Err(error) = &stored {
                tracing::warn!(%error, "the end of a request with an idempotency key is not kept");
            }
            if let Some(reply) = reply {
                // Whoever ended it may have stopped waiting.
                reply.send(stored.is_ok()).ok();
            }
            if outcome.is_none() {
                return actor.undone(&key, attempt, ctx);
            }
            let record = match stored {
                Ok(()) => record,
                // On the disk it has begun and nothing more.
                Err(_) => KeyRecord { outcome: record.outcome.without_answer(), ..record },
            };
            let given_up = actor.ledger.as_mut().map(|ledger| ledger.ended(&key, record));
            actor.store_later(&given_up.unwrap_or_default(), ctx);
            actor.again(&key, ctx);
        }));
    }

    /// Nothing was done: the key is free for the next one that waits.
    fn undone(&mut self, key: &IdempotencyKey, attempt: Uuid, ctx: &mut Context<Self>) {
        if let Some(ledger) = &mut self.ledger {
            ledger.undone(key, attempt);
        }
        self.again(key, ctx);
    }

    /// Those that waited for a request come as if they came now.
    fn again(&mut self, key: &IdempotencyKey, ctx: &mut Context<Self>) {
        for request in self.waiting.remove(key).unwrap_or_default() {
            self.begin(request, ctx);
        }
    }

    fn stored(
        &self,
        batch: Result<WriteBatch, StoreError>,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let store = self.store.clone();
        async move { store.commit(batch?).await }
    }

    /// Stores what nobody waits for. What is lost of it is taken up again after a restart.
    fn store_later(&self, changes: &[Change], ctx: &mut Context<Self>) {
        if changes.is_empty() {
            return;
        }
        let stored = self.stored(batch(changes, None));
        ctx.spawn(stored.into_actor(self).map(|stored, _, _| {
            if let Err(error) = stored {
                tracing::warn!(%error, "idempotency keys could not be forgotten on the disk");
            }
        }));
    }

    fn expire(&mut self, ctx: &mut Context<Self>) {
        let ledger = self.ledger.as_mut();
        let changes = ledger.map(|ledger| ledger.expire(clock::now_ms(), EXPIRE_AT_ONCE));
        self.store_later(&changes.unwrap_or_default(), ctx);
    }
}

/// The changes as one batch; `answer` is the body of the one that keeps one.
fn batch(changes: &[Change], answer: Option<StoreValue>) -> Result<WriteBatch, StoreError> {
    let mut batch = WriteBatch::default();
    for change in changes {
        put_change(&mut batch, change, answer.clone())?;
    }
    Ok(batch)
}

fn tell(request: BeginRequest, told: Result<Told, Failure>) {
    // Whoever asked may have stopped waiting.
    request.reply.send(told).ok();
}

fn wait(waiting: &mut Vec<BeginRequest>, request: BeginRequest) {
    match waiting.len() < MAX_WAITING {
        true => waiting.push(request),
        false => tell(request, Err(in_progress())),
    }
}

/// What a request is told whose key belongs to another one.
fn reused() -> Failure {
    Failure::new(
        ErrorCode::KeyReused,
        "This idempotency key was used for another method, path or body. A key belongs to one \
         request: use a new one for this.",
    )
}

/// What a request is told whose first attempt cannot be answered again.
fn not_again(outcome: &Outcome) -> Failure {
    match outcome {
        Outcome::NotKept { status } | Outcome::Kept { status, .. } => Failure::new(
            ErrorCode::AnswerNotKept,
            format!(
                "A request with this idempotency key was carried out and answered {status}; its \
                 answer is not kept. Look at what it was about; it is not carried out again."
            ),
        ),
        Outcome::Unknown { status } => Failure::new(
            ErrorCode::OutcomeUnknown,
            format!(
                "A request with this idempotency key was answered {status}, and whether it was \
                 carried out is not known. Look at the session; to send it all the same, use a new \
                 key."
            ),
        ),
        Outcome::Begun => Failure::new(
            ErrorCode::OutcomeUnknown,
            "A request with this idempotency key began and was cut off, and whether it was carried \
             out is not known. Look at the session; to send it all the same, use a new key.",
        ),
    }
}

impl Actor for Idempotency {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EXPIRE_EVERY, |actor, ctx| actor.expire(ctx));
        let store = self.store.clone();
        let read = async move { store.read(read_keys).await };
        ctx.spawn(read.into_actor(self).map(|read, actor, ctx| match read {
            Ok(stored) => {
                actor.ledger = Some(Ledger::new(LIMITS, stored));
                actor.expire(ctx);
                for request in std::mem::take(&mut actor.early) {
                    actor.begin(request, ctx);
                }
            }
            Err(error) => {
                actor.guard.will_end(ExitKind::Failed, format!("could not read its keys: {error}"));
                ctx.stop();
            }
        }));
    }
}

impl Handler<BeginRequest> for Idempotency {
    type Result = ();

    fn handle(&mut self, request: BeginRequest, ctx: &mut Self::Context) {
        self.begin(request, ctx);
    }
}

impl Handler<RequestEnded> for Idempotency {
    type Result = ();

    fn handle(&mut self, ended: RequestEnded, ctx: &mut Self::Context) {
        self.ended(ended, ctx);
    }
}

impl Handler<Observe> for Idempotency {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let (keys, running) = self.ledger.as_ref().map(Ledger::count).unwrap_or_default();
        MessageResult(json!({
            "keys": keys,
            "running": running,
            "waiting": self.early.len() + self.waiting.values().map(Vec::len).sum::<usize>(),
            "keptBytes": self.ledger.as_ref().map_or(0, Ledger::kept_bytes),
        }))
    }
}

/// Ends the actor. Sent by the supervisor. What it knows is in the store.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Idempotency {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
