//! Reading JSON bodies as version 1 does.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_TYPE, ORIGIN};
use actix_web::{FromRequest, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use cm_core::error::ErrorCode;
use cm_core::wire::MAX_ITEMS;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::answer::{ApiError, invalid};
use crate::api::Api;

/// Levels of objects and lists in a body; as many as the parser goes into.
const MAX_DEPTH: usize = 127;

/// A body that was read and is to be understood later: on session routes a session that does not
/// exist is said before a body that is wrong.
#[derive(Debug)]
pub(crate) struct RawBody {
    /// `None` when the request had neither body nor content type.
    bytes: Option<Bytes>,
}

impl RawBody {
    /// Reads the body.
    ///
    /// # Errors
    ///
    /// 413 over the limit, 415 for another type than JSON, 400 when it is announced and empty.
    pub(crate) async fn read(
        request: &HttpRequest,
        payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
    ) -> Result<Self, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| value.to_str().unwrap_or_default());
        let bytes = read_bytes(request, payload).await?;
        let Some(content_type) = content_type else {
            if bytes.is_empty() {
                return Ok(Self { bytes: None });
            }
            return Err(unsupported("no content type"));
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is_text = essence.eq_ignore_ascii_case("text/plain");
        if !is_text && !essence.eq_ignore_ascii_case("application/json") {
            return Err(unsupported(essence));
        }
        // A page can send `text/plain` to another origin without being asked first.
        if is_text && request.headers().contains_key(ORIGIN) && !same_origin(request) {
            return Err(unsupported("text/plain from another origin"));
        }
        if bytes.is_empty() {
            let message = "The body is empty although a content type was given.";
            return Err(ApiError::new(ErrorCode::RequestFailed, message));
        }
        Ok(Self { bytes: Some(bytes) })
    }

    /// Understands a body that must be there.
    ///
    /// # Errors
    ///
    /// 400 with the member that is wrong.
    pub(crate) fn required<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        match &self.bytes {
            Some(bytes) => parse(bytes),
            None => Err(invalid("", "a JSON body is required")),
        }
    }

    /// Understands a body that must be there and holds secrets: what is wrong with it is said
    /// without anything that stands in it.
    ///
    /// # Errors
    ///
    /// 400 with the member that is wrong.
    pub(crate) fn confidential<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.required().map_err(|error| match error.is(ErrorCode::InvalidRequest) {
            true => without_values(&error.to_string()),
            false => error,
        })
    }

    /// Understands a body that may be absent or `null`.
    ///
    /// # Errors
    ///
    /// 400 with the member that is wrong.
    pub(crate) fn nullable<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        match &self.bytes {
            Some(bytes) if bytes.trim_ascii() == b"null" => Ok(T::default()),
            _ => self.optional(),
        }
    }

    /// Understands a body that may be absent.
    ///
    /// # Errors
    ///
    /// 400 with the member that is wrong; `null` is not an object.
    pub(crate) fn optional<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        match &self.bytes {
            Some(bytes) => parse(bytes),
            None => Ok(T::default()),
        }
    }
}

/// Taken by handlers that look at no body: one that is sent must be one that could be read, as
/// everywhere.
#[derive(Debug)]
pub(crate) struct NoBody;

impl FromRequest for NoBody {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            match RawBody::read(&request, payload).await?.bytes {
                Some(bytes) => check_json(&bytes).map(|()| Self),
                None => Ok(Self),
            }
        })
    }
}

/// What was wrong with a body that holds secrets. Names of members that are known are ours, and so is what
/// is said of their lengths; values, and texts in the place of objects, are not.
fn without_values(said: &str) -> ApiError {
    let said = said.strip_prefix("request validation failed: ").unwrap_or_default();
    let quoted = |before: &str| said.strip_prefix(before)?.split_once('`');
    if let Some((name, _)) = quoted("duplicate field `") {
        return invalid(name, "is there twice");
    }
    let Some((path, rest)) = quoted("`") else {
        return invalid("", "a member is unknown or has another type");
    };
    // Only members that are known can be wrong, so the first part of the path is one of them.
    let name = path.split('.').next().unwrap_or_default();
    if rest.strip_prefix(": ") == Some(IS_MISSING) {
        // So is the last part of one that is missing.
        let last = path.split_once('.').map(|(_, rest)| rest).filter(|rest| !rest.contains('.'));
        let path = last.map_or_else(|| name.to_owned(), |last| format!("{name}.{last}"));
        return invalid(&path, IS_MISSING);
    }
    match rest.strip_prefix(": must not be longer than ") {
        Some(rest) => {
            let most = rest.split(' ').next().unwrap_or_default();
            invalid(name, &format!("must not be longer than {most} characters"))
        }
        None if rest.starts_with(": duplicate field `") => invalid(name, "is there twice"),
        None => invalid(name, "is unknown or has another type"),
    }
}

