//! Tables and ages for people.

/// Longest cell that is shown whole, in characters.
const MAX_CELL: usize = 60;

/// Shortest id that tables show, in characters.
const MIN_SHORT_ID: usize = 8;

/// Rows under headings, in columns that are as wide as they must be. The last column is not cut.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines: Vec<Vec<String>> =
        vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
    for row in rows {
        let last = row.len().saturating_sub(1);
        lines.push(
            row.iter()
                .enumerate()
                .map(
                    |(column, cell)| {
                        if column == last { cell.clone() } else { cut(cell, MAX_CELL) }
                    },
                )
                .collect(),
        );
    }
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| {
            lines.iter().filter_map(|line| line.get(column)).map(|c| width(c)).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (cell, column_width) in line.iter().zip(&widths) {
            shown.push_str(cell);
            shown.push_str(&" ".repeat(column_width - width(cell) + 2));
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A text of at most the given number of characters.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut shown: String = text.chars().take(limit.saturating_sub(1)).collect();
    shown.push('…');
    shown
}

/// How many characters of the given ids tell them apart.
///
/// Ids that were made at about the same time begin alike, so a fixed number would not do.
pub(crate) fn short_id_length<'a>(ids: impl Iterator<Item = &'a str>) -> usize {
    let mut sorted: Vec<&str> = ids.collect();
    sorted.sort_unstable();
    sorted
        .windows(2)
        .map(|pair| {
            1 + pair[0].bytes().zip(pair[1].bytes()).take_while(|(one, other)| one == other).count()
        })
        .fold(MIN_SHORT_ID, usize::max)
}

/// How long ago something was, both in epoch seconds.
pub(crate) fn age(now: i64, then: i64) -> String {
    let seconds = now.saturating_sub(then).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The time now, in epoch seconds.
pub(crate) fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["a".to_owned(), "größer".to_owned(), "/x".to_owned()],
            vec!["long".to_owned(), "b".repeat(70), "/y".to_owned()],
        ];
        let expected = format!(
            "ID    TITLE{0}CWD\na     größer{1}/x\nlong  {2}…  /y\n",
            " ".repeat(57),
            " ".repeat(56),
            "b".repeat(59)
        );
        assert_eq!(table(&["ID", "TITLE", "CWD"], &rows), expected);
    }

    #[test]
    fn short_ids_stay_unique() {
        let ids = ["01a1fb44-92e5-7a11", "01a1fb44-92e7-7000", "ffff"];
        assert_eq!(short_id_length(ids.into_iter()), 13);
        assert_eq!(short_id_length(["a"].into_iter()), MIN_SHORT_ID);
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(
            [age(100, 100), age(100, 200), age(160, 100), age(7_300, 100), age(200_000, 0)],
            ["0s", "0s", "1m", "2h", "2d"]
        );
    }
}
