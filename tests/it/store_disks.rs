//! What `store_faults` shows with injected errors, on disks that are full, or read-only: the system
//! itself refuses. Where the machine permits no such mounts nothing is shown, and stderr says so.

use std::io::Write;

use cm_testkit::app::{Exited, StreamClient, TestApp};
use cm_testkit::disk::Disk;
use cm_testkit::fake::{Behaviour, FakeScript, step};
use cm_testkit::process::wait_until;
use serde_json::{Value, json};

use crate::common::{DEADLINE, is_notification, text, turn_end};
use crate::fake_app::{begin, create, refused, run_turn, said, with_fake};
use crate::store_faults::{not_ready, rename, store_state, title};

/// Bytes of each disk: twice what is needed.
const DISK_BYTES: u64 = 64 << 20;

/// Deltas of a turn that is still running when the disk refuses.
const DELTAS: usize = 60;

/// Bytes of room with which a start is tried.
const ROOMS: [u64; 9] =
    [0, 4 << 10, 8 << 10, 16 << 10, 128 << 10, 512 << 10, 1 << 20, 4 << 20, 16 << 20];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tmpfs,
    Ext4,
}

/// The program with its data directory on a disk, ready. `None` where it cannot be mounted.
fn on_disk(kind: Kind) -> Option<(TestApp, Disk)> {
    let turn = || [step::deltas(DELTAS as u64, 20, 20_000), step::message("said meanwhile")];
    let turns = (0..8)
        .fold(Behaviour::correct().turn([step::message("said before")]), |turns, _| {
            turns.turn(turn())
        });
    let builder = with_fake(FakeScript::starts([turns]));
    let data = builder.dir().join("data");
    let mounted = match kind {
        Kind::Tmpfs => Disk::tmpfs(&data, DISK_BYTES),
        Kind::Ext4 => Disk::ext4(&builder.dir().join("image"), &data, DISK_BYTES),
    };
    match mounted {
        Ok(disk) => {
            let words = disk.enter(builder.dir().path());
            let app = builder.launcher(words).without_readiness().start();
            app.wait_ready(DEADLINE);
            Some((app, disk))
        }
        Err(why) => {
            // Not by `eprintln!`, which is shown for failed tests only.
            let warning = format!("\nNOT TESTED: no {kind:?} can be mounted here: {why}\n");
            std::io::stderr().write_all(warning.as_bytes()).unwrap();
            None
        }
    }
}

/// How a disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// Before a write begins.
    Foreseen,
    /// In the middle of a write: a page that the database was splitting cannot be read until writing
    /// works again (docs/implementation-status.md).
    Sudden,
}

/// Lets the disk refuse in the middle of a turn: writes answer 507, the turn is streamed to its end
/// and everything that was there is read.
#[track_caller]
fn refuse_within_a_turn(
    app: &TestApp,
    stream: &mut StreamClient,
    session: &str,
    refusal: Refusal,
    refuse: impl FnOnce(),
) {
    let before = said(app, session);
    assert!(!before.is_empty());
    let turn = begin(app, session);
    let of_turn = |frame: &Value| {
        is_notification(frame, "item/agentMessage/delta")
            && frame["payload"]["params"]["turnId"] == turn.as_str()
    };
    stream.wait_for(of_turn, DEADLINE);
    refuse();
    refused(&rename(app, session, "refused"), 507, "store_unavailable");
    refused(&app.post("/api/sessions", json!({})), 507, "store_unavailable");
    assert_eq!(store_state(app), "failing");
    assert!(not_ready(app));
    // The item that is being written is in the list already.
    let read = app.get(&format!("/api/sessions/{session}"));
    if refusal == Refusal::Sudden && read.status == 500 {
        assert!(text(&read.body["message"]).contains("cannot be read"), "{}", read.text);
    } else {
        assert_eq!(said(app, session)[..before.len()], before);
    }
    app.get("/api/sessions").expect_status(200);
    assert_eq!(turn_end(stream, &turn)["status"], "completed");
    let deltas = stream.read(|frames| frames.iter().filter(|frame| of_turn(frame)).count());
    assert_eq!(deltas, DELTAS + "said meanwhile".split(' ').count());
}

