//! What was acknowledged, and whether it is there.

use std::time::Duration;

use cm_testkit::app::TestApp;
use cm_testkit::process::wait_until;
use serde_json::Value;

use crate::common::{DEADLINE, decision, request_id, requests, turns};

/// A value of which the last acknowledged state is known, and what was asked for since.
#[derive(Debug, Clone)]
pub(crate) struct Kept<T> {
    /// What was acknowledged.
    pub(crate) sure: T,
    /// What was asked for and not answered: it may hold or not.
    pub(crate) maybe: Option<T>,
}

impl<T: Clone + PartialEq + std::fmt::Debug> Kept<T> {
    pub(crate) fn new(sure: T) -> Self {
        Self { sure, maybe: None }
    }

    /// Notes what is about to be asked for.
    pub(crate) fn ask(&mut self, value: T) {
        self.maybe = Some(value);
    }

    /// Notes that it was acknowledged.
    pub(crate) fn acknowledge(&mut self) {
        if let Some(value) = self.maybe.take() {
            self.sure = value;
        }
    }

    /// Takes what is there, which is one of the two.
    #[track_caller]
    fn found(&mut self, value: T, what: &str) {
        let possible = value == self.sure || self.maybe.as_ref() == Some(&value);
        assert!(possible, "{what} is {value:?}, acknowledged was {self:?}");
        *self = Self::new(value);
    }
}

/// A message that was answered with 202.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    pub(crate) turn: String,
    pub(crate) text: String,
}

/// A request that was shown to a client, and the number of the decision that was made.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) family: &'static str,
    pub(crate) id: String,
    pub(crate) decided: Kept<Option<usize>>,
}

/// What is known of a session.
#[derive(Debug, Clone)]
pub(crate) struct SessionLedger {
    pub(crate) id: String,
    pub(crate) title: Kept<String>,
    pub(crate) archived: Kept<bool>,
    pub(crate) deleted: Kept<bool>,
    pub(crate) messages: Vec<Accepted>,
    pub(crate) shown: Vec<Shown>,
}

impl SessionLedger {
    /// A session that was just created.
    pub(crate) fn new(id: String) -> Self {
        Self {
            id,
            title: Kept::new("New chat".to_owned()),
            archived: Kept::new(false),
            deleted: Kept::new(false),
            messages: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Compares with what a manager that was started again says, and takes over what it says of
    /// whatever was in the air.
    #[track_caller]
    pub(crate) fn check(&mut self, app: &TestApp) {
        let path = format!("/api/sessions/{}", self.id);
        let reply = app.get(&path);
        let gone = matches!(reply.status, 404 | 410);
        assert!(gone || reply.status == 200, "{path}: {} {}", reply.status, reply.text);
        self.deleted.found(gone, "deletion");
        if gone {
            return;
        }
        let detail = reply.body;
        let session = &detail["session"];
        self.title.found(session["title"].as_str().unwrap_or_default().to_owned(), "the title");
        self.archived.found(session["archived"] == true, "archived");
        assert_eq!(session["activity"], "idle", "a turn outlived its child: {session}");
        self.check_messages(&detail);
        self.check_requests(app);
    }

    #[track_caller]
    fn check_messages(&self, detail: &Value) {
        let turns = turns(detail);
        for Accepted { turn, text } in &self.messages {
            let status = turns.iter().find(|(id, _)| id == turn).map(|(_, status)| status.as_str());
            let ended = matches!(status, Some("completed" | "interrupted" | "failed"));
            assert!(ended, "turn {turn} of {} is {status:?}", self.id);
            let mut rows = detail["transcript"].as_array().into_iter().flatten();
            let row = rows.find(|row| row["role"] == "user" && row["content"] == text.as_str());
            assert!(row.is_some(), "{text:?} was accepted and is lost: {detail}");
        }
        let open = turns.iter().find(|(_, status)| status == "inProgress");
        assert_eq!(open, None, "{}", self.id);
    }

    #[track_caller]
    fn check_requests(&mut self, app: &TestApp) {
        for Shown { family, id, decided } in &mut self.shown {
            assert_eq!(requests(app, &self.id, family, ""), Vec::<Value>::new());
            let all = requests(app, &self.id, family, "?status=all");
            let kept = all.iter().find(|one| request_id(one) == *id);
            let kept = kept.unwrap_or_else(|| panic!("request {id} was shown and is lost"));
            match kept["status"].as_str() {
                // Nobody decided, or the one who did was never told so.
                Some("expired") => decided.found(None, "the decision"),
                Some("resolved") => {
                    let made = decided.sure.or_else(|| decided.maybe.flatten());
                    let number = made.unwrap_or_else(|| panic!("nobody decided {kept}"));
                    if *family == "approvals" {
                        let (_, body) = decision(family, id, number);
                        assert_eq!(kept["decision"], body["decision"], "{kept}");
                    }
                    decided.found(Some(number), "the decision");
                }
                other => panic!("open for ever, {other:?}: {kept}"),
            }
        }
    }
}

/// Waits until the sessions of a manager that was just started are settled: what ran when the
/// last one was killed is ended at the start.
pub(crate) fn await_settled(app: &TestApp, deadline: Duration) {
    wait_until("no session is active", deadline, || {
        let page = app.get("/api/sessions?limit=200").expect_status(200);
        let sessions = page.body["data"].as_array().cloned().unwrap_or_default();
        sessions.iter().all(|session| session["activity"] == "idle")
    });
}

/// Compares everything.
#[track_caller]
pub(crate) fn check_all(ledgers: &mut [Vec<SessionLedger>], app: &TestApp) {
    await_settled(app, DEADLINE);
    for session in ledgers.iter_mut().flatten() {
        session.check(app);
    }
}
