//! The child is killed at random moments under twenty running turns: it is back, no turn stays
//! running, nobody waits for ever, no request stays pending, no process is left.

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use cm_testkit::app::TestApp;
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::process::{kill_process, pid_alive, wait_until};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::common::{
    DEADLINE, FAMILIES, builder, choices, decision, fake, only_child_is_left, question, request_id,
    requests, rounds, text, tool_call, turns,
};

/// Turns that run at once.
pub(crate) const TURNS: usize = 20;

/// The longest that a call may take under fire. A call in flight fails when the child goes; the
/// rest is a slow machine.
const ANSWERED: Duration = Duration::from_secs(10);

/// What the child does in its n-th turn: all of it goes on until the child is killed.
fn behaviour(dir: &Path) -> Behaviour {
    let record = dir.join("answers");
    let kinds = [
        vec![step::deltas(1_000_000, 16, 500)],
        vec![step::command_approval("ls", &record), step::hang()],
        vec![step::request("item/tool/call", tool_call(), &record), step::hang()],
        vec![step::request("item/tool/requestUserInput", question(), &record), step::hang()],
        vec![step::message("begun"), step::hang()],
        vec![step::open_deltas(2_000, 64), step::hang()],
    ];
    let grandchild = vec![step::grandchild(&dir.join("grandchildren")), step::hang()];
    let endless = kinds.into_iter().cycle().take(TURNS - 1).chain([grandchild]);
    endless.fold(Behaviour::correct(), Behaviour::turn)
}

#[test]
fn a_child_that_is_killed_under_twenty_turns_leaves_nothing_open() {
    let mut choices = choices("child_kills");
    let dir = TestDir::new("child-kills");
    let script = FakeScript::always(behaviour(dir.path()));
    let app = builder().runtime(fake(script)).start();
    let sessions: Vec<String> = (0..TURNS).map(|_| app.create_session()).collect();
    for round in 0..rounds(10, 50) {
        println!("round {round}");
        let started = start_turns(&app, &sessions);
        let pending = pending_requests(&app, &sessions);
        kill_under_fire(&app, &sessions, &pending, &mut choices);
        check_ended(&app, &started);
        settle(&app, &sessions);
        check_no_request_is_open(&app, &pending);
        let pids = pids(&dir.join("grandchildren"));
        wait_until("the grandchildren are gone", DEADLINE, || {
            !pids.iter().any(|pid| pid_alive(*pid))
        });
        only_child_is_left(&app);
    }
}

/// Starts a turn in each session, and answers session and turn.
fn start_turns(app: &TestApp, sessions: &[String]) -> Vec<(String, String)> {
    std::thread::scope(|scope| {
        let senders: Vec<_> = sessions
            .iter()
            .map(|session| {
                let turn = move || text(&app.send(session, "go").expect_status(202).body["turnId"]);
                (session.clone(), scope.spawn(turn))
            })
            .collect();
        let join = |(session, sender): (String, std::thread::ScopedJoinHandle<'_, String>)| {
            (session, sender.join().expect("the message is taken"))
        };
        senders.into_iter().map(join).collect()
    })
}

/// A request that waits: its session, its family and its id.
type Pending = (String, &'static str, String);

fn pending_requests(app: &TestApp, sessions: &[String]) -> Vec<Pending> {
    let mut pending = Vec::new();
    // Nine of the twenty turns ask; all of them have by now or do in a moment.
    wait_until("every turn that asks has asked", DEADLINE, || {
        let ids = |session: &String, family: &'static str| -> Vec<Pending> {
            let listed = requests(app, session, family, "");
            listed.iter().map(|one| (session.clone(), family, request_id(one))).collect()
        };
        let lists = sessions.iter().flat_map(|session| FAMILIES.map(|family| (session, family)));
        pending = lists.flat_map(|(session, family)| ids(session, family)).collect();
        pending.len() >= 9
    });
    pending
}

