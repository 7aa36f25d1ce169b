//! What a message says and how its turn is followed: shared by `run` and `sessions send`.

use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use cm_core::controls::{ApprovalPolicy, NetworkAccess, ReasoningEffort, SandboxMode};
use cm_core::ids::ThreadId;
use cm_core::wire::{CreateSession, SendMessage};
use serde_json::{Value, json};

use crate::console::Console;
use crate::failure::Failure;
use crate::follow::{Desk, Follow, Followed, IDLE_CHECK, Policy};
use crate::http::Api;
use crate::terminal::Terminal;

/// Longest message that is read from standard input, in bytes.
const MAX_MESSAGE_BYTES: u64 = 1024 * 1024;

macro_rules! one_of {
    ($type:ty) => {
        PossibleValuesParser::new(<$type>::TEXTS).try_map(|text| text.parse::<$type>())
    };
}

/// What the agent may do.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ControlArgs {
    /// Let commands write this much
    #[arg(long, value_name = "MODE", value_parser = one_of!(SandboxMode))]
    pub sandbox: Option<SandboxMode>,

    /// Let the agent act without asking up to this point
    #[arg(long, value_name = "POLICY", value_parser = one_of!(ApprovalPolicy))]
    pub approval_policy: Option<ApprovalPolicy>,

    /// Let commands use the network or not
    #[arg(long, value_name = "ACCESS", value_parser = one_of!(NetworkAccess))]
    pub network: Option<NetworkAccess>,

    /// Use this model
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
}

impl ControlArgs {
    /// The body that creates a session.
    pub(crate) fn create(&self, cwd: Option<String>) -> CreateSession {
        CreateSession {
            cwd,
            model: self.model.clone(),
            approval_policy: self.approval_policy,
            network_access: self.network,
            filesystem_sandbox: self.sandbox,
            dynamic_tools: None,
        }
    }

    /// The body that sends a message to a session that exists already.
    pub(crate) fn message(&self, text: String, effort: Option<ReasoningEffort>) -> SendMessage {
        SendMessage {
            text,
            model: self.model.clone(),
            effort,
            approval_policy: self.approval_policy,
            network_access: self.network,
            filesystem_sandbox: self.sandbox,
            dynamic_tools: None,
        }
    }
}

/// How much the model thinks.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EffortArgs {
    /// Think this much, for this turn
    #[arg(long, value_name = "EFFORT", value_parser = one_of!(ReasoningEffort))]
    pub effort: Option<ReasoningEffort>,
}

/// Who answers, and for how long the turn is followed.
#[derive(Debug, Clone, clap::Args)]
pub struct AnswerArgs {
    /// Accept every approval without asking
    #[arg(long, conflicts_with = "no")]
    pub yes: bool,

    /// Decline every approval and question without asking
    #[arg(long)]
    pub no: bool,

    /// Give up after this many seconds and stop the turn
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3_600,
        value_parser = clap::value_parser!(u64).range(1..=604_800)
    )]
    pub timeout: u64,
}

