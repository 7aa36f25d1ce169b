//! What is written: values in pieces, and batches of them.

use bytes::Bytes;

/// A value to be stored: pieces that are laid one behind the other.
///
/// A huge value that exists in parts (a record's own fields and the raw text of an item) is stored
/// without being copied into one buffer first.
#[derive(Debug, Clone, Default)]
pub struct StoreValue {
    pieces: Vec<Bytes>,
}

impl StoreValue {
    /// Bytes of all pieces.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Whether the value has no bytes. It is a value all the same.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The whole value in one buffer.
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

/// Two values are equal when their bytes are, however they are cut.
impl PartialEq for StoreValue {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.pieces.iter().flatten().eq(other.pieces.iter().flatten())
    }
}

impl Eq for StoreValue {}

impl From<Bytes> for StoreValue {
    fn from(bytes: Bytes) -> Self {
        Self { pieces: vec![bytes] }
    }
}

impl From<Vec<u8>> for StoreValue {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for StoreValue {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static [u8]> for StoreValue {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<Vec<Bytes>> for StoreValue {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self { pieces }
    }
}

impl<const N: usize> From<[Bytes; N]> for StoreValue {
    fn from(pieces: [Bytes; N]) -> Self {
        Self { pieces: pieces.into() }
    }
}

/// Changes that are applied together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// Keys with their new value; `None` removes the key. A later entry overrides an earlier one.
    pub entries: Vec<(Vec<u8>, Option<StoreValue>)>,
}

impl WriteBatch {
    /// Sets a key.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<StoreValue>) {
        self.entries.push((key, Some(value.into())));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.entries.push((key, None));
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        let value = |value: &Option<StoreValue>| value.as_ref().map_or(0, StoreValue::len);
        self.entries.iter().map(|(key, given)| key.len() + value(given)).sum()
    }

    /// Adds the changes of another batch behind these.
    pub fn extend(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_bytes_however_it_is_cut() {
        let cut = StoreValue::from([Bytes::from_static(b"ab"), Bytes::from_static(b"c")]);
        assert_eq!(cut, StoreValue::from(b"abc".to_vec()));
        assert_eq!(cut.to_vec(), b"abc");
        assert_ne!(cut, StoreValue::from(b"abd".to_vec()));
    }
}
