//! What a subscriber was told over all its connections, and comparing it with what is kept.

use std::collections::BTreeMap;

use cm_testkit::app::Frame;

/// Whether a frame is of the kind that is never kept.
fn is_ephemeral(frame: &Frame) -> bool {
    frame["type"] == "app_server.item.agent_message.delta"
        || frame["payload"]["method"] == "item/agentMessage/delta"
}

/// The frames that are kept, by their number.
pub(crate) fn durable(frames: &[Frame]) -> BTreeMap<u64, Frame> {
    let events = frames.iter().filter(|frame| {
        !matches!(frame["type"].as_str(), Some("ready" | "snapshot" | "reset"))
            && !is_ephemeral(frame)
    });
    events.map(|frame| (frame["seq"].as_u64().expect("a number"), frame.clone())).collect()
}

/// What a subscriber wants to hear of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interest {
    /// Each thing once.
    pub(crate) single: bool,
    /// One session, and what is told to all.
    pub(crate) session: Option<String>,
}

impl Interest {
    fn covers(&self, frame: &Frame) -> bool {
        let kind = frame["type"].as_str().unwrap_or_default();
        let to_all = ["session_updated", "session_deleted", "runtime_state"].contains(&kind);
        let session = self.session.as_ref();
        (to_all || session.is_none_or(|session| frame["threadId"] == session.as_str()))
            && !(self.single && kind == "notification")
    }
}

/// Everything durable between two numbers, without a gap: from the first connection or a `reset`
/// to the next `reset` or the end.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    /// It is about everything behind this number,
    pub(crate) after: u64,
    /// up to this one.
    pub(crate) upto: u64,
    /// What was wanted behind which number, in their order.
    wanted: Vec<(u64, Interest)>,
    /// The durable frames by their number.
    pub(crate) frames: BTreeMap<u64, Frame>,
    /// Why the next stretch began.
    pub(crate) reset: Option<String>,
}

/// What a subscriber was told, which comes back where it left off.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The history that the numbers belong to; empty before the first connection.
    epoch: String,
    /// What it wants to hear of now.
    interest: Interest,
    pub(crate) stretches: Vec<Stretch>,
}

impl Told {
    /// Where it left off; `None` before the first connection.
    pub(crate) fn position(&self) -> Option<String> {
        let last = self.stretches.last()?;
        Some(format!("{}:{}", self.epoch, last.upto))
    }

    /// From here on it is told of something else.
    pub(crate) fn comes_back(&mut self, interest: Interest) {
        if let Some(last) = self.stretches.last_mut() {
            last.wanted.push((last.upto, interest.clone()));
        }
        self.interest = interest;
    }

    /// Takes a frame, in the order in which they come.
    #[track_caller]
    pub(crate) fn take(&mut self, frame: Frame) {
        let seq = frame["seq"].as_u64();
        match (frame["type"].as_str(), self.stretches.last_mut()) {
            (Some("ready"), None) => {
                self.epoch = frame["epoch"].as_str().expect("an epoch").to_owned();
                self.begin(seq.expect("a number"));
            }
            // Where the server stands says nothing to one who came back with a position, and a
            // view of an open session is no event.
            (Some("ready" | "snapshot"), Some(_)) => {}
            (Some("reset"), Some(last)) => {
                last.reset = Some(frame["reason"].as_str().expect("a reason").to_owned());
                self.begin(seq.expect("a number"));
            }
            (_, Some(last)) => {
                let seq = seq.unwrap_or_else(|| panic!("an event without a number: {frame}"));
                assert!(seq > last.upto, "{seq} comes after {}: {frame}", last.upto);
                assert_eq!(frame["epoch"], self.epoch.as_str(), "{frame}");
                last.upto = seq;
                if !is_ephemeral(&frame) {
                    last.frames.insert(seq, frame);
                }
            }
            (_, None) => panic!("the first frame is not `ready`: {frame}"),
        }
    }

    fn begin(&mut self, after: u64) {
        let wanted = vec![(after, self.interest.clone())];
        self.stretches.push(Stretch { after, upto: after, wanted, ..Stretch::default() });
    }

    /// Compares every stretch with everything that is kept: nothing is missing, nothing is
    /// another. What was told and is not kept is forgiven only where the subscriber was told so by
    /// a `reset` right behind it; answers how many frames that were.
    #[track_caller]
    pub(crate) fn check(&self, kept: &BTreeMap<u64, Frame>) -> usize {
        let mut forgiven = 0;
        for stretch in &self.stretches {
            let (after, upto) = (stretch.after, stretch.upto);
            for (seq, frame) in kept.range(after + 1..).take_while(|(seq, _)| **seq <= upto) {
                let wanted = stretch.wanted.iter().rfind(|(behind, _)| behind < seq);
                let wanted = wanted.is_some_and(|(_, interest)| interest.covers(frame));
                let told = stretch.frames.get(seq);
                assert_eq!(told, wanted.then_some(frame), "a silent gap behind {after}");
            }
            let mut not_kept = stretch.frames.keys().filter(|seq| !kept.contains_key(seq));
            if let Some(first) = not_kept.next() {
                let last_kept = kept.range(..=upto).next_back().map_or(0, |(seq, _)| *seq);
                let forgivable = stretch.reset.is_some() && last_kept < *first;
                let why = format!("after {after}, up to {upto}, kept up to {last_kept}");
                assert!(
                    forgivable,
                    "{first} was told and is lost; {why}: {}",
                    stretch.frames[first]
                );
                forgiven += 1 + not_kept.count();
            }
        }
        forgiven
    }
}