impl AnswerArgs {
    pub(crate) fn policy(&self) -> Policy {
        match (self.yes, self.no) {
            (true, _) => Policy::Yes,
            (_, true) => Policy::No,
            _ => Policy::Ask,
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// A message as it was typed.
pub(crate) struct TypedMessage {
    /// The text.
    pub(crate) text: String,
    /// Whether standard input held it.
    pub(crate) from_stdin: bool,
}

/// Puts the words of the command line together, or reads standard input for a single `-`.
///
/// # Errors
///
/// When there is no text, or too much.
pub(crate) fn typed_message(words: &[String], stdin: impl Read) -> Result<TypedMessage, Failure> {
    let from_stdin = words == ["-"];
    let text = if from_stdin {
        let mut text = String::new();
        stdin.take(MAX_MESSAGE_BYTES + 1).read_to_string(&mut text).map_err(|error| {
            Failure::Usage(format!("the message cannot be read from standard input: {error}"))
        })?;
        if text.len() as u64 > MAX_MESSAGE_BYTES {
            return Err(Failure::Usage(format!(
                "the message is longer than {MAX_MESSAGE_BYTES} bytes"
            )));
        }
        text.trim_end().to_owned()
    } else {
        words.join(" ")
    };
    if text.trim().is_empty() {
        return Err(Failure::Usage("the message is empty".to_owned()));
    }
    Ok(TypedMessage { text, from_stdin })
}

/// A message on its way.
pub(crate) struct Errand<'a> {
    /// The server.
    pub(crate) api: &'a Api,
    /// The session.
    pub(crate) session: &'a ThreadId,
    /// Whether the session was made for this message.
    pub(crate) is_new: bool,
    /// Who answers.
    pub(crate) policy: Policy,
    /// Where to ask.
    pub(crate) terminal: Option<Terminal>,
    /// Set when the person at the keyboard wants to stop.
    pub(crate) interrupted: &'a AtomicBool,
    /// When everything must be over.
    pub(crate) deadline: Instant,
    /// How long that was.
    pub(crate) limit: Duration,
}

impl Errand<'_> {
    /// Sends the message, follows its turn and says how it ended.
    ///
    /// # Errors
    ///
    /// When the turn cannot be followed or did not complete.
    pub(crate) fn run(self, message: &SendMessage, console: &mut Console) -> Result<(), Failure> {
        let follow = Follow {
            api: self.api,
            console: &mut *console,
            session: self.session.clone(),
            desk: Desk::new(self.policy, self.terminal),
            interrupted: self.interrupted,
            deadline: self.deadline,
            limit: self.limit,
            idle_check: IDLE_CHECK,
        };
        let outcome = follow.send(message, self.is_new);
        let (followed, verdict) = match outcome {
            Ok(followed) => {
                let verdict = judge(&followed);
                (Some(followed), verdict)
            }
            Err(failure) => (None, Err(failure)),
        };
        let closed = verdict.as_ref().is_err_and(Failure::is_closed_pipe);
        if console.json && !closed {
            console.out_json(&result_line(
                self.session,
                followed.as_ref(),
                verdict.as_ref().err(),
            ))?;
        } else {
            console.finish_err_line();
        }
        verdict
    }
}

fn judge(followed: &Followed) -> Result<(), Failure> {
    let status = match followed.end.status.as_str() {
        "completed" if followed.nobody_to_ask > 0 => {
            return Err(Failure::NobodyToAsk(followed.nobody_to_ask));
        }
        "completed" => return Ok(()),
        "failed" => "failed".to_owned(),
        "interrupted" => "was interrupted".to_owned(),
        other => format!("ended as {other}"),
    };
    Err(Failure::Turn { status, message: followed.end.error.clone() })
}

fn result_line(
    session: &ThreadId,
    followed: Option<&Followed>,
    failure: Option<&Failure>,
) -> Value {
    let end = followed.map(|followed| &followed.end);
    json!({
        "type": "result",
        "ok": failure.is_none(),
        "sessionId": session,
        "turnId": end.map(|end| &end.turn_id),
        "status": end.map(|end| &end.status),
        "text": followed.and_then(|followed| followed.words.as_deref()),
        "error": failure.map(|failure| failure.to_json()["error"].clone()),
        "exitCode": failure.map_or(cm_core::error::exit::OK, Failure::exit_code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_words_or_standard_input() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let typed = |words: &[String], stdin: &[u8]| typed_message(words, stdin).map(|m| m.text);
        assert_eq!(typed(&words("say hello"), b"").unwrap(), "say hello");
        assert_eq!(typed(&words("-"), b"two\nlines\n").unwrap(), "two\nlines");
        assert!(typed(&words("-"), b" \n").is_err());
        assert!(typed(&words("-"), b"\xff").is_err());
        assert!(typed(&words(" "), b"").is_err());
        let long = vec![b'x'; MAX_MESSAGE_BYTES as usize + 1];
        assert!(typed(&words("-"), &long).is_err());
    }
}
