//! The query of a URL, member by member.

use std::collections::BTreeMap;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};

use cm_core::wire::MAX_PATH;

use crate::answer::{ApiError, invalid};

/// Rows of a page when none are asked for, and at the most.
pub(crate) const PAGE: usize = 100;
pub(crate) const MAX_PAGE: usize = 200;

/// Longest member that is looked at, in characters, unless it is a path. With all that an operation
/// takes, in any encoding, an address stays below the 65,534 bytes that the HTTP server reads.
const MAX_VALUE: usize = 512;

/// Characters that a member may have.
pub(crate) fn max_value(name: &str) -> usize {
    if name == "cwd" { MAX_PATH } else { MAX_VALUE }
}

/// The members of a query. One that is given twice, or is no text, is refused with its name;
/// unknown ones are ignored.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    fn read(query: &str) -> Result<Self, ApiError> {
        if !is_well_encoded(query) {
            return Err(invalid("", "the query holds a broken percent-encoding"));
        }
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|error| invalid("", &format!("the query cannot be read: {error}")))?;
        let mut members = BTreeMap::new();
        for (name, value) in pairs.into_inner() {
            if members.contains_key(&name) {
                return Err(invalid(&name, "must be given once"));
            }
            let most = max_value(&name);
            if value.chars().count() > most {
                let message = format!("must not be longer than {most} characters");
                return Err(invalid(&name, &message));
            }
            members.insert(name, value);
        }
        Ok(Self(members))
    }

    /// A member as it was given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A member that is `true` or `false`; `false` when it is absent.
    ///
    /// # Errors
    ///
    /// 400 for anything else.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(name, "must be `true` or `false`")),
        }
    }

    /// A text, trimmed.
    ///
    /// # Errors
    ///
    /// 400 when it is there and blank.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        let text = self.get(name).map(str::trim);
        match text {
            Some("") => Err(invalid(name, "must not be empty")),
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// A whole number from `least` to `most`.
    ///
    /// # Errors
    ///
    /// 400 for anything else.
    pub(crate) fn number(
        &self,
        name: &str,
        least: usize,
        most: usize,
    ) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let wanted = || invalid(name, &format!("must be a number from {least} to {most}"));
        number.map(Some).ok_or_else(wanted)
    }

    /// How many rows a page has.
    ///
    /// # Errors
    ///
    /// 400 for anything but a number from 1 to [`MAX_PAGE`].
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        Ok(self.number("limit", 1, MAX_PAGE)?.unwrap_or(PAGE))
    }

    /// Where a page starts, or ends.
    ///
    /// # Errors
    ///
    /// 400 when it is empty.
    pub(crate) fn cursor(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.get(name) {
            Some("") => Err(invalid(name, "must not be empty")),
            cursor => Ok(cursor.map(str::to_owned)),
        }
    }
}

impl FromRequest for Query {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::read(request.query_string()))
    }
}

/// Whether every percent sign begins a byte, and the bytes are UTF-8 without a zero. The parser of queries would
/// pass over what is not.
pub(crate) fn is_well_encoded(text: &str) -> bool {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return false;
        };
        decoded.extend(u8::try_from(high * 16 + low));
    }
    std::str::from_utf8(&decoded).is_ok() && !decoded.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::read(text).unwrap()
    }

    #[test]
    fn members_are_read_one_by_one() {
        let query = query("limit=2&archived=true&cwd=%20a%20b%20&other=&cursor=x%7Cy");
        assert_eq!(query.limit().unwrap(), 2);
        assert!(query.flag("archived").unwrap());
        assert!(!query.flag("absent").unwrap());
        assert_eq!(query.text("cwd").unwrap().as_deref(), Some("a b"));
        assert_eq!(query.cursor("cursor").unwrap().as_deref(), Some("x|y"));
        assert_eq!(Query::read("").unwrap().limit().unwrap(), PAGE);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in ["limit=0", "limit=201", "limit=", "limit=two", "limit=-1", "limit=1.5"] {
            assert!(query(text).limit().is_err(), "{text}");
        }
        assert!(query("archived=1").flag("archived").is_err());
        assert!(query("cwd=%20").text("cwd").is_err());
        assert!(query("cursor=").cursor("cursor").is_err());
        assert!(Query::read(&format!("cursor={}", "x".repeat(5000))).is_err());
        for text in ["a=%", "a=%4", "a=%00", "a=%zz", "a=%ff", "%c3=1", "a=1&a=2"] {
            assert!(Query::read(text).is_err(), "{text}");
        }
    }
}
