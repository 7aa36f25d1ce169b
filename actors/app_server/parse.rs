//! From lines to what they say. This runs on the thread that reads the pipe.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cm_core::event::Method;
use cm_core::ids::ThreadId;
use cm_core::login::LoginFailure;
use cm_core::rpc::{self, Line, RawJson, RpcId, ThreadRef, parse_line};
use serde_json::value::RawValue;

use super::failure::CallFailure;
use super::messages::{CallOutcome, Inbound, InboundKind};

/// Prefix of the notifications by which codex 0.106 repeats every event in an older form.
const LEGACY_PREFIX: &str = "codex/event/";

/// Methods that are remembered. A child that names more of them is odd; the rest is worked out
/// anew each time.
const MAX_METHODS: usize = 1024;

/// The lines of one read, understood but for the calls that answers belong to.
#[derive(Debug)]
pub(super) struct Parsed {
    /// When they were read, ISO-8601 UTC.
    pub(super) received_at: String,
    /// What they say, in order; an answer is [`InboundKind::Nothing`] until its call is known.
    pub(super) items: Vec<Inbound>,
    /// Answers, with their places among the items.
    pub(super) answers: Vec<(usize, RpcId, CallOutcome)>,
    /// Whether the child said that its account changed.
    pub(super) account_changed: bool,
    /// Why its login cannot be renewed any more, if it said so.
    pub(super) used_up: Option<LoginFailure>,
    /// Methods of notifications that are not known, one for each.
    pub(super) unknown: Vec<Arc<Method>>,
}

/// Understands lines. What one line shares with the line before is kept, since a turn's deltas
/// differ in little.
#[derive(Debug, Default)]
pub(super) struct Parser {
    methods: HashMap<String, Arc<Method>>,
    thread: Option<ThreadId>,
    turn: Option<Arc<str>>,
}

impl Parser {
    /// Understands the lines of one read.
    pub(super) fn parse(&mut self, lines: Vec<Line>, received_at: String) -> Parsed {
        let items = Vec::with_capacity(lines.len());
        let mut parsed = Parsed {
            received_at,
            items,
            answers: Vec::new(),
            account_changed: false,
            used_up: None,
            unknown: Vec::new(),
        };
        for line in lines {
            match line {
                Line::Text(text) => self.line(&text, &mut parsed),
                Line::TooLong { bytes } => {
                    parsed.unreadable(format!("a line of {bytes} bytes is over the limit"));
                }
                Line::NotUtf8 { bytes } => {
                    parsed.unreadable(format!("a line of {bytes} bytes is not UTF-8"));
                }
                Line::Partial { bytes } => parsed.unreadable(format!(
                    "the output ended in the middle of a line ({bytes} bytes)"
                )),
            }
        }
        parsed
    }

    fn line(&mut self, text: &Bytes, parsed: &mut Parsed) {
        let raw = |value: Option<&RawValue>| value.map(|value| RawJson::of(text, value));
        match parse_line(text) {
            Ok(rpc::Inbound::Notification { method, params }) => {
                if method.starts_with(LEGACY_PREFIX) {
                    return;
                }
                parsed.account_changed |= method == "account/updated";
                if method == "error" {
                    let said = params.and_then(|params| LoginFailure::find(params.get()));
                    parsed.used_up = said.or(parsed.used_up);
                }
                let (thread_id, turn_id) = self.ids(params);
                let method = self.method(&method);
                if !method.is_known {
                    parsed.unknown.push(Arc::clone(&method));
                }
                let kind = InboundKind::Notification { method, params: raw(params) };
                parsed.items.push(Inbound { thread_id, turn_id, kind });
            }
            Ok(rpc::Inbound::Request { id, method, params }) => {
                let (thread_id, turn_id) = self.ids(params);
                let method = self.method(&method);
                let kind = InboundKind::Request { id, method, params: raw(params) };
                parsed.items.push(Inbound { thread_id, turn_id, kind });
            }
            Ok(rpc::Inbound::Answer { id, outcome }) => {
                let outcome = match outcome {
                    Ok(result) => Ok(raw(result).unwrap_or_else(RawJson::null)),
                    Err(error) => {
                        parsed.used_up = LoginFailure::find(&error.message).or(parsed.used_up);
                        Err(CallFailure::Rpc(error))
                    }
                };
                parsed.answers.push((parsed.items.len(), id, outcome));
                parsed.push(InboundKind::Nothing);
            }
            Err(error) => parsed.unreadable(format!("a line is {error}")),
        }
    }

