//! The manager goes right behind the sync of a change: what was kept is told to who comes back, or
//! a `reset` is. Otherwise a client would show a title that nobody has any more.

use std::collections::{BTreeMap, BTreeSet};

use cm_testkit::app::{Frame, StreamOptions, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, MethodRule};
use cm_testkit::process::wait_pid_gone;
use serde_json::{Value, json};

use crate::common::{DEADLINE, builder, fake, is_long, text};
use crate::told::{Told, durable};

/// Sessions with what lists show of them: the title, and whether it is archived.
type View = BTreeMap<String, (String, bool)>;

/// A child that says nothing by itself of names and archives, so that whatever changes them is an
/// acknowledged command or the manager's end in the middle of one.
fn quiet() -> FakeScript {
    let methods = ["thread/name/set", "thread/archive", "thread/unarchive", "thread/delete"];
    let say_nothing =
        |child: Behaviour, method: &&str| child.method(method, MethodRule::result(json!({})));
    FakeScript::always(methods.iter().fold(Behaviour::correct(), say_nothing))
}

/// Waits for the end of a manager that kills itself, and until it has let go of everything.
fn await_end(app: &TestApp) {
    wait_pid_gone(app.pid(), DEADLINE);
    assert_eq!(app.kill().signal, Some(9));
}

/// What a client makes of frames.
fn apply(view: &mut View, frame: &Frame) {
    let payload = &frame["payload"];
    match frame["type"].as_str() {
        Some("session_updated") => {
            let session = &payload["session"];
            let shown = (text(&session["title"]), session["archived"] == true);
            view.insert(text(&session["sessionId"]), shown);
        }
        Some("session_deleted") => {
            view.remove(&text(&payload["sessionId"]));
        }
        _ => {}
    }
}

/// What lists say.
fn listed(app: &TestApp) -> View {
    let mut view = View::new();
    for archived in [false, true] {
        let list = app.get(&format!("/api/sessions?limit=200&archived={archived}"));
        for session in list.expect_status(200).body["data"].as_array().into_iter().flatten() {
            view.insert(text(&session["sessionId"]), (text(&session["title"]), archived));
        }
    }
    view
}

/// Makes, changes and deletes sessions until the manager is gone; answers those whose making was
/// acknowledged.
fn change_without_end(app: &TestApp) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    let post = |path: &str, body: Value| {
        let body = body.to_string();
        let reply = app.try_request("POST", path, &[], Some(body.as_bytes())).ok()?;
        Some(reply.expect_status(200).body)
    };
    let mut round = |number: u64| {
        let created = post("/api/sessions", json!({ "cwd": app.workspace() }))?;
        let id = text(&created["session"]["sessionId"]);
        let path = format!("/api/sessions/{id}");
        made.insert(id);
        post(&format!("{path}/rename"), json!({ "title": format!("title {number}") }))?;
        post(&format!("{path}/archive"), json!({}))?;
        post(&format!("{path}/unarchive"), json!({}))?;
        app.try_request("DELETE", &path, &[], None).ok()
    };
    let mut numbers = 0..;
    while numbers.next().and_then(&mut round).is_some() {}
    made
}

