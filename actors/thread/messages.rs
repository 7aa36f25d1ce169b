//! Messages to the registry and to threads.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use cm_core::controls::{Controls, ControlsChange};
use cm_core::ids::{Incarnation, ProjectId, RequestId, ThreadId};
use cm_core::request::{RequestFamily, RequestKind, RequestRecord};
use cm_core::thread::{ListedChange, ThreadRecord};
use cm_core::wire::{
    ApprovalDecision, CreateSession, DecideApproval, DynamicTool, MessageAccepted, SendMessage,
    SessionCreated, SessionProject, SessionSummary, TranscriptEntry,
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use super::actions::ThreadAction;
use super::answers::Question;
use super::assign::{MemberCommand, Place};
use super::controls::{ChangedBy, ControlsChanged};
use super::error::SessionError;
use super::registry_create::Remarks;
use super::subagents::Link;
use crate::app_server::{Batch, RuntimeDown, RuntimeUp};
use crate::index::{AttachedReader, ListQuery, Member, RowsChanged};

/// Which requests a list has.
pub type Families = &'static [RequestFamily];

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, SessionError>>;

/// Body of a deleted session's answer and event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Always `deleted`.
    pub status: &'static str,
    /// The session.
    pub session_id: ThreadId,
    /// Its title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For a person.
    pub message: &'static str,
    /// When, ISO-8601 UTC.
    pub deleted_at: String,
    /// Files of the session that are gone from the runtime's disk. Only the delete's own answer
    /// shows it.
    #[serde(skip)]
    pub deleted_files: u32,
}

/// Why a steer did not happen: the word for `code`, and the runtime's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteerFailure {
    /// `conflict`, `already_resolved`, `not_eligible` or `failed`.
    pub status: &'static str,
    /// The runtime's text.
    pub error: String,
}

/// What somebody decided.
#[derive(Debug, Clone, PartialEq)]
pub enum DecisionInput {
    /// On an approval, or on what version 1 did not know.
    Approval(Box<DecideApproval>),
    /// On a question.
    ToolInput {
        /// The decision.
        decision: ApprovalDecision,
        /// The result for the child.
        result: Value,
    },
    /// On a tool call.
    ToolCall {
        /// Whether the tool did its work.
        success: bool,
        /// The result for the child.
        result: Value,
    },
}

impl DecisionInput {
    /// The list that it is about.
    pub fn family(&self) -> RequestFamily {
        match self {
            Self::Approval(_) => RequestFamily::Approval,
            Self::ToolInput { .. } => RequestFamily::ToolInput,
            Self::ToolCall { .. } => RequestFamily::ToolCall,
        }
    }

    /// Whether a request of this kind is decided so.
    pub fn decides(&self, kind: RequestKind) -> bool {
        match kind.family() {
            RequestFamily::Extended => matches!(self, Self::Approval(_)),
            family => self.family() == family,
        }
    }
}

/// Creates a session. Sent by routes; answered through `reply`, when the session is on the disk.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StartSession {
    pub(super) body: CreateSession,
    pub(super) reply: Reply<SessionCreated>,
}

/// Lists sessions. Sent by routes; answered through `reply`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ListSessions {
    pub(super) query: ListQuery,
    pub(super) reply: Reply<Vec<u8>>,
}

/// Asks for the sessions of a project, or of all of them. Sent by the actor of projects; answered
/// through `reply`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct FindMembers {
    pub(super) project: Option<ProjectId>,
    pub(super) reply: Reply<Vec<Member>>,
}

/// Makes a reader hear of changes of the lists. Sent by HTTP workers; answered when the lists are
/// there, with `None` when that takes too long.
#[derive(Debug, Message)]
#[rtype(result = "Option<AttachedReader>")]
pub(super) struct AttachReader(pub(super) Recipient<RowsChanged>);

/// Asks something of a session. Sent by routes; the registry starts the thread's actor if needed.
/// Answered through the command's own reply.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ToThread {
    pub(super) thread_id: ThreadId,
    pub(super) command: Command,
}

/// Decides a request, wherever it is. Sent by routes; answered through `reply` with its session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct DecideRequest {
    pub(super) id: RequestId,
    pub(super) input: DecisionInput,
    pub(super) by: String,
    pub(super) reply: Reply<Option<ThreadId>>,
}

/// Interrupts every running turn, before the child is stopped on purpose. Sent by the shutdown and
/// by the child's stop; answered when no turn runs any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ParkAll;

