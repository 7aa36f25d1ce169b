//! `orchestrator-jobs.json`: background jobs.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::skips::{Skips, shown};
use crate::job::{JOB_RECORD_VERSION, JobId, JobRecord};
use crate::wire::{Job, JobState};

/// Why a job that had not ended failed.
pub const IMPORTED: &str = "imported";

/// Reads the file. What had not ended is failed, with the reason `imported`: what it was doing is
/// not known, and nothing is done twice.
///
/// # Errors
///
/// What is wrong with it, when it is no file of jobs.
pub fn read_jobs(text: &str, now_iso: &str) -> Result<(Vec<JobRecord>, Skips), String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let jobs = file.get("jobs").and_then(Value::as_array);
    let jobs = jobs.ok_or_else(|| "it has no list of jobs".to_owned())?;
    let mut records: Vec<JobRecord> = Vec::new();
    let mut skips = Skips::default();
    for (index, value) in jobs.iter().enumerate() {
        let named = value.get("id").and_then(Value::as_str).map(shown);
        let what = format!("job {}", named.unwrap_or_else(|| format!("number {index}")));
        match read_job(value, now_iso) {
            Ok(record) => records.push(record),
            Err(why) => skips.add(what, why),
        }
    }
    // The later of two with one id counts, as in version 1.
    let mut seen = HashSet::new();
    records.reverse();
    records.retain(|record| seen.insert(record.id.as_str().to_owned()));
    records.reverse();
    Ok((records, skips))
}

fn read_job(value: &Value, now_iso: &str) -> Result<JobRecord, String> {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        // Early files lack what was not known yet.
        for name in [
            "sourceSessionId",
            "dedupeKey",
            "result",
            "error",
            "startedAt",
            "completedAt",
            "cancelRequestedAt",
            "nextAttemptAt",
            "lastAttemptAt",
        ] {
            members.entry(name).or_insert(Value::Null);
        }
        members.entry("runningContext").or_insert(json!({ "threadId": null, "turnId": null }));
    }
    let mut job: Job = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let id = JobId::parse(&job.id).map_err(|error| error.to_string())?;
    if matches!(job.state, JobState::Queued | JobState::Running) {
        job.state = JobState::Failed;
        job.error = Some(IMPORTED.to_owned());
        job.completed_at = Some(now_iso.to_owned());
        job.next_attempt_at = None;
    }
    Ok(JobRecord { version: JOB_RECORD_VERSION, id, imported: true, job })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, state: &str) -> Value {
        json!({ "id": id, "type": "agent_instruction", "version": 1, "projectId": "p",
            "sourceSessionId": null, "priority": "interactive", "state": state, "dedupeKey": null,
            "payload": {}, "result": null, "error": null, "attempts": 1, "maxAttempts": 2,
            "createdAt": "2026-11-26T17:24:51.377Z", "startedAt": null, "completedAt": null,
            "nextAttemptAt": "2026-11-26T17:24:52.377Z", "lastAttemptAt": null })
    }

    #[test]
    fn what_had_not_ended_is_failed_and_what_had_is_as_it_was() {
        let file = json!({ "version": 1, "jobs": [job("a", "queued"), job("b", "running"),
            job("c", "completed"), job("c", "canceled"), job("d", "odd"), job("../e", "queued"), 7] });
        let (jobs, skips) = read_jobs(&file.to_string(), "now").unwrap();
        let seen: Vec<_> =
            jobs.iter().map(|record| (record.id.as_str(), record.job.state)).collect();
        assert_eq!(
            seen,
            [("a", JobState::Failed), ("b", JobState::Failed), ("c", JobState::Canceled)]
        );
        let failed = &jobs[0].job;
        assert_eq!(failed.error.as_deref(), Some(IMPORTED));
        assert_eq!((failed.completed_at.as_deref(), &failed.next_attempt_at), (Some("now"), &None));
        assert_eq!(jobs[2].job.error, None);
        assert_eq!(skips.len(), 3, "{skips:?}");
        assert!(read_jobs("{", "now").is_err() && read_jobs("{}", "now").is_err());
    }
}
