//! The frames of version 1's stream and the shape of a session's detail, as `tests/contract/v1.toml` states them,
//! compared with what is really sent: over the embedded runtime, over codex, and over the fake child for what neither
//! of them does by itself.

use std::collections::{BTreeMap, BTreeSet};

use cm_testkit::app::{Frame, StreamClient, TestApp};
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::model::{call, prompt, say};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{Act, Bench, DEADLINE, Kind, is_notification, text, turn_end};
use crate::fake_app::{begin, create, with_fake};
use crate::project_app::{assign, delete, move_all, project, rename};

type Members = BTreeSet<String>;

/// The part of `tests/contract/v1.toml` that is about frames and details.
#[derive(Deserialize)]
struct Contract {
    control: BTreeMap<String, Members>,
    envelope: BTreeMap<String, Members>,
    event: Vec<Event>,
    detail: BTreeMap<String, Members>,
    schemas: BTreeMap<String, Members>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    to: To,
    about: About,
    #[serde(default)]
    members: Members,
    is: Option<String>,
    #[serde(default)]
    holds: BTreeMap<String, String>,
    #[serde(default)]
    forms: BTreeMap<String, Members>,
    fake: Option<String>,
    #[serde(default)]
    later: bool,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum To {
    Session,
    All,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum About {
    Session,
    None,
    Either,
}

/// What a subscriber without a filter heard, and one of a session in which nothing happens meanwhile.
struct Heard {
    all: Vec<Frame>,
    filtered: Vec<Frame>,
    quiet: String,
}

/// Listens to everything, and to a session of its own.
struct Ears {
    all: StreamClient,
    filtered: StreamClient,
    quiet: String,
}

impl Ears {
    fn open(app: &TestApp, quiet: String) -> Self {
        let (mut all, mut filtered) = (app.stream(None), app.stream(Some(&quiet)));
        for stream in [&mut all, &mut filtered] {
            stream.wait_type("ready", DEADLINE);
        }
        Self { all, filtered, quiet }
    }

    /// Ends with a frame for everybody, behind which none of before is missing, and with a word and its answer.
    fn close(mut self, app: &TestApp) -> Heard {
        let last = project(app, "the last");
        for stream in [&mut self.all, &mut self.filtered] {
            let is_last = |frame: &Frame| frame["payload"]["project"]["projectId"] == last.as_str();
            stream.wait_for(is_last, DEADLINE);
            stream.send(&json!({ "type": "ping" }));
            stream.wait_type("pong", DEADLINE);
            stream.send_text("no command");
            stream.wait_type("error", DEADLINE);
        }
        let (all, filtered) = (self.all.frames(), self.filtered.frames());
        Heard { all, filtered, quiet: self.quiet }
    }
}

impl Contract {
    fn read() -> Self {
        toml::from_str(include_str!("../contract/v1.toml")).expect("a contract")
    }

    fn event(&self, kind: &str) -> Option<&Event> {
        self.event.iter().find(|event| event.kind == kind)
    }

    /// Checks every frame that version 1 knows, and answers their types, with their forms behind a colon.
    fn check(&self, heard: &Heard) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for frame in &heard.all {
            let kind = text(&frame["type"]);
            if let Some(members) = self.control.get(&kind) {
                has(frame, members, frame);
                seen.insert(kind);
                continue;
            }
            has(frame, &["threadId", "payload"].map(str::to_owned).into(), frame);
            let payload = &frame["payload"];
            if kind.starts_with("app_server.") {
                seen.insert(self.check_envelope(frame, &kind));
            } else if let Some(event) = self.event(&kind) {
                self.check_event(event, frame);
                seen.insert(kind.clone());
                if !event.forms.is_empty() {
                    seen.insert(format!("{kind}:{}", text(&payload["status"])));
                }
            }
        }
        self.check_delivery(heard);
        seen
    }

    fn check_event(&self, event: &Event, frame: &Frame) {
        let payload = &frame["payload"];
        assert!(!event.later, "{} is there by now: {frame}", event.kind);
        let is_about = match event.about {
            About::Session => frame["threadId"].is_string(),
            About::None => frame["threadId"].is_null(),
            About::Either => true,
        };
        assert!(is_about, "{frame}");
        has(payload, &event.members, frame);
        if let Some(schema) = &event.is {
            has(payload, &self.schemas[schema], frame);
        }
        for (member, schema) in &event.holds {
            has(&payload[member], &self.schemas[schema], frame);
        }
        if !event.forms.is_empty() {
            has(payload, &event.forms[payload["status"].as_str().unwrap()], frame);
        }
    }

    /// Answers `request` or `notification`.
    fn check_envelope(&self, frame: &Frame, kind: &str) -> String {
        let (payload, parts) = (&frame["payload"], &self.envelope);
        has(payload, &parts["payload"], frame);
        has(&payload["context"], &parts["context"], frame);
        assert_eq!(
            (&payload["source"], &payload["eventType"]),
            (&json!("app_server"), &json!(kind))
        );
        assert_eq!(payload["context"]["threadId"], frame["threadId"], "{frame}");
        match frame["threadId"].is_null() {
            true => assert_eq!(payload["session"], Value::Null, "{frame}"),
            false => has(&payload["session"], &parts["session"], frame),
        }
        let signal = text(&payload["signalType"]);
        let is_request = kind.starts_with("app_server.request.");
        assert_eq!(signal, if is_request { "request" } else { "notification" }, "{frame}");
        match is_request {
            true => has(payload, &parts["request"], frame),
            false => assert!(payload.get("requestId").is_none(), "{frame}"),
        }
        format!("app_server:{signal}")
    }

    /// What a filter lets through of other sessions is what goes to all, and nothing of that is missing.
    fn check_delivery(&self, heard: &Heard) {
        let to = |frame: &Frame| {
            let kind = text(&frame["type"]);
            let is_envelope = kind.starts_with("app_server.");
            self.event(&kind).map(|event| event.to).or_else(|| is_envelope.then_some(To::Session))
        };
        let filtered =
            heard.filtered.iter().filter(|frame| frame["threadId"] != heard.quiet.as_str());
        for frame in filtered {
            assert!(to(frame) != Some(To::Session), "{} heard {frame}", heard.quiet);
        }
        let to_all = |frames: &[Frame]| -> BTreeSet<u64> {
            let frames = frames.iter().filter(|frame| to(frame) == Some(To::All));
            frames.map(|frame| frame["seq"].as_u64().unwrap()).collect()
        };
        assert_eq!(to_all(&heard.all), to_all(&heard.filtered));
    }

    /// The detail of a session against its shape; answers the statuses of its turns.
    fn check_detail(&self, kind: Kind, detail: &Value) -> BTreeSet<String> {
        let shape = |name: &str| &self.detail[name];
        has(detail, shape("answer"), detail);
        has(&detail["session"], &self.schemas["SessionSummary"], detail);
        has(&detail["thread"], shape("thread"), detail);
        if kind.is_codex() {
            has(&detail["thread"], shape("codex"), detail);
        }
        for row in detail["transcript"].as_array().unwrap() {
            has(row, &self.schemas["TranscriptEntry"], row);
        }
        let turns = detail["thread"]["turns"].as_array().unwrap();
        let status = |turn: &Value| {
            has(turn, shape("turn"), turn);
            let status = text(&turn["status"]);
            assert!(shape("turn_status").contains(&status), "{turn}");
            match status.as_str() {
                "failed" => has(&turn["error"], shape("error"), turn),
                _ => assert_eq!(turn["error"], Value::Null, "{turn}"),
            }
            assert!(turn["startedAt"].is_i64(), "{turn}");
            assert_eq!(turn["completedAt"].is_null(), status == "inProgress", "{turn}");
            for item in turn["items"].as_array().unwrap() {
                has(item, shape("item"), turn);
            }
            status
        };
        turns.iter().map(status).collect()
    }
}

/// Asserts that a value is an object with these members, whatever they are.
#[track_caller]
fn has(value: &Value, members: &Members, shown: &Value) {
    assert!(value.is_object(), "{value} in {shown}");
    let lacking: Vec<_> =
        members.iter().filter(|name| value.get(name.as_str()).is_none()).collect();
    assert!(lacking.is_empty(), "no {lacking:?} in {shown}");
}

/// A turn in which the agent asks for something: `answer` gives it what it asked for, or the turn is interrupted.
fn asked(
    bench: &Bench,
    ears: &mut Ears,
    session: &str,
    act: Act<'_>,
    answer: Option<(&str, Value)>,
) {
    let turn = bench.send(session, &[act, Act::Say("so be it")]);
    let is_asked = |frame: &Frame| {
        let kind = frame["type"].as_str().unwrap();
        frame["threadId"] == session && (kind == "approval" || kind.ends_with("_requested"))
    };
    let request = ears.all.wait_for(is_asked, DEADLINE)["payload"].clone();
    match answer {
        Some((path, body)) => {
            let id =
                request["approvalId"].as_str().or_else(|| request["requestId"].as_str()).unwrap();
            bench.app.post(&path.replace("{id}", id), body).expect_status(200);
        }
        None => {
            bench.act(session, "interrupt", json!({ "turnId": turn })).expect_status(200);
        }
    }
    // An interrupt is answered when the turn may have ended already.
    let is_end = |frame: &Frame| {
        is_notification(frame, "turn/completed")
            && frame["payload"]["params"]["turn"]["id"] == turn.as_str()
    };
    if !ears.all.read(|frames| frames.iter().any(is_end)) {
        ears.all.wait_for(is_end, DEADLINE);
    }
}

/// What people do with sessions and projects, over one runtime.
fn play(kind: Kind, contract: &Contract) -> (Heard, BTreeSet<String>) {
    let bench = Bench::start(kind);
    let quiet = bench.session();
    let mut ears = Ears::open(&bench.app, quiet);
    let mut statuses = BTreeSet::new();

    let session = bench.session();
    let made = project(&bench.app, "one");
    rename(&bench.app, &made, json!({ "name": "two" })).expect_status(200);
    assign(&bench.app, &session, made.as_str()).expect_status(200);
    move_all(&bench.app, &made, "unassigned").expect_status(200);
    delete(&bench.app, &made).expect_status(200);
    bench.act(&session, "rename", json!({ "title": "a name" })).expect_status(200);

    let decision = "/api/approvals/{id}/decision";
    let accept = json!({ "decision": "accept" });
    let run = Act::Run("touch accepted");
    asked(&bench, &mut ears, &session, run, Some((decision, accept.clone())));
    asked(&bench, &mut ears, &session, Act::Run("touch never"), None);
    let files = bench.file_session();
    let write = Act::Write("new.txt", "one line");
    asked(&bench, &mut ears, &files, write, Some((decision, accept)));
    let decline = json!({ "decision": "decline" });
    let question = Act::Ask("Which colour?");
    let answer = Some(("/api/tool-input/{id}/decision", decline));
    asked(&bench, &mut ears, &session, question, answer);
    asked(&bench, &mut ears, &session, question, None);
    let tools = bench.tool_session();
    let answer = Some(("/api/tool-calls/{id}/response", json!({ "text": "the value" })));
    asked(&bench, &mut ears, &tools, Act::Lookup, answer);
    asked(&bench, &mut ears, &tools, Act::Lookup, None);
    let failed = bench.send(&session, &[Act::Fail("scripted trouble")]);
    assert_eq!(turn_end(&mut ears.all, &failed)["status"], "failed");
    if kind.is_codex() {
        let plan = json!({ "plan": [{ "step": "look", "status": "pending" }] });
        let message = prompt("go", [call("update_plan", plan), say("planned")]);
        let turn = bench.send_text(&session, &message);
        turn_end(&mut ears.all, &turn);
        let key = json!({ "type": "apiKey", "apiKey": "sk-of-the-test" });
        bench.app.post("/api/account/login/start", key).expect_status(200);
        ears.all.wait_type("account_updated", DEADLINE);
    }
    let row = json!({
        "messageId": "mine", "turnId": failed, "role": "system", "type": "note", "content": "a note",
        "status": "complete",
    });
    bench.act(&session, "transcript/upsert", row).expect_status(200);
    statuses.extend(contract.check_detail(kind, &bench.detail(&session)));
    statuses.extend(contract.check_detail(kind, &bench.detail(&files)));
    let held = bench.send(&tools, &[Act::Hold]);
    ears.all.wait_for(|frame| is_notification(frame, "item/agentMessage/delta"), DEADLINE);
    statuses.extend(contract.check_detail(kind, &bench.detail(&tools)));
    bench.act(&tools, "interrupt", json!({ "turnId": held })).expect_status(200);

    bench.act(&files, "archive", json!({})).expect_status(200);
    bench.act(&files, "unarchive", json!({})).expect_status(200);
    bench.app.delete(&format!("/api/sessions/{files}")).expect_status(200);
    (ears.close(&bench.app), statuses)
}

/// What neither of the runtimes does by itself.
fn play_fake() -> Heard {
    let of_none = |method: &str, params: Value| {
        step::line(&json!({ "method": method, "params": params }).to_string())
    };
    let oauth = json!({ "name": "server", "success": true });
    let turn = [
        of_none("app/list/updated", json!({ "data": [] })),
        of_none("mcpServer/oauthLogin/completed", oauth),
        step::request_only("something/unknown", json!({})),
        step::message("done"),
    ];
    let app = with_fake(FakeScript::always(Behaviour::correct().turn(turn))).start();
    let quiet = create(&app);
    let mut ears = Ears::open(&app, quiet);
    let session = create(&app);
    let turn = begin(&app, &session);
    turn_end(&mut ears.all, &turn);
    ears.close(&app)
}

#[test]
fn every_frame_of_version_1_is_sent_and_has_its_members() {
    let contract = Contract::read();
    let (mut seen, mut statuses) = (BTreeSet::new(), BTreeSet::new());
    for kind in [Kind::Embedded, Kind::CodexNew] {
        let (heard, of_turns) = play(kind, &contract);
        seen.extend(contract.check(&heard));
        statuses.extend(of_turns);
    }
    let faked: BTreeSet<String> = contract
        .event
        .iter()
        .filter(|event| event.fake.as_ref().is_some_and(|why| !why.is_empty()))
        .map(|event| event.kind.clone())
        .collect();
    let shown: Vec<_> = faked.intersection(&seen).collect();
    assert!(shown.is_empty(), "a runtime shows {shown:?} by itself");
    let by_fake = contract.check(&play_fake());
    seen.extend(by_fake.intersection(&faked).cloned());

    let mut wanted: BTreeSet<String> = contract.control.keys().cloned().collect();
    wanted.extend(["app_server:notification", "app_server:request"].map(str::to_owned));
    for event in contract.event.iter().filter(|event| !event.later) {
        wanted.insert(event.kind.clone());
        wanted.extend(event.forms.keys().map(|form| format!("{}:{form}", event.kind)));
    }
    let missing: Vec<_> = wanted.difference(&seen).collect();
    assert!(missing.is_empty(), "never sent: {missing:?}");
    assert_eq!(statuses, contract.detail["turn_status"], "turns of every status were read");
}
