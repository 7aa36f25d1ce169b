//! Frames that are published together.

use serde::Serialize;

use crate::ids::ThreadId;

/// Who receives a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Sockets without a filter, and those filtered to the thread.
    Thread(ThreadId),
    /// Those of [`Audience::Thread`], and sockets filtered to the thread whose subagent it is.
    Family {
        /// The thread.
        thread: ThreadId,
        /// Whose subagent it is.
        parent: ThreadId,
    },
    /// Sockets without a filter.
    Unfiltered,
    /// Every socket, whatever its filter.
    Everyone,
}

impl Audience {
    /// Whether a subscriber with this filter receives it.
    pub fn reaches(&self, filter: Option<&str>) -> bool {
        match (self, filter) {
            (Self::Everyone, _) | (_, None) => true,
            (Self::Thread(thread), Some(filter)) => thread.as_str() == filter,
            (Self::Family { thread, parent }, Some(filter)) => {
                [thread, parent].iter().any(|id| id.as_str() == filter)
            }
            (Self::Unfiltered, Some(_)) => false,
        }
    }
}

/// How durable a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Token deltas, command output, usage: kept in the ring only; the completed item supersedes
    /// them.
    Ephemeral,
    /// Items, turns, status: published at once, committed right behind.
    Recorded,
    /// Acknowledged commands, requests and decisions: committed first, then shown.
    DurableFirst,
}

/// What a frame says beside the frames before it. Version 1 says some things two or three times;
/// whoever wants each thing once passes over what is not [`Content::Own`], and the log of events
/// keeps the common part once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Something of its own.
    Own,
    /// `{method, params}` of the closest own frame before it.
    Notification,
    /// The params of the closest own frame before it.
    Alias,
}

/// Where a frame lies in the text of its batch, and what it is.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Where it ends; it begins where the one before it ends.
    end: usize,
    /// Where its payload begins, counted from its own beginning.
    payload_at: usize,
    audience: usize,
    durability: Durability,
    content: Content,
}

/// One frame of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// `"type":…,"threadId":…,"payload":…}`: everything after the numbers.
    pub tail: &'a [u8],
    /// Where the payload begins in the tail.
    pub payload_at: usize,
    /// Who receives it, as an index into [`FrameBatch::audiences`].
    pub audience: usize,
    /// How durable it is.
    pub durability: Durability,
    /// What it says beside the frames before it.
    pub content: Content,
}

/// Frames that are published together, without their numbers, in one piece of memory.
#[derive(Debug, Clone, Default)]
pub struct FrameBatch {
    text: Vec<u8>,
    marks: Vec<Mark>,
    audiences: Vec<Audience>,
}

impl FrameBatch {
    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Frames.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Bytes of all tails.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The audiences that frames point to.
    pub fn audiences(&self) -> &[Audience] {
        &self.audiences
    }

    /// Whether any frame is kept beyond the ring.
    pub fn is_durable(&self) -> bool {
        self.marks.iter().any(|mark| mark.durability != Durability::Ephemeral)
    }

    /// The frames, in order.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let mut start = 0;
        self.marks.iter().map(move |mark| {
            let tail = self.text.get(start..mark.end).unwrap_or_default();
            start = mark.end;
            Frame {
                tail,
                payload_at: mark.payload_at,
                audience: mark.audience,
                durability: mark.durability,
                content: mark.content,
            }
        })
    }

    /// Adds a frame of the manager's own.
    ///
    /// The thread id in the frame is the audience's, or `shown` where the audience is wider.
    ///
    /// # Errors
    ///
    /// When the payload cannot be written as JSON; nothing is added then.
    pub fn push<P: Serialize>(
        &mut self,
        kind: &str,
        audience: &Audience,
        shown: Option<&ThreadId>,
        durability: Durability,
        payload: &P,
    ) -> Result<(), serde_json::Error> {
        let start = self.text.len();
        let thread_id = match audience {
            Audience::Thread(id) | Audience::Family { thread: id, .. } => Some(id),
            Audience::Unfiltered | Audience::Everyone => shown,
        };
        let written = (|| {
            self.text.extend_from_slice(b"\"type\":");
            serde_json::to_writer(&mut self.text, kind)?;
            self.text.extend_from_slice(b",\"threadId\":");
            serde_json::to_writer(&mut self.text, &thread_id)?;
            self.text.extend_from_slice(b",\"payload\":");
            let payload_at = self.text.len() - start;
            serde_json::to_writer(&mut self.text, payload)?;
            self.text.push(b'}');
            Ok(payload_at)
        })();
        match written {
            Ok(payload_at) => {
                self.end(payload_at, audience, durability, Content::Own);
                Ok(())
            }
            Err(error) => {
                self.text.truncate(start);
                Err(error)
            }
        }
    }

    /// Adds a frame whose tail is known.
    pub fn push_tail(
        &mut self,
        tail: &[u8],
        payload_at: usize,
        audience: &Audience,
        durability: Durability,
        content: Content,
    ) {
        self.text.extend_from_slice(tail);
        self.end(payload_at, audience, durability, content);
    }

    /// Where the next frame is written; [`FrameBatch::end`] ends it.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Ends the frame that was written.
    pub(super) fn end(
        &mut self,
        payload_at: usize,
        audience: &Audience,
        durability: Durability,
        content: Content,
    ) {
        let audience = self.audience(audience);
        let mark = Mark { end: self.text.len(), payload_at, audience, durability, content };
        self.marks.push(mark);
    }

    /// The index of an audience. Nearly always it is the one before.
    fn audience(&mut self, audience: &Audience) -> usize {
        let known = self.audiences.iter().rposition(|known| known == audience);
        known.unwrap_or_else(|| {
            self.audiences.push(audience.clone());
            self.audiences.len() - 1
        })
    }

    /// Adds the frames of another batch behind these.
    pub fn append(&mut self, other: &Self) {
        for frame in other.frames() {
            if let Some(audience) = other.audiences.get(frame.audience) {
                let Frame { tail, payload_at, durability, content, .. } = frame;
                self.push_tail(tail, payload_at, audience, durability, content);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn frames_of_a_batch_are_what_was_pushed() {
        let thread = ThreadId::parse("t1").unwrap();
        let mut batch = FrameBatch::default();
        let audience = Audience::Thread(thread.clone());
        let durability = Durability::DurableFirst;
        batch.push("approval", &audience, None, durability, &json!({"a": 1})).unwrap();
        batch.push("x", &Audience::Everyone, Some(&thread), durability, &json!(null)).unwrap();
        let mut other = FrameBatch::default();
        other.append(&batch);
        assert_eq!((other.len(), other.audiences().len()), (2, 2));
        let tails: Vec<Value> = other
            .frames()
            .map(|frame| {
                let text = [b"{", frame.tail].concat();
                serde_json::from_slice(&text).unwrap()
            })
            .collect();
        assert_eq!(tails[0], json!({"type": "approval", "threadId": "t1", "payload": {"a": 1}}));
        assert_eq!(tails[1], json!({"type": "x", "threadId": "t1", "payload": null}));
        let first = other.frames().next().unwrap();
        assert_eq!(&first.tail[first.payload_at..], b"{\"a\":1}}");
    }
}
