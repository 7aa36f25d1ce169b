//! `agent-extension-audit.json`: who reloaded extensions, and what came of it.

use serde_json::Value;

use super::moment::moment_ms;
use super::skips::Skips;
use crate::job::{AUDIT_RECORD_VERSION, AuditRecord};
use crate::thread::digest;

/// Reads the file; records are kept as they are.
///
/// # Errors
///
/// What is wrong with it, when it is no file of records.
pub fn read_audit(text: &str) -> Result<(Vec<AuditRecord>, Skips), String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let records = file.get("records").and_then(Value::as_array);
    let records = records.ok_or_else(|| "it has no list of records".to_owned())?;
    let mut read = Vec::new();
    let mut skips = Skips::default();
    for (index, record) in records.iter().enumerate() {
        let at_ms = record.get("recordedAt").and_then(moment_ms);
        let (true, Some(at_ms)) = (record.is_object(), at_ms) else {
            skips.add(format!("audit record number {index}"), "it does not say when it was made");
            continue;
        };
        read.push(AuditRecord {
            version: AUDIT_RECORD_VERSION,
            at_ms,
            digest: digest(record.to_string().as_bytes()),
            record: record.clone(),
        });
    }
    Ok((read, skips))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_are_kept_as_they_are() {
        let record = json!({ "reloadId": "r", "recordedAt": "2026-11-26T17:24:51.377Z",
            "result": "success", "unknown": [1] });
        let file = json!({ "version": 1, "records": [record, { "reloadId": "s" }, 7] });
        let (read, skips) = read_audit(&file.to_string()).unwrap();
        assert_eq!((read.len(), skips.len()), (1, 2));
        assert_eq!((&read[0].record, read[0].at_ms), (&record, 1_795_713_891_377));
        assert!(read_audit("").is_err() && read_audit("[]").is_err());
    }
}
