//! Keys of rows, and the cursors that clients hold.

use crate::ids::ThreadId;
use crate::thread::digest;

/// What kind of row stands at a place; rows of one place stand in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowClass {
    /// An item, a request, or the word of what was dropped.
    Own,
    /// A row that is not the runtime's.
    Note,
    /// Why a turn failed.
    Reason,
}

/// Where a row stands. A key stays a place in the order when its row is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The ordinal of the row that it stands at.
    pub place: u64,
    /// What kind of row it is.
    pub class: RowClass,
    /// Its own ordinal.
    pub ordinal: u64,
}

/// Tells the cursors of one session from those of another one.
fn mark(session: &ThreadId) -> u64 {
    digest(session.as_str().as_bytes())
}

/// The numbers of a cursor of a session, if it is one.
fn numbers<const COUNT: usize>(
    kind: &str,
    session: &ThreadId,
    cursor: &str,
) -> Option<[u64; COUNT]> {
    let mut parts = cursor.split('.');
    if parts.next() != Some(kind) {
        return None;
    }
    let mut number = || {
        let part = parts.next()?;
        // What was written is compared as it was written: no signs, no zeros in front.
        let number = u64::from_str_radix(part, 16).ok()?;
        (format!("{number:x}") == part).then_some(number)
    };
    let session_mark = number()?;
    let mut found = [0; COUNT];
    for place in &mut found {
        *place = number()?;
    }
    (parts.next().is_none() && session_mark == mark(session)).then_some(found)
}

impl RowKey {
    /// The key as a cursor of a session.
    pub fn cursor(&self, session: &ThreadId) -> String {
        let class = self.class as u8;
        format!("r.{:x}.{:x}.{class:x}.{:x}", mark(session), self.place, self.ordinal)
    }

    /// Reads a cursor; `None` for what is none, or one of another session.
    pub fn parse_cursor(session: &ThreadId, cursor: &str) -> Option<Self> {
        let [place, class, ordinal] = numbers("r", session, cursor)?;
        let class = match class {
            0 => RowClass::Own,
            1 => RowClass::Note,
            2 => RowClass::Reason,
            _ => return None,
        };
        Some(Self { place, class, ordinal })
    }
}

/// The cursor of a turn of a session.
pub fn turn_cursor(session: &ThreadId, ordinal: u32) -> String {
    format!("t.{:x}.{ordinal:x}", mark(session))
}

/// Reads the cursor of a turn; `None` for what is none, or one of another session.
pub fn parse_turn_cursor(session: &ThreadId, cursor: &str) -> Option<u32> {
    let [ordinal] = numbers("t", session, cursor)?;
    u32::try_from(ordinal).ok()
}
