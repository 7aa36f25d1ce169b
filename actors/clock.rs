//! Wall clock time in the forms that records and bodies use.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// ISO-8601 UTC with milliseconds, as version 1 writes times.
const ISO: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let nanoseconds = OffsetDateTime::now_utc().unix_timestamp_nanos();
    i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX)
}

/// A moment as ISO-8601 UTC with milliseconds.
pub fn iso(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(ISO).ok())
        .unwrap_or_else(|| ms.to_string())
}

/// A moment of RFC 3339 in milliseconds since the Unix epoch; `None` for what is none.
pub fn parse_iso(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// Now as ISO-8601 UTC with milliseconds.
pub fn now_iso() -> String {
    iso(now_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_version_1_does() {
        assert_eq!(iso(1_795_216_936_644), "2026-11-20T23:22:16.644Z");
        assert_eq!(iso(i64::MAX), i64::MAX.to_string());
        assert_eq!(parse_iso(&iso(1_795_216_936_644)), Some(1_795_216_936_644));
        assert_eq!(parse_iso("2026-11-20"), None);
    }
}