/// What can be asked of a session. Sent by the registry; answered through the reply in each.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum Command {
    /// The child answered `thread/start`: take over what the session was asked for, store it,
    /// then answer.
    Created {
        record: Box<ThreadRecord>,
        result: Value,
        remarks: Remarks,
        reply: Reply<SessionCreated>,
    },
    /// What a fork of the session takes over.
    ForkSource(Reply<Box<ThreadRecord>>),
    /// The child answered `thread/fork`, and this is the fork: copy the history, then answer.
    Forked {
        source: Box<ThreadRecord>,
        result: Value,
        reply: Reply<SessionCreated>,
    },
    /// Lets the runtime do something with the thread.
    Act {
        action: ThreadAction,
        reply: Reply<Value>,
    },
    /// The session, or a page of it, as JSON.
    Read {
        question: Question,
        reply: Reply<Bytes>,
    },
    Send {
        body: SendMessage,
        reply: Reply<MessageAccepted>,
    },
    Interrupt {
        turn_id: Option<String>,
        reply: Reply<String>,
    },
    Steer {
        turn_id: String,
        input: String,
        reply: Reply<Result<(), SteerFailure>>,
    },
    Rename {
        title: String,
        reply: Reply<SessionSummary>,
    },
    Archive(Reply<()>),
    Unarchive(Reply<SessionCreated>),
    Resume {
        dynamic_tools: Option<Vec<DynamicTool>>,
        reply: Reply<SessionCreated>,
    },
    Delete(Reply<Deleted>),
    /// Puts it into a project, or takes it out of the one that it is in.
    Assign {
        to: Option<Place>,
        reply: Reply<SessionProject>,
    },
    /// Does something with it if it is still in a project.
    AsMember {
        project: ProjectId,
        command: MemberCommand,
    },
    Requests {
        families: Families,
        all: bool,
        reply: Reply<Vec<RequestRecord>>,
    },
    Decide {
        record: Box<RequestRecord>,
        input: DecisionInput,
        by: String,
        reply: Reply<Option<ThreadId>>,
    },
    /// What the runtime says of one item, as it came.
    Item {
        item_id: String,
        reply: Reply<Bytes>,
    },
    /// The session's controls.
    Controls(Reply<Controls>),
    ChangeControls {
        change: Box<ControlsChange>,
        /// Who is named in the transcript; nothing is written there without.
        by: Option<ChangedBy>,
        reply: Reply<ControlsChanged>,
    },
    /// Adds a row that is not the runtime's, or writes it again.
    AddRow {
        entry: Box<TranscriptEntry>,
        reply: Reply<TranscriptEntry>,
    },
    /// Interrupts what runs; answered when nothing does.
    Park(oneshot::Sender<()>),
    /// Loads a thread that was cut and compares it with the runtime's history; told, or dropped,
    /// when that is over.
    Recover(oneshot::Sender<()>),
    /// Its actor panicked: says so.
    Degraded(String),
    /// It has a subagent, or is one.
    Linked(Link),
    /// The id by which the runtime knows it.
    RuntimeId(Reply<ThreadId>),
    /// The runtime's list says that another client changed it; `asked` numbers the moment at which
    /// the list was asked for.
    Listed {
        change: ListedChange,
        asked: u64,
    },
    /// The runtime changed it at this time, since its history was read.
    Behind(i64),
}

impl Command {
    /// Whether it is carried out on whichever thread of the runtime is behind the session.
    pub(super) fn names_thread(&self) -> bool {
        match self {
            Self::ForkSource(_)
            | Self::Archive(_)
            | Self::Unarchive(_)
            | Self::Resume { .. }
            | Self::Delete(_) => true,
            Self::AsMember { command, .. } => !matches!(command, MemberCommand::Release(_)),
            _ => false,
        }
    }

    /// Answers with an error without doing anything.
    pub(super) fn refuse(self, error: SessionError) {
        // Whoever asked may have stopped waiting, so a failed send is nothing to report.
        match self {
            Self::Created { reply, .. }
            | Self::Forked { reply, .. }
            | Self::Unarchive(reply)
            | Self::Resume { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::ForkSource(reply) => {
                reply.send(Err(error)).ok();
            }
            Self::Act { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::Read { reply, .. } | Self::Item { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::Send { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::Interrupt { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::Steer { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::Rename { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::Archive(reply) => {
                reply.send(Err(error)).ok();
            }
            Self::Delete(reply) => {
                reply.send(Err(error)).ok();
            }
            Self::Assign { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::AsMember { command, .. } => command.refuse(error),
            Self::Requests { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::Decide { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::RuntimeId(reply) => {
                reply.send(Err(error)).ok();
            }
            Self::Controls(reply) => {
                reply.send(Err(error)).ok();
            }
            Self::ChangeControls { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            Self::AddRow { reply, .. } => {
                reply.send(Err(error)).ok();
            }
            // A thread that cannot be asked has nothing that could be waited for.
            Self::Park(_)
            | Self::Recover(_)
            | Self::Degraded(_)
            | Self::Linked(_)
            | Self::Listed { .. }
            | Self::Behind(_) => {}
        }
    }
}

/// Asks a thread that was not spoken to for a while whether it can be let go. Sent by the registry,
/// which lets go if nothing was sent in between; answered with how many of the registry's messages
/// the thread has handled, or `None` while it has something to do.
#[derive(Debug, Message)]
#[rtype(result = "Option<Idle>")]
pub(super) struct AskIdle;

/// A thread that has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Idle {
    /// Messages of the registry that it has handled.
    pub(super) handled: u64,
    /// The life of the child in which it is loaded.
    pub(super) loaded: Option<Incarnation>,
}

/// Lines of the child that belong to a thread. Sent by the registry, which is told when the thread
/// has taken them all, durable ones included.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Deliver {
    pub(super) batch: Arc<Batch>,
    /// Which items of the batch, in order.
    pub(super) items: Arc<Vec<usize>>,
    /// Told when all are taken; dropped untold when the thread panics over one.
    pub(super) done: oneshot::Sender<()>,
}

/// The child came or went. Sent by the registry to every living thread.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(super) enum RuntimeChanged {
    Up(RuntimeUp),
    Down(RuntimeDown),
}

/// What became of a request. Sent by its actor to its owner.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) enum RequestNews {
    /// It changed: the owner shows it.
    Changed(Box<RequestRecord>),
    /// Its end is stored, or left to the store, in front of whatever is stored from now on: the
    /// owner forgets it.
    Kept(Box<RequestRecord>),
}

/// Reads the params of a request that are too long for its record. Sent by routes; answered through
/// `reply`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ReadRequestParams {
    pub(super) id: RequestId,
    pub(super) reply: Reply<Bytes>,
}

/// A thread was deleted. Sent by the thread to the registry after the store forgot it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ThreadDeleted(pub(super) Deleted);
