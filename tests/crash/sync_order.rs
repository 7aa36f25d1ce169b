//! What reaches the disk before an answer leaves, as strace sees it. A kill shows what the kernel
//! has; only the system calls show what the disk was told to keep.

use cm_testkit::app::TestApp;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{
    DEADLINE, FAMILIES, builder_of, decision, fake, question, request_id, requests, tool_call,
};
use crate::strace::{Call, calls, traced};

/// Finds the request and its answer in the log, and between them a write to the store and a sync
/// of it that began after that write; answers the sync. The write has `words` in it.
#[track_caller]
fn synced_before_answer<'a>(calls: &'a [Call], request: &str, words: &str) -> &'a Call {
    const READS: [&str; 4] = ["read", "readv", "recvfrom", "recvmsg"];
    const WRITES: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
    let line = format!("\"{request} HTTP/1.1");
    let read = calls.iter().find(|call| call.is(&READS) && call.text.contains(&line));
    let read = read.unwrap_or_else(|| panic!("{request} was never read"));
    // The client asks one thing at a time, so the next answer is the one to this.
    let answers = |call: &&Call| call.is(&WRITES) && call.text.contains("\"HTTP/1.1 2");
    let answer = calls.iter().filter(answers).find(|call| call.began > read.ended);
    let answer = answer.unwrap_or_else(|| panic!("{request} was never answered"));
    let between: Vec<&Call> = calls
        .iter()
        .filter(|call| call.began > read.ended && call.ended < answer.began && call.is_on_store())
        .collect();
    let mut writes = between.iter().filter(|call| call.is(&["pwrite64", "pwritev"]));
    let written = writes.find(|call| call.text.contains(words));
    let Some(written) = written else {
        panic!("{request} was answered and {words} not written: {between:#?}")
    };
    let sync = between
        .iter()
        .find(|call| call.is(&["fdatasync"]) && call.result == 0 && call.began > written.ended);
    match sync {
        Some(sync) => sync,
        None => panic!("{request} was answered and not synced: {between:#?}"),
    }
}

/// Bytes of the large item.
const LARGE: u64 = 20_000_000;

#[test]
fn a_write_behind_a_large_item_is_answered_when_the_item_is_synced() {
    let big = || vec![step::big_line(usize::try_from(LARGE).expect("it fits"))];
    let traced = Traced::start([big(), big()]);
    let app = &traced.app;
    let sessions: Vec<String> = (0..3).map(|_| app.create_session()).collect();
    // A write of the same session, and one of another, which has a queue of its own before the
    // store's.
    let cases = [(&sessions[0], &sessions[0]), (&sessions[1], &sessions[2])];
    for (large, renamed) in cases {
        let mut stream = app.stream(Some(large));
        app.send(large, "a large one").expect_status(202);
        // The item is shown when it is on its way to the store; the rename comes behind it.
        let is_large = |frame: &Value| {
            let params = &frame["payload"]["params"];
            frame["payload"]["method"] == "item/completed"
                && (params["truncated"] == true || params["item"]["type"] == "agentMessage")
        };
        stream.wait_for(is_large, DEADLINE);
        let path = format!("/api/sessions/{renamed}/rename");
        app.post(&path, json!({ "title": "Behind it" })).expect_status(200);
    }
    let calls = traced.finish();
    for (large, renamed) in cases {
        let rename = format!("POST /api/sessions/{renamed}/rename");
        let sync = synced_before_answer(&calls, &rename, "Behind it");
        let message = format!("POST /api/sessions/{large}/messages");
        let begin = synced_before_answer(&calls, &message, "a large one").ended;
        let written = |call: &&Call| {
            call.is_on_store()
                && call.is(&["pwrite64", "pwritev"])
                && call.began > begin
                && call.ended < sync.began
        };
        let bytes: i64 = calls.iter().filter(written).map(|call| call.result.max(0)).sum();
        let bytes = u64::try_from(bytes).expect("not negative");
        assert!(bytes >= LARGE, "{bytes} bytes were written before the sync");
    }
}

/// The program under strace.
struct Traced {
    app: TestApp,
    log: std::path::PathBuf,
    _dir: TestDir,
}

impl Traced {
    fn start(turns: impl IntoIterator<Item = Vec<Value>>) -> Self {
        let dir = TestDir::new("traced");
        let log = dir.join("calls");
        let program = traced(&dir, &log);
        let behaviour = turns.into_iter().fold(Behaviour::correct(), Behaviour::turn);
        let app = builder_of(&program).runtime(fake(FakeScript::always(behaviour))).start();
        Self { app, log, _dir: dir }
    }

    /// Ends the program and reads what it did.
    fn finish(self) -> Vec<Call> {
        self.app.terminate();
        // strace ends after what it follows, and only then all of it is written.
        let read = || std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = format!("{} +++ exited", self.app.pid());
        let squeezed = |log: &str| log.split_whitespace().collect::<Vec<_>>().join(" ");
        wait_until("strace has written everything", DEADLINE, || {
            read().lines().next_back().is_some_and(|line| squeezed(line).starts_with(&last))
        });
        calls(&read())
    }
}

#[test]
fn the_disk_was_told_before_an_acknowledged_write_is_answered() {
    let record = TestDir::new("record");
    let answers = record.join("answers");
    let asks = vec![
        step::command_approval("ls", &answers),
        step::request("item/tool/requestUserInput", question(), &answers),
        step::request("item/tool/call", tool_call(), &answers),
    ];
    let traced = Traced::start([asks]);
    let app = &traced.app;
    let mut stream = app.stream(None);
    let session = app.create_session();
    // What was asked for, and what is written for it and for nothing else: strace shows quotes
    // escaped.
    let mut promised = vec![("POST /api/sessions".to_owned(), r#"reason\":\"created"#.to_owned())];
    let words = "words to be kept";
    app.send(&session, words).expect_status(202);
    promised.push((format!("POST /api/sessions/{session}/messages"), words.to_owned()));
    for family in FAMILIES {
        let mut pending = Vec::new();
        wait_until("the agent asks", DEADLINE, || {
            pending = requests(app, &session, family, "");
            !pending.is_empty()
        });
        let (path, body) = decision(family, &request_id(&pending[0]), 0);
        let (by, body) = (format!("decider of {family}"), body.to_string());
        let headers = [("x-codex-actor", by.as_str())];
        app.request("POST", &path, &headers, Some(body.as_bytes())).expect_status(200);
        promised.push((format!("POST {path}"), by));
    }
    stream.wait_for(|frame| frame["payload"]["method"] == "turn/completed", DEADLINE);
    for (action, body, words) in [
        ("rename", json!({ "title": "Kept title" }), "Kept title"),
        ("archive", json!({}), r#"reason\":\"archived"#),
        ("unarchive", json!({}), r#"reason\":\"unarchived"#),
    ] {
        let path = format!("/api/sessions/{session}/{action}");
        app.post(&path, body).expect_status(200);
        promised.push((format!("POST {path}"), words.to_owned()));
    }
    let path = format!("/api/sessions/{session}");
    app.delete(&path).expect_status(200);
    promised.push((format!("DELETE {path}"), "deletedAt".to_owned()));
    let calls = traced.finish();
    for (request, words) in promised {
        let sync = synced_before_answer(&calls, &request, &words);
        println!("{request}: line {} {}", sync.ended, sync.text);
    }
}