#[test]
fn what_a_crash_kept_is_told_to_who_comes_back_or_a_reset_is() {
    let dir = TestDir::new("told-after-crash");
    let start = |crash: Option<String>| {
        let app = builder().runtime(fake(quiet())).data_dir(dir.join("data"));
        match crash {
            Some(crash) => app.env("CM_CRASH_POINT", crash).start(),
            None => app.start(),
        }
    };
    // A round of changes has about a dozen commits: each of them is behind one of the passings.
    // Sessions that were made and told of, and whose making was not answered any more.
    let mut cut_short = 0;
    let enough = if is_long() { 100 } else { 64 };
    for passing in 40..160 {
        if passing >= enough && cut_short > 0 {
            break;
        }
        let app = start(Some(format!("store.after_fdatasync:{passing}")));
        let mut view = listed(&app);
        let mut stream = app.stream(None);
        let ready = stream.wait_type("ready", DEADLINE);
        let known: BTreeSet<String> = view.keys().cloned().collect();
        let acknowledged = change_without_end(&app);
        await_end(&app);
        let _ = stream.wait_closed(DEADLINE);
        let frames = stream.frames();
        frames.iter().for_each(|frame| apply(&mut view, frame));
        let last = frames.iter().filter_map(|frame| frame["seq"].as_u64()).max();
        let position = format!("{}:{}", text(&ready["epoch"]), last.expect("a number"));

        let app = start(None);
        let since = StreamOptions::default().query("since", &position);
        let mut stream = app.try_stream(since).expect("a stream");
        // Something new is the end of what was missed.
        let made = app.create_session();
        stream.wait_for(|frame| is_created(frame, &made), DEADLINE);
        let frames = stream.frames();
        frames.iter().for_each(|frame| apply(&mut view, frame));
        let reset = frames.iter().find(|frame| frame["type"] == "reset");
        if let Some(reset) = reset {
            assert_eq!(reset["reason"], "unclean_restart", "passing {passing}");
        } else {
            let listed = listed(&app);
            let unanswered = |id: &&String| !known.contains(*id) && !acknowledged.contains(*id);
            cut_short += listed.keys().filter(|id| **id != made).filter(unanswered).count();
            let differs = |id: &&String| view.get(*id) != listed.get(*id);
            let ids: Vec<&String> = view.keys().chain(listed.keys()).filter(differs).collect();
            let both: Vec<_> =
                ids.into_iter().map(|id| (id, view.get(id), listed.get(id))).collect();
            assert!(both.is_empty(), "passing {passing}: told and listed differ: {both:#?}");
        }
    }
    assert!(cut_short > 0, "no crash came between the making of a session and its answer");
}

#[test]
fn a_position_of_two_lives_ago_is_still_known_to_be_uncertain() {
    let dir = TestDir::new("two-lives-ago");
    let start = |crash: Option<String>| {
        let app = builder().runtime(fake(FakeScript::default())).data_dir(dir.join("data"));
        match crash {
            Some(crash) => app.env("CM_CRASH_POINT", crash).start(),
            None => app.start(),
        }
    };
    let mut lost = 0;
    for passing in 40..if is_long() { 80 } else { 52 } {
        let mut told = Told::default();
        let app = start(Some(format!("store.before_batch:{passing}")));
        let mut stream = app.stream(None);
        stream.wait_type("ready", DEADLINE);
        change_without_end(&app);
        await_end(&app);
        let _ = stream.wait_closed(DEADLINE);
        stream.frames().into_iter().for_each(|frame| told.take(frame));
        let position = told.position().expect("it was connected");
        // Another life, which ends well, and in which the subscriber is away.
        let app = start(None);
        app.create_session();
        app.terminate();

        let app = start(None);
        let end = app.create_session();
        let read = |position: &str| {
            let since = StreamOptions::default().query("since", position);
            let mut stream = app.try_stream(since).expect("a stream");
            let is_end = |frame: &Frame| frame["type"] == "reset" || is_created(frame, &end);
            stream.wait_for(is_end, DEADLINE);
            stream.frames()
        };
        read(&position).into_iter().for_each(|frame| told.take(frame));
        let (epoch, _) = position.split_once(':').expect("an epoch and a number");
        let all = read(&format!("{epoch}:0"));
        assert!(all.iter().all(|frame| frame["type"] != "reset"), "nothing was too long ago");
        let kept = durable(&all);
        lost += told.check(&kept);
    }
    assert!(lost > 0, "no crash lost anything that was shown: nothing was tried");
}

/// Whether a frame says that the session was created: the last word of its making.
fn is_created(frame: &Frame, session: &str) -> bool {
    frame["type"] == "session_updated"
        && frame["payload"]["session"]["sessionId"] == session
        && frame["payload"]["reason"] == "created"
}
