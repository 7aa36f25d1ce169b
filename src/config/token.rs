//! The token file: what every client must present when the server is not loopback only.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::TryRngCore;

use super::settings::Secret;

/// Fewest bytes of a token, white space around it not counted.
const FEWEST_BYTES: usize = 16;
/// Most bytes that are read; a token is a line, not a document.
const MOST_BYTES: u64 = 4096;
/// Bytes of randomness in a new token.
const NEW_TOKEN_BYTES: usize = 32;

/// Why a token file cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It cannot be read.
    #[error(
        "token file {path} cannot be read: {source}; make one with `codex-manager token new {path}`"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Other users can read or write it.
    #[error("token file {path} is open to others (mode {mode:03o}); run `chmod 600 {path}`")]
    Open {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no token that is worth the name.
    #[error(
        "token file {path} must hold one word of {FEWEST_BYTES} to {MOST_BYTES} visible ASCII \
         characters; make one with `codex-manager token new PATH`"
    )]
    Unfit {
        /// The file.
        path: String,
    },
    /// A new one cannot be written.
    #[error("token file {path} cannot be made: {source}")]
    Unwritable {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is a file already, and a token that is in use must not change under its clients.
    #[error(
        "token file {path} exists already and stays as it is; choose another path or remove it"
    )]
    Exists {
        /// The file.
        path: String,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    NoRandomness(rand::rand_core::OsError),
}

/// Reads a token file.
///
/// # Errors
///
/// [`TokenError`].
pub(super) fn read_token(path: &Path) -> Result<Secret, TokenError> {
    let name = || path.display().to_string();
    let unreadable = |source| TokenError::Unreadable { path: name(), source };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Open { path: name(), mode });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let token = bytes.trim_ascii();
    let fits = (FEWEST_BYTES..=MOST_BYTES as usize).contains(&token.len())
        && token.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(token) {
        Ok(token) if fits => Ok(Secret::new(token)),
        _ => Err(TokenError::Unfit { path: name() }),
    }
}

/// Writes a new random token to a file that does not exist yet, readable by its owner only.
/// Returns the absolute path.
///
/// # Errors
///
/// [`TokenError`].
pub(crate) fn write_new_token(path: &Path) -> Result<PathBuf, TokenError> {
    let name = || path.display().to_string();
    let mut random = [0u8; NEW_TOKEN_BYTES];
    rand::rngs::OsRng.try_fill_bytes(&mut random).map_err(TokenError::NoRandomness)?;
    let mut text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(TokenError::Exists { path: name() });
        }
        Err(source) => {
            return Err(TokenError::Unwritable { path: name(), source });
        }
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // Half a token must not be taken for one.
        let _ = fs::remove_file(path);
        return Err(TokenError::Unwritable { path: name(), source });
    }
    Ok(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mode(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_new_token_can_be_read_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        write_new_token(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let token = read_token(&path).unwrap();
        assert_eq!(token.expose().len(), 2 * NEW_TOKEN_BYTES);
        assert!(matches!(write_new_token(&path), Err(TokenError::Exists { .. })));
        assert_eq!(read_token(&path).unwrap(), token);
        let other = directory.path().join("other");
        write_new_token(&other).unwrap();
        assert_ne!(read_token(&other).unwrap(), token);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for mode in [0o644, 0o640, 0o604, 0o620] {
            with_mode(&path, "0123456789abcdef", mode);
            let message = read_token(&path).unwrap_err().to_string();
            assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
        }
        with_mode(&path, " 0123456789abcdef \n", 0o400);
        assert_eq!(read_token(&path).unwrap().expose(), "0123456789abcdef");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(matches!(read_token(&path), Err(TokenError::Unreadable { .. })));
        assert!(matches!(read_token(directory.path()), Err(TokenError::Unreadable { .. })));
        let long = "x".repeat(5000);
        for text in ["", " \n", "short", "0123456789 abcdef", "ünfit ünfit ünfit", long.as_str()]
        {
            with_mode(&path, text, 0o600);
            assert!(matches!(read_token(&path), Err(TokenError::Unfit { .. })), "{text}");
        }
    }
}
