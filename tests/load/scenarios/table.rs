//! Names and sizes of the scenarios.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::bench::Bench;
use super::{big_line, boot, fanout, latency, level, messages, mix, reads, start, stopped, writes};
use crate::error::LoadError;
use crate::report::Figures;

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Start to ready, and memory when idle
    Start,
    /// One subscriber, deltas as fast as they are taken
    #[value(name = "fanout-1")]
    Fanout1,
    /// 100 subscribers, the same
    #[value(name = "fanout-100")]
    Fanout100,
    /// 1,000 subscribers, the same
    #[value(name = "fanout-1000")]
    Fanout1000,
    /// 10 subscribers at 500 deltas a second: how late they are
    #[value(name = "latency-10")]
    Latency10,
    /// 1,000 subscribers at 10 deltas a second: how late they are
    #[value(name = "latency-1000")]
    Latency1000,
    /// What a subscriber costs that stops reading
    StoppedReader,
    /// What one stopped and one slow subscriber cost 98 good ones
    Mix,
    /// Restart on many sessions
    Boot,
    /// Messages one after another, each turn ends at once
    Messages,
    /// One line of 100 MB, and health meanwhile
    BigLine,
    /// Floods over many sessions one after another: memory levels off
    Level,
    /// Health on 8 connections
    Health,
    /// The first page of the list with 10 sessions, and a walk through all
    #[value(name = "list-10")]
    List10,
    /// The same with 1,000
    #[value(name = "list-1000")]
    List1000,
    /// The same with 10,000
    #[value(name = "list-10000")]
    List10000,
    /// A session of 100 rows on 8 connections
    #[value(name = "transcript-100")]
    Transcript100,
    /// A session of 10,000 rows, whole and its first page
    #[value(name = "transcript-10000")]
    Transcript10000,
    /// Durable writes with 10,000 sessions, and the memory of these
    Writes,
}

/// How much of everything; a scenario looks at what concerns it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    /// Subscribers.
    pub(crate) subscribers: usize,
    /// Deltas of a flood.
    pub(crate) deltas: u64,
    /// Bytes of text in a delta, or of the large line.
    pub(crate) bytes: usize,
    /// Paced deltas per second.
    pub(crate) rate: u64,
    /// Seconds of pacing.
    pub(crate) seconds: u64,
    /// Sessions.
    pub(crate) sessions: usize,
    /// Messages.
    pub(crate) messages: usize,
}

impl Sizes {
    /// For the report.
    pub(crate) fn to_json(self) -> Value {
        json!({
            "subscribers": self.subscribers,
            "deltas": self.deltas,
            "bytes": self.bytes,
            "rate": self.rate,
            "seconds": self.seconds,
            "sessions": self.sessions,
            "messages": self.messages,
        })
    }
}

impl Scenario {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The sizes at which it is reported.
    pub(crate) fn sizes(self) -> Sizes {
        let flood = |subscribers, deltas| Sizes { subscribers, deltas, bytes: 16, ..few() };
        match self {
            Self::Start => Sizes { messages: 5, ..few() },
            Self::Fanout1 => flood(1, 1_000_000),
            Self::Fanout100 => flood(100, 40_000),
            Self::Fanout1000 => flood(1_000, 4_000),
            Self::Latency10 => Sizes { subscribers: 10, rate: 500, seconds: 20, ..few() },
            Self::Latency1000 => Sizes { subscribers: 1_000, rate: 10, seconds: 20, ..few() },
            Self::StoppedReader => Sizes { bytes: 512, ..flood(1, 600_000) },
            Self::Mix => flood(98, 100_000),
            Self::Boot => Sizes { sessions: 10_000, messages: 3, ..few() },
            Self::Messages => Sizes { sessions: 1_000, messages: 10_000, ..few() },
            Self::BigLine => Sizes { subscribers: 1, bytes: 100_000_000, ..few() },
            Self::Level => Sizes { sessions: 40, ..flood(1, 50_000) },
            Self::Health => crowd(1, 0),
            Self::List10 => crowd(10, 0),
            Self::List1000 => crowd(1_000, 0),
            Self::List10000 => crowd(10_000, 0),
            Self::Transcript100 => crowd(1, 100),
            Self::Transcript10000 => crowd(1, 10_000),
            Self::Writes => crowd(10_000, 500),
        }
    }

    /// Sizes at which it shows that it works.
    pub(crate) fn tiny(self) -> Sizes {
        let flood = |subscribers, deltas| Sizes { subscribers, deltas, bytes: 16, ..few() };
        match self {
            Self::Start => Sizes { messages: 1, ..few() },
            Self::Fanout1 | Self::Fanout100 | Self::Fanout1000 => flood(3, 2_000),
            Self::Latency10 | Self::Latency1000 => {
                Sizes { subscribers: 2, rate: 50, seconds: 1, ..few() }
            }
            Self::StoppedReader => Sizes { bytes: 512, ..flood(1, 2_000) },
            Self::Mix => flood(2, 2_000),
            Self::Boot => Sizes { sessions: 20, messages: 1, ..few() },
            Self::Messages => Sizes { sessions: 5, messages: 20, ..few() },
            Self::BigLine => Sizes { subscribers: 1, bytes: 2_000_000, ..few() },
            Self::Level => Sizes { sessions: 4, ..flood(1, 1_000) },
            Self::Health => small(1, 0),
            Self::List10 | Self::List1000 | Self::List10000 => small(450, 0),
            Self::Transcript100 | Self::Transcript10000 => small(1, 250),
            Self::Writes => small(20, 5),
        }
    }

    /// Runs it once.
    ///
    /// # Errors
    ///
    /// When it cannot be measured.
    pub(crate) fn run(self, bench: &Bench, sizes: Sizes) -> Result<Figures, LoadError> {
        match self {
            Self::Start => start::run(bench, sizes),
            Self::Fanout1 | Self::Fanout100 | Self::Fanout1000 => fanout::run(bench, sizes),
            Self::Latency10 | Self::Latency1000 => latency::run(bench, sizes),
            Self::StoppedReader => stopped::run(bench, sizes),
            Self::Mix => mix::run(bench, sizes),
            Self::Boot => boot::run(bench, sizes),
            Self::Messages => messages::run(bench, sizes),
            Self::BigLine => big_line::run(bench, sizes),
            Self::Level => level::run(bench, sizes),
            Self::Health => reads::health(bench, sizes),
            Self::List10 | Self::List1000 | Self::List10000 => reads::list(bench, sizes),
            Self::Transcript100 => reads::transcript(bench, sizes),
            Self::Transcript10000 => reads::long_transcript(bench, sizes),
            Self::Writes => writes::run(bench, sizes),
        }
    }
}

/// Eight connections for five seconds, with so many sessions and messages or rows.
fn crowd(sessions: usize, messages: usize) -> Sizes {
    Sizes { subscribers: 8, seconds: 5, bytes: 100, sessions, messages, ..few() }
}

/// Two connections for a second.
fn small(sessions: usize, messages: usize) -> Sizes {
    Sizes { subscribers: 2, seconds: 1, ..crowd(sessions, messages) }
}

/// What a scenario does not look at.
fn few() -> Sizes {
    Sizes { sessions: 1, ..Sizes::default() }
}
