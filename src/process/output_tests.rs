//! Real children: what they print, what they are told, and how they fail to start.

use std::io;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use cm_core::rpc::Line;

use crate::sink::{ChildExit, OutputSink, SinkState};
use crate::spawn::{spawn, spawn_logged};
use crate::spec::SpawnError;
use crate::stderr::STDERR_LINES;
use crate::stdin::StdinError;
use crate::testing::{DEADLINE, Recorder, Recording, script, shell, text};

fn run(body: &str) -> (Vec<Line>, ChildExit) {
    let (sink, recording) = Recorder::new();
    let _child = spawn(shell(body, &[]), sink).unwrap();
    recording.to_end()
}

fn code(code: i32) -> ChildExit {
    ChildExit { code: Some(code), ..ChildExit::default() }
}

#[test]
fn lines_arrive_in_order_and_half_a_line_is_reported() {
    let (lines, exit) = run("echo one; printf 'two\nhalf'; exit 3");
    assert_eq!(lines, [text("one"), text("two"), Line::Partial { bytes: 4 }]);
    assert_eq!(exit, code(3));
}

#[test]
fn a_child_that_closes_its_stdout_and_lives_on_is_killed() {
    let (lines, exit) = run("echo one; exec >&-; sleep 3600");
    assert_eq!(lines, [text("one")]);
    assert_eq!(exit, ChildExit { signal: Some(9), ..ChildExit::default() });
}

#[test]
fn a_line_over_the_cap_is_an_event_and_the_stream_goes_on() {
    let (lines, exit) = run("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo next");
    assert_eq!(lines, [Line::TooLong { bytes: 50_000_000 }, text("next")]);
    assert_eq!(exit, code(0));
}

#[test]
fn a_line_that_is_not_utf8_is_an_event_and_the_stream_goes_on() {
    let (lines, _) = run("printf '\\377\\376\\nnext\\n'");
    assert_eq!(lines, [Line::NotUtf8 { bytes: 2 }, text("next")]);
}

#[test]
fn nothing_is_lost_when_the_receiver_is_slower_than_the_child() {
    // The recorder holds one batch, so the reader waits in the sink for nearly all of these, and
    // the child has ended long before the last is taken.
    let (lines, _) = run("seq 1 100000");
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().enumerate().all(|(at, line)| *line == text(&(at + 1).to_string())));
}

#[test]
fn a_child_whose_receiver_is_gone_does_not_block() {
    let (sink, recording) = Recorder::answering(SinkState::Gone);
    let _child = spawn(shell("echo x; seq 1 1000000; exit 7", &[]), sink).unwrap();
    let (lines, exit) = recording.to_end();
    assert_eq!(lines[0], text("x"));
    assert!(lines.len() < 1_000_000);
    assert_eq!(exit, code(7));
}

#[test]
fn a_receiver_that_panics_neither_kills_the_child_nor_misses_its_end() {
    struct Panicking(Recorder);
    impl OutputSink for Panicking {
        fn lines(&mut self, _batch: Vec<Line>) -> SinkState {
            panic!("on purpose");
        }
        fn ended(&mut self, exit: ChildExit) {
            self.0.ended(exit);
        }
    }
    let (sink, recording) = Recorder::new();
    let _child = spawn(shell("seq 1 1000000; exit 7", &[]), Panicking(sink)).unwrap();
    assert_eq!(recording.end(), code(7));
}

#[test]
fn a_child_that_closes_its_stdout_may_still_end_by_itself() {
    let (sink, recording) = Recorder::new();
    let body = "echo said; exec >&-; read line; test \"$line\" = go && exit 9";
    let child = spawn(shell(body, &[]), sink).unwrap();
    recording.expect_lines(&[text("said")]);
    child.stdin().write(&b"go\n"[..]).unwrap();
    assert_eq!(recording.end(), code(9));
}

#[test]
fn a_flood_on_stderr_is_drained_and_its_end_is_kept() {
    let (sink, recording) = Recorder::new();
    let (counted, count) = sync_channel(1);
    let mut lines = 0;
    let on_line = Box::new(move |line: &str| {
        lines += 1;
        if line == "last" {
            counted.send(lines).unwrap();
        }
    });
    let body = "seq 1 200000 >&2; printf 'last\\nhalf' >&2; read line";
    let child = spawn_logged(shell(body, &[]), sink, on_line).unwrap();
    assert_eq!(count.recv_timeout(DEADLINE).unwrap(), 200_001);
    assert!(child.stderr_tail().contains(&"last".to_owned()));
    child.stdin().close();
    let tail = recording.end().stderr_tail;
    assert_eq!(tail.len(), STDERR_LINES);
    assert_eq!(tail[STDERR_LINES - 3..], ["200000", "last", "half"]);
    assert_eq!(child.stderr_tail(), tail);
}

