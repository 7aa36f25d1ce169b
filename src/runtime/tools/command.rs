//! `/run`: a shell command behind an approval.

use serde_json::{Value, json};

use super::approval::{Decision, OFFERED};
use super::shell::{Ran, run};
use crate::turn::{Stop, Turn, command, complete};
use crate::wire::lock;

/// Asks, runs, reports. The answer is a line for the closing message.
pub(crate) fn run_command(turn: &mut Turn, text: &str) -> Result<String, Stop> {
    let settings = turn.settings();
    let line = |what: &str| format!("- run `{text}`: {what}");
    // There is no sandbox to run it in, so that it would be more than read-only.
    if settings.is_read_only() {
        return Ok(line("refused, the sandbox is read-only"));
    }
    let cwd = settings.cwd.clone();
    if !std::path::Path::new(&cwd).is_dir() {
        return Ok(line(&format!("failed, the working directory {cwd} does not exist")));
    }
    let mut item = command(&format!("/bin/sh -c {}", quoted(text)), text, &cwd);
    let key = (cwd.clone(), text.to_owned());
    let remembered = lock(&turn.thread.state).accepted_commands.contains(&key);
    if settings.never_asks() {
        turn.item_started(&item);
        complete(&mut item, json!({ "status": "declined" }));
        turn.item_completed(&item);
        return Ok(line("declined, the approval policy is never and nothing is sandboxed"));
    }
    if remembered {
        turn.item_started(&item);
    } else {
        let decision = approve(turn, &item, &cwd)?;
        if let Some((status, reason)) = decision.refusal() {
            complete(&mut item, json!({ "status": status }));
            turn.item_completed(&item);
            turn.status(&[]);
            return match decision {
                Decision::Cancel => Err(Stop::Interrupted),
                _ => Ok(line(reason)),
            };
        }
        turn.status(&[]);
        if decision == Decision::AcceptForSession {
            lock(&turn.thread.state).accepted_commands.insert(key);
        }
    }
    let ran = match run(turn, &item["id"], text, &cwd)? {
        Ok(ran) => ran,
        Err(error) => {
            complete(&mut item, json!({ "status": "failed", "aggregatedOutput": "" }));
            turn.item_completed(&item);
            return Ok(line(&format!("failed: {error}")));
        }
    };
    complete(&mut item, outcome(&ran));
    turn.item_completed(&item);
    Ok(line(&ran.summary))
}

fn approve(turn: &mut Turn, item: &Value, cwd: &str) -> Result<Decision, Stop> {
    turn.status(&["waitingOnApproval"]);
    turn.item_started(item);
    let params = json!({
        "kind": "command", "itemId": item["id"], "startedAtMs": item["startedAtMs"],
        "environmentId": "local", "reason": "Nothing is sandboxed here, so every command asks.",
        "command": item["command"], "cwd": cwd, "commandActions": item["commandActions"],
        "proposedExecpolicyAmendment": null, "availableDecisions": OFFERED,
    });
    let answer = turn.ask("item/commandExecution/requestApproval", params)?;
    Ok(Decision::of(&answer))
}

fn outcome(ran: &Ran) -> Value {
    json!({
        "status": if ran.exit_code == 0 { "completed" } else { "failed" },
        "source": "unifiedExecStartup", "processId": ran.pid.to_string(),
        "aggregatedOutput": ran.output, "exitCode": ran.exit_code, "durationMs": ran.duration_ms,
    })
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
