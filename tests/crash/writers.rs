//! Clients that write without pause and note what was acknowledged.

use cm_testkit::app::TestApp;
use cm_testkit::http::Reply;
use cm_testkit::mailbox::Mailbox;
use cm_testkit::process::wait_until;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::common::{DEADLINE, FAMILIES, decision, request_id, text};
use crate::ledger::{Accepted, Kept, SessionLedger, Shown};

/// Sessions that a writer keeps using; beyond these it makes no new one.
const SESSIONS: usize = 5;

/// Everything that a writer does and that is promised to be durable when it is answered.
pub(crate) const KINDS: [&str; 9] = [
    "create",
    "message",
    "rename",
    "archive",
    "unarchive",
    "delete",
    FAMILIES[0],
    FAMILIES[1],
    FAMILIES[2],
];

/// The manager is gone: what was asked for last was not answered.
#[derive(Debug)]
pub(crate) struct Gone;

/// A client.
pub(crate) struct Writer<'a> {
    pub(crate) app: &'a TestApp,
    pub(crate) name: String,
    pub(crate) choices: StdRng,
    pub(crate) ledger: &'a mut Vec<SessionLedger>,
    /// One entry for everything that was acknowledged: what it was.
    pub(crate) acknowledged: &'a Mailbox<&'static str>,
}

impl Writer<'_> {
    /// Writes until the manager is gone or so many steps were taken.
    pub(crate) fn run(mut self, steps: usize) {
        for step in 0..steps {
            if self.step(step).is_err() {
                return;
            }
        }
    }

    fn step(&mut self, step: usize) -> Result<(), Gone> {
        let alive: Vec<usize> = (0..self.ledger.len())
            .filter(|index| {
                let deleted = &self.ledger[*index].deleted;
                !deleted.sure && deleted.maybe.is_none()
            })
            .collect();
        if alive.len() < 2 || (alive.len() < SESSIONS && self.choices.random_ratio(1, 6)) {
            return self.create();
        }
        let index = alive[self.choices.random_range(0..alive.len())];
        if self.ledger[index].archived.sure {
            return self.archive(index, false);
        }
        match self.choices.random_range(0..12) {
            0..6 => {
                self.message(index, step)?;
                self.decide(index)
            }
            6..8 => self.decide(index),
            8..10 => self.rename(index, step),
            10 => self.archive(index, true),
            _ => self.delete(index),
        }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Reply, Gone> {
        let headers = [("x-codex-actor", self.name.as_str())];
        let body = body.to_string();
        self.app.try_request("POST", path, &headers, Some(body.as_bytes())).map_err(|_| Gone)
    }

    fn get(&self, path: &str) -> Result<Value, Gone> {
        let reply = self.app.try_request("GET", path, &[], None).map_err(|_| Gone)?;
        Ok(reply.expect_status(200).body)
    }

    fn acknowledged(&self, kind: &'static str) {
        self.acknowledged.push(kind, 0);
    }

    fn create(&mut self) -> Result<(), Gone> {
        let reply = self.post("/api/sessions", &json!({ "cwd": self.app.workspace() }))?;
        let id = text(&reply.expect_status(200).body["session"]["sessionId"]);
        self.ledger.push(SessionLedger::new(id));
        self.acknowledged("create");
        Ok(())
    }

    fn message(&mut self, index: usize, step: usize) -> Result<(), Gone> {
        let words = format!("{} says {step} {:08x}", self.name, self.choices.random::<u32>());
        let path = format!("/api/sessions/{}/messages", self.ledger[index].id);
        let reply = self.post(&path, &json!({ "text": words }))?.expect_status(202);
        let turn = text(&reply.body["turnId"]);
        self.ledger[index].messages.push(Accepted { turn, text: words });
        self.acknowledged("message");
        Ok(())
    }

    /// Decides whatever is pending; what is seen there must stay known.
    fn decide(&mut self, index: usize) -> Result<(), Gone> {
        for family in FAMILIES {
            let id = self.ledger[index].id.clone();
            let list = self.get(&format!("/api/sessions/{id}/{family}"))?;
            for request in list["data"].as_array().cloned().unwrap_or_default() {
                let request = request_id(&request);
                let decided = Kept::new(None);
                let shown = &mut self.ledger[index].shown;
                shown.push(Shown { family, id: request.clone(), decided });
                let position = shown.len() - 1;
                if self.choices.random_ratio(1, 8) {
                    // Not decided by anybody.
                    self.interrupt(&id, family, &request)?;
                    continue;
                }
                let number = self.choices.random_range(0..2);
                let (path, body) = decision(family, &request, number);
                self.ledger[index].shown[position].decided.ask(Some(number));
                self.post(&path, &body)?.expect_status(200);
                self.ledger[index].shown[position].decided.acknowledge();
                self.acknowledged(family);
            }
        }
        Ok(())
    }

    /// Interrupts the turn that asks, and waits until its request is no longer pending: it is
    /// answered before the turn has ended.
    fn interrupt(&self, session: &str, family: &str, request: &str) -> Result<(), Gone> {
        self.post(&format!("/api/sessions/{session}/interrupt"), &json!({}))?;
        let mut gone = Ok(());
        wait_until("the request of an interrupted turn has ended", DEADLINE, || {
            match self.get(&format!("/api/sessions/{session}/{family}")) {
                Ok(list) => {
                    let mut pending = list["data"].as_array().into_iter().flatten();
                    !pending.any(|one| request_id(one) == request)
                }
                Err(error) => {
                    gone = Err(error);
                    true
                }
            }
        });
        gone
    }

    fn rename(&mut self, index: usize, step: usize) -> Result<(), Gone> {
        let title = format!("{} names {step}", self.name);
        let path = format!("/api/sessions/{}/rename", self.ledger[index].id);
        self.ledger[index].title.ask(title.clone());
        self.post(&path, &json!({ "title": title }))?.expect_status(200);
        self.ledger[index].title.acknowledge();
        self.acknowledged("rename");
        Ok(())
    }

    fn archive(&mut self, index: usize, archived: bool) -> Result<(), Gone> {
        let action = if archived { "archive" } else { "unarchive" };
        let path = format!("/api/sessions/{}/{action}", self.ledger[index].id);
        self.ledger[index].archived.ask(archived);
        self.post(&path, &json!({}))?.expect_status(200);
        self.ledger[index].archived.acknowledge();
        self.acknowledged(action);
        Ok(())
    }

    fn delete(&mut self, index: usize) -> Result<(), Gone> {
        let path = format!("/api/sessions/{}", self.ledger[index].id);
        self.ledger[index].deleted.ask(true);
        let reply = self.app.try_request("DELETE", &path, &[], None).map_err(|_| Gone)?;
        reply.expect_status(200);
        self.ledger[index].deleted.acknowledge();
        self.acknowledged("delete");
        Ok(())
    }
}
