//! Bodies of the REST API and of the stream, shared by the server and the command line client.
//!
//! Names, spelling and presence of members are version 1's; members that version 1 did not have
//! are additions that its clients ignore. Unknown members of requests are ignored too.

mod actions;
mod answers;
mod coerce;
mod controls;
mod health;
mod jobs;
mod limits;
mod new_row;
mod projects;
mod requests;
mod runtime;
mod sessions;
mod stream;

pub use actions::{Review, ReviewDelivery, ReviewTarget, RollBack, SessionActed};
pub use answers::{
    Done, LogIn, SessionArchived, SessionDeleted, SessionRenamed, Ticket, TurnInterrupted,
    TurnSteered,
};
pub use controls::{
    ApprovalPolicyChanged, ChangeApprovalPolicy, ChangeControls, ChangeSettings, ControlsScope,
    LOCKED, SessionControlsView, SettingsMode, SettingsView,
};
pub use health::{
    AppServerView, AuthHealth, CodexHealth, ExitView, Health, Liveness, MissingMethod, QueueHealth,
    Readiness, Reason, RestartBody, RestartRequested, RuntimeDrift, RuntimeView, ServiceInfo,
    StoreHealth, TreeNode, UnknownNotification,
};
pub use jobs::{
    Job, JobContext, JobList, JobPriority, JobState, JobView, SuggestRequest, Suggestion,
    SuggestionEntry, SuggestionQueued, SuggestionStatus, SuggestionUpserted, UpsertSuggestion,
};
pub use limits::{MAX_ITEMS, MAX_NAME, MAX_NOTE, MAX_PATH, MAX_SECRET, MAX_TEXT, MAX_WORD};
pub use new_row::{MAX_ROW_NAME, NewRow};
pub use projects::{
    AgentSession, AgentSessions, AssignProject, CreateProject, MoveDestination, MoveSessions,
    ProjectCreated, ProjectDeleted, ProjectList, ProjectSaved, ProjectSummary, SessionFailure,
    SessionProject, SessionsDeleted, SessionsMoved, UpdateProject,
};
pub(crate) use requests::present;
pub use requests::{
    AgentRequest, Answer, Approval, ApprovalDecision, ApprovalScope, AuthTokens, ContentItem,
    DecideApproval, DecideToolInput, Decided, ListOf, Listed, Question, QuestionOption,
    RespondToolCall, ToolCall, ToolInput,
};
pub use runtime::{
    CancelLogin, Capabilities, CapabilitiesRuntime, CommandExecuted, CommandOutput, ConfigEdit,
    ConfigureSkill, ExecuteCommand, McpLogin, MergeStrategy, MethodDetail, MethodStatus,
    RuntimePage, RuntimeResult, SendFeedback, StartLogin, WriteConfigBatch, WriteConfigValue,
    WriteRemoteSkill,
};
pub use sessions::{
    CreateSession, DynamicTool, ErrorBody, Interrupt, MessageAccepted, Rename, ResumeSession, Role,
    RowAdded, RowStatus, RuntimeControls, SendMessage, SessionCreated, SessionDetail, SessionList,
    SessionProblem, SessionSummary, Steer, SteerResult, TranscriptEntry, TranscriptPage, TurnPage,
    TurnSummary, UNTITLED,
};
pub use stream::{StreamCommand, StreamFrame};