    fn method(&mut self, name: &str) -> Arc<Method> {
        if let Some(known) = self.methods.get(name) {
            return Arc::clone(known);
        }
        let method = Arc::new(Method::new(name));
        if self.methods.len() < MAX_METHODS {
            self.methods.insert(name.to_owned(), Arc::clone(&method));
        }
        method
    }

    fn ids(&mut self, params: Option<&RawValue>) -> (Option<ThreadId>, Option<Arc<str>>) {
        let ThreadRef { thread_id, turn_id, .. } = ThreadRef::of(params);
        let thread_id = thread_id.and_then(|id| {
            if self.thread.as_ref().is_none_or(|known| known.as_str() != id) {
                self.thread = Some(ThreadId::parse(&id).ok()?);
            }
            self.thread.clone()
        });
        let turn_id = turn_id.and_then(|id| {
            if self.turn.as_deref() != Some(&*id) {
                self.turn = Some(Arc::from(&*id));
            }
            self.turn.clone()
        });
        (thread_id, turn_id)
    }
}

impl Parsed {
    fn push(&mut self, kind: InboundKind) {
        self.items.push(Inbound { thread_id: None, turn_id: None, kind });
    }

    fn unreadable(&mut self, what: String) {
        tracing::warn!(what, "unreadable output of the app-server; going on");
        self.push(InboundKind::Unreadable { what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&'static str]) -> Parsed {
        let lines = lines.iter().map(|line| Line::Text(Bytes::from_static(line.as_bytes())));
        Parser::default().parse(lines.collect(), "now".to_owned())
    }

    #[test]
    fn lines_are_understood_in_order_and_share_what_they_have_in_common() {
        let parsed = parse(&[
            r#"{"method":"turn/started","params":{"threadId":"t","turn":{"id":"u"}}}"#,
            r#"{"id":1,"result":{"a":1}}"#,
            r#"{"method":"codex/event/x","params":{}}"#,
            r#"{"method":"turn/started","params":{"threadId":"t","turnId":"u"}}"#,
            "nonsense",
        ]);
        let [first, answer, second, unreadable] = &parsed.items[..] else { panic!() };
        assert_eq!(first.thread_id.as_ref().map(ThreadId::as_str), Some("t"));
        let (
            InboundKind::Notification { method: one, .. },
            InboundKind::Notification { method: two, .. },
        ) = (&first.kind, &second.kind)
        else {
            panic!()
        };
        assert!(Arc::ptr_eq(one, two));
        let turns = (first.turn_id.as_ref().unwrap(), second.turn_id.as_ref().unwrap());
        assert!(Arc::ptr_eq(turns.0, turns.1));
        assert!(matches!(answer.kind, InboundKind::Nothing));
        assert!(matches!(unreadable.kind, InboundKind::Unreadable { .. }));
        let [(1, RpcId::Number(1), Ok(result))] = &parsed.answers[..] else { panic!() };
        assert_eq!(result.get(), r#"{"a":1}"#);
    }

    #[test]
    fn an_id_that_is_none_names_no_thread() {
        let parsed = parse(&[r#"{"method":"x","params":{"threadId":"a b"}}"#]);
        assert_eq!(parsed.items[0].thread_id, None);
    }

    #[test]
    fn methods_that_a_child_invents_are_not_remembered_for_ever() {
        let mut parser = Parser::default();
        for number in 0..2 * MAX_METHODS {
            parser.method(&number.to_string());
        }
        assert_eq!(parser.methods.len(), MAX_METHODS);
    }
}
