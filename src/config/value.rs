//! From what was written to a checked value.

use std::net::IpAddr;

use super::variable::Kind;

/// What stands in a layer, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    /// A text.
    Text(String),
    /// A list, from an array of the file or a flag that was given several times.
    List(Vec<String>),
}

/// A value that obeys the rule of its variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Nothing was set, or a blank that counts as nothing.
    Unset,
    /// A text.
    Text(String),
    /// A number; durations in milliseconds, sizes in bytes.
    Number(u64),
    /// A yes or no.
    Switch(bool),
    /// A list.
    List(Vec<String>),
}

/// Checks a value against the rule of its variable.
///
/// # Errors
///
/// What is allowed instead, as a fragment that follows "must be".
pub(super) fn parse(kind: Kind, raw: &Raw) -> Result<Parsed, String> {
    match kind {
        Kind::Origins => origins(&items(raw, ',')),
        Kind::Paths => Ok(Parsed::List(items(raw, PATH_SEPARATOR))),
        _ => match raw {
            Raw::Text(text) => parse_text(kind, text),
            Raw::List(_) => Err("a single value, not a list".to_owned()),
        },
    }
}

/// What separates paths in a list, as in `PATH`.
const PATH_SEPARATOR: char = if cfg!(windows) { ';' } else { ':' };

fn items(raw: &Raw, separator: char) -> Vec<String> {
    let pieces: Vec<&str> = match raw {
        Raw::Text(text) => text.split(separator).collect(),
        Raw::List(list) => list.iter().map(String::as_str).collect(),
    };
    let trimmed = pieces.into_iter().map(str::trim).filter(|piece| !piece.is_empty());
    trimmed.map(str::to_owned).collect()
}

fn parse_text(kind: Kind, text: &str) -> Result<Parsed, String> {
    match kind {
        Kind::Host => host(text),
        Kind::Number { min, max } => number(text, min, max, "a whole number"),
        Kind::Millis { min, max } => number(text, min, max, "a whole number of milliseconds"),
        Kind::Bytes { min, max } => bytes(text, min, max),
        Kind::Switch => match text {
            "true" => Ok(Parsed::Switch(true)),
            "false" => Ok(Parsed::Switch(false)),
            _ => Err("true or false".to_owned()),
        },
        Kind::OneOf(words) if words.contains(&text) => Ok(Parsed::Text(text.to_owned())),
        Kind::OneOf(words) => Err(format!("one of {}", words.join(", "))),
        Kind::Path if text.trim().is_empty() => {
            Err("a path; take the line out to leave it unset".to_owned())
        }
        Kind::Path if text.contains('\0') => Err("a path without NUL".to_owned()),
        Kind::Secret if text.trim().is_empty() => Ok(Parsed::Unset),
        Kind::Secret => Ok(Parsed::Text(text.trim().to_owned())),
        Kind::Path | Kind::Text | Kind::Origins | Kind::Paths => Ok(Parsed::Text(text.to_owned())),
    }
}

fn number(text: &str, min: u64, max: u64, what: &str) -> Result<Parsed, String> {
    match text.trim().parse::<u64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(Parsed::Number(number)),
        _ if max == u64::MAX => Err(format!("{what}, at least {min}")),
        _ => Err(format!("{what} from {min} to {max}")),
    }
}

fn bytes(text: &str, min: u64, max: u64) -> Result<Parsed, String> {
    const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let text = text.trim();
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(name));
    let (digits, factor) = match unit {
        Some((name, factor)) => (text.trim_end_matches(name).trim_end(), *factor),
        None => (text, 1),
    };
    let size = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(factor));
    match size {
        Some(size) if (min..=max).contains(&size) => Ok(Parsed::Number(size)),
        _ => Err(format!("a number of bytes from {min} to {max}; KiB, MiB and GiB may follow it")),
    }
}

fn host(text: &str) -> Result<Parsed, String> {
    let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
    let named = !bare.is_empty()
        && bare.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter));
    if bare.parse::<IpAddr>().is_ok() || named {
        return Ok(Parsed::Text(bare.to_ascii_lowercase()));
    }
    Err("an IP address or a host name, without scheme and port".to_owned())
}

fn origins(list: &[String]) -> Result<Parsed, String> {
    list.iter().map(|text| origin(text)).collect::<Result<_, _>>().map(Parsed::List)
}

/// An origin as browsers send it: lowercase, without the scheme's own port, without a slash.
fn origin(text: &str) -> Result<String, String> {
    let wrong =
        || format!("origins such as http://localhost:5173, separated by commas; `{text}` is none");
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or_else(wrong)?;
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(wrong()),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (authority, None),
    };
    let name_fits = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.contains(['[', ']', ':']) && host(name).is_ok(),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if name_fits && port_fits { Ok(format!("{scheme}://{authority}")) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Kind, text: &str) -> Result<Parsed, String> {
        parse(kind, &Raw::Text(text.to_owned()))
    }

    #[test]
    fn numbers_have_bounds_and_sizes_have_units() {
        let port = Kind::Number { min: 0, max: 65_535 };
        assert_eq!(text(port, "0"), Ok(Parsed::Number(0)));
        assert!(text(port, "70000").unwrap_err().contains("from 0 to 65535"));
        assert!(text(port, "").is_err());
        assert!(text(port, "-1").is_err());
        assert!(text(port, "3001.5").is_err());
        let size = Kind::Bytes { min: 1, max: u64::MAX };
        assert_eq!(text(size, "4096"), Ok(Parsed::Number(4096)));
        assert_eq!(text(size, "64 MiB"), Ok(Parsed::Number(64 << 20)));
        assert!(text(size, "99999999999999GiB").is_err());
        assert!(text(size, "1MB").is_err());
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        assert_eq!(text(Kind::Host, "[::1]"), Ok(Parsed::Text("::1".to_owned())));
        assert_eq!(text(Kind::Host, "LocalHost"), Ok(Parsed::Text("localhost".to_owned())));
        for wrong in ["", "http://x", "127.0.0.1:3001", "a b"] {
            assert!(text(Kind::Host, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn origins_are_spelled_as_browsers_send_them() {
        let parsed = text(Kind::Origins, " http://A.example:80/ , https://[::1]:8443,,");
        let expected = ["http://a.example", "https://[::1]:8443"].map(str::to_owned);
        assert_eq!(parsed, Ok(Parsed::List(expected.to_vec())));
        for wrong in ["*", "null", "localhost:5173", "http://a/b", "http://", "http://a:x"] {
            assert!(text(Kind::Origins, wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_blank_secret_is_none_and_a_blank_path_is_wrong() {
        assert_eq!(text(Kind::Secret, "  "), Ok(Parsed::Unset));
        assert!(text(Kind::Path, "").is_err());
        assert!(text(Kind::Switch, "yes").is_err());
        assert!(parse(Kind::Path, &Raw::List(vec![])).is_err());
    }
}
