//! Four decisions on one request: one wins, three are told what was decided, and the child is
//! answered once.

use std::path::Path;
use std::sync::Barrier;

use cm_testkit::app::TestApp;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, read_json_lines, step};
use cm_testkit::http::Reply;
use serde_json::Value;

use crate::common::{
    DEADLINE, builder, decision, fake, question, request_id, requests, rounds, text, tool_call,
};

/// How many decide at once.
const CALLERS: usize = 4;

/// Requests in one turn; each is answered before the next is asked.
const PER_TURN: usize = 25;

/// A race that was decided.
struct Decided {
    request: String,
    winner: usize,
}

/// Plays the rounds of a family: the child asks, four decide, and the answers are checked.
fn race(family: &str, event: &str, ask: impl Fn(&Path) -> Value, check: impl Fn(&Lost<'_>)) {
    let dir = TestDir::new("record");
    let record = dir.join("answers");
    let asks = || (0..PER_TURN).map(|_| ask(&record));
    let turns = rounds(100, 1_000).div_ceil(PER_TURN);
    let behaviour = (0..turns).fold(Behaviour::correct(), |so_far, _| so_far.turn(asks()));
    let app = builder().runtime(fake(FakeScript::always(behaviour))).start();
    let session = app.create_session();
    let mut stream = app.stream(Some(&session));
    let mut decided: Vec<Decided> = Vec::new();
    for _ in 0..turns {
        app.send(&session, "go").expect_status(202);
        for _ in 0..PER_TURN {
            let request = request_id(&stream.wait_type(event, DEADLINE)["payload"]);
            // The child notes an answer before it asks again.
            check_child_was_told(family, &record, &decided);
            let replies = decide_at_once(&app, family, &request);
            let winner = only_winner(&replies);
            let reply = &replies[winner];
            assert_eq!(reply.body["status"], "ok", "{}", reply.text);
            assert_eq!(reply.body["threadId"], session.as_str(), "{}", reply.text);
            for (_, reply) in replies.iter().enumerate().filter(|(number, _)| *number != winner) {
                check(&Lost { reply, winner, session: &session, request: &request });
            }
            let open = requests(&app, &session, family, "");
            assert!(open.iter().all(|one| request_id(one) != request), "{open:?}");
            decided.push(Decided { request, winner });
        }
        let ended = |frame: &Value| frame["payload"]["method"] == "turn/completed";
        stream.wait_for(ended, DEADLINE);
        check_child_was_told(family, &record, &decided);
    }
    let resolved = |frame: &&Value| text(&frame["type"]).ends_with("_resolved");
    let told = stream.read(|frames| frames.iter().filter(resolved).count());
    assert_eq!(told, decided.len(), "the stream says once what was decided");
    check_list(&app, &session, family, &decided);
    // Also a second answer that the child would not have looked at.
    let received = app.fake().received();
    let answers = received.iter().filter(|message| message.get("method").is_none()).count();
    assert_eq!(answers, decided.len(), "the child was answered once for each");
}

/// The child was answered once for each request, with what the winner said.
#[track_caller]
fn check_child_was_told(family: &str, record: &Path, decided: &[Decided]) {
    let answers = read_json_lines(record);
    assert_eq!(answers.len(), decided.len(), "{:?}", answers.last());
    let (Some(answer), Some(last)) = (answers.last(), decided.last()) else { return };
    let (_, body) = decision(family, &last.request, last.winner);
    let said = &answer["result"];
    match family {
        "approvals" => assert_eq!(said["decision"], body["decision"]),
        "tool-input" => assert_eq!(said["answers"], body["answers"]),
        _ => assert_eq!(said["contentItems"][0]["text"], body["text"]),
    }
}

/// The list says, for good, by whom each was decided.
#[track_caller]
fn check_list(app: &TestApp, session: &str, family: &str, decided: &[Decided]) {
    let all = requests(app, session, family, "?status=all");
    assert_eq!(all.len(), decided.len());
    for Decided { request, winner } in decided {
        let kept = all.iter().find(|one| request_id(one) == *request).expect("it is listed");
        assert_eq!(kept["status"], "resolved", "{kept}");
        assert_eq!(kept["decidedBy"], format!("person-{winner}"), "{kept}");
    }
}

/// A reply to one who came too late.
struct Lost<'a> {
    reply: &'a Reply,
    winner: usize,
    session: &'a str,
    request: &'a str,
}

