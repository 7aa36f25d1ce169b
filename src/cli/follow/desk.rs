//! The requests of a running turn, answered one after the other.

use std::collections::{BTreeMap, HashSet, VecDeque};

use cm_core::ids::RequestId;
use cm_core::wire::{
    Approval, ApprovalDecision, ApprovalScope, DecideApproval, DecideToolInput, RespondToolCall,
    ToolCall, ToolInput,
};
use serde_json::{Value, json};

use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::http::Api;
use crate::render::{LiveView, one_line, print_approval, print_question};
use crate::terminal::{Terminal, Typed};

/// Requests that wait to be asked. Further ones are declined, so that a flood cannot fill the
/// memory.
const MAX_WAITING: usize = 1024;

/// Requests that are remembered. When there are more, all are forgotten, and one that the server
/// still lists may be answered twice: the server tells that it was decided already.
const MAX_SEEN: usize = 4096;

/// What to do with approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Ask the person at the keyboard.
    Ask,
    /// Accept without asking.
    Yes,
    /// Decline without asking.
    No,
}

enum Request {
    Approval(Box<Approval>),
    Question {
        input: Box<ToolInput>,
        /// The question that is being asked.
        next: usize,
        answers: BTreeMap<String, Value>,
    },
}

impl Request {
    fn id(&self) -> &RequestId {
        match self {
            Self::Approval(approval) => &approval.approval_id,
            Self::Question { input, .. } => &input.request_id,
        }
    }
}

/// Where requests are answered.
pub(crate) struct Desk {
    policy: Policy,
    terminal: Option<Terminal>,
    seen: HashSet<RequestId>,
    waiting: VecDeque<Request>,
    /// Whether the first of the waiting ones was shown.
    asked: bool,
    /// What was declined because nobody could be asked.
    pub(crate) nobody_to_ask: u32,
}

impl Desk {
    /// A desk without requests.
    pub(crate) fn new(policy: Policy, terminal: Option<Terminal>) -> Self {
        Self {
            policy,
            terminal,
            seen: HashSet::new(),
            waiting: VecDeque::new(),
            asked: false,
            nobody_to_ask: 0,
        }
    }

    /// Takes an approval in.
    pub(crate) fn approval(&mut self, approval: Approval, api: &Api, console: &mut Console) {
        if !self.is_new(&approval.approval_id) {
            return;
        }
        match self.policy {
            Policy::Yes => self.decide(&approval, ApprovalDecision::Accept, api, console),
            Policy::No => self.decide(&approval, ApprovalDecision::Decline, api, console),
            Policy::Ask if !self.can_ask() => {
                self.nobody_to_ask += 1;
                self.decide(&approval, ApprovalDecision::Decline, api, console);
            }
            Policy::Ask => self.waiting.push_back(Request::Approval(Box::new(approval))),
        }
    }

    /// Takes a question in.
    pub(crate) fn question(&mut self, input: ToolInput, api: &Api, console: &mut Console) {
        if !self.is_new(&input.request_id) {
            return;
        }
        // "Yes" is no answer to a question, so with --yes it is asked all the same.
        if self.policy != Policy::No && self.can_ask() {
            let (input, answers) = (Box::new(input), BTreeMap::new());
            self.waiting.push_back(Request::Question { input, next: 0, answers });
            return;
        }
        if self.policy != Policy::No {
            self.nobody_to_ask += 1;
        }
        console.note(&format!("declined a question: {}", one_line(&input.summary)), Style::Yellow);
        let sent = answer(&input, ApprovalDecision::Decline, None, api);
        self.settle(&input.request_id, sent, console);
    }

