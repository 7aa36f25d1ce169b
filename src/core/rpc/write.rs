//! Strict writer: one object, one line, no `jsonrpc` member.

use serde::Serialize;

use super::message::{RpcError, RpcId};

#[derive(Serialize)]
struct Request<'a, P> {
    id: &'a RpcId,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

#[derive(Serialize)]
struct Notification<'a, P> {
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
}

#[derive(Serialize)]
struct Success<'a, R> {
    id: &'a RpcId,
    result: R,
}

#[derive(Serialize)]
struct Failure<'a> {
    id: &'a RpcId,
    error: &'a RpcError,
}

/// A call: `{"id":…,"method":…,"params":…}` and a newline.
///
/// # Errors
///
/// When `params` cannot be written as JSON.
pub fn encode_request<P: Serialize>(
    id: &RpcId,
    method: &str,
    params: Option<P>,
) -> Result<Vec<u8>, serde_json::Error> {
    line(&Request { id, method, params })
}

/// A notification: `{"method":…,"params":…}` and a newline.
///
/// # Errors
///
/// When `params` cannot be written as JSON.
pub fn encode_notification<P: Serialize>(
    method: &str,
    params: Option<P>,
) -> Result<Vec<u8>, serde_json::Error> {
    line(&Notification { method, params })
}

/// An answer with a result.
///
/// # Errors
///
/// When `result` cannot be written as JSON.
pub fn encode_result<R: Serialize>(id: &RpcId, result: R) -> Result<Vec<u8>, serde_json::Error> {
    line(&Success { id, result })
}

/// An answer with an error.
///
/// # Errors
///
/// When the error's data cannot be written as JSON.
pub fn encode_error(id: &RpcId, error: &RpcError) -> Result<Vec<u8>, serde_json::Error> {
    line(&Failure { id, error })
}

fn line<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    // serde_json escapes control characters, so the only newline is the one appended here.
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_break_inside_a_value_does_not_end_the_line() {
        let bytes = encode_request(&RpcId::Number(1), "a/b", Some(json!({"t": "x\ny"}))).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(bytes, b"{\"id\":1,\"method\":\"a/b\",\"params\":{\"t\":\"x\\ny\"}}\n");
    }

    #[test]
    fn absent_params_are_omitted() {
        let bytes = encode_notification::<()>("initialized", None).unwrap();
        assert_eq!(bytes, b"{\"method\":\"initialized\"}\n");
    }
}
