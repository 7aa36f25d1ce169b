//! Close codes and control frames (RFC 6455 §5.5, §7.4).

use bytes::Bytes;

/// The server goes away.
pub(super) const GOING_AWAY: u16 = 1001;
/// The client broke the protocol.
pub(super) const PROTOCOL: u16 = 1002;
/// The client broke a rule.
pub(super) const POLICY: u16 = 1008;
/// The client sent more than it may.
pub(super) const TOO_BIG: u16 = 1009;
/// Try again later: the client fell behind.
pub(super) const TRY_AGAIN: u16 = 1013;

/// Longest payload of a control frame, in bytes.
const LONGEST: usize = 125;

/// A close frame: two bytes of code and a short reason.
pub(super) fn frame(code: u16, reason: &str) -> Bytes {
    /// FIN and the opcode of a close frame.
    const FIN_CLOSE: u8 = 0x88;
    // Our reasons are short words.
    let reason = reason.get(..reason.len().min(100)).unwrap_or_default().as_bytes();
    let mut frame = Vec::with_capacity(reason.len() + 4);
    frame.push(FIN_CLOSE);
    frame.push(u8::try_from(reason.len() + 2).unwrap_or(2));
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason);
    frame.into()
}

/// A pong frame with the ping's payload.
pub(super) fn pong(payload: &[u8]) -> Bytes {
    /// FIN and the opcode of a pong frame.
    const FIN_PONG: u8 = 0x8a;
    let payload = payload.get(..payload.len().min(LONGEST)).unwrap_or_default();
    let mut frame = Vec::with_capacity(payload.len() + 2);
    frame.push(FIN_PONG);
    frame.push(u8::try_from(payload.len()).unwrap_or(0));
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_are_those_of_rfc_6455() {
        assert_eq!(frame(GOING_AWAY, "x").as_ref(), b"\x88\x03\x03\xe9x");
        assert_eq!(pong(b"hi").as_ref(), b"\x8a\x02hi");
    }
}
