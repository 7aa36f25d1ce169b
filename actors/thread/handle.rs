//! How routes reach sessions.

use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use cm_core::controls::{Controls, ControlsChange};
use cm_core::error::{ErrorCode, Failure};
use cm_core::ids::{RequestId, ThreadId};
use cm_core::request::RequestRecord;
use cm_core::rows::RowKey;
use cm_core::wire::{
    CreateSession, DynamicTool, MessageAccepted, SendMessage, SessionCreated, SessionSummary,
    TranscriptEntry,
};
use serde_json::Value;
use tokio::sync::oneshot;

use super::actions::ThreadAction;
use super::answers::Question;
use super::controls::{ChangeDefaults, ChangedBy, ControlsChanged, Defaults, GetDefaults};
use super::error::SessionError;
use super::fork::ForkSession;
use super::messages::{
    AttachReader, Command, DecideRequest, DecisionInput, Deleted, Families, ListSessions, ParkAll,
    ReadRequestParams, Reply, StartSession, SteerFailure, ToThread,
};
use super::registry::ThreadRegistry;
use super::registry_requests::GetRequests;
use super::snapshot::GetSnapshots;
use crate::handle::{CallError, Handle};
use crate::index::{AttachedReader, ListQuery, RowsChanged};

/// How long the snapshots of all unfinished sessions may take.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(5);

/// A stable way to reach sessions.
#[derive(Debug, Clone)]
pub struct ThreadsHandle {
    pub(super) registry: Handle<ThreadRegistry>,
    deadline: Duration,
}

type Answer<T> = Result<T, SessionError>;

impl ThreadsHandle {
    /// Makes a handle; `deadline` bounds every answer.
    pub fn new(registry: Handle<ThreadRegistry>, deadline: Duration) -> Self {
        Self { registry, deadline }
    }

