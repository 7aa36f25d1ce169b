//! The table of operations: a row for each, with input that is right and what is answered to it.
//!
//! Statuses are given for the embedded runtime and for codex 0.169 and later, 0.140 and 0.106, as they
//! were seen: not as the server says that it has methods.

/// What must be there for the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// `{id}` is a session with a turn that has ended; `{item}` is what was said in it.
    Session,
    /// `{id}` is a session whose turn `{turn}` runs.
    Turn,
    /// `{id}` is a session in the archive.
    Archived,
    /// `{id}` is an approval that waits.
    Approval,
    /// `{id}` is a question that waits.
    Question,
    /// `{id}` is a tool call that waits.
    Call,
    /// `{id}` is a project with a session.
    Project,
    /// `{id}` is a project without one.
    EmptyProject,
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Row {
    /// Verb and path, as they are described.
    pub(crate) operation: &'static str,
    /// What must be there.
    pub(crate) needs: Needs,
    /// A body that is right; `WORKSPACE` stands for a folder, `PROJECT` for a project.
    pub(crate) body: &'static str,
    /// The answer over the embedded runtime, codex 0.169 and later, 0.140, 0.106.
    pub(crate) status: [u16; 4],
    /// Members that the answer has where it is 2xx.
    pub(crate) members: &'static [&'static str],
    /// Whether the runtime is asked: without it the answer is 503, and 504 when it does not answer.
    pub(crate) asks: bool,
    /// The answer about a session in the archive; 0 where the operation is not about sessions.
    pub(crate) archived: u16,
}

/// The same answer over every runtime.
const fn all(status: u16) -> [u16; 4] {
    [status; 4]
}

/// Not sent to codex, which would send it out of the machine: `feedback_is_handed_to_the_runtime` sends it
/// to a child that keeps it.
pub(crate) const UNSENT: u16 = 0;

/// Only codex has it.
const CODEX: [u16; 4] = [501, 200, 200, 200];

macro_rules! rows {
    ($($operation:literal $needs:ident $body:literal $status:expr, [$($member:literal)*] $asks:literal $archived:literal;)*) => {
        /// Every operation that answers once.
        pub(crate) const ROWS: &[Row] = &[$(Row {
            operation: $operation,
            needs: Needs::$needs,
            body: $body,
            status: $status,
            members: &[$($member),*],
            asks: $asks,
            archived: $archived,
        }),*];
    };
}

