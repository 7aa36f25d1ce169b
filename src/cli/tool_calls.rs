//! `tool-calls`: tools that the agent calls, and what they gave.

use cm_core::wire::{RespondToolCall, ToolCall};
use serde_json::json;

use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::options::ClientOptions;
use crate::pending::pending;
use crate::render::one_line;
use crate::resolve;
use crate::table::table;

/// The last part of the route that lists tool calls.
const KIND: &str = "tool-calls";

/// Arguments of `tool-calls`.
#[derive(Debug, Clone, clap::Args)]
pub struct ToolCallsArgs {
    /// What to do
    #[command(subcommand)]
    pub action: ToolCallAction,

    /// Where the server is and how to print
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What to do with tool calls.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ToolCallAction {
    /// List tool calls that wait for a result
    List {
        /// Only those of this session: its id, the beginning of its id, or `latest`
        #[arg(value_name = "SESSION")]
        session: Option<String>,
    },
    /// Give a tool call its result
    Respond {
        /// The call: its id or the beginning of its id
        #[arg(value_name = "ID")]
        call: String,

        /// What the agent gets to see
        #[arg(long, value_name = "TEXT")]
        text: Option<String>,

        /// Say that the tool did not do its work
        #[arg(long)]
        failed: bool,
    },
}

/// Does what was typed behind `tool-calls`.
pub(crate) fn execute(
    arguments: &ToolCallsArgs,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    match &arguments.action {
        ToolCallAction::List { session } => list(session.as_deref(), api, console),
        ToolCallAction::Respond { call, text, failed } => {
            respond(call, text.clone(), !failed, api, console)
        }
    }
}

fn list(session: Option<&str>, api: &Api, console: &mut Console) -> Result<(), Failure> {
    let calls: Vec<ToolCall> = pending(api, session, KIND)?;
    if console.json {
        return console.out_json(&json!({"data": calls}));
    }
    if calls.is_empty() {
        console.note("no tool call waits", Style::Dim);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = calls
        .iter()
        .map(|call| {
            vec![
                call.request_id.to_string(),
                call.thread_id.to_string(),
                one_line(&call.tool),
                one_line(&call.arguments.to_string()),
            ]
        })
        .collect();
    console.out(&table(&["ID", "SESSION", "TOOL", "ARGUMENTS"], &rows), Style::Plain)
}

fn respond(
    call: &str,
    text: Option<String>,
    success: bool,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    let id = resolve::request(call, || {
        let calls: Vec<ToolCall> = pending(api, None, KIND)?;
        Ok(calls.into_iter().map(|call| call.request_id).collect())
    })?;
    let body = RespondToolCall { success: Some(success), text, ..RespondToolCall::default() };
    let raw = api.post_value(&format!("/tool-calls/{id}/response"), &body)?;
    if console.json {
        return console.out_json(&raw);
    }
    console.note(&format!("{}: {id}", if success { "answered" } else { "failed" }), Style::Dim);
    Ok(())
}