#[test]
fn input_is_written_whole_and_then_closed() {
    let (sink, recording) = Recorder::new();
    let child = spawn(shell("wc -c", &[]), sink).unwrap();
    let stdin = child.stdin();
    for _ in 0..50 {
        stdin.write(vec![b'x'; 100_000]).unwrap();
    }
    stdin.close();
    assert_eq!(stdin.write(&b"late"[..]), Err(StdinError::Closed));
    let (lines, exit) = recording.to_end();
    assert_eq!((lines, exit), (vec![text("5000000")], code(0)));
}

#[test]
fn a_child_that_does_not_read_fills_the_queue_and_never_blocks_the_writer() {
    let (sink, recording) = Recorder::new();
    let child = spawn(shell("exec sleep 60", &[]), sink).unwrap();
    let stdin = child.stdin();
    let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
    let refused = (0..1_000).find_map(|_| stdin.write(chunk.clone()).err());
    assert_eq!(refused, Some(StdinError::Full));
    child.kill_group();
    assert_eq!(recording.end().signal, Some(9));
    assert_eq!(stdin.write(chunk), Err(StdinError::Closed));
}

#[test]
fn a_child_that_closes_its_stdin_is_noticed() {
    let (sink, recording) = Recorder::new();
    let child = spawn(shell("exec <&-; echo closed; exec sleep 60", &[]), sink).unwrap();
    recording.expect_lines(&[text("closed")]);
    let stdin = child.stdin();
    let started = std::time::Instant::now();
    // The first write is taken into the queue; the pipe refuses it, and then all are refused.
    while stdin.write(&b"x"[..]) != Err(StdinError::Closed) {
        assert!(started.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    assert!(!child.has_exited());
}

#[test]
fn only_the_given_environment_and_directory_reach_the_child() {
    let directory = tempfile::tempdir().unwrap();
    let (sink, recording) = Recorder::new();
    let mut spec = shell("", &[]);
    spec.program = "/usr/bin/env".into();
    spec.args = Vec::new();
    spec.env = vec![("ONLY".into(), "this".into())];
    let _child = spawn(spec, sink).unwrap();
    assert_eq!(recording.to_end().0, [text("ONLY=this")]);

    let (sink, recording) = Recorder::new();
    let mut spec = shell("pwd -P", &[]);
    spec.cwd = Some(directory.path().to_owned());
    let _child = spawn(spec, sink).unwrap();
    let expected = directory.path().canonicalize().unwrap();
    assert_eq!(recording.to_end().0, [text(expected.to_str().unwrap())]);
}

fn failure(program: &Path, cwd: Option<&Path>) -> (SpawnError, Recording) {
    let (sink, recording) = Recorder::new();
    let mut spec = shell("exit 0", &[]);
    spec.program = program.to_owned();
    spec.cwd = cwd.map(Path::to_owned);
    (spawn(spec, sink).unwrap_err(), recording)
}

#[test]
fn what_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let kind = |error: &io::Error| error.kind();

    let (error, _) = failure(&path("missing"), None);
    assert!(matches!(&error, SpawnError::NotFound { program } if *program == path("missing")));
    assert_eq!(error.to_string(), format!("start {}: no such program", path("missing").display()));

    std::fs::write(path("plain"), "text").unwrap();
    let (error, _) = failure(&path("plain"), None);
    assert!(matches!(&error, SpawnError::NotExecutable { source, .. }
        if kind(source) == io::ErrorKind::PermissionDenied));

    let (error, _) = failure(directory.path(), None);
    assert!(matches!(error, SpawnError::NotExecutable { .. }));

    let orphan = path("orphan");
    let command = "printf '#!/missing/interpreter\\n' > \"$0\"; chmod 755 \"$0\"";
    let made = std::process::Command::new("/bin/sh").args(["-c", command]).arg(&orphan).status();
    assert!(made.unwrap().success());
    let (error, _) = failure(&orphan, None);
    assert!(matches!(error, SpawnError::NotExecutable { .. }));

    let good = script(&path("good"), "exit 0");
    let (error, recording) = failure(&good, Some(&path("nowhere")));
    assert!(matches!(&error, SpawnError::WorkingDirectory { cwd, .. } if *cwd == path("nowhere")));
    assert_eq!(recording.told_nothing(), Ok(()));
}

#[test]
fn secrets_in_the_environment_are_not_printed() {
    let mut spec = shell("exit 0", &[]);
    spec.env.push(("OPENAI_API_KEY".into(), "sk-secret".into()));
    let shown = format!("{spec:?}");
    assert!(shown.contains("OPENAI_API_KEY") && !shown.contains("sk-secret"));
}
