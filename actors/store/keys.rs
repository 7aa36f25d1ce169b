//! Keys of the one tree.
//!
//! A key is a letter, a zero byte and its parts; ids never hold a zero byte, and ordinals are
//! big-endian, so that keys sort as their parts do.

use cm_core::idempotency::IdempotencyKey;
use cm_core::ids::{JobId, ProjectId, RequestId, Seq, ThreadId};

/// Identity of the store's history.
pub const EPOCH: &[u8] = b"m\0epoch";
/// Highest sequence number that is reserved, eight bytes big-endian.
pub const SEQ_RESERVED: &[u8] = b"m\0seq";

/// What is known of the log of events as a whole.
pub const LOG: &[u8] = b"m\0log";
/// The last number that was given before an orderly end, eight bytes big-endian; removed at the
/// next start.
pub const LOG_END: &[u8] = b"m\0log-end";
/// Numbers that lives which ended without order had no time to keep.
pub const LOG_UNCERTAIN: &[u8] = b"m\0log-uncertain";

/// Durable events of one publication, by the number of its last frame.
pub fn event(last: Seq) -> Vec<u8> {
    [b"e\0", &last.0.to_be_bytes()[..]].concat()
}

/// All events.
pub fn events() -> Vec<u8> {
    b"e\0".to_vec()
}

/// The number in the key of an event.
pub fn event_seq(key: &[u8]) -> Option<Seq> {
    let number = key.strip_prefix(b"e\0")?;
    number.try_into().ok().map(|bytes| Seq(u64::from_be_bytes(bytes)))
}

/// Events that were stored with the change that they tell of and were not shown yet. Ids sort by
/// the time at which they were made.
pub fn staged(id: uuid::Uuid) -> Vec<u8> {
    [b"p\0", &id.as_bytes()[..]].concat()
}

/// All staged events.
pub fn staged_all() -> Vec<u8> {
    b"p\0".to_vec()
}

/// Form of everything in the store, as text; stored bare, so that every version can read it.
pub const FORMAT: &[u8] = b"m\0format";
/// Number of the last group of writes, eight bytes big-endian.
pub const COMMIT: &[u8] = b"m\0commit";

/// What clients changed for new sessions.
pub const DEFAULTS: &[u8] = b"m\0defaults";

/// The latest requests of the child that belong to no thread.
pub const OWN_REQUESTS: &[u8] = b"m\0requests";

/// How the store was restored, if it was.
pub(super) const RESTORED: &[u8] = b"m\0restored";

/// One chunk of a long value.
pub(super) fn chunk(generation: u64, index: u64) -> Vec<u8> {
    [&chunks_of(generation)[..], &index.to_be_bytes()].concat()
}

/// All chunks of one long value.
pub(super) fn chunks_of(generation: u64) -> Vec<u8> {
    [b"c\0", &generation.to_be_bytes()[..]].concat()
}

/// All chunks.
pub(super) const CHUNKS: &[u8] = b"c\0";

/// Marks chunks that belong to nothing: not yet, or no more. The value is empty.
pub(super) fn loose(generation: u64) -> Vec<u8> {
    [b"g\0", &generation.to_be_bytes()[..]].concat()
}

/// All marks of [`loose`].
pub(super) const LOOSE: &[u8] = b"g\0";

