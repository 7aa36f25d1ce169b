use proptest::prelude::*;

use super::*;
use crate::ids::ThreadId;
use crate::thread::{NOTE_RECORD_VERSION, NoteRecord, TurnRecord, TurnStatus};
use crate::wire::{Role, RowStatus, TranscriptEntry};

fn turn(ordinal: u32, status: TurnStatus, rolled_back: bool) -> TurnRecord {
    TurnRecord {
        ordinal,
        id: format!("u{ordinal}"),
        status,
        error: None,
        started_ms: 1,
        ended_ms: None,
        ended_by_manager: false,
        rolled_back,
        begun_as: None,
    }
}

fn note(ordinal: u64, id: &str, turn_id: &str, anchor: Option<&str>) -> NoteRecord {
    let details = anchor.map(|anchor| format!("{{\"anchorItemId\":\"{anchor}\"}}"));
    let entry = TranscriptEntry {
        message_id: id.to_owned(),
        turn_id: turn_id.to_owned(),
        role: Role::System,
        kind: "note".to_owned(),
        content: String::new(),
        details,
        started_at: None,
        completed_at: None,
        status: RowStatus::Complete,
    };
    NoteRecord { version: NOTE_RECORD_VERSION, ordinal, entry }
}

/// What a row is made of: a number that says what it is, its id, its turn, and an anchor.
type Made = (u8, u8, u8, u8);

/// The rows of a thread: items, requests and notes.
struct Thread {
    turns: Vec<TurnRecord>,
    own: Vec<(u64, String, String, bool)>,
    notes: Vec<NoteRecord>,
}

fn thread(turns: &[(u8, bool)], rows: &[Made]) -> Thread {
    let turns = turns.iter().enumerate().map(|(ordinal, (status, gone))| {
        let status = match status {
            0 => TurnStatus::Failed,
            1 => TurnStatus::InProgress,
            _ => TurnStatus::Completed,
        };
        turn(u32::try_from(ordinal).unwrap(), status, *gone)
    });
    let mut thread = Thread { turns: turns.collect(), own: Vec::new(), notes: Vec::new() };
    for (ordinal, (what, id, turn, anchor)) in rows.iter().enumerate() {
        let (ordinal, id, turn) = (ordinal as u64, format!("i{id}"), format!("u{turn}"));
        match what {
            0 | 1 => thread.own.push((ordinal, id, turn, *what == 0)),
            _ => {
                if thread.notes.iter().any(|note| note.entry.message_id == id) {
                    continue;
                }
                let anchor = (*what == 3).then(|| format!("i{anchor}"));
                thread.notes.push(note(ordinal, &id, &turn, anchor.as_deref()));
            }
        }
    }
    thread
}

fn index(thread: &Thread, parts: usize) -> RowIndex {
    let mut index = RowIndex::default();
    for own in thread.own.chunks(parts.max(1)) {
        let known = index.next_turn();
        for turn in thread.turns.iter().filter(|turn| turn.ordinal >= known) {
            index.put_turn(turn);
        }
        let from = index.next_row();
        for (ordinal, id, turn, is_request) in own.iter().rev() {
            assert!(*ordinal >= from);
            match is_request {
                true => index.add_request(*ordinal, id, turn),
                false => index.add_item(*ordinal, id, turn),
            }
        }
        index.sort();
    }
    for turn in &thread.turns {
        index.put_turn(turn);
    }
    index
}

/// The order as it is said in words, row by row: what is shown at each place, and what with it.
fn in_words(thread: &Thread, first_row: u64) -> Vec<(String, usize)> {
    struct Line(u64, String, String, usize);
    let gone = |turn: &str| thread.turns.iter().any(|known| known.id == turn && known.rolled_back);
    let mut lines: Vec<Line> = Vec::new();
    if first_row > 0 {
        lines.push(Line(0, "trimmed".to_owned(), "history".to_owned(), 0));
    }
    for (ordinal, id, turn, _) in &thread.own {
        if *ordinal >= first_row && !gone(turn) {
            lines.push(Line(*ordinal, id.clone(), turn.clone(), 0));
        }
    }
    let own = lines.len();
    for note in &thread.notes {
        let (id, turn) = (&note.entry.message_id, &note.entry.turn_id);
        if note.ordinal < first_row || gone(turn) {
            continue;
        }
        if let Some(twin) = lines.iter_mut().rev().find(|line| line.1 == *id) {
            twin.3 += 1;
            continue;
        }
        let anchor = note.entry.anchor();
        let anchor = anchor.and_then(|id| lines.iter().rev().find(|line| line.1 == id));
        let of_turn = lines.iter().take(own).filter(|line| line.2 == *turn);
        let end = of_turn.map(|line| line.0).max().filter(|end| *end < note.ordinal);
        let place = anchor.map(|line| line.0).or(end).unwrap_or(note.ordinal);
        lines.push(Line(place, id.clone(), turn.clone(), 0));
    }
    lines.sort_by_key(|line| line.0);
    let failed = thread.turns.iter().filter(|turn| turn.status == TurnStatus::Failed);
    let reasons: Vec<Line> = failed
        .filter(|turn| !turn.rolled_back)
        .map(|turn| {
            let of_turn = lines.iter().filter(|line| line.2 == turn.id);
            let place = of_turn.map(|line| line.0).max().unwrap_or(u64::MAX);
            Line(place, format!("reason {}", turn.id), turn.id.clone(), 0)
        })
        .collect();
    lines.extend(reasons);
    lines.sort_by_key(|line| line.0);
    lines.into_iter().map(|line| (line.1, line.3)).collect()
}

