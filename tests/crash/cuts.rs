//! A subscriber that is cut off at random places and comes back where it left off, in every way that
//! there is, over restarts of the child and of the manager: what it was told is what is kept, or it
//! was told `reset`.

use std::collections::BTreeMap;
use std::time::Duration;

use cm_testkit::app::{Frame, StreamClient, StreamOptions, TestApp};
use cm_testkit::dirs::TestDir;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::comeback::{Comeback, Way};
use crate::common::{
    DEADLINE, FAMILIES, builder, choices, decision, fake, question, request_id, requests, rounds,
    text, tool_call,
};
use crate::told::{Told, durable};

/// Sessions that something happens in.
const SESSIONS: usize = 3;

/// The longest that a subscriber waits for one more frame before it is cut off anyway.
const QUIET: Duration = Duration::from_millis(100);

/// Frames that a subscriber reads before it is cut off, at the most.
const READ: usize = 60;

/// A ring that reaches back over a few turns: what came before is read from the log.
const SMALL_RING: &str = "256KiB";

/// The manager and its subscribers over all lives.
struct Stage {
    app: TestApp,
    choices: StdRng,
    sessions: Vec<String>,
    view: &'static str,
    /// The one that is cut off.
    told: Told,
    /// How often coming back brought something, by the way.
    ways: BTreeMap<Way, usize>,
    /// Those that are there from the start of a life to its end, and why it ended.
    witnesses: Vec<(StreamClient, End)>,
}

/// How a life of the manager ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Orderly,
    Killed,
}

impl Stage {
    fn start(test: &str, view: &'static str, ring: &str, record: &TestDir) -> Self {
        let answers = record.join("answers");
        let kinds = [
            vec![step::message("some words to stream, one by one"), step::message("and more")],
            vec![step::command_approval("ls", &answers), step::message("went on")],
            vec![step::deltas(200, 16, 300)],
            vec![step::request("item/tool/call", tool_call(), &answers)],
            vec![step::request("item/tool/requestUserInput", question(), &answers)],
        ];
        let turns = kinds.into_iter().cycle().take(2_000);
        let behaviour = turns.fold(Behaviour::correct(), Behaviour::turn);
        let app = builder()
            .env("CODEX_MANAGER_RING_BYTES", ring)
            .runtime(fake(FakeScript::always(behaviour)))
            .start();
        let mut stage = Self {
            sessions: Vec::new(),
            choices: choices(test),
            app,
            view,
            told: Told::default(),
            ways: BTreeMap::new(),
            witnesses: Vec::new(),
        };
        stage.watch();
        stage.sessions = (0..SESSIONS).map(|_| stage.app.create_session()).collect();
        stage
    }

    fn connect(&self, position: Option<&str>) -> StreamClient {
        let mut options = StreamOptions::default().query("view", self.view);
        if let Some(position) = position {
            options = options.query("since", position);
        }
        self.app.try_stream(options).expect("a stream")
    }

    /// Adds a witness of this life.
    fn watch(&mut self) {
        let mut witness = self.connect(None);
        witness.wait_type("ready", DEADLINE);
        self.witnesses.push((witness, End::Open));
    }

    /// Lets something happen.
    fn act(&mut self) {
        let session = self.sessions[self.choices.random_range(0..SESSIONS)].clone();
        if self.choices.random_ratio(1, 3) {
            let title = format!("title {}", self.choices.random::<u32>());
            let path = format!("/api/sessions/{session}/rename");
            self.app.post(&path, json!({ "title": title })).expect_status(200);
        } else {
            self.app.send(&session, "go").expect_status(202);
        }
        let family = FAMILIES[self.choices.random_range(0..FAMILIES.len())];
        for request in requests(&self.app, &session, family, "") {
            let number = self.choices.random_range(0..2);
            let (path, body) = decision(family, &request_id(&request), number);
            // It may be gone by now: then that is what the stream tells.
            self.app.post(&path, body);
        }
    }

    /// The subscriber comes back, reads for a while and is cut off; meanwhile `during` happens.
    fn read_and_cut(&mut self, during: impl FnOnce(&mut Self)) {
        let Self { app, view, told, sessions, choices, .. } = self;
        let mut comeback = Comeback::connect(app, view, told, sessions, choices);
        during(self);
        let most = self.choices.random_range(1..READ);
        let _ = (0..most).take_while(|_| comeback.read(QUIET)).count();
        let way = comeback.way;
        *self.ways.entry(way).or_default() += usize::from(comeback.cut(&mut self.told));
    }

    fn end_life(&mut self, end: End) {
        match end {
            End::Killed => self.app.kill(),
            End::Orderly | End::Open => self.app.terminate(),
        };
        println!("{end:?}, the subscriber is at {:?}", self.told.position());
        if let Some((witness, how)) = self.witnesses.last_mut() {
            witness.wait_closed(DEADLINE);
            *how = end;
        }
        self.app.restart();
        self.watch();
    }

    /// Everything durable from the beginning, as it is kept.
    fn kept(&self) -> BTreeMap<u64, Frame> {
        let epoch = text(&self.app.get("/api/runtime").body["epoch"]);
        let frames = self.read_since(&format!("{epoch}:0"));
        let reset = frames.iter().find(|frame| frame["type"] == "reset");
        assert_eq!(reset, None, "nothing was too long ago");
        durable(&frames)
    }