/// The number at the place of the generation in a key of [`chunk`] or [`loose`].
pub(super) fn generation(key: &[u8]) -> Option<u64> {
    key.get(2..)?.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Whether a key is the store's own: not part of what is exported or shown.
pub(super) fn is_internal(key: &[u8]) -> bool {
    key.starts_with(CHUNKS) || key.starts_with(LOOSE) || key == FORMAT || key == COMMIT
}

/// A thread's record.
pub fn thread(id: &ThreadId) -> Vec<u8> {
    [b"t\0", id.as_str().as_bytes()].concat()
}

/// All threads.
pub fn threads() -> Vec<u8> {
    b"t\0".to_vec()
}

/// One turn of a thread.
pub fn turn(id: &ThreadId, ordinal: u32) -> Vec<u8> {
    [&turns(id)[..], &ordinal.to_be_bytes()].concat()
}

/// All turns of a thread.
pub fn turns(id: &ThreadId) -> Vec<u8> {
    [b"u\0", id.as_str().as_bytes(), b"\0"].concat()
}

/// One item of a thread.
pub fn item(id: &ThreadId, ordinal: u64) -> Vec<u8> {
    [&items(id)[..], &ordinal.to_be_bytes()].concat()
}

/// All items of a thread.
pub fn items(id: &ThreadId) -> Vec<u8> {
    [b"i\0", id.as_str().as_bytes(), b"\0"].concat()
}

/// What the runtime says of one item of a thread, beside the item's record.
pub fn body(id: &ThreadId, ordinal: u64) -> Vec<u8> {
    [&bodies(id)[..], &ordinal.to_be_bytes()].concat()
}

/// What the runtime says of all items of a thread.
pub fn bodies(id: &ThreadId) -> Vec<u8> {
    [b"b\0", id.as_str().as_bytes(), b"\0"].concat()
}

/// The ordinal at the end of the key of an item or a body.
pub fn ordinal(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// One row of a thread that is not the runtime's.
pub fn note(id: &ThreadId, ordinal: u64) -> Vec<u8> {
    [&notes(id)[..], &ordinal.to_be_bytes()].concat()
}

/// All rows of a thread that are not the runtime's.
pub fn notes(id: &ThreadId) -> Vec<u8> {
    [b"n\0", id.as_str().as_bytes(), b"\0"].concat()
}

/// Where a row that is not the runtime's is found by its id; the value is its ordinal, eight bytes
/// big-endian.
pub fn note_id(id: &ThreadId, message_id: &str) -> Vec<u8> {
    [&note_ids(id)[..], message_id.as_bytes()].concat()
}

/// All places of [`note_id`].
pub fn note_ids(id: &ThreadId) -> Vec<u8> {
    [b"k\0", id.as_str().as_bytes(), b"\0"].concat()
}

/// A request's record.
pub fn request(id: &RequestId) -> Vec<u8> {
    [b"r\0", id.as_str().as_bytes()].concat()
}

/// The params of a request that are too long for its record, as they came.
pub fn request_params(id: &RequestId) -> Vec<u8> {
    [b"d\0", id.as_str().as_bytes()].concat()
}

/// The place of a request among its thread's rows; the value is the request's id.
pub fn thread_request(id: &ThreadId, ordinal: u64) -> Vec<u8> {
    [&thread_requests(id)[..], &ordinal.to_be_bytes()].concat()
}

/// All requests of a thread.
pub fn thread_requests(id: &ThreadId) -> Vec<u8> {
    [b"q\0", id.as_str().as_bytes(), b"\0"].concat()
}

/// Marks a thread with a running turn or a pending request, or one that is still to be compared
/// with the runtime's history, so that a boot finds those without reading all threads.
pub fn open(id: &ThreadId) -> Vec<u8> {
    [b"o\0", id.as_str().as_bytes()].concat()
}

/// All marks of [`open`].
pub fn opens() -> Vec<u8> {
    b"o\0".to_vec()
}

/// Whether a key belongs to a request: its record, its place or its params.
pub fn is_request(key: &[u8]) -> bool {
    [b"r\0", b"q\0", b"d\0"].iter().any(|prefix| key.starts_with(*prefix))
}

/// Marks a deleted thread, so that nothing of it is taken up again.
pub fn tombstone(id: &ThreadId) -> Vec<u8> {
    [b"x\0", id.as_str().as_bytes()].concat()
}

/// A project's record.
pub fn project(id: &ProjectId) -> Vec<u8> {
    [b"w\0", id.as_str().as_bytes()].concat()
}

/// All projects.
pub fn projects() -> Vec<u8> {
    b"w\0".to_vec()
}

/// What is known of a client's idempotency key.
pub fn idempotency(key: &IdempotencyKey) -> Vec<u8> {
    [IDEMPOTENCY, key.as_str().as_bytes()].concat()
}

/// All of [`idempotency`].
pub const IDEMPOTENCY: &[u8] = b"y\0";

/// The body of the answer that is kept for an idempotency key.
pub fn kept_answer(key: &IdempotencyKey) -> Vec<u8> {
    [b"z\0", key.as_str().as_bytes()].concat()
}

/// A background job.
pub fn job(id: &JobId) -> Vec<u8> {
    [JOBS, id.as_str().as_bytes()].concat()
}

/// All background jobs.
pub const JOBS: &[u8] = b"j\0";

/// The record of a reload of extensions, by its time and what tells it from others.
pub fn audit(at_ms: i64, digest: u64) -> Vec<u8> {
    [AUDITS, &at_ms.max(0).to_be_bytes(), &digest.to_be_bytes()].concat()
}

/// All records of reloads of extensions.
pub const AUDITS: &[u8] = b"a\0";

/// Marks what was taken over from version 1.
pub fn taken(kind: &str, id: &str) -> Vec<u8> {
    [b"v\0", kind.as_bytes(), b"\0", id.as_bytes()].concat()
}

/// A key made readable for messages.
pub fn readable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
