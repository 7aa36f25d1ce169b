//! Threads that other clients of the runtime made or changed: the runtime's own lists are compared
//! with what is stored, in the background, when the child is up and from time to time.
//!
//! Nothing of ours is ever removed for what the runtime does not list, and what was deleted here
//! does not come back.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use cm_core::event::{Audience, Durability, FrameBatch};
use cm_core::ids::{Incarnation, ThreadId};
use cm_core::thread::{ListedChange, ListedPage, ListedThread, ThreadRecord, read_listed_page};
use serde_json::{Value, json};

use super::frames;
use super::messages::{Command, ToThread};
use super::registry::ThreadRegistry;
use super::replace::tell;
use super::view;
use crate::app_server::CallFailure;
use crate::clock;
use crate::index::SessionRow;
use crate::store::{Store, StoreError, WriteBatch, keys, put_thread, read_thread_record};

/// Threads on a page; the runtime gives no more.
const PAGE: u32 = 100;

/// Pages of one comparison. Overflow rule: threads behind them are found when newer ones are gone.
const MOST_PAGES: usize = 1_000;

/// How long the child may take for a page. Nobody waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

/// Sessions of one comparison whose history is read at once, newest first. Rule: the others' is read
/// when somebody asks for them.
const READ_AT_ONCE: usize = 100;

/// Sessions of which it is remembered that their history is to be read. Overflow rule: further ones
/// are remembered at the next comparison.
const MOST_BEHIND: usize = 100_000;

/// Seconds after a change in which more may come: a turn that another client runs.
const RECENT: i64 = 600;

/// Pages up to which every comparison looks at all of them. A longer list is looked through to its
/// end once in [`ROUNDS`] times; in between its beginning is: that is where what changed comes.
const SHORT_LIST: usize = 10;
const ROUNDS: u64 = 20;

/// Kinds of threads that a person works with. Those of subagents are shown with their parents.
const SOURCES: [&str; 4] = ["cli", "vscode", "exec", "appServer"];

/// How far the comparison with the runtime's lists is.
#[derive(Debug, Default)]
pub(super) struct Syncing {
    /// Whether one runs.
    running: bool,
    /// Comparisons so far.
    rounds: u64,
    /// Pages of the last one that went to the end.
    pages: usize,
    /// Sessions whose history the runtime has changed since it was read, and when it did.
    pub(super) behind: HashMap<ThreadId, i64>,
    /// Threads that were taken over in this life.
    adopted: u64,
}

impl Syncing {
    pub(super) fn observed(&self) -> Value {
        json!({
            "running": self.running, "rounds": self.rounds, "adopted": self.adopted,
            "behind": self.behind.len(),
        })
    }
}

/// One comparison.
#[derive(Debug)]
struct Pass {
    incarnation: Incarnation,
    /// Which of the runtime's two lists is read.
    archived: bool,
    cursor: Option<String>,
    pages: usize,
    /// Whether the child takes the kinds of threads.
    with_sources: bool,
    /// Pages of a list that are read at the most.
    most: usize,
    /// Histories that may still be read at once.
    read_at_once: usize,
    /// Changes of a session with a greater number came after the list was asked for.
    asked: u64,
}

impl Pass {
    fn params(&self) -> Value {
        let mut params = json!({
            "archived": self.archived, "limit": PAGE, "sortKey": "updated_at",
            "modelProviders": [],
        });
        if self.with_sources {
            params["sourceKinds"] = json!(SOURCES);
        }
        if let Some(cursor) = &self.cursor {
            params["cursor"] = json!(cursor);
        }
        params
    }
}

/// A thread of the list, and what is stored of it.
enum Found {
    Unknown(ListedThread),
    Changed(ThreadId, ListedChange),
    /// The former thread of a session, which was to go to the archive.
    Former(ThreadId),
}

/// Compares a page with the store; each thread with the id by which the runtime knows it. Runs where
/// the store is read.
fn compare(
    store: &dyn Store,
    page: Vec<(ThreadId, ListedThread)>,
) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for (runtime_id, listed) in page {
        match read_thread_record(store, &listed.id) {
            // Another thread has taken its place.
            Ok(Some(record)) if *record.runtime_id() != runtime_id => {
                if !listed.archived && record.replaced.contains(&runtime_id) {
                    found.push(Found::Former(runtime_id));
                }
            }
            Ok(Some(record)) => {
                let change = listed.change(&record);
                if change != ListedChange::default() {
                    found.push(Found::Changed(listed.id, change));
                }
            }
            Ok(None) if store.get(&keys::tombstone(&listed.id))?.is_some() => {}
            Ok(None) if listed.is_subagent() => {}
            Ok(None) => found.push(Found::Unknown(listed)),
            // A damaged session keeps no other one from being found.
            Err(error) => tracing::error!(thread = %listed.id, %error, "a session cannot be read"),
        }
    }
    Ok(found)
}

