//! Did you mean.

/// The candidate nearest to a name that nobody knows, if one is near enough to be a slip.
pub(super) fn nearest<'a>(
    unknown: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    // A third of the letters wrong is a different word, not a slip.
    let tolerated = (unknown.chars().count() / 3).clamp(1, 4);
    candidates
        .map(|candidate| (distance(&unknown, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance: the fewest letters to insert, delete or replace.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let replaced = previous[column] + usize::from(letter != *other);
            current.push(replaced.min(previous[column + 1] + 1).min(current[column] + 1));
        }
        previous = current;
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let known = ["server.port", "server.host", "log.level"];
        let suggest = |name| nearest(name, known.into_iter());
        assert_eq!(suggest("server.prot"), Some("server.port"));
        assert_eq!(suggest("servr.host"), Some("server.host"));
        assert_eq!(suggest("Log.Level"), Some("log.level"));
        assert_eq!(suggest("something.else"), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
