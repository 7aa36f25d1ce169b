//! Times in the forms that version 1 accepted.

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

/// `2026-11-26T17:24:51.377Z`, also with an offset, or without a fraction.
fn of_iso(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at_checked(zone_at)?;
    let mut parts = clock.splitn(3, ':');
    let hour: i64 = parts.next()?.parse().ok()?;
    let minute: i64 = parts.next()?.parse().ok()?;
    let seconds = parts.next()?;
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let second: i64 = second.parse().ok()?;
    let ms: i64 = fraction.chars().chain("000".chars()).take(3).collect::<String>().parse().ok()?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes: i64 = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let in_range = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second)
        && offset.abs() < 24 * 60;
    let seconds = (days(year, month, day) * 24 + hour) * 3600 + (minute - offset) * 60 + second;
    in_range.then_some(seconds * 1000 + ms).filter(|ms| *ms > 0)
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
            json!([1]),
        ] {
            assert_eq!(moment_ms(&value), None, "{value}");
        }
    }
}
