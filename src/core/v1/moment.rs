//! Times in the forms that version 1 accepted.

use std::ops::RangeInclusive;

use serde_json::Value;

/// Numbers above this are milliseconds, the others seconds.
const SECONDS_END: f64 = 1e10;

/// A moment in epoch milliseconds: a number of seconds or milliseconds, the same as text, or
/// ISO-8601. `None` for anything else, and for 0.
pub(super) fn moment_ms(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => of_number(number.as_f64()?),
        Value::String(text) => {
            let text = text.trim();
            text.parse::<f64>().map_or_else(|_| of_iso(text), of_number)
        }
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "bounded before the cast")]
fn of_number(number: f64) -> Option<i64> {
    let ms = if number > SECONDS_END { number } else { number * 1000.0 };
    // The year 10000 and later is nobody's time.
    (1.0..253_402_300_800_000.0).contains(&ms).then_some(ms as i64)
}

/// Digits that are a number of a range: whatever is computed of it fits.
fn digits(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && range.contains(number))
}

/// `2026-11-26T17:24:51.377Z`, also with an offset, or without a fraction.
fn of_iso(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-');
    let year = digits(date.next()?, 1970..=9999)?;
    let month = digits(date.next()?, 1..=12)?;
    let day = digits(date.next()?, 1..=31)?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let mut parts = clock.splitn(3, ':');
    let hour = digits(parts.next()?, 0..=23)?;
    let minute = digits(parts.next()?, 0..=59)?;
    let seconds = parts.next()?;
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let second = digits(second, 0..=60)?;
    let ms: String = fraction.chars().chain("000".chars()).take(3).collect();
    let ms = digits(&ms, 0..=999)?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = digits(hours, 0..=23)? * 60 + digits(minutes, 0..=59)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let seconds = (days(year, month, day) * 24 + hour) * 3600 + (minute - offset) * 60 + second;
    Some(seconds * 1000 + ms).filter(|ms| *ms > 0)
}

/// Days since 1970-01-01, counted in years that begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn every_form_is_the_same_moment() {
        let moment = Some(1_795_713_891_377);
        for value in [
            json!(1_795_713_891_377_i64),
            json!("1795713891377"),
            json!("2026-11-26T17:24:51.377Z"),
            json!("2026-11-26T17:24:51.377295611Z"),
            json!("2026-11-26T19:24:51.377+02:00"),
            json!("2026-11-26T12:54:51.377-04:30"),
        ] {
            assert_eq!(moment_ms(&value), moment, "{value}");
        }
        assert_eq!(moment_ms(&json!(1_795_713_891)), Some(1_795_713_891_000));
        assert_eq!(moment_ms(&json!("2024-02-29T00:00:00Z")), Some(1_709_164_800_000));
        assert_eq!(moment_ms(&json!("2000-03-01T00:00:01Z")), Some(951_868_801_000));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for value in [
            json!(null),
            json!(0),
            json!(-5),
            json!(1e300),
            json!(""),
            json!("soon"),
            json!("2026-13-01T00:00:00Z"),
            json!("2026-11-26T17:24"),
            json!("9999999999999999999"),
            json!("9223372036854775807-01-01T00:00:00Z"),
            json!("2026-11-26T17:24:51+9223372036854775807:00"),
            json!("2026-11-26T9223372036854775807:24:51Z"),
            json!([1]),
        ] {
            assert_eq!(moment_ms(&value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,40}") {
            moment_ms(&json!(text));
        }

        #[test]
        fn any_numbers_in_the_places_of_a_time_are_survived(
            numbers in prop::collection::vec(
                prop_oneof![0_i64..70, prop::sample::select(vec![i64::MIN, i64::MAX]), any::<i64>()],
                8,
            ),
        ) {
            let [y, mo, d, h, mi, s, zh, zm] = numbers[..] else { unreachable!() };
            for zone in ["Z".to_owned(), format!("+{zh}:{zm}"), format!("-{zh}:{zm}")] {
                let text = format!("{y}-{mo}-{d}T{h}:{mi}:{s}.5{zone}");
                let moment = moment_ms(&json!(text));
                prop_assert!(moment.is_none_or(|ms| ms > 0), "{text} {moment:?}");
            }
        }
    }
}