rows! {
    "GET /api" Nothing "" all(200), ["name"] false 0;
    "GET /api/openapi.json" Nothing "" all(200), ["openapi" "paths"] false 0;
    "GET /api/health" Nothing "" all(200), ["status" "codex" "auth"] false 0;
    "GET /api/runtime" Nothing "" all(200), ["appServer" "drift" "tree"] false 0;
    "GET /api/capabilities" Nothing "" all(200), ["methods" "features"] false 0;
    "POST /api/login" Nothing r#"{"token":"none"}"# all(200), ["status"] false 0;
    "POST /api/logout" Nothing "" all(200), ["status"] false 0;
    "POST /api/stream/tickets" Nothing "" all(200), ["ticket"] false 0;
    "POST /api/runtime/restart" Nothing "{}" all(202), ["status" "incarnation"] false 0;

    "GET /api/models" Nothing "" all(200), ["data"] true 0;
    "GET /api/apps" Nothing "" CODEX, ["data"] true 0;
    "GET /api/features/experimental" Nothing "" CODEX, ["data"] true 0;
    "GET /api/collaboration/modes" Nothing "" CODEX, ["data"] true 0;
    "GET /api/skills" Nothing "" CODEX, ["data"] true 0;
    "POST /api/skills/config" Nothing r#"{"path":"WORKSPACE/SKILL.md","enabled":false}"# CODEX, ["result"] true 0;
    "GET /api/skills/remote" Nothing "" all(501), [] true 0;
    "POST /api/skills/remote" Nothing r#"{"hazelnutId":"a","isPreload":false}"# all(501), [] true 0;
    "GET /api/mcp/servers" Nothing "" CODEX, ["data"] true 0;
    "POST /api/mcp/reload" Nothing "" CODEX, ["result"] true 0;
    "POST /api/mcp/servers/{serverName}/oauth/login" Nothing "{}" [501, 409, 409, 409], [] true 0;
    "GET /api/account" Nothing "" all(200), ["account"] true 0;
    "POST /api/account/login/start" Nothing r#"{"type":"apiKey","apiKey":"sk-a"}"# CODEX, ["result"] true 0;
    "POST /api/account/login/cancel" Nothing r#"{"loginId":"00000000-0000-4000-8000-000000000000"}"# CODEX, ["result"] true 0;
    "POST /api/account/logout" Nothing "" CODEX, ["result"] true 0;
    "GET /api/account/rate-limits" Nothing "" [501, 401, 401, 401], [] true 0;
    "GET /api/config" Nothing "" CODEX, ["config"] true 0;
    "GET /api/config/requirements" Nothing "" CODEX, ["requirements"] true 0;
    "POST /api/config/value" Nothing r#"{"keyPath":"model_verbosity","mergeStrategy":"replace","value":"low"}"# CODEX, ["result"] true 0;
    "POST /api/config/batch" Nothing r#"{"edits":[{"keyPath":"model_verbosity","mergeStrategy":"replace","value":"low"}]}"# CODEX, ["result"] true 0;
    "POST /api/commands/exec" Nothing r#"{"command":["true"],"cwd":"WORKSPACE"}"# CODEX, ["result"] true 0;
    "POST /api/feedback" Nothing r#"{"classification":"bug","includeLogs":false}"# [501, UNSENT, UNSENT, UNSENT], ["result"] true 0;

    "GET /api/projects" Nothing "" all(200), ["data"] false 0;
    "POST /api/projects" Nothing r#"{"name":"new"}"# all(200), ["project"] false 0;
    "POST /api/projects/{id}/rename" EmptyProject r#"{"name":"renamed"}"# all(200), ["project"] false 0;
    "DELETE /api/projects/{id}" EmptyProject "" all(200), ["projectId"] false 0;
    "GET /api/projects/{id}/agent-sessions" Project "" all(200), ["data"] false 0;
    "POST /api/projects/{id}/chats/move-all" Project r#"{"destination":"unassigned"}"# all(200), ["movedSessionCount"] false 0;
    "POST /api/projects/{id}/chats/delete-all" Project "" all(200), ["deletedSessionCount"] false 0;
    "GET /api/projects/{projectId}/orchestrator/jobs" Project "" all(503), [] false 0;
    "GET /api/orchestrator/jobs/{jobId}" Nothing "" all(503), [] false 0;
    "POST /api/orchestrator/jobs/{jobId}/cancel" Nothing "" all(503), [] false 0;

    "GET /api/sessions" Session "" all(200), ["data" "nextCursor"] false 0;
    "POST /api/sessions" Nothing r#"{"cwd":"WORKSPACE"}"# all(200), ["session" "thread"] true 0;
    "GET /api/sessions/{id}" Session "" all(200), ["session" "thread" "transcript"] false 200;
    "DELETE /api/sessions/{id}" Session "" all(200), ["sessionId" "title"] true 200;
    "GET /api/sessions/{id}/transcript" Session "" all(200), ["data" "nextCursor"] false 200;
    "GET /api/sessions/{id}/turns" Session "" all(200), ["data" "nextCursor"] false 200;
    "GET /api/sessions/{id}/items/{item}" Session "" all(200), ["id" "type"] false 200;
    "POST /api/sessions/{id}/rename" Session r#"{"title":"renamed"}"# all(200), ["session"] false 200;
    "POST /api/sessions/{id}/archive" Session "" all(200), ["sessionId"] true 200;
    "POST /api/sessions/{id}/unarchive" Archived "" all(200), ["session"] true 200;
    "POST /api/sessions/{id}/resume" Session "{}" all(200), ["session" "thread"] true 409;
    "POST /api/sessions/{id}/project" Session r#"{"projectId":"PROJECT"}"# all(200), ["projectId"] false 200;
    "POST /api/sessions/{id}/messages" Session r#"{"text":"hello"}"# all(202), ["turnId"] true 409;
    "POST /api/sessions/{id}/interrupt" Turn "{}" all(200), ["turnId"] true 409;
    "POST /api/sessions/{id}/turns/{turn}/steer" Turn r#"{"input":"more"}"# all(200), ["turnId"] true 409;
    "POST /api/sessions/{id}/fork" Session "" all(200), ["session"] true 409;
    "POST /api/sessions/{id}/compact" Session "" CODEX, ["result"] true 409;
    "POST /api/sessions/{id}/rollback" Session r#"{"numTurns":1}"# CODEX, ["numTurns"] true 409;
    "POST /api/sessions/{id}/background-terminals/clean" Session "" all(200), ["result"] true 409;
    "POST /api/sessions/{id}/review" Session r#"{"targetType":"custom","instructions":"look"}"# CODEX, ["result"] true 409;
    "GET /api/sessions/{id}/session-controls" Session "" all(200), ["controls" "defaults"] false 200;
    "POST /api/sessions/{id}/session-controls" Session r#"{"scope":"session","controls":{"model":null,"approvalPolicy":"never","networkAccess":"restricted","filesystemSandbox":"read-only"}}"# all(200), ["applied"] false 200;
    "POST /api/sessions/{id}/approval-policy" Session r#"{"approvalPolicy":"never"}"# all(200), ["approvalPolicy"] false 200;
    "GET /api/sessions/{id}/settings" Session "" all(200), ["settings"] false 200;
    "POST /api/sessions/{id}/settings" Session r#"{"scope":"session","key":"colour","value":1}"# all(200), ["settings"] false 200;
    "DELETE /api/sessions/{id}/settings/{key}" Session "" all(200), ["removed"] false 200;
    "POST /api/sessions/{id}/transcript/upsert" Session r#"{"messageId":"m","turnId":"t","role":"system","type":"note","content":"c","status":"complete"}"# all(200), ["entry"] false 200;
    "POST /api/sessions/{id}/suggested-request" Session "{}" all(503), [] false 503;
    "POST /api/sessions/{id}/suggested-request/jobs" Session "{}" all(503), [] false 503;
    "POST /api/sessions/{id}/suggested-request/upsert" Session r#"{"requestKey":"a","status":"canceled"}"# all(503), [] false 503;

    "GET /api/sessions/{id}/approvals" Session "" all(200), ["data"] false 200;
    "GET /api/sessions/{id}/tool-input" Session "" all(200), ["data"] false 200;
    "GET /api/sessions/{id}/tool-calls" Session "" all(200), ["data"] false 200;
    "GET /api/requests" Nothing "" all(200), ["data"] false 0;
    "GET /api/requests/{id}/params" Approval "" all(200), [] false 0;
    "POST /api/approvals/{id}/decision" Approval r#"{"decision":"decline"}"# all(200), ["approvalId"] false 0;
    "POST /api/tool-input/{id}/decision" Question r#"{"decision":"decline"}"# all(200), ["requestId"] false 0;
    "POST /api/tool-calls/{id}/response" Call r#"{"text":"found"}"# all(200), ["requestId"] false 0;
}

/// Operations that do not end, and the suites that walk them.
pub(crate) const STREAMS: [(&str, &str); 3] = [
    ("GET /api/stream", "flow_stream"),
    ("GET /api/events", "stream_history"),
    ("GET /api/sessions/{id}/events", "stream_history"),
];
