//! Reading JSON bodies as version 1 does.

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_TYPE, ORIGIN};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use cm_core::error::ErrorCode;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::answer::{ApiError, invalid};
use crate::api::Api;

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
        payload: web::Payload,
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
    /// 400 with the member that is missing, or without a member.
    pub(crate) fn confidential<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.required().map_err(|error| {
            let said = error.to_string();
            // Names of members are ours; values, and texts in the place of objects, are not.
            let name = said.strip_prefix("request validation failed: missing field `");
            match (name.and_then(|rest| rest.split_once('`')), error.is(ErrorCode::InvalidRequest))
            {
                (Some((name, _)), true) => invalid(name, "is missing"),
                (None, true) => invalid("", "a member is unknown or has another type"),
                (_, false) => error,
            }
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

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // A body that is no JSON at all is another error than one of the wrong shape. Texts that are
    // not UTF-8 would pass unseen in members that are ignored.
    let not_json = |why: String| {
        ApiError::new(ErrorCode::RequestFailed, format!("The body is not JSON: {why}."))
    };
    std::str::from_utf8(bytes).map_err(|error| not_json(error.to_string()))?;
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        return Err(not_json(error.to_string()));
    }
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
        let path = segments.collect::<Vec<_>>().join(".");
        invalid(&path, &error.into_inner().to_string())
    })
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
    if trimmed.chars().count() > max {
        return Err(invalid(name, &format!("must not be longer than {max} characters")));
    }
    Ok(trimmed.to_owned())
}