/// Reads the bytes of a body.
///
/// # Errors
///
/// 413 over the limit, 400 when it breaks off.
pub(crate) async fn read_bytes(
    request: &HttpRequest,
    mut payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin,
) -> Result<Bytes, ApiError> {
    let limit = request.app_data::<web::Data<Api>>().map_or(1024 * 1024, |api| api.info.max_body);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::new(ErrorCode::RequestFailed, format!("The body broke off: {error}."))
        })?;
        if bytes.len() + chunk.len() > limit {
            let message = format!("The body is larger than {limit} bytes.");
            return Err(ApiError::new(ErrorCode::TooLarge, message));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// Says that a body is no JSON at all, or nests too deep.
fn check_json(bytes: &[u8]) -> Result<(), ApiError> {
    // A body that is no JSON at all is another error than one of the wrong shape. Texts that are
    // not UTF-8 would pass unseen in members that are ignored.
    let not_json = |why: String| {
        ApiError::new(ErrorCode::RequestFailed, format!("The body is not JSON: {why}."))
    };
    std::str::from_utf8(bytes).map_err(|error| not_json(error.to_string()))?;
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        return Err(not_json(error.to_string()));
    }
    // What nests deeper could not be read again by those who are given it.
    if depth(bytes) > MAX_DEPTH {
        return Err(not_json(format!("it nests deeper than {MAX_DEPTH} levels")));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    check_json(bytes)?;
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err(invalid("", "a JSON object is required"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // `a.0.b`, as everywhere; the library would write `a[0].b`.
        let segments = error.path().iter().map(|segment| match segment {
            Segment::Seq { index } => index.to_string(),
            other => other.to_string(),
        });
        let mut path = segments.collect::<Vec<_>>();
        let said = error.inner().to_string();
        // What is missing is named in the words alone; the path is that of what lacks it.
        match missing(&said) {
            Some(name) => {
                path.push(name.to_owned());
                invalid(&path.join("."), IS_MISSING)
            }
            None => invalid(&path.join("."), &said),
        }
    })
}

/// What is said of a member that must be there.
const IS_MISSING: &str = "is missing";

/// The member that serde says to be missing.
fn missing(said: &str) -> Option<&str> {
    said.strip_prefix("missing field `")?.split_once('`').map(|(name, _)| name)
}

/// How deep JSON nests.
fn depth(json: &[u8]) -> usize {
    let (mut now, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                now += 1;
                deepest = deepest.max(now);
            }
            b']' | b'}' if !in_text => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn unsupported(what: &str) -> ApiError {
    ApiError::new(
        ErrorCode::UnsupportedMediaType,
        format!("Bodies are application/json; this one is {what}."),
    )
}

fn same_origin(request: &HttpRequest) -> bool {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = header(actix_web::http::header::HOST);
    let origin = header(ORIGIN).and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    host.is_some() && host == origin
}

/// Checks a text member: trimmed, not empty, not too long.
pub(crate) fn text(name: &str, value: &str, max: usize) -> Result<String, ApiError> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        return Err(invalid(name, "must not be empty"));
    }
    not_longer(name, trimmed, max)?;
    Ok(trimmed.to_owned())
}

/// Refuses a list of too many items.
pub(crate) fn few(name: &str, items: usize) -> Result<(), ApiError> {
    match items > MAX_ITEMS {
        true => Err(invalid(name, &format!("must not have more than {MAX_ITEMS} items"))),
        false => Ok(()),
    }
}

/// Refuses a text that is too long.
pub(crate) fn not_longer(name: &str, value: &str, max: usize) -> Result<(), ApiError> {
    match value.chars().count() > max {
        true => Err(invalid(name, &format!("must not be longer than {max} characters"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "only read")]
    struct Outer {
        first_name: String,
        list: Option<Vec<Inner>>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        name: String,
    }

    fn issue(error: &ApiError) -> (Value, Value) {
        let issue = &error.member("issues").unwrap()[0];
        (issue["path"].clone(), issue["message"].clone())
    }

    #[test]
    fn what_is_missing_is_in_the_path() {
        for (json, path) in [
            ("{}", json!(["firstName"])),
            (r#"{"list":[{"name":"a"},{}],"firstName":"a"}"#, json!(["list", "1", "name"])),
            (r#"{"firstName":"a","inner":{}}"#, json!(["inner", "name"])),
        ] {
            let bytes = Some(Bytes::from_static(json.as_bytes()));
            let error = RawBody { bytes }.required::<Outer>().unwrap_err();
            assert_eq!(issue(&error), (path, json!(IS_MISSING)), "{json}");
        }
        let body =
            |json: &'static str| RawBody { bytes: Some(Bytes::from_static(json.as_bytes())) };
        let error = body("{}").confidential::<Outer>().unwrap_err();
        assert_eq!(issue(&error), (json!(["firstName"]), json!(IS_MISSING)));
        let nested = body(r#"{"firstName":"a","inner":{"secret":1}}"#);
        let error = nested.confidential::<Outer>().unwrap_err();
        assert_eq!(issue(&error), (json!(["inner", "name"]), json!(IS_MISSING)));
    }

    #[test]
    fn depth_is_counted_outside_of_texts() {
        for (json, expected) in [
            ("1", 0),
            ("[]", 1),
            (r#"{"a":[{}],"b":{}}"#, 3),
            (r#"{"a":"[[[\"[[["}"#, 1),
            (r#"["\\",[]]"#, 2),
        ] {
            assert_eq!(depth(json.as_bytes()), expected, "{json}");
        }
    }
}
