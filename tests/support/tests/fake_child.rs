//! The fake child does what its script says.

use std::path::Path;
use std::time::Duration;

use cm_testkit::app_server::{AppServerClient, Received};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeFiles, FakeScript, MethodRule, read_json_lines, step};
use cm_testkit::process::{kill_process, pid_alive, signal_process, wait_pid_gone, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(20);

struct Fake {
    dir: TestDir,
    files: FakeFiles,
}

impl Fake {
    fn new(script: impl FnOnce(&TestDir) -> FakeScript) -> Self {
        let dir = TestDir::new("fake");
        let files = FakeFiles::write(&dir, &script(&dir));
        Self { dir, files }
    }

    fn of(behaviour: Behaviour) -> Self {
        Self::new(|_| FakeScript::always(behaviour))
    }

    fn spawn(&self) -> AppServerClient {
        let [script, log] = self.files.environment().map(|(name, path)| (name, text(path)));
        let home = ("CODEX_HOME", text(self.dir.path()));
        let program = Path::new(env!("CARGO_BIN_EXE_fake-app-server-selftest"));
        AppServerClient::spawn(program, &[script, log, home, ("PATH", "/usr/bin:/bin")])
    }

    fn initialized(&self) -> AppServerClient {
        let mut client = self.spawn();
        client.initialize();
        client
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn start_thread(client: &mut AppServerClient) -> String {
    let result = client.call("thread/start", json!({ "cwd": "/", "approvalPolicy": "never" }));
    assert_eq!(result["approvalPolicy"], "never");
    result["thread"]["id"].as_str().unwrap().to_owned()
}

fn start_turn(client: &mut AppServerClient, thread: &str) {
    let input = json!([{ "type": "text", "text": "hello" }]);
    client.call("turn/start", json!({ "threadId": thread, "input": input }));
}

fn end_of_turn(client: &AppServerClient) -> Value {
    client.wait_method("turn/completed", DEADLINE)["params"]["turn"].clone()
}

fn methods(client: &AppServerClient) -> Vec<String> {
    client.output().read(|all| {
        let methods = all.iter().filter_map(|line| line.message()?["method"].as_str());
        methods.map(str::to_owned).collect()
    })
}

#[test]
fn without_a_script_it_is_a_small_correct_app_server() {
    let fake = Fake::of(Behaviour::correct().version("0.140.0"));
    let mut client = fake.spawn();
    let refused = client.try_call("thread/list", json!({})).unwrap_err();
    assert_eq!(refused["message"], "Not initialized");
    let agent = client.initialize()["userAgent"].clone();
    assert!(agent.as_str().unwrap().starts_with("cm_testkit/0.140.0 "), "{agent}");
    let unknown = client.try_call("no/such", json!({})).unwrap_err();
    assert!(unknown["message"].as_str().unwrap().contains("expected one of `initialize`, "));
    assert_eq!(client.call("account/read", json!({}))["requiresOpenaiAuth"], false);
    let thread = start_thread(&mut client);
    start_turn(&mut client, &thread);
    assert_eq!(end_of_turn(&client)["status"], "completed");
    let order = methods(&client);
    let order: Vec<&str> = order.iter().map(String::as_str).collect();
    let expected = [
        "thread/started",
        "thread/status/changed",
        "turn/started",
        "item/started",
        "item/completed",
        "item/started",
        "item/agentMessage/delta",
    ];
    assert_eq!(order[..7], expected);
    client.call("thread/name/set", json!({ "threadId": thread, "name": "n" }));
    let read = client.call("thread/read", json!({ "threadId": thread, "includeTurns": true }));
    assert_eq!(
        (&read["thread"]["name"], &read["thread"]["turns"][0]["status"]),
        (&json!("n"), &json!("completed"))
    );
    assert_eq!(fake.files.calls("turn/start").len(), 1);
    client.close_stdin();
    assert_eq!(client.wait_exit(DEADLINE).code(), Some(0));

    // The next process knows the thread, and no other one.
    let mut client = fake.initialized();
    client.call("thread/resume", json!({ "threadId": thread }));
    assert!(client.try_call("thread/resume", json!({ "threadId": "other" })).is_err());
    assert_eq!(fake.files.pids().len(), 2);
}

#[test]
fn each_start_has_its_own_behaviour() {
    let fake = Fake::new(|_| {
        FakeScript::starts([
            Behaviour::correct().hang_in_initialize(),
            Behaviour::correct().at_start([step::complain("bye"), step::exit(7)]),
            Behaviour::correct().after_initialize([step::sigkill()]),
        ])
    });
    let mut hanging = fake.spawn();
    hanging.start_call("initialize", json!({}));
    wait_until("the call is received", DEADLINE, || !fake.files.received().is_empty());
    assert!(hanging.output().is_empty());
    drop(hanging);
    let mut exiting = fake.spawn();
    assert_eq!(exiting.wait_exit(DEADLINE).code(), Some(7));
    exiting.stderr().wait_closed(DEADLINE).unwrap();
    assert_eq!(exiting.stderr().read(|all| all.to_vec()), ["bye"]);
    // Nothing is sent after the answer: the process may be gone by then.
    let mut killed = fake.spawn();
    killed.call("initialize", json!({}));
    let status = killed.wait_exit(DEADLINE);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    fake.initialized();
}

#[test]
fn bad_lines_come_as_they_were_ordered() {
    let fake = Fake::of(Behaviour::correct().turn([
        step::line("garbage"),
        step::byte_line(&[0xff, 0xfe]),
        step::big_line(3_000_000),
        step::open_deltas(3, 4),
        step::half_line(),
        step::exit(0),
    ]));
    let mut client = fake.initialized();
    let thread = start_thread(&mut client);
    start_turn(&mut client, &thread);
    client.output().wait_closed(DEADLINE).unwrap();
    client.output().read(|all| {
        assert!(all.contains(&Received::Other("garbage".to_owned())));
        assert!(all.contains(&Received::Other("NotUtf8 { bytes: 2 }".to_owned())));
        let text =
            |line: &Received| Some(line.message()?["params"]["item"]["text"].as_str()?.len());
        assert!(all.iter().filter_map(text).any(|length| length == 3_000_000));
        assert!(matches!(all.last(), Some(Received::Other(last)) if last.starts_with("Partial")));
    });
    let deltas = methods(&client).iter().filter(|name| name.ends_with("/delta")).count();
    assert_eq!(deltas, 3);
}

#[test]
fn calls_are_answered_as_often_and_as_late_as_ordered() {
    let fake = Fake::of(
        Behaviour::correct()
            .method("thread/list", MethodRule::overloaded_first(2))
            .method("thread/loaded/list", MethodRule::copies(3))
            .method("model/list", MethodRule::never())
            .method("account/read", MethodRule::late(50))
            .method("thread/start", MethodRule::merge(json!({ "approvalPolicy": null })))
            .method("thread/read", MethodRule::error(-32603, "broken")),
    );
    let mut client = fake.initialized();
    for _ in 0..2 {
        assert_eq!(client.try_call("thread/list", json!({})).unwrap_err()["code"], -32001);
    }
    client.call("thread/list", json!({}));
    let unanswered = client.start_call("model/list", json!({}));
    let late = client.start_call("account/read", json!({}));
    let copied = client.start_call("thread/loaded/list", json!({}));
    client.wait_for("the late answer", DEADLINE, |message| message["id"] == late);
    assert_eq!(client.try_call("thread/read", json!({})).unwrap_err()["message"], "broken");
    assert_eq!(client.call("thread/start", json!({}))["approvalPolicy"], Value::Null);
    client.output().read(|all| {
        let ids: Vec<i64> = all.iter().filter_map(|line| line.message()?["id"].as_i64()).collect();
        let count = |wanted: i64| ids.iter().filter(|id| **id == wanted).count();
        assert_eq!((count(unanswered), count(late), count(copied)), (0, 1, 3));
        let place = |wanted: i64| ids.iter().position(|id| *id == wanted);
        assert!(place(copied) < place(late), "the late answer was overtaken");
    });
}

#[test]
fn answers_to_its_requests_are_recorded() {
    let fake = Fake::new(|dir| {
        FakeScript::always(
            Behaviour::correct()
                .after_initialize([step::request("odd/one", json!({}), &dir.join("odd"))])
                .turn([step::command_approval("touch x", &dir.join("approval"))]),
        )
    });
    let mut client = fake.initialized();
    let odd = client.wait_method("odd/one", DEADLINE);
    client.send(&json!({ "id": odd["id"], "error": { "code": -32601, "message": "unknown" } }));
    let thread = start_thread(&mut client);
    start_turn(&mut client, &thread);
    let request = client.wait_method("item/commandExecution/requestApproval", DEADLINE);
    assert_eq!((&request["id"], &request["params"]["threadId"]), (&json!(1), &json!(thread)));
    client.answer(&request, json!({ "decision": "accept" }));
    assert_eq!(end_of_turn(&client)["status"], "completed");
    assert_eq!(read_json_lines(&fake.dir.join("odd"))[0]["error"]["code"], -32601);
    let recorded = read_json_lines(&fake.dir.join("approval"));
    assert_eq!(recorded[0]["result"]["decision"], "accept");
}

#[test]
fn an_interrupt_ends_whatever_the_turn_does() {
    let steps = [
        step::hang(),
        step::deltas(u64::MAX, 8, 0),
        step::deltas(u64::MAX, 8, 1000),
        step::command_approval("touch x", Path::new("/dev/null")),
    ];
    for step in steps {
        let fake = Fake::of(Behaviour::correct().turn([step.clone()]));
        let mut client = fake.initialized();
        let thread = start_thread(&mut client);
        start_turn(&mut client, &thread);
        client.wait_method("turn/started", DEADLINE);
        client.call("turn/interrupt", json!({ "threadId": thread }));
        assert_eq!(end_of_turn(&client)["status"], "interrupted", "{step}");
    }
}

#[test]
fn it_survives_what_it_is_told_to_survive() {
    let behaviour = |dir: &TestDir| {
        Behaviour::correct()
            .ignore_sigterm()
            .ignore_stdin_eof()
            .at_start([step::grandchild(&dir.join("pid")), step::stderr(2_000, 100)])
            .turn([step::fail("scripted")])
    };
    let fake = Fake::new(|dir| FakeScript::always(behaviour(dir)));
    let mut client = fake.initialized();
    signal_process(client.pid(), Signal::SIGTERM);
    let thread = start_thread(&mut client);
    start_turn(&mut client, &thread);
    let turn = end_of_turn(&client);
    assert_eq!(
        (&turn["status"], &turn["error"]["message"]),
        (&json!("failed"), &json!("scripted"))
    );
    client.close_stdin();
    assert!(pid_alive(client.pid()));
    let lines = client.stderr().wait(DEADLINE, |all| (all.len() >= 2_000).then_some(all.len()));
    assert_eq!(lines, Ok(2_000));
    // The grandchild outlives its parent and holds stdout.
    let pid: u32 = std::fs::read_to_string(fake.dir.join("pid")).unwrap().trim().parse().unwrap();
    kill_process(client.pid());
    client.wait_exit(DEADLINE);
    assert!(pid_alive(pid) && client.output().closed().is_none());
    kill_process(pid);
    wait_pid_gone(pid, DEADLINE);
    client.output().wait_closed(DEADLINE).unwrap();
}

#[test]
fn a_script_that_it_does_not_know_is_refused() {
    let fake = Fake::new(|_| FakeScript::default());
    fake.dir.write("fake-script.json", r#"{"then":{"no_such_member":1}}"#);
    let mut client = fake.spawn();
    assert_eq!(client.wait_exit(DEADLINE).code(), Some(2));
}
