//! The directory of version 1. Nothing in it is ever opened for writing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cm_core::error::exit;

use crate::complaint::Complaint;

/// Files of version 1, by which its directory is known.
pub(super) const METADATA: &str = "session-metadata.json";
pub(super) const LEDGER: &str = "supplemental-transcript.json";
pub(super) const JOBS: &str = "orchestrator-jobs.json";
pub(super) const AUDIT: &str = "agent-extension-audit.json";

/// Longest of these files that is read, in bytes: it is held in memory, and everything in it as
/// values, which take several times as much. Overflow rule: it is reported as damaged and left.
const MOST_BYTES: u64 = 64 << 20;

/// The same of [`LEDGER`], of which only one session's rows are values at a time.
const MOST_LEDGER_BYTES: u64 = 512 << 20;

/// What a file of version 1 holds.
pub(super) enum Text {
    /// There is none.
    Missing,
    /// It cannot be read, with the reason.
    Damaged(String),
    /// Its text.
    Whole(String),
}

/// A data directory of version 1.
#[derive(Debug)]
pub(super) struct Source {
    /// The directory, without links in its path.
    pub(super) root: PathBuf,
    /// Its codex home, without links in its path, if there is one.
    pub(super) home: Option<PathBuf>,
}

fn complaint(primary: String, hint: &str) -> Complaint {
    let mut complaint = Complaint::plain(primary);
    complaint.exit = exit::USAGE;
    complaint.hint = Some(hint.to_owned());
    complaint
}

impl Source {
    /// Looks at a directory; `home` is its codex home where it is not inside of it.
    ///
    /// # Errors
    ///
    /// [`Complaint`] when it is no data directory of version 1.
    pub(super) fn open(directory: &Path, home: Option<&Path>) -> Result<Self, Complaint> {
        let shown = directory.display();
        let root = directory
            .canonicalize()
            .and_then(|root| fs::read_dir(&root).map(|_| root))
            .map_err(|error| {
                let hint = "name the data directory of version 1 (its DATA_DIR; .data by default)";
                complaint(format!("{shown} cannot be read: {error}"), hint)
            })?;
        let names = [METADATA, LEDGER, JOBS, AUDIT];
        if !names.iter().any(|name| root.join(name).symlink_metadata().is_ok()) {
            let looked = names.join(", ");
            let primary = format!("{shown} is no data directory of version 1");
            let hint = format!("looked for {looked} in it, and found none of them");
            return Err(complaint(primary, &hint));
        }
        let home = match home {
            Some(named) => Some(named.canonicalize().map_err(|error| {
                let primary = format!("{} cannot be read: {error}", named.display());
                complaint(primary, "name the CODEX_HOME that version 1 ran with")
            })?),
            None => own_home(&root),
        };
        Ok(Self { root, home })
    }

    /// Reads one of the files.
    pub(super) fn read(&self, name: &str) -> Text {
        let path = self.root.join(name);
        if path.symlink_metadata().is_err() {
            return Text::Missing;
        }
        let most = if name == LEDGER { MOST_LEDGER_BYTES } else { MOST_BYTES };
        read_text(&path, most).map_or_else(|error| Text::Damaged(error.to_string()), Text::Whole)
    }

    /// Names in the directory, in order.
    ///
    /// # Errors
    ///
    /// [`io::Error`].
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        names(&self.root)
    }
}

/// The codex home inside of the directory. A link may lead anywhere, so none is followed.
fn own_home(root: &Path) -> Option<PathBuf> {
    let home = root.join("codex-home");
    home.symlink_metadata().is_ok_and(|found| found.is_dir()).then_some(home)
}

/// Names in a directory, in order, whether they are text or not.
///
/// # Errors
///
/// [`io::Error`]: one that cannot be read is not an empty one.
pub(super) fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(directory)?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<io::Result<Vec<OsString>>>()?;
    names.sort();
    Ok(names)
}

/// Opens a file for reading, if it is one: not a link, a pipe or a device.
///
/// # Errors
///
/// [`io::Error`].
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    // Without waiting: opening a pipe would hang.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file =
        OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(|error| {
            match error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) {
                true => io::Error::other("it is a link, and links are not followed"),
                false => error,
            }
        })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Reads a whole file.
///
/// # Errors
///
/// [`io::Error`], also when it is too long or no UTF-8.
pub(super) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_file(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is longer than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_directory_of_version_1_is_taken_and_it_is_said_what_was_looked_for() {
        let place = tempfile::tempdir().unwrap();
        let missing = Source::open(&place.path().join("none"), None).unwrap_err();
        assert_eq!(missing.exit, exit::USAGE);
        let empty = Source::open(place.path(), None).unwrap_err();
        let hint = empty.hint.unwrap();
        assert!([METADATA, LEDGER, JOBS, AUDIT].iter().all(|name| hint.contains(name)), "{hint}");
        fs::write(place.path().join(JOBS), "{}").unwrap();
        assert_eq!(Source::open(place.path(), None).unwrap().home, None);
    }

    #[test]
    fn links_pipes_and_what_is_too_long_are_not_read() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("secret"), "secret").unwrap();
        symlink(at("secret"), at(METADATA)).unwrap();
        nix::unistd::mkfifo(&at(LEDGER), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(at(JOBS), [0xff]).unwrap();
        symlink(place.path(), at("codex-home")).unwrap();
        let source = Source::open(place.path(), None).unwrap();
        assert_eq!(source.home, None, "a link may lead anywhere");
        for (name, why) in [(METADATA, "link"), (LEDGER, "no file"), (JOBS, "UTF-8")] {
            let Text::Damaged(said) = source.read(name) else { panic!("{name} was read") };
            assert!(said.contains(why), "{said}");
        }
        assert!(matches!(source.read(AUDIT), Text::Missing));
        File::create(at(AUDIT)).unwrap().set_len(MOST_BYTES + 1).unwrap();
        let Text::Damaged(said) = source.read(AUDIT) else { panic!("it is too long") };
        assert!(said.contains("longer"), "{said}");
        assert!(read_text(&at("secret"), 5).is_err() && read_text(&at("secret"), 6).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_not_empty_and_names_that_are_no_text_are_names() {
        let place = tempfile::tempdir().unwrap();
        let odd = OsString::from_vec(b"a\xff".to_vec());
        for name in [odd.clone(), "b".into()] {
            fs::write(place.path().join(name), "").unwrap();
        }
        assert_eq!(names(place.path()).unwrap(), [odd, "b".into()]);
        assert!(names(&place.path().join("b")).is_err(), "it is no folder");
        assert!(names(&place.path().join("none")).is_err());
    }
}
