//! `tool-input`: what the agent asks, and the answers.

use std::collections::BTreeMap;

use cm_core::wire::{ApprovalDecision, DecideToolInput, ToolInput};
use serde_json::{Value, json};

use crate::approvals::decision_parser;
use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::options::ClientOptions;
use crate::pending::pending;
use crate::render::one_line;
use crate::resolve;

/// The last part of the route that lists questions.
const KIND: &str = "tool-input";

/// Arguments of `tool-input`.
#[derive(Debug, Clone, clap::Args)]
pub struct ToolInputArgs {
    /// What to do
    #[command(subcommand)]
    pub action: ToolInputAction,

    /// Where the server is and how to print
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What to do with questions.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ToolInputAction {
    /// List questions that wait for an answer
    List {
        /// Only those of this session: its id, the beginning of its id, or `latest`
        #[arg(value_name = "SESSION")]
        session: Option<String>,
    },
    /// Answer questions, or decline to
    Decide {
        /// The request: its id or the beginning of its id
        #[arg(value_name = "ID")]
        request: String,

        /// Accept (answer), decline (the turn goes on) or cancel (the turn stops)
        #[arg(value_name = "DECISION", value_parser = decision_parser())]
        decision: ApprovalDecision,

        /// Answer one question, by its id; may be repeated, also for several answers to one
        #[arg(long, value_name = "QUESTION=ANSWER", value_parser = read_answer)]
        answer: Vec<(String, String)>,
    },
}

fn read_answer(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((question, answer)) if !question.is_empty() => {
            Ok((question.to_owned(), answer.to_owned()))
        }
        _ => Err("expected QUESTION=ANSWER".to_owned()),
    }
}

/// Does what was typed behind `tool-input`.
pub(crate) fn execute(
    arguments: &ToolInputArgs,
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    match &arguments.action {
        ToolInputAction::List { session } => list(session.as_deref(), api, console),
        ToolInputAction::Decide { request, decision, answer } => {
            decide(request, *decision, answer, api, console)
        }
    }
}

fn list(session: Option<&str>, api: &Api, console: &mut Console) -> Result<(), Failure> {
    let inputs: Vec<ToolInput> = pending(api, session, KIND)?;
    if console.json {
        return console.out_json(&json!({"data": inputs}));
    }
    if inputs.is_empty() {
        console.note("no question waits", Style::Dim);
    }
    for input in &inputs {
        console.out(&format!("{}\n", input.request_id), Style::Bold)?;
        console.out_line(&format!("  session {}", input.thread_id))?;
        for question in &input.questions {
            let (id, words) = (one_line(&question.id), one_line(&question.question));
            console.out_line(&format!("  {id}: {words}"))?;
            for option in question.options.iter().flatten() {
                console.out_line(&format!("    - {}", one_line(&option.label)))?;
            }
        }
    }
    Ok(())
}

fn decide(
    request: &str,
    decision: ApprovalDecision,
    given: &[(String, String)],
    api: &Api,
    console: &mut Console,
) -> Result<(), Failure> {
    if decision != ApprovalDecision::Accept && !given.is_empty() {
        return Err(Failure::Usage("--answer goes with accept only".to_owned()));
    }
    let id = resolve::request(request, || {
        let inputs: Vec<ToolInput> = pending(api, None, KIND)?;
        Ok(inputs.into_iter().map(|input| input.request_id).collect())
    })?;
    let answers = (decision == ApprovalDecision::Accept).then(|| collect_answers(given));
    let body = DecideToolInput { decision, answers, response: None };
    let raw = api.post_value(&format!("/tool-input/{id}/decision"), &body)?;
    if console.json {
        return console.out_json(&raw);
    }
    console.note(&format!("{}: {id}", decision.as_str()), Style::Dim);
    Ok(())
}

fn collect_answers(given: &[(String, String)]) -> BTreeMap<String, Value> {
    let mut words: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (question, answer) in given {
        words.entry(question.clone()).or_default().push(answer);
    }
    words.into_iter().map(|(question, words)| (question, json!({"answers": words}))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_answers_to_one_question_stay_together() {
        let given: Vec<(String, String)> =
            ["a=1", "b=x=y", "a=2"].iter().map(|text| read_answer(text).unwrap()).collect();
        let answers = collect_answers(&given);
        assert_eq!(answers["a"], json!({"answers": ["1", "2"]}));
        assert_eq!(answers["b"], json!({"answers": ["x=y"]}));
        assert!(read_answer("=1").is_err());
        assert!(read_answer("a").is_err());
    }
}
