//! A very long line of the child, under the cap and over it, and everybody else meanwhile.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cm_testkit::app::{Runtime, StreamClient, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, long_text, step};
use cm_testkit::mailbox::WaitError;
use cm_testkit::process::wait_until;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::common::{DEADLINE, approval, is_notification, rows, text};
use crate::fake_app::{begin, codex, create, fake_app_server, run_turn, said, with_fake};

/// Bytes of the text in the line.
const BYTES: usize = 50_000_000;

/// Deltas of another session's turn, which begins before the line and, because it asks for
/// something, ends after it.
const DELTAS: usize = 2_000;

/// Answers about health while nothing of the line but its end is missing.
const ANSWERS: usize = 100;

/// The program whose first turn is one of small pieces and whose second one brings the line.
fn with_line(cap: Option<&str>) -> TestApp {
    // Answers are not looked at.
    let ask = step::command_approval("true", Path::new("/dev/null"));
    let builder = with_fake(FakeScript::default());
    let fifo = fifo(builder.dir());
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let behaviour = Behaviour::correct()
        .turn([step::deltas(DELTAS as u64, 20, 1_000), ask])
        .turn([step::big_line_held(BYTES, &fifo), step::message("after it")]);
    let script = FakeScript::starts([behaviour]);
    let builder = builder.runtime(Runtime::Fake(fake_app_server(), script));
    match cap {
        Some(cap) => builder.env("CODEX_MANAGER_LINE_CAP_BYTES", cap).start(),
        None => builder.start(),
    }
}

/// What the end of the line waits for.
fn fifo(dir: &TestDir) -> PathBuf {
    dir.join("end-of-line")
}

fn is_delta(frame: &Value) -> bool {
    is_notification(frame, "item/agentMessage/delta")
}

/// Whether the frame is the notification of an agent's message.
fn of_message(frame: &Value, method: &str) -> bool {
    is_notification(frame, method) && frame["payload"]["params"]["item"]["type"] == "agentMessage"
}

/// Lets the line pass; answers its session, and how often health was answered after its end until
/// the first thing behind it was shown.
fn pass(app: &TestApp) -> (String, usize) {
    let (busy, session) = (create(app), create(app));
    let mut other = app.stream(Some(&busy));
    let mut stream = app.stream(Some(&session));
    for stream in [&mut other, &mut stream] {
        stream.wait_type("ready", DEADLINE);
    }
    begin(app, &busy);
    other.wait_for(is_delta, DEADLINE);
    begin(app, &session);
    let health = || app.get("/api/health").expect_status(200);
    let mut end_of_line = None;
    wait_until("the line is there but for its end", DEADLINE, || {
        health();
        // Refused as long as the child does not wait.
        let opened =
            File::options().write(true).custom_flags(libc::O_NONBLOCK).open(fifo(app.dir()));
        end_of_line = opened.ok();
        end_of_line.is_some()
    });
    for _ in 0..ANSWERS {
        health();
    }
    assert_eq!(stream.read(|all| all.iter().filter(|frame| is_delta(frame)).count()), 0);
    drop(end_of_line);
    let mut answers = 0;
    let deadline = Instant::now() + DEADLINE;
    let passed = |frame: &Value| of_message(frame, "item/completed") || is_delta(frame);
    while stream.try_wait_for(passed, Duration::ZERO).is_err() {
        health();
        answers += 1;
        assert!(Instant::now() < deadline, "nothing came behind the line");
    }
    assert!(has_ended(&mut stream, DEADLINE));
    let asked = approval(&mut other);
    let accept = json!({ "decision": "accept" });
    app.post(&format!("/api/approvals/{asked}/decision"), accept).expect_status(200);
    assert!(has_ended(&mut other, DEADLINE));
    assert_eq!(other.read(|all| all.iter().filter(|frame| is_delta(frame)).count()), DELTAS);
    assert_eq!(codex(app)["incarnation"], 1);
    (session, answers)
}

/// Whether the turn of a subscriber's session ends in time.
fn has_ended(stream: &mut StreamClient, deadline: Duration) -> bool {
    match stream.try_wait_for(|frame| is_notification(frame, "turn/completed"), deadline) {
        Ok(frame) => frame["payload"]["params"]["turn"]["status"] == "completed",
        Err(WaitError::Deadline(_)) => false,
        Err(WaitError::Closed(why)) => panic!("{why}"),
    }
}

#[test]
fn a_line_of_50_megabytes_holds_up_nobody_and_is_readable() {
    let app = with_line(None);
    let (session, answers) = pass(&app);
    // It is understood and kept beside everything else.
    assert!(answers >= 10, "{answers} answers");
    let line = long_text(BYTES);
    assert!(said(&app, &session) == [line.as_str(), "after it"]);
    let detail = app.get(&format!("/api/sessions/{session}")).expect_status(200).body;
    let id = text(&rows(&detail, "agentMessage")[0]["messageId"]);
    let item = app.get(&format!("/api/sessions/{session}/items/{id}")).expect_status(200).body;
    assert!(item["text"] == line);
}

#[test]
fn a_line_over_the_cap_holds_up_nobody_and_is_told() {
    let app = with_line(Some("1MiB"));
    let unfiltered = app.stream(None);
    let (session, _) = pass(&app);
    let told: Vec<String> = unfiltered.read(|frames| {
        let unreadable = frames.iter().filter(|frame| frame["type"] == "runtime_output_unreadable");
        unreadable.map(|frame| text(&frame["payload"]["what"])).collect()
    });
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("over the limit"), "{told:?}");
    // The item was begun, and never came.
    assert_eq!(said(&app, &session).last().map(String::as_str), Some("after it"));
    let mut stream = app.stream(Some(&session));
    assert_eq!(run_turn(&app, &mut stream, &session), "completed");
}
