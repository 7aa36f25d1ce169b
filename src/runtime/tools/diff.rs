//! Unified diffs: of one change, and of everything a turn changed.

use std::collections::BTreeMap;

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// The hunk between two texts: one, from the first to the last line that differs. Longer than a
/// minimal diff could be, never wrong.
pub(super) fn hunk(old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let new: Vec<&str> = new.split_inclusive('\n').collect();
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let before = old.iter().zip(&new).take_while(same).count();
    let shorter = old.len().min(new.len()) - before;
    let after = old.iter().rev().zip(new.iter().rev()).take(shorter).take_while(same).count();
    let first = before.saturating_sub(CONTEXT);
    let last = |lines: &[&str]| (lines.len() - after + CONTEXT).min(lines.len());
    let (old_last, new_last) = (last(&old), last(&new));
    let mut text = format!("@@ -{} +{} @@\n", range(first, old_last), range(first, new_last));
    let mut push = |sign: char, lines: &[&str]| {
        for line in lines {
            text.push(sign);
            text.push_str(line);
            if !line.ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
    };
    push(' ', &old[first..before]);
    push('-', &old[before..old.len() - after]);
    push('+', &new[before..new.len() - after]);
    push(' ', &old[old.len() - after..old_last]);
    text
}

/// `start,count` of a hunk header; a count of one is left out, an empty range starts one earlier.
fn range(first: usize, last: usize) -> String {
    match last - first {
        0 => format!("{first},0"),
        1 => format!("{}", first + 1),
        count => format!("{},{count}", first + 1),
    }
}

/// Every file a turn changed: content before the turn and now; `None` where there is no file.
#[derive(Debug, Default)]
pub(crate) struct TurnDiff {
    files: BTreeMap<String, (Option<String>, Option<String>)>,
}

impl TurnDiff {
    /// Remembers one change; a file that is back where it was drops out.
    pub(super) fn record(&mut self, path: &str, old: Option<String>, new: Option<String>) {
        let entry = self.files.entry(path.to_owned()).or_insert((old, None));
        entry.1 = new;
        if entry.0 == entry.1 {
            self.files.remove(path);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The diff in git's form, without `index` lines.
    pub(crate) fn unified(&self) -> String {
        let mut text = String::new();
        for (path, (old, new)) in &self.files {
            text.push_str(&format!("diff --git a/{path} b/{path}\n"));
            let (mut from, mut to) = (format!("a/{path}"), format!("b/{path}"));
            if old.is_none() {
                text.push_str("new file mode 100644\n");
                from = "/dev/null".to_owned();
            }
            if new.is_none() {
                text.push_str("deleted file mode 100644\n");
                to = "/dev/null".to_owned();
            }
            let hunk = hunk(old.as_deref().unwrap_or(""), new.as_deref().unwrap_or(""));
            if !hunk.is_empty() {
                text.push_str(&format!("--- {from}\n+++ {to}\n{hunk}"));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hunk_has_context_and_right_ranges() {
        assert_eq!(hunk("hello\n", "bye\n"), "@@ -1 +1 @@\n-hello\n+bye\n");
        assert_eq!(hunk("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(hunk("a\n", "a\na\n"), "@@ -1 +1,2 @@\n a\n+a\n");
        assert_eq!(
            hunk("a", "b"),
            concat!(
                "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n",
                "+b\n\\ No newline at end of file\n"
            )
        );
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let changed = hunk(old, &old.replace("5\n", "five\n"));
        assert_eq!(changed, "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
    }

    #[test]
    fn a_turn_that_undoes_itself_has_no_diff() {
        let mut diff = TurnDiff::default();
        diff.record("a", None, Some("x\n".into()));
        diff.record("a", Some("x\n".into()), Some("y\n".into()));
        assert_eq!(
            diff.unified(),
            concat!(
                "diff --git a/a b/a\nnew file mode 100644\n",
                "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+y\n"
            )
        );
        diff.record("a", Some("y\n".into()), None);
        assert!(diff.is_empty() && diff.unified().is_empty());
    }
}
