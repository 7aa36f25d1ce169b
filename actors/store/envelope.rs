//! The form of a stored value: its kind, its checksum, its bytes.
//!
//! ```text
//! kind (1) │ CRC-32 (4, big-endian) │ payload
//! ```
//!
//! The checksum covers length and bytes of the key, the kind and the payload: a value that ended up
//! under another key is as damaged as one with a flipped bit.
//!
//! sled writes a *page* that is larger than a quarter of its segment (128 KiB) to a file of its own
//! that it does not sync. A leaf page holds up to 16 values before it is split, and some more right
//! after a merge; so it is not enough that each value is small: 20 of them must be. Measured with
//! 40 MB of values: 32 KiB values make 120 such files, 8 KiB values 37, 6 KiB and less none.

/// Bytes before the payload.
pub(super) const HEADER: usize = 5;

/// Bytes that one stored value has at the most, header included. Twenty fit in 128 KiB with room
/// for their keys.
pub(super) const MAX_STORED: usize = 4096;

/// Payload that one stored value has at the most; what is longer is cut into chunks.
pub(super) const MAX_PAYLOAD: usize = MAX_STORED - HEADER;

const INLINE: u8 = 1;
const ROOT: u8 = 2;
const CHUNK: u8 = 3;

/// Where the bytes of a long value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// Which chunks: a number that is never used twice in one store.
    pub(super) generation: u64,
    /// Bytes of the value.
    pub(super) bytes: u64,
}

impl Root {
    /// How many chunks there are.
    pub(super) fn chunks(&self) -> u64 {
        self.bytes.div_ceil(MAX_PAYLOAD as u64)
    }
}

/// A stored value, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    /// The value itself.
    Inline(&'a [u8]),
    /// Where its chunks are.
    Root(Root),
    /// One chunk of a long value.
    Chunk(&'a [u8]),
}

/// Why stored bytes are no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// There are too few bytes.
    #[error("it is too short")]
    Short,
    /// A byte of key or value is not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum is right, but the kind is unknown or does not belong here.
    #[error("it is of kind {0}, which does not belong here")]
    Kind(u8),
    /// Part of a long value is not there.
    #[error("chunk {0} of its value is missing")]
    Missing(u64),
}

fn checksum<'a>(key: &[u8], kind: u8, pieces: impl Iterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(&[kind]);
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

fn seal<'a>(key: &[u8], kind: u8, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let length: usize = pieces.clone().map(<[u8]>::len).sum();
    let mut stored = Vec::with_capacity(HEADER + length);
    stored.push(kind);
    stored.extend(checksum(key, kind, pieces.clone()).to_be_bytes());
    for piece in pieces {
        stored.extend_from_slice(piece);
    }
    stored
}

/// A short value, ready to be stored.
pub(super) fn inline<'a>(key: &[u8], pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    seal(key, INLINE, pieces)
}

/// A chunk, ready to be stored.
pub(super) fn chunk<'a>(key: &[u8], pieces: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    seal(key, CHUNK, pieces)
}

/// The root of a long value, ready to be stored.
pub(super) fn root(key: &[u8], root: Root) -> Vec<u8> {
    let (generation, bytes) = (root.generation.to_be_bytes(), root.bytes.to_be_bytes());
    seal(key, ROOT, [&generation[..], &bytes[..]].into_iter())
}

/// Checks stored bytes.
///
/// # Errors
///
/// [`Damage`].
pub(super) fn open<'a>(key: &[u8], stored: &'a [u8]) -> Result<Opened<'a>, Damage> {
    let (kind, rest) = stored.split_first().ok_or(Damage::Short)?;
    let (sum, payload) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
    if checksum(key, *kind, std::iter::once(payload)) != u32::from_be_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    match *kind {
        INLINE => Ok(Opened::Inline(payload)),
        CHUNK => Ok(Opened::Chunk(payload)),
        ROOT => {
            let (generation, rest) = payload.split_first_chunk::<8>().ok_or(Damage::Short)?;
            let bytes = <[u8; 8]>::try_from(rest).map_err(|_| Damage::Short)?;
            Ok(Opened::Root(Root {
                generation: u64::from_be_bytes(*generation),
                bytes: u64::from_be_bytes(bytes),
            }))
        }
        other => Err(Damage::Kind(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_any_flipped_bit_is_seen(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
            flipped in any::<prop::sample::Index>(),
            bit in 0_u32..8,
        ) {
            let (left, right) = value.split_at(cut.index(value.len() + 1));
            let stored = inline(&key, [left, right].into_iter());
            prop_assert_eq!(open(&key, &stored), Ok(Opened::Inline(&value)));
            let mut broken = stored;
            let at = flipped.index(broken.len());
            broken[at] ^= 1 << bit;
            prop_assert!(open(&key, &broken).is_err());
        }

        #[test]
        fn garbage_is_reported_and_never_panics(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            stored in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = open(&key, &stored);
        }
    }

    #[test]
    fn a_value_under_another_key_is_damaged() {
        let stored = inline(b"one", [&b"value"[..]].into_iter());
        assert_eq!(open(b"other", &stored), Err(Damage::Checksum));
    }

    #[test]
    fn a_root_says_where_its_chunks_are() {
        let given = Root { generation: 7, bytes: MAX_PAYLOAD as u64 + 1 };
        assert_eq!(open(b"key", &root(b"key", given)), Ok(Opened::Root(given)));
        assert_eq!(given.chunks(), 2);
        assert_eq!(open(b"key", &[]), Err(Damage::Short));
    }
}