    /// Answers a tool call: this client offers no tools.
    pub(crate) fn call(&mut self, call: &ToolCall, api: &Api, console: &mut Console) {
        if !self.is_new(&call.request_id) {
            return;
        }
        let tool = one_line(&call.tool);
        console.note(&format!("tool {tool}: the command line cannot run it"), Style::Yellow);
        let response = RespondToolCall {
            success: Some(false),
            text: Some("The command line client cannot run tools.".to_owned()),
            ..RespondToolCall::default()
        };
        let route = format!("/tool-calls/{}/response", call.request_id);
        let sent = api.post_value(&route, &response);
        self.settle(&call.request_id, sent, console);
    }

    /// Takes a request away that was decided elsewhere or is over.
    pub(crate) fn resolved(&mut self, id: &str, payload: &Value, console: &mut Console) {
        let Some(place) = self.waiting.iter().position(|request| request.id().as_str() == id)
        else {
            return;
        };
        self.waiting.remove(place);
        if place == 0 && std::mem::replace(&mut self.asked, false) {
            let word = payload
                .get("decision")
                .or_else(|| payload.get("status"))
                .and_then(Value::as_str)
                .unwrap_or("resolved");
            console.ask(&format!("\n(settled elsewhere: {})\n", one_line(word)), Style::Yellow);
        }
    }

    /// Asks what is to be asked and takes what was typed. Never waits.
    pub(crate) fn work(&mut self, view: &LiveView, api: &Api, console: &mut Console) {
        loop {
            let Some(request) = self.waiting.front() else {
                return;
            };
            let Some(terminal) = &mut self.terminal else {
                return;
            };
            if !self.asked {
                terminal.forget_typed();
                show(request, view, console);
                self.asked = true;
                return;
            }
            match terminal.typed() {
                Typed::Nothing => return,
                Typed::Line(line) => self.typed(line.trim(), api, console),
                Typed::Closed => {
                    self.terminal = None;
                    self.decline_waiting(api, console);
                    return;
                }
            }
        }
    }

    fn is_new(&mut self, id: &RequestId) -> bool {
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        self.seen.insert(id.clone())
    }

    fn can_ask(&self) -> bool {
        self.terminal.is_some() && self.waiting.len() < MAX_WAITING
    }

    fn typed(&mut self, line: &str, api: &Api, console: &mut Console) {
        let Some(request) = self.waiting.front_mut() else {
            return;
        };
        let (id, sent) = match request {
            Request::Approval(approval) => {
                let Some((decision, scope)) = read_decision(line) else {
                    console.ask("please answer y, a, n or c: ", Style::Plain);
                    return;
                };
                let route = format!("/approvals/{}/decision", approval.approval_id);
                let sent = api.post_value(&route, &DecideApproval::of(decision, scope));
                (approval.approval_id.clone(), sent)
            }
            Request::Question { input, next, answers } => {
                if let Some(question) = input.questions.get(*next) {
                    let words = chosen(question.options.as_deref().unwrap_or_default(), line);
                    answers.insert(question.id.clone(), json!({"answers": words}));
                }
                *next += 1;
                if *next < input.questions.len() {
                    self.asked = false;
                    return;
                }
                let answers = Some(std::mem::take(answers));
                let sent = answer(input, ApprovalDecision::Accept, answers, api);
                (input.request_id.clone(), sent)
            }
        };
        self.waiting.pop_front();
        self.asked = false;
        self.settle(&id, sent, console);
    }

    fn decline_waiting(&mut self, api: &Api, console: &mut Console) {
        self.asked = false;
        for request in std::mem::take(&mut self.waiting) {
            self.nobody_to_ask += 1;
            match request {
                Request::Approval(approval) => {
                    self.decide(&approval, ApprovalDecision::Decline, api, console);
                }
                Request::Question { input, .. } => {
                    let sent = answer(&input, ApprovalDecision::Decline, None, api);
                    self.settle(&input.request_id, sent, console);
                }
            }
        }
    }