/// Kills the child while every session is called upon, and waits until the next one is ready.
fn kill_under_fire(app: &TestApp, sessions: &[String], pending: &[Pending], choices: &mut StdRng) {
    let old = app.child_pid().expect("a child");
    let moment = Duration::from_micros(choices.random_range(0..40_000));
    let calls: Vec<(String, Value)> =
        sessions.iter().map(|session| call(session, pending, choices)).collect();
    let ready = Barrier::new(calls.len() + 1);
    let slowest = std::thread::scope(|scope| {
        let callers: Vec<_> = calls
            .iter()
            .map(|(path, body)| {
                let ready = &ready;
                scope.spawn(move || {
                    ready.wait();
                    let asked = Instant::now();
                    let reply = app.post(path, body.clone());
                    (asked.elapsed(), reply.status, path)
                })
            })
            .collect();
        ready.wait();
        std::thread::sleep(moment);
        kill_process(old);
        let answered = callers.into_iter().map(|caller| caller.join().expect("an answer"));
        answered.max_by_key(|(time, ..)| *time).expect("somebody called")
    });
    assert!(slowest.0 < ANSWERED, "a caller was kept waiting: {slowest:?}");
    app.wait_new_child(old, DEADLINE);
}

/// Something that is asked of a session while the child is killed.
fn call(session: &str, pending: &[Pending], choices: &mut StdRng) -> (String, Value) {
    let path = |action: &str| format!("/api/sessions/{session}/{action}");
    let asked = pending.iter().find(|(owner, ..)| owner == session);
    match (choices.random_range(0..4), asked) {
        (0, _) => (path("messages"), json!({ "text": "and this" })),
        (1, _) => (path("interrupt"), json!({})),
        (2, None) => (path("rename"), json!({ "title": "A title" })),
        (2.., Some((_, family, id))) => decision(family, id, choices.random_range(0..2)),
        _ => (path("archive"), json!({})),
    }
}

/// Every turn of the killed child has ended, without anybody's doing.
pub(crate) fn check_ended(app: &TestApp, started: &[(String, String)]) {
    for (session, turn) in started {
        let mut seen = Vec::new();
        wait_until(&format!("turn {turn} of {session} has ended"), DEADLINE, || {
            seen = turns(&app.detail(session));
            let status = seen.iter().find(|(id, _)| id == turn).map(|(_, status)| status.as_str());
            assert!(status.is_some(), "an accepted turn is gone: {seen:?}");
            matches!(status, Some("interrupted" | "completed" | "failed"))
        });
    }
}

/// Ends what came to the next child, so that the round leaves sessions as it found them.
fn settle(app: &TestApp, sessions: &[String]) {
    for session in sessions {
        wait_until(&format!("{session} is idle"), DEADLINE, || {
            let summary = app.detail(session)["session"].clone();
            if summary["archived"] == true {
                app.post(&format!("/api/sessions/{session}/unarchive"), json!({}));
            }
            if summary["activity"] != "idle" {
                app.post(&format!("/api/sessions/{session}/interrupt"), json!({}));
            }
            summary["activity"] == "idle" && summary["archived"] == false
        });
    }
}

/// No session has a pending request, and those of the killed child say what became of them.
fn check_no_request_is_open(app: &TestApp, known: &[Pending]) {
    for (session, family, id) in known {
        assert_eq!(requests(app, session, family, ""), Vec::<Value>::new());
        let all = requests(app, session, family, "?status=all");
        let kept = all.iter().find(|one| request_id(one) == *id).expect("it is listed");
        match kept["status"].as_str() {
            Some("expired") => assert!(kept["expiredReason"].is_string(), "{kept}"),
            Some("resolved") => assert!(kept["decidedBy"].is_string(), "{kept}"),
            _ => panic!("open for ever: {kept}"),
        }
    }
}

fn pids(path: &PathBuf) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
