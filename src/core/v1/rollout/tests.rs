//! Reading threads' files.

use super::*;
use proptest::prelude::*;

fn read(lines: &[Value]) -> Rollout {
    let mut rollout = Rollout::default();
    for line in lines {
        rollout.line(&line.to_string());
    }
    rollout
}

fn event(payload: Value) -> Value {
    json!({ "timestamp": "2026-11-26T17:24:51.377Z", "type": "event_msg", "payload": payload })
}

fn meta(id: &str, source: Value) -> Value {
    json!({ "timestamp": "2026-11-26T17:24:51.377Z", "type": "session_meta", "payload": {
        "id": id, "timestamp": "2026-11-26T17:24:50.000Z", "cwd": "/w",
        "cli_version": "0.140.0", "source": source, "model_provider": "mock" } })
}

#[test]
fn what_was_said_is_read_of_the_older_and_the_newer_form() {
    let older = read(&[
        meta("s", json!("vscode")),
        event(json!({ "type": "task_started", "turn_id": "t1" })),
        event(json!({ "type": "user_message", "message": "hi" })),
        event(json!({ "type": "agent_message", "message": "hello" })),
        event(json!({ "type": "task_complete", "turn_id": "t1" })),
    ]);
    let newer = read(&[
        meta("s", json!("vscode")),
        event(json!({ "type": "task_started", "turn_id": "t1" })),
        event(json!({ "type": "item_completed", "turn_id": "t1", "item": {
            "type": "UserMessage", "id": "u", "content": [{ "type": "text", "text": "hi" }] } })),
        event(json!({ "type": "item_completed", "turn_id": "t1", "item": {
            "type": "AgentMessage", "id": "a", "content": [{ "type": "Text", "text": "hello" }] } })),
        event(json!({ "type": "task_complete", "turn_id": "t1" })),
    ]);
    for rollout in [&older, &newer] {
        let turn = &rollout.turns[0];
        assert_eq!((turn.id.as_str(), turn.status), ("t1", TurnStatus::Completed));
        let said: Vec<_> = turn.messages.iter().map(|m| (m.by_user, m.text.as_str())).collect();
        assert_eq!(said, [(true, "hi"), (false, "hello")]);
        assert_eq!(rollout.preview.as_deref(), Some("hi"));
        let meta = rollout.meta.as_ref().unwrap();
        assert_eq!((meta.cwd.as_str(), meta.created_ms), ("/w", Some(1_795_713_890_000)));
    }
    assert_eq!(newer.turns[0].messages[1].id.as_deref(), Some("a"));
}

#[test]
fn how_turns_ended_and_which_were_taken_back_is_known() {
    let start = |id: &str| event(json!({ "type": "task_started", "turn_id": id }));
    let rollout = read(&[
        meta("s", json!({ "subagent": { "thread_spawn": { "parent_thread_id": "p" } } })),
        meta("ancestor", json!("cli")),
        start("t1"),
        event(json!({ "type": "turn_aborted", "turn_id": "t1", "reason": "interrupted" })),
        start("t2"),
        event(json!({ "type": "error", "message": "no" })),
        event(json!({ "type": "task_complete", "turn_id": "t2" })),
        start("t3"),
        event(json!({ "type": "thread_rolled_back", "num_turns": 1 })),
        start("t4"),
    ]);
    let turns: Vec<_> = rollout.turns.iter().map(|t| (t.status, t.rolled_back)).collect();
    assert_eq!(
        turns,
        [
            (TurnStatus::Interrupted, false),
            (TurnStatus::Failed, false),
            (TurnStatus::InProgress, true),
            (TurnStatus::InProgress, false),
        ]
    );
    let meta = rollout.meta.unwrap();
    assert_eq!(meta.id.as_str(), "s", "the first line is its own");
    assert_eq!(meta.parent.unwrap().as_str(), "p");
    assert!(meta.source["subAgent"]["thread_spawn"].is_object());
}

#[test]
fn a_path_is_no_id() {
    assert_eq!(read(&[meta("../x", json!("cli"))]).meta, None);
}