    /// Everything from a position on, up to something that happens now.
    fn read_since(&self, position: &str) -> Vec<Frame> {
        let mut client = self.connect(Some(position));
        let title = format!("the end {}", rand::random::<u64>());
        let path = format!("/api/sessions/{}/rename", self.sessions[0]);
        self.app.post(&path, json!({ "title": title })).expect_status(200);
        let is_end = |frame: &Frame| frame["payload"]["session"]["title"] == title.as_str();
        let is_it = |frame: &Frame| frame["type"] == "session_updated" && is_end(frame);
        if let Err(error) = client.try_wait_for(is_it, DEADLINE) {
            let (count, last) = client.read(|all| (all.len(), all.last().cloned()));
            panic!("{error}; {count} frames behind {position}, the last one {last:?}");
        }
        let mut frames = client.frames();
        let end =
            frames.iter().position(|frame| frame["type"] == "session_updated" && is_end(frame));
        frames.truncate(end.expect("it was just there"));
        frames
    }
}

/// Plays as many cuts as the rounds say, with a restart of something every few of them.
fn cut(test: &str, view: &'static str, ring: &str) {
    let record = TestDir::new("record");
    let mut stage = Stage::start(test, view, ring, &record);
    let mut killed = 0;
    stage.read_and_cut(|_| {});
    for _ in 0..rounds(100, 1_000) {
        match stage.choices.random_range(0..24) {
            // The manager goes while the subscriber reads.
            0 => stage.read_and_cut(|stage| stage.end_life(End::Orderly)),
            1 => {
                killed += 1;
                stage.read_and_cut(|stage| stage.end_life(End::Killed));
            }
            2 | 3 => stage.read_and_cut(|stage| {
                stage.act();
                let old = stage.app.kill_child();
                stage.app.wait_new_child(old, DEADLINE);
            }),
            // The subscriber is away meanwhile.
            4 => {
                stage.act();
                stage.end_life(End::Orderly);
            }
            5 => {
                killed += 1;
                stage.act();
                stage.end_life(End::Killed);
            }
            _ => stage.read_and_cut(Stage::act),
        }
    }
    let kept = stage.kept();
    let forgiven = stage.told.check(&kept);
    let resets: Vec<&String> =
        stage.told.stretches.iter().filter_map(|stretch| stretch.reset.as_ref()).collect();
    println!("{} kept, {killed} killed, {forgiven} forgiven, resets {resets:?}", kept.len());
    println!("came back in these ways: {:?}", stage.ways);
    let seen: Vec<&Way> =
        stage.ways.iter().filter(|(_, seen)| **seen > 0).map(|(way, _)| way).collect();
    assert_eq!(seen, [&Way::Query, &Way::Command, &Way::Events]);
    // Who reads too slowly for a small ring is told so, which nobody can forbid.
    let fell_behind = |reason: &&String| *reason == "behind" && ring == SMALL_RING;
    let crashed: Vec<&&String> = resets.iter().filter(|reason| !fell_behind(reason)).collect();
    assert!(crashed.iter().all(|reason| **reason == "unclean_restart"), "{resets:?}");
    assert!(crashed.len() <= killed, "more resets than crashes: {resets:?}");
    assert!(stage.told.stretches.iter().any(|stretch| stretch.frames.len() > READ));
    check_witnesses(&stage, &kept);
    check_prefixes(&mut stage, &kept);
}

/// What those were told who were never cut off is kept: all of it where the life of the manager
/// ended in order, and what was promised before it was shown in any case.
fn check_witnesses(stage: &Stage, kept: &BTreeMap<u64, Frame>) {
    let promised = |frame: &Frame| {
        let kind = text(&frame["type"]);
        kind == "approval" || kind.ends_with("_requested") || kind.ends_with("_resolved")
    };
    for (witness, end) in &stage.witnesses {
        for (seq, frame) in durable(&witness.frames()) {
            if *end == End::Open && seq > *kept.keys().next_back().expect("something is kept") {
                continue;
            }
            if kept.get(&seq) == Some(&frame) {
                continue;
            }
            assert_eq!(*end, End::Killed, "{frame} is lost");
            if promised(&frame) {
                // Shown before its number was kept, it is shown again under another one.
                let same = |other: &Frame| {
                    other["type"] == frame["type"] && other["payload"] == frame["payload"]
                };
                assert!(kept.values().any(same), "{frame} was shown and is lost");
            }
        }
    }
}

/// Whatever prefix a subscriber has had, the rest makes it whole.
fn check_prefixes(stage: &mut Stage, kept: &BTreeMap<u64, Frame>) {
    let epoch = text(&stage.app.get("/api/runtime").body["epoch"]);
    let numbers: Vec<u64> = kept.keys().copied().collect();
    let last = *numbers.last().expect("something is kept");
    for _ in 0..rounds(20, 200) {
        let after = numbers[stage.choices.random_range(0..numbers.len())];
        let frames = stage.read_since(&format!("{epoch}:{after}"));
        assert!(frames.iter().all(|frame| frame["type"] != "reset"), "behind {after}");
        let mut rest = durable(&frames);
        rest.retain(|seq, _| *seq <= last);
        let wanted: BTreeMap<u64, Value> =
            kept.range(after + 1..).map(|(seq, frame)| (*seq, frame.clone())).collect();
        assert_eq!(rest.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        assert!(rest == wanted, "the rest behind {after} is another one");
    }
}

#[test]
fn a_subscriber_that_is_cut_off_has_the_history_of_one_that_is_not() {
    cut("cuts", "default", "64MiB");
}

#[test]
fn it_is_the_same_for_one_that_wants_each_thing_once_and_is_behind_the_ring() {
    cut("cuts_single", "single", SMALL_RING);
}