impl ThreadRegistry {
    /// Compares with the runtime's lists from time to time.
    pub(super) fn sync_now_and_then(&self, ctx: &mut Context<Self>) {
        let every = self.shared.config.sync;
        if !every.is_zero() {
            ctx.run_interval(every, |registry, ctx| registry.sync(ctx));
        }
    }

    /// Compares with the runtime's lists, unless that is being done.
    pub(super) fn sync(&mut self, ctx: &mut Context<Self>) {
        let Some(up) = &self.runtime else { return };
        if self.shared.config.sync.is_zero()
            || self.syncing.running
            || !up.profile.has("thread/list")
        {
            return;
        }
        let is_short = self.syncing.pages <= SHORT_LIST;
        let whole = is_short || self.syncing.rounds.is_multiple_of(ROUNDS);
        self.syncing.rounds += 1;
        self.syncing.running = true;
        let pass = Pass {
            incarnation: up.incarnation,
            archived: false,
            cursor: None,
            pages: 0,
            with_sources: true,
            most: if whole { MOST_PAGES } else { SHORT_LIST },
            read_at_once: READ_AT_ONCE,
            asked: 0,
        };
        self.ask_list(pass, ctx);
    }

    fn ask_list(&mut self, mut pass: Pass, ctx: &mut Context<Self>) {
        pass.asked = self.shared.next_token();
        let app_server = self.shared.app_server.clone();
        let index = self.shared.index.clone();
        let (params, archived) = (pass.params(), pass.archived);
        let work = async move {
            // Which threads stand behind which sessions is known when the lists were read.
            let built = tokio::time::timeout(DEADLINE, index.is_built()).await;
            built.map_err(|_| CallFailure::Timeout)?;
            let answer = app_server.call("thread/list", params, Some(DEADLINE), true).await?;
            // What is no page has no threads.
            Ok(read_listed_page(answer.get(), archived).unwrap_or_default())
        };
        ctx.spawn(work.into_actor(self).map(move |answer, registry, ctx| {
            registry.list_answered(pass, answer, ctx);
        }));
    }

    fn list_answered(
        &mut self,
        mut pass: Pass,
        answer: Result<ListedPage, CallFailure>,
        ctx: &mut Context<Self>,
    ) {
        let same_child = self.runtime.as_ref().map(|up| up.incarnation) == Some(pass.incarnation);
        if !same_child {
            self.syncing.running = false;
            return;
        }
        let mut page = match answer {
            Ok(page) => page,
            Err(CallFailure::Rpc(error)) if pass.with_sources => {
                tracing::debug!(%error, "the runtime knows other kinds of threads");
                pass.with_sources = false;
                return self.ask_list(pass, ctx);
            }
            Err(error) => {
                tracing::warn!(%error, "the runtime does not list its threads");
                self.syncing.running = false;
                return;
            }
        };
        let next = page.next_cursor.take();
        let of_session = |mut listed: ListedThread| {
            let session = self.session_of(&listed.id).clone();
            (std::mem::replace(&mut listed.id, session), listed)
        };
        let page: Vec<_> = page.threads.into_iter().map(of_session).collect();
        let store = self.shared.store.clone();
        let work = async move { store.read(move |store| compare(store, page)).await };
        ctx.spawn(work.into_actor(self).map(move |found, registry, ctx| {
            let found = found.unwrap_or_else(|error| {
                tracing::error!(%error, "the runtime's list cannot be compared");
                Vec::new()
            });
            registry.listed(pass, found, next, ctx);
        }));
    }

    fn listed(
        &mut self,
        mut pass: Pass,
        found: Vec<Found>,
        next: Option<String>,
        ctx: &mut Context<Self>,
    ) {
        self.take_over(found, &mut pass, ctx);
        pass.pages += 1;
        match next {
            Some(next) if pass.pages < pass.most && pass.cursor.as_ref() != Some(&next) => {
                pass.cursor = Some(next);
                self.ask_list(pass, ctx);
            }
            more => {
                if more.is_none() && !pass.archived {
                    self.syncing.pages = pass.pages;
                }
                if !pass.archived {
                    (pass.archived, pass.cursor, pass.pages) = (true, None, 0);
                    return self.ask_list(pass, ctx);
                }
                self.syncing.running = false;
            }
        }
    }

