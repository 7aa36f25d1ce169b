//! Which step a request plays: a pure function of its body, so that the server keeps no
//! conversation and a restarted one goes on where the old one stopped.

use serde_json::Value;

use super::script::{MARK, Part, Step, say};

/// Prefix of the call ids that the server makes: `call_s<step>_…`.
const CALL_PREFIX: &str = "call_s";

/// Starts of user messages that `codex` writes itself around what the user said.
const NOT_THE_USER: [&str; 6] = [
    "<environment_context>",
    "<turn_aborted>",
    "<user_instructions>",
    "<user_shell_command>",
    "<permissions",
    "# AGENTS.md instructions",
];

/// What to play.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selected {
    /// The step, or the plain answer.
    pub(super) step: Step,
    /// Its index in the script.
    pub(super) index: usize,
    /// Same for every retry of the same step of the same message.
    pub(super) key: String,
}

/// Chooses the step for the body of a request.
///
/// # Errors
///
/// What is wrong with the script, as text.
pub(super) fn select(body: &Value) -> Result<Selected, String> {
    let input = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let user = input.iter().enumerate().rev().find_map(|(position, item)| {
        let text = user_text(item)?;
        let written_by_codex =
            NOT_THE_USER.iter().any(|start| text.trim_start().starts_with(start));
        (!written_by_codex).then_some((position, text))
    });
    let thread = body["prompt_cache_key"].as_str().unwrap_or_default();
    let Some((position, text)) = user else {
        let step = say("Hello from the scripted model.");
        return Ok(Selected { step, index: 0, key: format!("{thread}/-") });
    };
    let index = steps_played(&input[position + 1..]);
    let key = format!("{thread}/{position}/{index}");
    let step = match steps_in(&text)? {
        Some(mut steps) if index < steps.len() => steps.swap_remove(index),
        Some(_) => say("The script is over."),
        None => plain_answer(&text),
    };
    Ok(Selected { step, index, key })
}

/// The call id of the server's `serial`-th call, made in step `index`.
pub(super) fn call_id(index: usize, serial: u64) -> String {
    format!("{CALL_PREFIX}{index}_{serial}")
}

fn plain_answer(text: &str) -> Step {
    let said: String = text.chars().take(80).collect();
    say(&format!("Hello from the scripted model. You said: {said}"))
}

/// The script that the text carries, if any. What follows the array is ignored.
fn steps_in(text: &str) -> Result<Option<Vec<Step>>, String> {
    let Some(start) = text.find(MARK) else {
        return Ok(None);
    };
    let mut values = serde_json::Deserializer::from_str(&text[start + MARK.len()..]).into_iter();
    let steps: Value = match values.next() {
        Some(Ok(steps)) => steps,
        Some(Err(error)) => return Err(format!("the script is not JSON: {error}")),
        None => return Err("the script is empty".to_owned()),
    };
    let Value::Array(steps) = steps else {
        return Err("the script is not an array".to_owned());
    };
    steps.into_iter().map(step_of).collect::<Result<_, _>>().map(Some)
}

/// A step is one part, or an array of parts.
fn step_of(value: Value) -> Result<Step, String> {
    let parts = match value {
        Value::Array(parts) => parts,
        part => vec![part],
    };
    let parse = |part| serde_json::from_value::<Part>(part).map_err(|error| error.to_string());
    parts.into_iter().map(parse).collect::<Result<_, _>>().map(Step)
}

/// How many answers the model has already given after the user's message. Adjacent items of the
/// model are one answer; the step inside our call ids decides where parallel calls and their
/// outputs are interleaved.
fn steps_played(items: &[Value]) -> usize {
    let mut played = 0;
    let mut inside_a_group = false;
    for item in items {
        if !made_by_the_model(item) {
            inside_a_group = false;
            continue;
        }
        match step_of_call(item) {
            Some(step) => played = step + 1,
            None if !inside_a_group => played += 1,
            None => {}
        }
        inside_a_group = true;
    }
    played
}

fn made_by_the_model(item: &Value) -> bool {
    match item["type"].as_str() {
        Some("message") => item["role"] == "assistant",
        Some("reasoning") => true,
        Some(other) => other.ends_with("_call"),
        None => false,
    }
}

fn step_of_call(item: &Value) -> Option<usize> {
    let id = item["call_id"].as_str()?.strip_prefix(CALL_PREFIX)?;
    id.split('_').next()?.parse().ok()
}

fn user_text(item: &Value) -> Option<String> {
    if item["type"] == "agent_message" {
        // How a subagent of the newer kind gets its task.
        return item["encrypted_content"].as_str().map(str::to_owned);
    }
    if item["type"] != "message" || item["role"] != "user" {
        return None;
    }
    match &item["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            Some(parts.iter().filter_map(|part| part["text"].as_str()).collect::<String>())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::script::{chain, prompt, run, run_in_sandbox};
    use super::*;

    fn user(text: &str) -> Value {
        json!({"type":"message","role":"user","content":[{"type":"input_text","text":text}]})
    }

    fn chosen(items: Vec<Value>) -> Selected {
        select(&json!({"prompt_cache_key":"t","input":items})).expect("select")
    }

    #[test]
    fn the_step_follows_the_groups_after_the_users_message() {
        let script = user(&prompt("go", [run("touch a"), say("done")]));
        let context = user("<environment_context>…</environment_context>");
        let asked = json!({"type":"function_call","call_id":"call_s0_7","name":"exec_command"});
        let output = json!({"type":"function_call_output","call_id":"call_s0_7","output":"ok"});
        assert_eq!(chosen(vec![script.clone()]).step, run("touch a"));
        assert_eq!(chosen(vec![script.clone(), context]).index, 0);
        let items = vec![user("before"), script, asked, output];
        assert_eq!(chosen(items.clone()).step, say("done"));
        let after = [items, vec![json!({"type":"message","role":"assistant"})]].concat();
        assert_eq!(chosen(after.clone()).step, say("The script is over."));
        let next_turn = [after, vec![user("hi")]].concat();
        assert_eq!(chosen(next_turn).step, plain_answer("hi"));
    }

    #[test]
    fn interleaved_parallel_calls_are_one_step() {
        let step = chain([run_in_sandbox("true"), run_in_sandbox("false")]);
        let script = user(&prompt("go", [step, say("done")]));
        let call = |n: u64| json!({"type":"function_call","call_id":call_id(0, n)});
        let output = json!({"type":"function_call_output"});
        let items = vec![script, call(1), output.clone(), call(2), output];
        assert_eq!(chosen(items).step, say("done"));
    }

    #[test]
    fn a_step_keeps_its_key_over_retries_and_changes_it_with_the_turn() {
        let first = chosen(vec![user("a")]);
        assert_eq!(first.key, chosen(vec![user("a")]).key);
        let assistant = json!({"type":"message","role":"assistant"});
        assert_ne!(first.key, chosen(vec![user("a"), assistant, user("b")]).key);
    }

    #[test]
    fn a_wrong_script_is_an_error_that_names_the_fault() {
        let bad = |text: &str| select(&json!({"input":[user(text)]})).expect_err("must fail");
        assert!(bad("SCRIPT=[{\"txt\":\"a\"}]").contains("txt"));
        assert!(bad("SCRIPT=nonsense").contains("not JSON"));
        assert!(bad("SCRIPT={}").contains("not an array"));
        assert!(bad("SCRIPT=").contains("empty"));
        let trailing = select(&json!({"input":[user("SCRIPT=[{\"text\":\"a\"}] and more")]}));
        assert_eq!(trailing.expect("fine").step, say("a"));
        assert!(select(&Value::Null).is_ok());
    }
}