/// That writing works again, what was said meanwhile is kept, and a title is taken.
#[track_caller]
fn assert_writable(app: &TestApp, session: &str, title: &str) {
    wait_until("writing works again", DEADLINE, || !not_ready(app));
    assert_eq!(store_state(app), "ok");
    assert_eq!(said(app, session).last().map(String::as_str), Some("said meanwhile"));
    rename(app, session, title).expect_status(200);
}

/// A session with a turn and a title, and its subscriber.
fn session_with_a_turn(app: &TestApp) -> (String, StreamClient) {
    let session = create(app);
    let mut stream = app.stream(Some(&session));
    stream.wait_type("ready", DEADLINE);
    assert_eq!(run_turn(app, &mut stream, &session), "completed");
    rename(app, &session, "before").expect_status(200);
    (session, stream)
}

/// How a start ends that cannot have the data directory.
#[track_caller]
fn assert_refused_start(exited: &Exited) {
    assert_eq!(exited.code, Some(2), "{exited}");
    assert!(exited.stderr.contains("error[data_dir_unusable]"), "{exited}");
}

fn a_full_disk(kind: Kind) {
    let Some((mut app, disk)) = on_disk(kind) else { return };
    let (session, mut stream) = session_with_a_turn(&app);
    for round in 0..2 {
        refuse_within_a_turn(&app, &mut stream, &session, Refusal::Foreseen, || disk.fill());
        disk.empty();
        assert_writable(&app, &session, &format!("after round {round}"));
    }
    let kept = said(&app, &session);
    // The disk becomes full while it is written to, so that the system may refuse within a write.
    let (mut acknowledged, mut tried, mut refusals) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| disk.fill());
        while refusals < 3 {
            tried += 1;
            let reply = rename(&app, &session, &tried.to_string());
            if reply.status == 200 {
                acknowledged = tried;
            } else {
                refused(&reply, 507, "store_unavailable");
                refusals += 1;
            }
        }
    });
    app.kill();
    // However little room there is, a start is refused or works, and costs nothing of what is there.
    for room in ROOMS {
        disk.fill();
        disk.release(room);
        match app.try_restart() {
            Ok(()) => drop(app.kill()),
            Err(exited) => assert_refused_start(&exited),
        }
    }
    disk.empty();
    app.restart();
    app.wait_ready(DEADLINE);
    let title: u32 = title(&app, &session).parse().unwrap();
    assert!((acknowledged..=tried).contains(&title), "{title}, not from {acknowledged} on");
    assert_eq!(said(&app, &session), kept);
    assert_eq!(store_state(&app), "ok");
}

#[test]
fn a_full_disk_of_memory() {
    a_full_disk(Kind::Tmpfs);
}

#[test]
fn a_full_disk_with_a_journal() {
    a_full_disk(Kind::Ext4);
}

#[test]
fn a_disk_that_is_mounted_read_only() {
    let Some((mut app, disk)) = on_disk(Kind::Tmpfs) else { return };
    let (session, mut stream) = session_with_a_turn(&app);
    for round in 0..2 {
        refuse_within_a_turn(&app, &mut stream, &session, Refusal::Foreseen, || {
            disk.cover_read_only()
        });
        disk.uncover();
        assert_writable(&app, &session, &format!("after round {round}"));
    }
    let kept = said(&app, &session);
    app.kill();
    disk.remount("ro");
    match app.try_restart() {
        Ok(()) => panic!("it started on a read-only disk"),
        Err(exited) => assert_refused_start(&exited),
    }
    disk.remount("rw");
    app.restart();
    app.wait_ready(DEADLINE);
    assert_eq!(store_state(&app), "ok");
    assert_eq!(title(&app, &session), "after round 1");
    assert_eq!(said(&app, &session), kept);
}

#[test]
fn a_disk_that_becomes_read_only_after_an_error() {
    let Some((mut app, disk)) = on_disk(Kind::Ext4) else { return };
    let (session, mut stream) = session_with_a_turn(&app);
    let kept = said(&app, &session);
    refuse_within_a_turn(&app, &mut stream, &session, Refusal::Sudden, || disk.remount("abort"));
    app.kill();
    app.wait_no_descendants(DEADLINE);
    disk.repair();
    app.restart();
    app.wait_ready(DEADLINE);
    assert_eq!(store_state(&app), "ok");
    let now = title(&app, &session);
    assert!(now == "before" || now == "refused", "{now}");
    assert_eq!(said(&app, &session)[..kept.len()], kept);
    rename(&app, &session, "after").expect_status(200);
}