    /// Takes over what other clients made and changed.
    fn take_over(&mut self, found: Vec<Found>, pass: &mut Pass, ctx: &mut Context<Self>) {
        let mut unknown = Vec::new();
        let mut to_read = Vec::new();
        for found in found {
            match found {
                Found::Unknown(listed) => {
                    // One that is being made here is in the list before its actor is there.
                    let is_ours = self.threads.contains_key(&listed.id)
                        || self.aliases.contains_key(&listed.id)
                        || self.tombstones.contains_key(&listed.id);
                    if !is_ours && self.creating.is_empty() && self.replacing.is_empty() {
                        unknown.push(listed);
                    }
                }
                Found::Former(id) => {
                    let app_server = self.shared.app_server.clone();
                    ctx.spawn(tell(app_server, "thread/archive", id, json!({})).into_actor(self));
                }
                Found::Changed(id, _) if self.tombstones.contains_key(&id) => {}
                Found::Changed(id, change) => {
                    if let Some(at) = change.behind
                        && self.note_behind(&id, at)
                    {
                        to_read.push(id.clone());
                    }
                    if change.is_shown() {
                        let command = Command::Listed { change, asked: pass.asked };
                        ctx.notify(ToThread { thread_id: id, command });
                    }
                }
            }
        }
        for listed in self.adopt_listed(unknown) {
            if let Some(at) = listed.updated_at()
                && self.note_behind(&listed.id, at)
            {
                to_read.push(listed.id);
            }
        }
        let at_once = to_read.len().min(pass.read_at_once);
        pass.read_at_once -= at_once;
        to_read.truncate(at_once);
        self.recover_also(to_read, ctx);
    }

    /// Remembers that the history of a session is to be read; answers whether that is news.
    fn note_behind(&mut self, id: &ThreadId, at: i64) -> bool {
        // Nobody else can have worked on what is loaded here.
        if self.loaded.contains_key(id) {
            return false;
        }
        let behind = &mut self.syncing.behind;
        if behind.len() >= MOST_BEHIND && !behind.contains_key(id) {
            return false;
        }
        let is_known = behind.insert(id.clone(), at) == Some(at);
        // What changed just now may go on changing: it is read again until it has settled.
        let is_recent = clock::now_ms().div_euclid(1000).saturating_sub(at) < RECENT;
        if is_known && !is_recent {
            return false;
        }
        if self.living(id).is_some() {
            self.hand_on(id, Command::Behind(at));
        }
        true
    }

    /// Stores unknown threads as sessions and shows them; answers those.
    fn adopt_listed(&mut self, unknown: Vec<ListedThread>) -> Vec<ListedThread> {
        if unknown.is_empty() {
            return unknown;
        }
        let mut batch = WriteBatch::default();
        let mut told = FrameBatch::default();
        let mut rows = Vec::new();
        for listed in &unknown {
            let record = listed.adopted(self.unknown_record(&listed.id));
            match self.adopt_one(&record, &mut batch, &mut told) {
                Ok(row) => rows.push(row),
                Err(error) => tracing::error!(thread = %record.id, %error, "not taken over"),
            }
        }
        let staged = self.shared.journal.stage(told, &mut batch);
        // Reads come behind it: whoever asks for one of them finds it.
        match self.shared.store.try_commit(batch) {
            Ok(_) => {
                self.syncing.adopted += rows.len() as u64;
                tracing::info!(sessions = rows.len(), "threads of other clients were taken over");
                for row in rows {
                    self.shared.index.put(row);
                }
                self.shared.journal.publish_staged(staged);
                unknown
            }
            Err((_, error)) => {
                tracing::warn!(%error, "threads of other clients are taken over later");
                Vec::new()
            }
        }
    }

    fn adopt_one(
        &self,
        record: &ThreadRecord,
        batch: &mut WriteBatch,
        told: &mut FrameBatch,
    ) -> Result<SessionRow, StoreError> {
        put_thread(batch, record)?;
        let session = view::summary(record, view::IDLE);
        let row = SessionRow::encode(&session).map_err(|error| StoreError::Record {
            key: record.id.to_string(),
            why: error.to_string(),
        })?;
        let payload = json!({ "reason": "appeared", "session": session });
        let (to, durability) = (Audience::Everyone, Durability::DurableFirst);
        frames::push(told, "session_updated", &to, Some(&record.id), durability, &payload);
        Ok(row)
    }
}
