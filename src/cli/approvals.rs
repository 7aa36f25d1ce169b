//! `approvals`: what waits for a yes, and the yes.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use cm_core::wire::{Approval, ApprovalDecision, ApprovalScope, DecideApproval};
use serde_json::{Value, json};

use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::options::ClientOptions;
use crate::pending::pending;
use crate::render::{one_line, request_kind};
use crate::resolve;
use crate::table::table;

/// The last part of the route that lists approvals.
const KIND: &str = "approvals";

/// Arguments of `approvals`.
#[derive(Debug, Clone, clap::Args)]
pub struct ApprovalsArgs {
    /// What to do
    #[command(subcommand)]
    pub action: ApprovalAction,

    /// Where the server is and how to print
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What to do with approvals.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ApprovalAction {
    /// List approvals that wait for a decision
    List {
        /// Only those of this session: its id, the beginning of its id, or `latest`
        #[arg(value_name = "SESSION")]
        session: Option<String>,
    },
    /// Decide an approval
    Decide {
        /// The approval: its id or the beginning of its id
        #[arg(value_name = "ID")]
        approval: String,

        /// Accept, decline (the turn goes on) or cancel (the turn stops)
        #[arg(value_name = "DECISION", value_parser = decision_parser())]
        decision: ApprovalDecision,

        /// Accept once, or the same action for the rest of the session
        #[arg(long, value_name = "SCOPE", default_value = "turn", value_parser = scope_parser())]
        scope: ApprovalScope,
    },
}

/// Reads a decision.
pub(crate) fn decision_parser() -> impl TypedValueParser<Value = ApprovalDecision> {
    PossibleValuesParser::new(["accept", "decline", "cancel"])
        .try_map(|text| serde_json::from_value(Value::String(text)))
}

fn scope_parser() -> impl TypedValueParser<Value = ApprovalScope> {
    PossibleValuesParser::new(["turn", "session"])
        .try_map(|text| serde_json::from_value(Value::String(text)))
}

/// Does what was typed behind `approvals`.
pub(crate) fn execute(
    arguments: &ApprovalsArgs,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    match &arguments.action {
        ApprovalAction::List { session } => list(session.as_deref(), api, console),
        ApprovalAction::Decide { approval, decision, scope } => {
            decide(approval, *decision, *scope, api, console)
        }
    }
}

fn list(session: Option<&str>, api: &Api, console: &mut Console) -> Result<(), Failure> {
    let approvals: Vec<Approval> = pending(api, session, KIND)?;
    if console.json {
        return console.out_json(&json!({"data": approvals}));
    }
    if approvals.is_empty() {
        console.note("nothing waits for approval", Style::Dim);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = approvals
        .iter()
        .map(|approval| {
            vec![
                approval.approval_id.to_string(),
                approval.thread_id.to_string(),
                request_kind(&approval.method).to_owned(),
                one_line(&approval.summary),
            ]
        })
        .collect();
    console.out(&table(&["ID", "SESSION", "KIND", "SUMMARY"], &rows), Style::Plain)
}

fn decide(
    approval: &str,
    decision: ApprovalDecision,
    scope: ApprovalScope,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    let id = resolve::request(approval, || {
        let approvals: Vec<Approval> = pending(api, None, KIND)?;
        Ok(approvals.into_iter().map(|approval| approval.approval_id).collect())
    })?;
    let body = DecideApproval::of(decision, scope);
    let raw = api.post_value(&format!("/approvals/{id}/decision"), &body)?;
    if console.json {
        return console.out_json(&raw);
    }
    console.note(&format!("{}: {id}", decision.as_str()), Style::Dim);
    Ok(())
}