    fn decide(
        &mut self,
        approval: &Approval,
        decision: ApprovalDecision,
        api: &Api,
        console: &mut Console,
    ) {
        let word = match (decision, self.policy) {
            (ApprovalDecision::Accept, _) => "accepted (--yes)",
            (_, Policy::No) => "declined (--no)",
            _ => "declined (no terminal to ask on)",
        };
        console.note(&format!("{word}: {}", one_line(&approval.summary)), Style::Yellow);
        let body = DecideApproval::of(decision, ApprovalScope::Turn);
        let route = format!("/approvals/{}/decision", approval.approval_id);
        let sent = api.post_value(&route, &body);
        self.settle(&approval.approval_id, sent, console);
    }

    /// Tells why an answer was not taken. Where the request may still be pending it is new again:
    /// the next look at the server's list brings it back.
    fn settle(&mut self, id: &RequestId, sent: Result<Value, Failure>, console: &mut Console) {
        let Err(failure) = sent else { return };
        console.note(&one_line(&failure.to_string()), Style::Yellow);
        let over = matches!(
            &failure,
            Failure::Refused(refusal) if refusal.is_decided_already() || refusal.status == 404
        );
        if !over {
            self.seen.remove(id);
        }
    }
}

fn show(request: &Request, view: &LiveView, console: &mut Console) {
    match request {
        Request::Approval(approval) => {
            print_approval(console, approval, view.changes_of(approval.item_id.as_deref()));
            console.ask("[y]es once  [a]lways this session  [n]o  [c]ancel turn: ", Style::Plain);
        }
        Request::Question { input, next, .. } => match input.questions.get(*next) {
            Some(question) => {
                print_question(console, question);
                let choice = question.options.as_ref().is_some_and(|options| !options.is_empty());
                let prompt = match (choice, question.is_other) {
                    (true, true) => "number, or your own words: ",
                    (true, false) => "number: ",
                    _ => "your answer: ",
                };
                console.ask(prompt, Style::Plain);
            }
            None => {
                console.ask(&format!("\n{}: press Enter: ", one_line(&input.summary)), Style::Plain)
            }
        },
    }
}

fn read_decision(line: &str) -> Option<(ApprovalDecision, ApprovalScope)> {
    Some(match line.to_ascii_lowercase().as_str() {
        "y" | "yes" => (ApprovalDecision::Accept, ApprovalScope::Turn),
        "a" | "always" => (ApprovalDecision::Accept, ApprovalScope::Session),
        "n" | "no" => (ApprovalDecision::Decline, ApprovalScope::Turn),
        "c" | "cancel" => (ApprovalDecision::Cancel, ApprovalScope::Turn),
        _ => return None,
    })
}

/// What a typed line chooses: the label of a number, several separated by commas, else the words.
fn chosen(options: &[cm_core::wire::QuestionOption], line: &str) -> Vec<String> {
    let labels: Option<Vec<String>> = line
        .split(',')
        .map(|part| {
            let number: usize = part.trim().parse().ok()?;
            options.get(number.checked_sub(1)?).map(|option| option.label.clone())
        })
        .collect();
    labels.unwrap_or_else(|| vec![line.to_owned()])
}

fn answer(
    input: &ToolInput,
    decision: ApprovalDecision,
    answers: Option<BTreeMap<String, Value>>,
    api: &Api,
) -> Result<Value, Failure> {
    let body = DecideToolInput { decision, answers, response: None };
    api.post_value(&format!("/tool-input/{}/decision", input.request_id), &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_core::wire::QuestionOption;

    #[test]
    fn answers_are_read() {
        assert_eq!(
            read_decision("Always"),
            Some((ApprovalDecision::Accept, ApprovalScope::Session))
        );
        assert_eq!(read_decision(""), None);
        let option =
            |label: &str| QuestionOption { label: label.to_owned(), description: String::new() };
        let options = [option("A"), option("B")];
        assert_eq!(chosen(&options, "2"), ["B"]);
        assert_eq!(chosen(&options, "1, 2"), ["A", "B"]);
        assert_eq!(chosen(&options, "3"), ["3"]);
        assert_eq!(chosen(&options, "neither, really"), ["neither, really"]);
    }
}
