//! `supplemental-transcript.json`: rows that version 1 wrote as they happened.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::moment::moment_ms;
use crate::wire::TranscriptEntry;

/// Rows of a session that version 1 kept at the most, the latest ones.
const MOST_ROWS: usize = 5000;

/// Longest id of a row that is taken, in bytes.
const MOST_ID_BYTES: usize = 1024;

/// The file: rows of each session, still as text.
#[derive(Debug, Default)]
pub struct Ledger<'a> {
    /// Rows by the ids that the file names, whatever they are.
    pub sessions: HashMap<Cow<'a, str>, &'a RawValue>,
    /// What is wrong with the file; what stands before that is taken all the same.
    pub damage: Option<String>,
}

/// A row and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerRow {
    /// Counts over all rows of all sessions.
    pub sequence: u64,
    /// The row.
    pub entry: TranscriptEntry,
}

/// Reads the file as far as it can be understood.
pub fn read_ledger(text: &str) -> Ledger<'_> {
    let mut ledger = Ledger::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = File(&mut ledger.sessions).deserialize(&mut reader).and_then(|()| reader.end());
    ledger.damage = read.err().map(|error| error.to_string());
    ledger
}

type Sessions<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// The whole file.
struct File<'m, 'a>(&'m mut Sessions<'a>);

/// Its member `byThreadId`.
struct ByThread<'m, 'a>(&'m mut Sessions<'a>);

/// A text of the file without a copy where it needs none.
#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> DeserializeSeed<'a> for File<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for File<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Text(name)) = map.next_key()? {
            match name.as_ref() {
                "byThreadId" => map.next_value_seed(ByThread(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for ByThread<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for ByThread<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows by session")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(Text(session)) = map.next_key()? {
            let rows: &'a RawValue = map.next_value()?;
            self.0.insert(session, rows);
        }
        Ok(())
    }
}

/// Reads the rows of one session, in their order, and says how many could not be understood.
pub fn read_rows(rows: &RawValue) -> (Vec<LedgerRow>, usize) {
    let Ok(given) = serde_json::from_str::<Vec<&RawValue>>(rows.get()) else {
        return (Vec::new(), 1);
    };
    let total = given.len();
    let mut rows: Vec<LedgerRow> = given.into_iter().filter_map(read_row).collect();
    let malformed = total - rows.len();
    rows.sort_by_key(|row| row.sequence);
    // The later of two with one id counts.
    let mut last: HashMap<String, u64> = HashMap::new();
    for row in &rows {
        last.insert(row.entry.message_id.clone(), row.sequence);
    }
    rows.retain(|row| last.get(&row.entry.message_id) == Some(&row.sequence));
    rows.dedup_by(|later, earlier| later.entry.message_id == earlier.entry.message_id);
    let too_many = rows.len().saturating_sub(MOST_ROWS);
    rows.drain(..too_many);
    (rows, malformed)
}

fn read_row(raw: &RawValue) -> Option<LedgerRow> {
    let mut row: Value = serde_json::from_str(raw.get()).ok()?;
    let sequence = row.get("sequence")?.as_u64()?;
    let mut entry = row.get_mut("entry")?.take();
    let members = entry.as_object_mut()?;
    let mut moment = |name: &str| members.remove(name).as_ref().and_then(moment_ms);
    let (started_at, completed_at) = (moment("startedAt"), moment("completedAt"));
    members.retain(|name, value| name != "details" || value.is_string());
    let mut entry: TranscriptEntry = serde_json::from_value(entry).ok()?;
    (entry.started_at, entry.completed_at) = (started_at, completed_at);
    let id = &entry.message_id;
    let is_id = !id.is_empty() && id.len() <= MOST_ID_BYTES && !id.contains('\0');
    is_id.then_some(LedgerRow { sequence, entry })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(sequence: u64, id: &str, content: &str) -> Value {
        json!({ "sequence": sequence, "entry": { "messageId": id, "turnId": "t",
            "role": "system", "type": "note", "content": content, "status": "complete",
            "startedAt": 1_795_713_891_000_i64 } })
    }

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    #[test]
    fn rows_are_read_in_their_order_and_the_later_one_of_an_id_counts() {
        let rows = json!([row(3, "b", "3"), row(1, "a", "1"), row(2, "b", "2"), { "sequence": 4 },
            "x", row(5, "", ""), row(6, "\0", "")]);
        let (read, malformed) = read_rows(&raw(&rows));
        let said: Vec<&str> = read.iter().map(|row| row.entry.content.as_str()).collect();
        assert_eq!((said, malformed), (vec!["1", "3"], 4));
        assert_eq!(read_rows(&raw(&json!({}))).1, 1);
    }

    #[test]
    fn odd_times_are_left_out_and_seconds_are_seconds() {
        let mut odd = row(1, "a", "");
        odd["entry"]["startedAt"] = json!(1_795_713_891);
        odd["entry"]["completedAt"] = json!(0);
        odd["entry"]["details"] = json!(null);
        let entry = read_rows(&raw(&json!([odd]))).0.remove(0).entry;
        assert_eq!((entry.started_at, entry.completed_at), (Some(1_795_713_891_000), None));
        assert_eq!(entry.details, None);
    }

    #[test]
    fn the_latest_rows_are_kept() {
        let many: Vec<Value> = (0..5003).map(|at| row(at, &format!("m{at}"), "")).collect();
        let (read, _) = read_rows(&raw(&json!(many)));
        assert_eq!((read.len(), read[0].sequence), (5000, 3));
    }

    #[test]
    fn what_stands_before_the_damage_is_read() {
        let whole = json!({ "version": 1, "sequence": 9,
            "byThreadId": { "a": [row(1, "m", "")], "__proto__": [], "b": [row(2, "n", "")] } })
        .to_string();
        let ledger = read_ledger(&whole);
        assert_eq!((ledger.sessions.len(), ledger.damage.as_ref()), (3, None));
        let cut = whole.find("\"b\"").unwrap() + 10;
        let ledger = read_ledger(&whole[..cut]);
        assert_eq!(ledger.sessions.len(), 2);
        assert!(ledger.damage.is_some());
        for text in ["", "[]", "{}x", "null", "{\"byThreadId\":7}"] {
            let ledger = read_ledger(text);
            assert!(ledger.sessions.is_empty() && ledger.damage.is_some(), "{text}");
        }
    }
}