    pub(super) async fn answer<T>(&self, waiting: oneshot::Receiver<Answer<T>>) -> Answer<T> {
        match tokio::time::timeout(self.deadline, waiting).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(SessionError::failed(
                ErrorCode::Internal,
                "The session's actor ended before it answered; it is rebuilt from the store. \
                 Look at the session before you try again.",
            )),
            Err(_) => Err(SessionError::failed(
                ErrorCode::DeadlineExceeded,
                "The session did not answer in time.",
            )),
        }
    }

    pub(super) async fn command<T>(
        &self,
        thread_id: &ThreadId,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Answer<T> {
        let (reply, waiting) = oneshot::channel();
        let message = ToThread { thread_id: thread_id.clone(), command: command(reply) };
        self.registry.tell(message).map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// Creates a session.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn create(&self, body: CreateSession) -> Answer<SessionCreated> {
        let (reply, waiting) = oneshot::channel();
        self.registry
            .tell(StartSession { body, reply })
            .map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// Lists sessions, the one that changed last first; answers the body of the page.
    ///
    /// HTTP workers answer from their own copy and come here only when it is not there.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn list(&self, query: ListQuery) -> Answer<Vec<u8>> {
        let (reply, waiting) = oneshot::channel();
        self.registry
            .tell(ListSessions { query, reply })
            .map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// Makes a worker hear of changes of the lists, once they were read from the store; `None`
    /// while that takes longer than its patience.
    ///
    /// # Errors
    ///
    /// [`CallError`] when the registry does not answer.
    pub async fn attach_reader(
        &self,
        reader: Recipient<RowsChanged>,
    ) -> Result<Option<AttachedReader>, CallError> {
        self.registry.ask(AttachReader(reader), self.deadline).await
    }

    /// A session with its transcript: a [`SessionDetail`] as JSON. It may be long, so it is written
    /// once, from what is stored.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    ///
    /// [`SessionDetail`]: cm_core::wire::SessionDetail
    pub async fn detail(&self, id: &ThreadId) -> Answer<Bytes> {
        self.read(id, Question::Detail).await
    }

    /// The newest rows of a session's transcript before one of them, or of all: a
    /// [`TranscriptPage`](cm_core::wire::TranscriptPage) as JSON.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn transcript(
        &self,
        id: &ThreadId,
        before: Option<RowKey>,
        limit: usize,
    ) -> Answer<Bytes> {
        self.read(id, Question::Transcript { before, limit }).await
    }

    /// The newest turns of a session before one of them, or of all: a
    /// [`TurnPage`](cm_core::wire::TurnPage) as JSON.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn turns(&self, id: &ThreadId, before: Option<u32>, limit: usize) -> Answer<Bytes> {
        self.read(id, Question::Turns { before, limit }).await
    }

    async fn read(&self, id: &ThreadId, question: Question) -> Answer<Bytes> {
        self.command(id, |reply| Command::Read { question, reply }).await
    }

    /// What the runtime says of one item, as it came; empty when the session has no such item.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn item(&self, id: &ThreadId, item_id: String) -> Answer<Bytes> {
        self.command(id, |reply| Command::Item { item_id, reply }).await
    }

    /// Sends a message: it starts a turn, or joins the one that runs.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn send(&self, id: &ThreadId, body: SendMessage) -> Answer<MessageAccepted> {
        self.command(id, |reply| Command::Send { body, reply }).await
    }

    /// Interrupts a turn; answers its id.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn interrupt(&self, id: &ThreadId, turn_id: Option<String>) -> Answer<String> {
        self.command(id, |reply| Command::Interrupt { turn_id, reply }).await
    }

    /// Adds to a running turn.
    ///
    /// # Errors
    ///
    /// [`SessionError`]; a refusal of the runtime is the inner error.
    pub async fn steer(
        &self,
        id: &ThreadId,
        turn_id: String,
        input: String,
    ) -> Answer<Result<(), SteerFailure>> {
        self.command(id, |reply| Command::Steer { turn_id, input, reply }).await
    }

    /// Gives a title.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn rename(&self, id: &ThreadId, title: String) -> Answer<SessionSummary> {
        self.command(id, |reply| Command::Rename { title, reply }).await
    }

    /// Archives.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn archive(&self, id: &ThreadId) -> Answer<()> {
        self.command(id, Command::Archive).await
    }

    /// Takes back from the archive.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn unarchive(&self, id: &ThreadId) -> Answer<SessionCreated> {
        self.command(id, Command::Unarchive).await
    }

    /// Loads the thread in the child.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn resume(
        &self,
        id: &ThreadId,
        dynamic_tools: Option<Vec<DynamicTool>>,
    ) -> Answer<SessionCreated> {
        self.command(id, |reply| Command::Resume { dynamic_tools, reply }).await
    }

    /// Deletes for good.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn delete(&self, id: &ThreadId) -> Answer<Deleted> {
        self.command(id, Command::Delete).await
    }

    /// Forks the session.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn fork(&self, id: &ThreadId) -> Answer<SessionCreated> {
        let (reply, waiting) = oneshot::channel();
        self.registry
            .tell(ForkSession { id: id.clone(), reply })
            .map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// Lets the runtime do something with the session; answers what it says.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn act(&self, id: &ThreadId, action: ThreadAction) -> Answer<Value> {
        self.command(id, |reply| Command::Act { action, reply }).await
    }

    /// The id by which the runtime knows the session's thread.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn runtime_id(&self, id: &ThreadId) -> Answer<ThreadId> {
        self.command(id, Command::RuntimeId).await
    }

    /// The session's controls.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn controls(&self, id: &ThreadId) -> Answer<Controls> {
        self.command(id, Command::Controls).await
    }

    /// Changes the session's controls; `by` is named in its transcript.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn change_controls(
        &self,
        id: &ThreadId,
        change: ControlsChange,
        by: Option<ChangedBy>,
    ) -> Answer<ControlsChanged> {
        let change = Box::new(change);
        self.command(id, |reply| Command::ChangeControls { change, by, reply }).await
    }

    /// The controls of new sessions.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn defaults(&self) -> Answer<Defaults> {
        let asked = self.registry.ask(GetDefaults, self.deadline).await;
        asked.map_err(|error| error.failure("session registry").into())
    }

    /// Changes the controls of new sessions; `None` where the configuration forbids it.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn change_defaults(&self, change: ControlsChange) -> Answer<Option<ControlsChanged>> {
        let (reply, waiting) = oneshot::channel();
        self.registry
            .tell(ChangeDefaults { change, reply })
            .map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// Adds a row to the transcript, or writes it again; answers it as it is then.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn add_row(&self, id: &ThreadId, entry: TranscriptEntry) -> Answer<TranscriptEntry> {
        self.command(id, |reply| Command::AddRow { entry: Box::new(entry), reply }).await
    }

    /// Requests of a session, oldest first: the pending ones, or all.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn requests(
        &self,
        id: &ThreadId,
        families: Families,
        all: bool,
    ) -> Answer<Vec<RequestRecord>> {
        self.command(id, |reply| Command::Requests { families, all, reply }).await
    }

    /// Pending requests, oldest first: those of all subagents of a session, or of all sessions and
    /// of the runtime itself.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn pending_requests(
        &self,
        families: Families,
        under: Option<ThreadId>,
    ) -> Answer<Vec<RequestRecord>> {
        let asked = self.registry.ask(GetRequests { families, under }, self.deadline).await;
        let asked = asked.map_err(|error| error.failure("session registry"))?;
        asked.map_err(|slow| {
            SessionError::failed(ErrorCode::DeadlineExceeded, format!("The {slow}."))
        })
    }

    /// The params of a request, as the child sent them.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn request_params(&self, id: RequestId) -> Answer<Bytes> {
        let (reply, waiting) = oneshot::channel();
        self.registry
            .tell(ReadRequestParams { id, reply })
            .map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// Decides a request; answers its session, if it has one.
    ///
    /// # Errors
    ///
    /// [`SessionError`].
    pub async fn decide(
        &self,
        id: RequestId,
        input: DecisionInput,
        by: String,
    ) -> Answer<Option<ThreadId>> {
        let (reply, waiting) = oneshot::channel();
        self.registry
            .tell(DecideRequest { id, input, by, reply })
            .map_err(|error| error.failure("session registry"))?;
        self.answer(waiting).await
    }

    /// How sessions with something unfinished stand: the one of the filter, or all.
    ///
    /// # Errors
    ///
    /// A failure when the registry does not answer in time.
    pub async fn snapshots(
        &self,
        filter: Option<String>,
    ) -> Result<Vec<(ThreadId, Value)>, Failure> {
        self.registry
            .ask(GetSnapshots { filter }, SNAPSHOT_DEADLINE)
            .await
            .map_err(|error| error.failure("session registry"))?
            .map_err(|slow| Failure::new(ErrorCode::DeadlineExceeded, format!("The {slow}.")))
    }

    /// Interrupts every running turn, before the child is stopped on purpose.
    ///
    /// # Errors
    ///
    /// A failure when that took longer than `deadline`.
    pub async fn park_all(&self, deadline: Duration) -> Result<(), Failure> {
        self.registry
            .ask(ParkAll, deadline)
            .await
            .map_err(|error| error.failure("session registry"))
    }
}
