//! One login in another one's place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest login that is read, in bytes. A real one has a few KiB.
const MOST_BYTES: u64 = 1 << 20;

/// Reads a login; `None` when there is none.
///
/// # Errors
///
/// [`io::Error`], also when it is too long to be one or no JSON object.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Without waiting: opening a pipe would hang.
    let without_waiting = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = match OpenOptions::new().read(true).custom_flags(without_waiting).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut login = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut login)?;
    let is_object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&login);
    // What is wrong with it is not said: it would be part of a secret.
    match login.len() as u64 <= MOST_BYTES && is_object.is_ok() {
        true => Ok(Some(login)),
        false => Err(io::Error::other("it is no login of codex")),
    }
}

/// Puts a login in the place of the one that is there, which is kept beside it. There is a whole
/// one at every moment. Answers where the old one is.
///
/// # Errors
///
/// [`io::Error`]; the old one is in its place then.
pub(super) fn replace(login: &[u8], target: &Path) -> io::Result<Option<PathBuf>> {
    let beside = |ending: &str| target.with_extension(format!("json.{ending}"));
    let new = beside(&format!("{:016x}.tmp", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(login).and_then(|()| file.sync_all());
    let kept = written.and_then(|()| keep(target, &beside("replaced")));
    let placed = kept.and_then(|kept| fs::rename(&new, target).map(|()| kept));
    if placed.is_err() {
        fs::remove_file(&new)?;
    }
    if let Some(folder) = target.parent() {
        File::open(folder)?.sync_all()?;
    }
    placed
}

fn keep(target: &Path, old: &Path) -> io::Result<Option<PathBuf>> {
    let Ok(known) = target.symlink_metadata() else { return Ok(None) };
    if !known.is_file() {
        return Err(io::Error::other("what is in its place is no file"));
    }
    match fs::remove_file(old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::hard_link(target, old)?;
    Ok(Some(old.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_login_takes_the_place_of_another_one_which_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("auth.json");
        assert_eq!(replace(b"{\"a\":1}", &target).unwrap(), None);
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        for (new, before) in [("{\"b\":2}", "{\"a\":1}"), ("{\"c\":3}", "{\"b\":2}")] {
            let kept = replace(new.as_bytes(), &target).unwrap().unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), new);
            assert_eq!(fs::read_to_string(kept).unwrap(), before);
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_pipe_in_the_place_of_a_login_does_not_hang() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || done.send(read(&path).is_err()));
        let refused = is_done.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(refused, Ok(true));
    }

    #[test]
    fn what_is_no_login_is_not_read_and_not_repeated() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("auth.json");
        assert_eq!(read(&path).unwrap(), None);
        for text in ["secret", "[]", ""] {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"{}"[..]));
    }
}