fn decide_at_once(app: &TestApp, family: &str, id: &str) -> Vec<Reply> {
    let ready = Barrier::new(CALLERS);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let ready = &ready;
                scope.spawn(move || {
                    let (path, body) = decision(family, id, number);
                    let (actor, body) = (format!("person-{number}"), body.to_string());
                    let actor = [("x-codex-actor", actor.as_str())];
                    ready.wait();
                    app.request("POST", &path, &actor, Some(body.as_bytes()))
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("an answer")).collect()
    })
}

#[track_caller]
fn only_winner(replies: &[Reply]) -> usize {
    let won = replies.iter().enumerate().filter(|(_, reply)| reply.status == 200);
    let won: Vec<usize> = won.map(|(number, _)| number).collect();
    assert_eq!(won.len(), 1, "{replies:#?}");
    won[0]
}

/// What every loser of a family with the 404 shape is told.
#[track_caller]
fn told_not_found(lost: &Lost<'_>) {
    let body = &lost.reply.body;
    assert_eq!(lost.reply.status, 404, "{}", lost.reply.text);
    assert_eq!(body["status"], "not_found", "{}", lost.reply.text);
    assert_eq!(body["code"], "already_decided", "{}", lost.reply.text);
    assert_eq!(body["requestId"], lost.request, "{}", lost.reply.text);
    assert_eq!(body["by"], format!("person-{}", lost.winner), "{}", lost.reply.text);
    assert!(!text(&body["at"]).is_empty() && !text(&body["decision"]).is_empty());
}

#[test]
fn of_four_decisions_on_an_approval_one_wins() {
    let ask = |record: &Path| step::command_approval("ls", record);
    race("approvals", "approval", ask, |lost| {
        let body = &lost.reply.body;
        assert_eq!(lost.reply.status, 409, "{}", lost.reply.text);
        assert_eq!(body["status"], "reconciled", "{}", lost.reply.text);
        assert_eq!(body["code"], "already_resolved", "{}", lost.reply.text);
        assert_eq!(body["approvalId"], lost.request, "{}", lost.reply.text);
        assert_eq!(body["threadId"], lost.session, "{}", lost.reply.text);
        let (_, decided) = decision("approvals", lost.request, lost.winner);
        assert_eq!(body["decision"], decided["decision"], "{}", lost.reply.text);
        assert_eq!(body["by"], format!("person-{}", lost.winner), "{}", lost.reply.text);
        assert!(!text(&body["at"]).is_empty());
    });
}

#[test]
fn of_four_answers_to_a_question_one_wins() {
    let ask = |record: &Path| step::request("item/tool/requestUserInput", question(), record);
    race("tool-input", "tool_user_input_requested", ask, told_not_found);
}

#[test]
fn of_four_answers_to_a_tool_call_one_wins() {
    let ask = |record: &Path| step::request("item/tool/call", tool_call(), record);
    race("tool-calls", "tool_call_requested", ask, |lost| {
        if lost.reply.status != 409 {
            return told_not_found(lost);
        }
        // The first answer was still on its way.
        let body = &lost.reply.body;
        assert_eq!(body["status"], "conflict", "{}", lost.reply.text);
        assert_eq!(body["code"], "in_flight", "{}", lost.reply.text);
        assert_eq!(body["requestId"], lost.request, "{}", lost.reply.text);
    });
}
