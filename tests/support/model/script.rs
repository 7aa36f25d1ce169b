//! The script language and its builders.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What marks a script inside the text of a user message; a JSON array of steps follows.
pub(super) const MARK: &str = "SCRIPT=";

/// One answer of the model: one request to it plays one step, and the items that the step makes
/// are one group in the history that the next request carries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step(pub Vec<Part>);

/// One item of an answer, or how the answer fails. Members are played in the order in which they
/// are declared here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Part {
    /// Milliseconds before anything of this part is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predelay_ms: Option<u64>,
    /// An HTTP error instead of a stream; only in the first part of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Body of the HTTP error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// How many requests of this step fail (by `status`, `drop`, `sse_error` or `incomplete`)
    /// before one succeeds; absent means all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// A reasoning item with this text, as summary and as content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// An assistant message with this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Characters per delta of `text` and `rest` (default 16).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<usize>,
    /// Milliseconds between deltas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// This many deltas in the message, after `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood: Option<u64>,
    /// Bytes of each flood delta (default 8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// Waits here until the test opens the gate of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Text of the same message after the gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<String>,
    /// A function call: the tool's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Arguments of the function call; a string is sent as it is, to test bad JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// Namespace of the function call, for example `mcp__server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A custom (free text) tool call: the tool's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<String>,
    /// Input of the custom tool call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// An output item of any type, as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<Value>,
    /// Bytes into the stream as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    /// Ends the stream with `response.failed` of this code and message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse_error: Option<Failure>,
    /// Ends the stream with `response.incomplete` for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
    /// Cuts the connection.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drop: bool,
    /// Sends nothing more and keeps the connection until the client goes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hang: bool,
    /// The `usage` of the completed response instead of the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// `end_turn` of the completed response: `false` makes 0.169 ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_turn: Option<bool>,
}

/// What `response.failed` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// For example `rate_limit_exceeded` or `context_length_exceeded`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<Part> for Step {
    fn from(part: Part) -> Self {
        Self(vec![part])
    }
}

/// The text of a user message that plays `steps`.
pub fn prompt(text: &str, steps: impl IntoIterator<Item = Step>) -> String {
    format!("{text} {}", script(steps))
}

/// `SCRIPT=[…]`.
pub fn script(steps: impl IntoIterator<Item = Step>) -> String {
    let steps: Vec<Value> = steps.into_iter().map(|step| json!(step)).collect();
    format!("{MARK}{}", Value::Array(steps))
}

/// Several parts in one answer, for example parallel tool calls.
pub fn chain(parts: impl IntoIterator<Item = Step>) -> Step {
    Step(parts.into_iter().flat_map(|step| step.0).collect())
}

/// An assistant message.
pub fn say(text: &str) -> Step {
    Part { text: Some(text.to_owned()), ..Part::default() }.into()
}

/// A reasoning item.
pub fn think(text: &str) -> Step {
    Part { reason: Some(text.to_owned()), ..Part::default() }.into()
}

/// A message of `count` deltas, each `text`, `delay_ms` apart.
pub fn stream(count: usize, delay_ms: u64, text: &str) -> Step {
    let part = Part {
        text: Some(text.repeat(count)),
        chunk: Some(text.chars().count()),
        delay_ms: Some(delay_ms),
        ..Part::default()
    };
    part.into()
}

/// A message of `count` deltas of `size` bytes, as fast as they are taken.
pub fn flood(count: u64, size: usize) -> Step {
    Part { flood: Some(count), size: Some(size), ..Part::default() }.into()
}

/// A message that stops between `before` and `after` until the test opens `gate`.
pub fn hold(gate: &str, before: &str, after: &str) -> Step {
    let part = Part {
        text: Some(before.to_owned()),
        gate: Some(gate.to_owned()),
        rest: Some(after.to_owned()),
        ..Part::default()
    };
    part.into()
}

/// A shell command outside the sandbox, so that `codex` asks for approval under `on-request`.
/// 0.106 and 0.140 run what they know to be safe (`echo`, `ls`) unasked: use `touch`.
pub fn run(command: &str) -> Step {
    let justification = format!("May I run {command}?");
    call(
        "exec_command",
        json!({
            "cmd": command,
            "sandbox_permissions": "require_escalated",
            "justification": justification,
        }),
    )
}

/// A shell command inside the sandbox.
pub fn run_in_sandbox(command: &str) -> Step {
    call("exec_command", json!({ "cmd": command }))
}

/// A file written by `apply_patch` through the shell, which works with every model name. `codex`
/// takes it for the file change that it is, and asks when the path is outside the workspace or
/// the sandbox is read-only.
pub fn run_patch(path: &str, content: &str) -> Step {
    let patch = patch_text(path, content);
    run_in_sandbox(&format!("apply_patch <<'CM_END_OF_PATCH'\n{patch}CM_END_OF_PATCH\n"))
}

/// A file written by the custom tool `apply_patch`, which only some models have
/// ([`super::PATCH_MODEL`]).
pub fn apply_patch(path: &str, content: &str) -> Step {
    let part = Part {
        custom: Some("apply_patch".to_owned()),
        input: Some(patch_text(path, content)),
        ..Part::default()
    };
    part.into()
}

fn patch_text(path: &str, content: &str) -> String {
    let mut patch = format!("*** Begin Patch\n*** Add File: {path}\n");
    for line in content.lines() {
        patch.push('+');
        patch.push_str(line);
        patch.push('\n');
    }
    patch.push_str("*** End Patch\n");
    patch
}

/// A question to the user with fixed options; needs the feature that [`super::config_toml`]
/// switches on.
pub fn ask(id: &str, question: &str, options: &[&str]) -> Step {
    let options: Vec<Value> = options
        .iter()
        .map(|label| json!({ "label": label, "description": format!("Choose {label}.") }))
        .collect();
    call(
        "request_user_input",
        json!({
            "questions": [{ "id": id, "header": id, "question": question, "options": options }],
        }),
    )
}

/// A plan: pairs of step and status (`pending`, `in_progress`, `completed`).
pub fn plan(steps: &[(&str, &str)]) -> Step {
    let steps: Vec<Value> =
        steps.iter().map(|(step, status)| json!({ "step": step, "status": status })).collect();
    call("update_plan", json!({ "explanation": "the plan", "plan": steps }))
}

/// A call of any function tool, for example a dynamic tool of the thread.
pub fn call(tool: &str, arguments: Value) -> Step {
    Part { call: Some(tool.to_owned()), args: Some(arguments), ..Part::default() }.into()
}

/// A call of a tool of a namespace: `mcp__<server>`, or those of subagents.
pub fn call_in(namespace: &str, tool: &str, arguments: Value) -> Step {
    let part = Part {
        call: Some(tool.to_owned()),
        args: Some(arguments),
        namespace: Some(namespace.to_owned()),
        ..Part::default()
    };
    part.into()
}

/// An HTTP error instead of a stream, `times` times (`None`: always).
pub fn http_error(status: u16, body: Value, times: Option<u32>) -> Step {
    Part { status: Some(status), body: Some(body), times, ..Part::default() }.into()
}

/// A stream that ends with `response.failed`.
pub fn sse_error(code: &str, message: &str) -> Step {
    let failure = Failure { code: code.to_owned(), message: message.to_owned() };
    Part { sse_error: Some(failure), ..Part::default() }.into()
}

/// A stream that never says anything.
pub fn hang() -> Step {
    Part { hang: true, ..Part::default() }.into()
}

/// Bytes into the stream as they are, followed by an ordinary end.
pub fn raw_sse(text: &str) -> Step {
    Part { sse: Some(text.to_owned()), ..Part::default() }.into()
}