fn shown(thread: &Thread, row: &Row) -> (String, usize) {
    let own = |ordinal: u64| thread.own.iter().find(|own| own.0 == ordinal).unwrap();
    match row {
        Row::Trimmed(_) => ("trimmed".to_owned(), 0),
        Row::Item(ordinal, more) => {
            assert!(!own(*ordinal).3);
            (own(*ordinal).1.clone(), more.len())
        }
        Row::Request(ordinal, more) => {
            assert!(own(*ordinal).3);
            (own(*ordinal).1.clone(), more.len())
        }
        Row::Note(position, more) => (thread.notes[*position].entry.message_id.clone(), more.len()),
        Row::Reason(ordinal) => (format!("reason u{ordinal}"), 0),
    }
}

proptest! {
    /// Whatever is in a thread, its rows stand as they are said to, and pages of any size are the
    /// whole; also when the index was made in parts.
    #[test]
    fn pages_are_the_whole_in_order(
        turns in proptest::collection::vec((0u8..4, any::<bool>()), 0..4),
        rows in proptest::collection::vec((0u8..4, 0u8..12, 0u8..5, 0u8..12), 0..40),
        first_row in 0u64..12,
        limit in 1usize..9,
        parts in 1usize..40,
    ) {
        let thread = thread(&turns, &rows);
        let index = index(&thread, parts);
        let layout = Layout::new(&index, first_row, &thread.notes);
        let mut whole: Vec<(RowKey, Row)> = layout.backwards(None).collect();
        whole.reverse();
        let said: Vec<_> = whole.iter().map(|(_, row)| shown(&thread, row)).collect();
        prop_assert_eq!(said, in_words(&thread, first_row));
        prop_assert!(whole.is_sorted_by(|one, other| one.0 < other.0));
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let (page, more) = layout.page(before, limit);
            prop_assert!(!more || page.len() == limit);
            before = page.first().map(|(key, _)| *key);
            pages.splice(0..0, page);
            if !more {
                break;
            }
        }
        prop_assert_eq!(pages, whole);
    }

    /// A cursor is read as it was written, and by its own session alone.
    #[test]
    fn cursors_are_of_one_session(place: u64, class in 0u8..3, ordinal: u64, turn: u32) {
        let session = ThreadId::parse("one").unwrap();
        let other = ThreadId::parse("other").unwrap();
        let class = [RowClass::Own, RowClass::Note, RowClass::Reason][usize::from(class)];
        let key = RowKey { place, class, ordinal };
        let cursor = key.cursor(&session);
        prop_assert_eq!(RowKey::parse_cursor(&session, &cursor), Some(key));
        prop_assert_eq!(RowKey::parse_cursor(&other, &cursor), None);
        prop_assert_eq!(parse_turn_cursor(&session, &cursor), None);
        let cursor = turn_cursor(&session, turn);
        prop_assert_eq!(parse_turn_cursor(&session, &cursor), Some(turn));
        prop_assert_eq!(parse_turn_cursor(&other, &cursor), None);
        prop_assert_eq!(RowKey::parse_cursor(&session, &cursor), None);
    }

    #[test]
    fn what_is_no_cursor_is_refused(text in ".{0,40}") {
        let session = ThreadId::parse("one").unwrap();
        prop_assert_eq!(RowKey::parse_cursor(&session, &text), None);
        prop_assert_eq!(parse_turn_cursor(&session, &text), None);
    }
}

#[test]
fn a_cursor_that_was_changed_is_refused() {
    let session = ThreadId::parse("one").unwrap();
    let key = RowKey { place: 10, class: RowClass::Own, ordinal: 10 };
    let cursor = key.cursor(&session);
    let stem = cursor.strip_suffix(".a.0.a").unwrap();
    for wrong in [".a.0.+a", ".a.0.0a", ".a.0.A", ".a.3.a", ".a.0.a.0", ".a.0", ".a..a", ".-a.0.a"]
    {
        assert_eq!(RowKey::parse_cursor(&session, &format!("{stem}{wrong}")), None, "{wrong}");
    }
}

#[test]
fn items_of_turns_are_counted_without_requests_and_dropped_rows() {
    let rows = [(1, 0, 0, 0), (1, 1, 0, 0), (0, 2, 0, 0), (1, 3, 1, 0), (2, 4, 1, 0)];
    let thread = thread(&[(2, false), (2, false)], &rows);
    let index = index(&thread, 1);
    assert_eq!(index.item_counts(0, ["u0", "u1", "u9"]), [2, 1, 0]);
    assert_eq!(index.item_counts(1, ["u0"]), [1]);
}
