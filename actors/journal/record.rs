//! Frames as the log of events keeps them.
//!
//! A record holds the durable frames of one publication. Version 1 says some things two or three
//! times; a record keeps what they have in common once:
//!
//! ```text
//! record   = { frame }
//! frame    = seq (8, big-endian; 0 while staged)  content (1)  durability (1)  audience (1)
//!            [ id length (2)  thread id ]         when the audience is a thread
//!            head length (4)  head                the tail up to the payload
//!            [ payload length (4)  payload ]      when the content is its own
//! ```

use cm_core::event::{Audience, Content, Durability, Frame, FrameBatch};
use cm_core::ids::{Seq, ThreadId};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How the envelope of a notification begins, and nothing else that the manager publishes.
const ENVELOPE: &[u8] = br#"{"source":"app_server","signalType":"notification","#;

/// A record that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is cut off or damaged")]
pub(super) struct Damaged;

/// Writes the durable frames of a batch; `numbers` gives the number of every frame of the batch.
pub(super) fn encode(batch: &FrameBatch, mut numbers: impl FnMut() -> Seq) -> Vec<u8> {
    let mut record = Vec::with_capacity(batch.bytes() / 2 + 64);
    for frame in batch.frames() {
        let seq = numbers();
        if frame.durability == Durability::Ephemeral {
            continue;
        }
        let Some(audience) = batch.audiences().get(frame.audience) else { continue };
        put(&mut record, seq, &frame, audience);
    }
    // It may wait for the disk for a while.
    record.shrink_to_fit();
    record
}

fn put(record: &mut Vec<u8>, seq: Seq, frame: &Frame<'_>, audience: &Audience) {
    record.extend_from_slice(&seq.0.to_be_bytes());
    record.push(match frame.content {
        Content::Own => 0,
        Content::Notification => 1,
        Content::Alias => 2,
    });
    record.push(match frame.durability {
        Durability::Ephemeral => 0,
        Durability::Recorded => 1,
        Durability::DurableFirst => 2,
    });
    match audience {
        Audience::Everyone => record.push(0),
        Audience::Unfiltered => record.push(1),
        Audience::Thread(thread) => {
            record.push(2);
            put_id(record, thread);
        }
        Audience::Family { thread, parent } => {
            record.push(3);
            put_id(record, thread);
            put_id(record, parent);
        }
    }
    let (head, payload) = frame.tail.split_at(frame.payload_at.min(frame.tail.len()));
    put_text(record, head);
    if frame.content == Content::Own {
        put_text(record, payload);
    }
}

fn put_id(record: &mut Vec<u8>, id: &ThreadId) {
    let id = id.as_str().as_bytes();
    // Ids have at most 128 bytes.
    record.extend_from_slice(&u16::try_from(id.len()).unwrap_or(0).to_be_bytes());
    record.extend_from_slice(id);
}

fn put_text(record: &mut Vec<u8>, text: &[u8]) {
    // A frame is about 1 MiB at the most: its params are replaced above that.
    record.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    record.extend_from_slice(text);
}

/// Reads a record: frames and their numbers.
///
/// # Errors
///
/// [`Damaged`].
pub(super) fn decode(record: &[u8]) -> Result<(FrameBatch, Vec<Seq>), Damaged> {
    let mut rest = Reader(record);
    let mut batch = FrameBatch::default();
    let mut numbers = Vec::new();
    // The payload of the closest envelope before: the manager's own events may stand between it
    // and the other frames of its notification.
    let mut envelope: &[u8] = b"null}";
    while !rest.0.is_empty() {
        let seq = Seq(u64::from_be_bytes(rest.array()?));
        let [content, durability, audience] = rest.array()?;
        let audience = match audience {
            0 => Audience::Everyone,
            1 => Audience::Unfiltered,
            2 => Audience::Thread(rest.id()?),
            3 => Audience::Family { thread: rest.id()?, parent: rest.id()? },
            _ => return Err(Damaged),
        };
        let durability = match durability {
            1 => Durability::Recorded,
            2 => Durability::DurableFirst,
            _ => return Err(Damaged),
        };
        let head = rest.text()?;
        let (content, payload) = match content {
            0 => {
                let own = rest.text()?;
                if own.starts_with(ENVELOPE) {
                    envelope = own;
                }
                (Content::Own, own.to_vec())
            }
            1 => (Content::Notification, notification_of(envelope)?),
            2 => (Content::Alias, alias_of(envelope)?),
            _ => return Err(Damaged),
        };
        let tail = [head, &payload].concat();
        batch.push_tail(&tail, head.len(), &audience, durability, content);
        numbers.push(seq);
    }
    Ok((batch, numbers))
}

/// What other frames of the same event repeat of an envelope.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: &'a RawValue,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

fn envelope(own: &[u8]) -> Result<Envelope<'_>, Damaged> {
    // The tail's own closing brace stands behind the payload.
    let payload = own.strip_suffix(b"}").ok_or(Damaged)?;
    serde_json::from_slice(payload).map_err(|_| Damaged)
}