#[test]
fn turns_behind_the_bound_are_left_out() {
    let mut rollout = Rollout::default();
    let mut tell = |payload: Value| rollout.line(&event(payload).to_string());
    for number in 0..MOST_TURNS + 2 {
        tell(json!({ "type": "task_started", "turn_id": format!("t{number}") }));
    }
    tell(json!({ "type": "user_message", "message": "of a turn that was left out" }));
    tell(json!({ "type": "thread_rolled_back", "num_turns": 3 }));
    tell(json!({ "type": "thread_rolled_back", "num_turns": 1 }));
    assert_eq!(rollout.turns.len(), MOST_TURNS);
    assert!(rollout.turns.iter().all(|turn| turn.messages.is_empty()));
    let back = rollout.turns.iter().rev().take_while(|turn| turn.rolled_back).count();
    assert_eq!(back, 2, "two of the four were never taken");
}

/// Any JSON, most of it small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/.\\PC]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("type|id|text|subagent", inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A member with the value that codex writes, or any other.
fn member(real: Vec<Value>) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        6 => prop::sample::select(real).prop_map(Some),
        1 => any_json().prop_map(Some),
        1 => Just(None),
    ]
}

fn object(members: Vec<(&str, Option<Value>)>) -> Value {
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect())
}

/// A line of one of the known shapes, with odd members here and there.
fn any_line() -> impl Strategy<Value = Value> {
    let texts = |all: &[&str]| all.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let kinds = texts(&["session_meta", "event_msg", "event_msg", "event_msg", "compacted"]);
    let events = texts(&[
        "task_started",
        "turn_started",
        "task_complete",
        "turn_aborted",
        "error",
        "thread_rolled_back",
        "user_message",
        "agent_message",
        "item_completed",
        "other",
    ]);
    let item = json!({ "type": "UserMessage", "id": "i", "content": [{ "text": "hi" }, 7] });
    let items = vec![item, json!({ "type": "AgentMessage", "content": {} })];
    let numbers = vec![json!(0), json!(1), json!(2), json!(u64::MAX)];
    let moments = texts(&["2026-11-26T17:24:51.377Z", "9223372036854775807-01-01T00:00:00Z"]);
    let ids = texts(&["a", "b", "../c"]);
    (
        member(kinds),
        member(moments),
        member(events),
        member(ids.clone()),
        member(ids),
        member(texts(&["hi", ""])),
        member(items),
        member(numbers),
    )
        .prop_map(|(kind, at, event, id, turn, message, item, number)| {
            let payload = object(vec![
                ("type", event),
                ("id", id),
                ("turn_id", turn),
                ("message", message),
                ("item", item),
                ("num_turns", number),
                ("timestamp", at.clone()),
            ]);
            object(vec![("type", kind), ("timestamp", at), ("payload", Some(payload))])
        })
}

proptest! {
    #[test]
    fn lines_of_the_known_shapes_with_any_members_are_survived(
        lines in prop::collection::vec(any_line(), 0..24),
    ) {
        let rollout = read(&lines);
        let ids: std::collections::HashSet<_> =
            rollout.turns.iter().map(|turn| turn.id.as_str()).collect();
        prop_assert_eq!(ids.len(), rollout.turns.len(), "one turn for each id");
        let begun = |line: &&Value| {
            matches!(line["payload"]["type"].as_str(), Some("task_started" | "turn_started"))
        };
        prop_assert!(rollout.turns.len() <= lines.iter().filter(begun).count());
        // What is no object of a kind, or an event without a type, cannot be understood.
        let broken = |line: &&Value| {
            let is_event = line["type"] == "event_msg";
            !line["type"].is_string() || is_event && !line["payload"]["type"].is_string()
        };
        prop_assert!(rollout.malformed >= lines.iter().filter(broken).count());
        prop_assert!(rollout.malformed <= lines.len());
        let standing: Vec<_> = (0..rollout.turns.len())
            .filter(|at| !rollout.turns[*at].rolled_back)
            .collect();
        prop_assert_eq!(&standing, &rollout.standing);
    }

    #[test]
    fn what_is_no_json_is_counted(lines in prop::collection::vec("[^ \t\r\n{]{1,80}", 0..8)) {
        let mut rollout = Rollout::default();
        for line in &lines {
            rollout.line(line);
        }
        let blank = lines.iter().filter(|line| line.trim().is_empty()).count();
        prop_assert_eq!(rollout.malformed, lines.len() - blank);
    }
}