fn notification_of(own: &[u8]) -> Result<Vec<u8>, Damaged> {
    let envelope = envelope(own)?;
    let mut payload = format!("{{\"method\":{}", envelope.method.get());
    // An envelope says `null` for params that were not there, which the notification leaves out.
    if let Some(params) = envelope.params.filter(|params| params.get() != "null") {
        payload.push_str(",\"params\":");
        payload.push_str(params.get());
    }
    payload.push_str("}}");
    Ok(payload.into_bytes())
}

fn alias_of(own: &[u8]) -> Result<Vec<u8>, Damaged> {
    let params = envelope(own)?.params.map(RawValue::get).filter(|params| *params != "null");
    Ok(format!("{}}}", params.unwrap_or("{}")).into_bytes())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    fn id(&mut self) -> Result<ThreadId, Damaged> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let id = std::str::from_utf8(self.take(length)?).map_err(|_| Damaged)?;
        ThreadId::parse(id).map_err(|_| Damaged)
    }

    fn text(&mut self) -> Result<&'a [u8], Damaged> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| Damaged)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cm_core::event::{Event, Method, SessionPieces};
    use cm_core::rpc::RawJson;
    use proptest::prelude::*;
    use serde_json::json;

    fn tails(batch: &FrameBatch) -> Vec<String> {
        let durable = batch.frames().filter(|frame| frame.durability != Durability::Ephemeral);
        durable.map(|frame| String::from_utf8(frame.tail.to_vec()).unwrap()).collect()
    }

    fn sample(params: Option<&RawJson>) -> FrameBatch {
        let mut batch = FrameBatch::default();
        let thread = ThreadId::parse("t1").unwrap();
        let session = SessionPieces::new(&thread, Some("title"), None);
        for name in ["item/completed", "item/agentMessage/delta", "turn/plan/updated", "x/y"] {
            let method = Method::new(name);
            let event = Event {
                session: &session,
                turn_id: Some("u"),
                received_at: "now",
                method: &method,
                params,
            };
            batch.plain(&event);
        }
        batch
            .push("approval", session.audience(), None, Durability::DurableFirst, &json!(1))
            .unwrap();
        batch
    }

    #[test]
    fn what_is_read_is_what_was_written_without_what_is_ephemeral() {
        let params = RawJson::encode(&json!({"threadId": "t1", "a": [1, "}"]})).unwrap();
        for params in [Some(&params), None] {
            let batch = sample(params);
            let mut seq = 100;
            let record = encode(&batch, || {
                seq += 1;
                Seq(seq)
            });
            let (read, numbers) = decode(&record).unwrap();
            assert_eq!(tails(&read), tails(&batch));
            assert_eq!(numbers.first(), Some(&Seq(101)));
            assert_eq!(numbers.last(), Some(&Seq(110)), "{numbers:?}");
            let contents: Vec<Content> = read.frames().map(|frame| frame.content).collect();
            assert_eq!(contents.iter().filter(|content| **content == Content::Own).count(), 4);
        }
    }

    #[test]
    fn an_event_of_the_managers_own_may_stand_within_a_notification() {
        let thread = ThreadId::parse("t1").unwrap();
        let session = SessionPieces::new(&thread, None, None);
        let params = RawJson::encode(&json!({"threadId": "t1"})).unwrap();
        let method = Method::new("thread/archived");
        let (turn_id, received_at, params) = (None, "now", Some(&params));
        let event = Event { session: &session, turn_id, received_at, method: &method, params };
        let mut batch = FrameBatch::default();
        batch.first(&event);
        let payload = json!({"reason": "archived"});
        let class = Durability::DurableFirst;
        batch.push("session_updated", &Audience::Everyone, None, class, &payload).unwrap();
        batch.last(&event);
        let (read, _) = decode(&encode(&batch, || Seq(1))).unwrap();
        assert_eq!(tails(&read), tails(&batch));
    }

    #[test]
    fn audiences_are_kept() {
        let id = |id: &str| ThreadId::parse(id).unwrap();
        let audiences = [
            Audience::Everyone,
            Audience::Unfiltered,
            Audience::Thread(id("t1")),
            Audience::Family { thread: id("t1"), parent: id("t2") },
        ];
        let mut batch = FrameBatch::default();
        for audience in &audiences {
            batch.push("approval", audience, None, Durability::DurableFirst, &json!({})).unwrap();
        }
        let (read, _) = decode(&encode(&batch, || Seq(1))).unwrap();
        assert_eq!(read.audiences(), audiences);
        assert_eq!(tails(&read), tails(&batch));
    }

    #[test]
    fn common_parts_are_kept_once() {
        let params = RawJson::encode(&json!({"text": "x".repeat(10_000)})).unwrap();
        let record = encode(&sample(Some(&params)), || Seq(1));
        assert!(record.len() < 33_000, "{}", record.len());
    }

    proptest! {
        #[test]
        fn a_damaged_record_is_refused_and_never_panics(
            cut in 0usize..2_000, flip in 0usize..2_000, bit in 0u8..8
        ) {
            let params = RawJson::encode(&json!({"threadId": "t1"})).unwrap();
            let mut record = encode(&sample(Some(&params)), || Seq(7));
            let place = flip % record.len();
            record[place] ^= 1 << bit;
            record.truncate(cut.max(1));
            let _ = decode(&record);
        }
    }
}
