//! The codex home of version 1: what is in it, and copying it into ours.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cm_core::v1::{Rollout, RolloutMeta, Skips};
use serde_json::Value;

use super::lines::each_line;
use super::source::{names, open_file, read_text};

/// Where codex keeps the files of its threads, and of archived ones.
const SESSIONS: [(&str, bool); 2] = [("sessions", false), ("archived_sessions", true)];

/// Names that codex gave to threads, a JSON object a line.
const INDEX: &str = "session_index.jsonl";

/// Files of a home that are a person's or a login, and folders of such files.
const FILES: [&str; 4] = ["auth.json", "config.toml", "AGENTS.md", INDEX];
const FOLDERS: [&str; 3] = ["skills", "prompts", "rules"];

/// Folder in `skills` that codex fills by itself.
const OWN_SKILLS: &str = ".system";

/// Folders below each other that are looked into.
const MOST_DEPTH: usize = 8;

/// Files of a home that are looked at. Overflow rule: the rest is left, and said to be.
const MOST_FILES: usize = 500_000;

/// Longest file that is copied, in bytes. Overflow rule: it is left, and said to be.
const MOST_FILE_BYTES: u64 = 4 << 30;

/// A thread's file in the home of version 1.
#[derive(Debug, Clone)]
pub(super) struct FoundThread {
    /// Where it is below the home.
    pub(super) inside: PathBuf,
    /// Whether it is archived.
    pub(super) archived: bool,
    /// Who it is.
    pub(super) meta: RolloutMeta,
}

/// What is in a home.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Threads by their ids.
    pub(super) threads: BTreeMap<String, FoundThread>,
    /// Files of a person or a login, below the home.
    pub(super) files: Vec<PathBuf>,
    /// Files of threads that codex compressed, below the home.
    pub(super) compressed: Vec<PathBuf>,
    /// Names of threads.
    pub(super) names: BTreeMap<String, String>,
    /// What is left.
    pub(super) skips: Skips,
    /// What cannot be read.
    pub(super) damaged: Skips,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was copied: so many bytes.
    Copied(u64),
    /// There is one already.
    There,
}

/// Looks at a home.
pub(super) fn look(home: &Path) -> Found {
    let mut found = Found::default();
    let mut walk = Walk::new(home, "codex-home".to_owned());
    for (folder, archived) in SESSIONS {
        for inside in walk.files(Path::new(folder)) {
            found.thread(home, inside, archived);
        }
    }
    for name in FILES {
        if home.join(name).symlink_metadata().is_ok() {
            found.files.push(name.into());
        }
    }
    for folder in FOLDERS {
        let files = walk.files(Path::new(folder));
        let own = Path::new("skills").join(OWN_SKILLS);
        found.files.extend(files.into_iter().filter(|inside| !inside.starts_with(&own)));
    }
    let known = SESSIONS.iter().map(|(known, _)| known).chain(&FILES).chain(&FOLDERS);
    let known: HashSet<&OsStr> = known.map(OsStr::new).collect();
    let there = walk.names(Path::new(""));
    for name in there.iter().filter(|name| !known.contains(name.as_os_str())) {
        let what = walk.shown(Path::new(name));
        walk.skips.add(what, "codex makes it anew, or it is of no session");
    }
    if walk.left == 0 {
        walk.skips.add("codex-home", format!("it has more than {MOST_FILES} files"));
    }
    found.skips.extend(walk.skips);
    found.damaged = walk.damaged;
    found.names = read_names(&home.join(INDEX));
    found
}

/// Goes through folders without following links.
struct Walk<'a> {
    home: &'a Path,
    /// What the home is called in reports.
    called: String,
    left: usize,
    skips: Skips,
    damaged: Skips,
}

impl<'a> Walk<'a> {
    fn new(home: &'a Path, called: String) -> Self {
        let (skips, damaged) = (Skips::default(), Skips::default());
        Self { home, called, left: MOST_FILES, skips, damaged }
    }

    fn shown(&self, inside: &Path) -> String {
        match inside.as_os_str().is_empty() {
            true => self.called.clone(),
            false => format!("{}/{}", self.called, inside.display()),
        }
    }

    /// Names in a folder; one that cannot be read is damaged, and not empty.
    fn names(&mut self, folder: &Path) -> Vec<OsString> {
        names(&self.home.join(folder)).unwrap_or_else(|error| {
            self.damaged.add(self.shown(folder), error.to_string());
            Vec::new()
        })
    }

    /// What something is; `None` where there is nothing, or it cannot be told.
    fn kind(&mut self, inside: &Path) -> Option<fs::Metadata> {
        match self.home.join(inside).symlink_metadata() {
            Ok(kind) => Some(kind),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.damaged.add(self.shown(inside), error.to_string());
                }
                None
            }
        }
    }

    /// Files in a folder and those below it, in order.
    fn files(&mut self, folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.visit(folder, MOST_DEPTH, &mut files);
        files
    }

    fn visit(&mut self, folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let Some(kind) = self.kind(folder) else { return };
        if !kind.is_dir() || depth == 0 {
            let why = if kind.is_dir() { "it is too deep" } else { "it is no folder" };
            self.skips.add(self.shown(folder), why);
            return;
        }
        for name in self.names(folder) {
            let inside = folder.join(&name);
            let Some(kind) = self.kind(&inside) else { continue };
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            if kind.is_dir() {
                self.visit(&inside, depth - 1, files);
            } else if kind.is_file() {
                files.push(inside);
            } else {
                let why = "it is a link or no file, and links are not followed";
                self.skips.add(self.shown(&inside), why);
            }
        }
    }
}

impl Found {
    fn thread(&mut self, home: &Path, inside: PathBuf, archived: bool) {
        let name = inside.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let what = format!("codex-home/{}", inside.display());
        if name.starts_with("rollout-") && name.ends_with(".jsonl.zst") {
            self.compressed.push(inside);
            return;
        }
        if !name.starts_with("rollout-") || !name.ends_with(".jsonl") {
            self.skips.add(what, "it is no file of a thread");
            return;
        }
        match read_meta(&home.join(&inside)) {
            Ok(Some(meta)) => {
                let id = meta.id.as_str().to_owned();
                if self.threads.contains_key(&id) {
                    self.skips.add(what, "there is another file of the same thread");
                    return;
                }
                self.threads.insert(id, FoundThread { inside, archived, meta });
            }
            Ok(None) => self.skips.add(what, "its first line does not say which thread it is"),
            Err(error) => self.skips.add(what, error.to_string()),
        }
    }
}

fn read_meta(path: &Path) -> io::Result<Option<RolloutMeta>> {
    let mut rollout = Rollout::default();
    each_line(BufReader::new(open_file(path)?), |line| {
        rollout.line(line);
        false
    })?;
    Ok(rollout.meta)
}

/// Reads a thread's file.
pub(super) fn read_rollout(path: &Path) -> io::Result<Rollout> {
    let mut rollout = Rollout::default();
    let passed_over = each_line(BufReader::with_capacity(1 << 18, open_file(path)?), |line| {
        rollout.line(line);
        true
    })?;
    rollout.malformed += passed_over;
    Ok(rollout)
}

fn read_names(index: &Path) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let Ok(file) = open_file(index) else { return names };
    // An index that cannot be read to its end costs names, and nothing else.
    let _ = each_line(BufReader::new(file), |line| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::trim);
        if let (Some(id), Some(name)) = (text("id"), text("thread_name")) {
            match name.is_empty() || name == cm_core::wire::UNTITLED {
                true => names.remove(id),
                false => names.insert(id.to_owned(), name.to_owned()),
            };
        }
        true
    });
    names
}

/// Ids of the threads whose files are in a home, by the names of the files, and what of it cannot
/// be read.
pub(super) fn thread_ids(home: &Path) -> (HashSet<String>, Skips) {
    let mut walk = Walk::new(home, home.display().to_string());
    let folders = SESSIONS.iter().flat_map(|(folder, _)| walk.files(Path::new(folder)));
    let ids = folders.filter_map(|inside| id_in_name(&inside)).collect();
    (ids, walk.damaged)
}

/// `rollout-2026-11-26T17-24-51-<id>.jsonl`, also compressed.
pub(super) fn id_in_name(inside: &Path) -> Option<String> {
    const MOMENT: usize = "2026-11-26T17-24-51-".len();
    let name = inside.file_name()?.to_str()?.strip_prefix("rollout-")?;
    let name = name.strip_suffix(".zst").unwrap_or(name).strip_suffix(".jsonl")?;
    Some(name.get(MOMENT..)?.to_owned())
}

/// Whether the login in a home holds a refresh token.
pub(super) fn shares_refresh_token(home: &Path) -> bool {
    let login = read_text(&home.join("auth.json"), 1 << 20).unwrap_or_default();
    crate::login::holds_refresh_token(login.as_bytes())
}

/// A file that is to be copied.
enum Placing {
    There,
    From(File, fs::Metadata),
}

fn placing(from: &Path, target: &Path, inside: &Path) -> io::Result<Placing> {
    if target.symlink_metadata().is_ok() {
        return Ok(Placing::There);
    }
    let source = open_file(&from.join(inside))?;
    let known = source.metadata()?;
    if known.len() > MOST_FILE_BYTES {
        return Err(io::Error::other(format!("it is longer than {MOST_FILE_BYTES} bytes")));
    }
    Ok(Placing::From(source, known))
}

/// What [`place`] would answer, as far as that can be told without writing.
pub(super) fn would_place(from: &Path, to: &Path, inside: &Path) -> io::Result<Placed> {
    Ok(match placing(from, &to.join(inside), inside)? {
        Placing::There => Placed::There,
        Placing::From(_, known) => Placed::Copied(known.len()),
    })
}

/// Copies a file of one home into another, where there is none. It appears whole or not at all,
/// for its owner only, with the time of its last change: codex sorts by it.
pub(super) fn place(from: &Path, to: &Path, inside: &Path) -> io::Result<Placed> {
    let target = to.join(inside);
    let (source, known) = match placing(from, &target, inside)? {
        Placing::There => return Ok(Placed::There),
        Placing::From(source, known) => (source, known),
    };
    let folder = target.parent().unwrap_or(to);
    if !folder.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut partial = target.clone().into_os_string();
    // What an import left that was cut is written over: nobody else is at work here.
    partial.push(".importing");
    let partial = PathBuf::from(partial);
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let placed = copy(source, &known, &partial).and_then(|bytes| {
        // A link fails where a rename would overwrite.
        match fs::hard_link(&partial, &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Placed::There),
            linked => linked.map(|()| Placed::Copied(bytes)),
        }
    });
    let removed = fs::remove_file(&partial);
    let placed = placed?;
    removed?;
    File::open(folder)?.sync_all()?;
    Ok(placed)
}

fn copy(source: File, known: &fs::Metadata, partial: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial)?;
    // Bounded by what it was: version 1 may still write it.
    let bytes = io::copy(&mut source.take(known.len()), &mut file)?;
    file.flush()?;
    let owners = known.permissions().mode() & 0o700 | 0o600;
    file.set_permissions(fs::Permissions::from_mode(owners))?;
    if let Ok(changed) = known.modified() {
        file.set_modified(changed)?;
    }
    file.sync_all()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    const LINE: &str = r#"{"timestamp":"2026-11-26T17:24:51.377Z","type":"session_meta","payload":{"id":"0123","cwd":"/w"}}"#;

    #[test]
    fn threads_files_and_names_are_found_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("home");
        let day = home.join("sessions/2026/11/26");
        fs::create_dir_all(&day).unwrap();
        fs::create_dir_all(home.join("skills/.system/x")).unwrap();
        fs::create_dir_all(home.join("skills/mine")).unwrap();
        let put = |inside: &str, text: &str| fs::write(home.join(inside), text).unwrap();
        put("sessions/2026/11/26/rollout-2026-11-26T17-24-51-0123.jsonl", LINE);
        put("sessions/2026/11/26/rollout-2026-11-26T17-24-52-0124.jsonl.zst", "zst");
        put("sessions/2026/11/26/rollout-2026-11-26T17-24-53-0125.jsonl", "{\"type\":\"x\"}");
        put("sessions/2026/11/26/notes.txt", "");
        put("skills/.system/x/SKILL.md", "");
        put("skills/mine/SKILL.md", "");
        put("auth.json", "{}");
        put("state_5.sqlite", "");
        put(
            INDEX,
            "{\"id\":\"0123\",\"thread_name\":\"A\"}\n?\n{\"id\":\"0123\",\"thread_name\":\"B\"}\n",
        );
        symlink("/etc", home.join("sessions/etc")).unwrap();
        symlink("/etc/passwd", day.join("rollout-2026-11-26T17-24-54-0126.jsonl")).unwrap();
        let found = look(&home);
        assert_eq!(found.threads.keys().collect::<Vec<_>>(), ["0123"]);
        assert_eq!(found.names["0123"], "B");
        assert_eq!(found.compressed.len(), 1);
        let files: Vec<_> = found.files.iter().map(|file| file.display().to_string()).collect();
        assert_eq!(files, ["auth.json", INDEX, "skills/mine/SKILL.md"]);
        assert_eq!(found.skips.len(), 5, "{:?}", found.skips);
        let ids: HashSet<String> = ["0123", "0124", "0125"].map(str::to_owned).into();
        assert_eq!(thread_ids(&home), (ids, Skips::default()));
        assert!(found.damaged.is_empty(), "{:?}", found.damaged);
    }

    #[test]
    fn what_cannot_be_read_is_damaged_and_a_name_that_is_no_text_is_named() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().join("home");
        fs::create_dir_all(home.join("sessions")).unwrap();
        fs::create_dir_all(home.join("skills")).unwrap();
        let odd = OsStr::from_bytes(b"rollout-2026-11-26T17-24-51-\xff.jsonl");
        let other = OsStr::from_bytes(b"x\xfe");
        fs::write(home.join("sessions").join(odd), LINE).unwrap();
        fs::write(home.join(other), "").unwrap();
        fs::write(home.join("skills").join(other), "").unwrap();
        let found = look(&home);
        let named = format!("{:?}", found.skips.named);
        assert!(named.contains("sessions/rollout-2026-11-26T17-24-51-"), "{named}");
        assert_eq!((found.skips.len(), found.damaged.len()), (2, 0), "{named}");
        assert_eq!(found.files, [Path::new("skills").join(other)]);

        // A path that leads through a file cannot be read, whoever asks.
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let damaged = look(&file).damaged;
        let named: Vec<&str> = damaged.named.iter().map(|skip| skip.what.as_str()).collect();
        assert!(
            named.contains(&"codex-home") && named.contains(&"codex-home/sessions"),
            "{named:?}"
        );
        assert!(!thread_ids(&file).1.is_empty());
        assert!(thread_ids(&place.path().join("none")).1.is_empty());
    }

    #[test]
    fn a_file_is_copied_for_its_owner_only_and_never_over_another_one() {
        let place_dir = tempfile::tempdir().unwrap();
        let (from, to) = (place_dir.path().join("from"), place_dir.path().join("to"));
        fs::create_dir_all(from.join("a")).unwrap();
        fs::create_dir_all(to.join("a")).unwrap();
        let inside = Path::new("a/f");
        fs::write(from.join(inside), "content").unwrap();
        fs::set_permissions(from.join(inside), fs::Permissions::from_mode(0o664)).unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::options()
            .write(true)
            .open(from.join(inside))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        assert_eq!(would_place(&from, &to, inside).unwrap(), Placed::Copied(7));
        assert_eq!(names(&to.join("a")).unwrap().len(), 0, "it only looks");
        // What an import left that was cut.
        fs::write(to.join("a/f.importing"), "half").unwrap();
        assert_eq!(place(&from, &to, inside).unwrap(), Placed::Copied(7));
        let known = fs::metadata(to.join(inside)).unwrap();
        assert_eq!(
            (known.permissions().mode() & 0o777, known.modified().unwrap()),
            (0o600, long_ago)
        );
        fs::write(to.join(inside), "mine").unwrap();
        assert_eq!(place(&from, &to, inside).unwrap(), Placed::There);
        assert_eq!(fs::read_to_string(to.join(inside)).unwrap(), "mine");
        assert_eq!(names(&to.join("a")).unwrap(), ["f"], "nothing is left beside it");
        symlink("/etc/passwd", from.join("a/link")).unwrap();
        assert!(place(&from, &to, Path::new("a/link")).is_err());
        assert!(would_place(&from, &to, Path::new("a/link")).is_err());
        let long = File::create(from.join("a/long")).unwrap();
        if long.set_len(MOST_FILE_BYTES + 1).is_ok() {
            assert!(would_place(&from, &to, Path::new("a/long")).is_err());
            fs::remove_file(from.join("a/long")).unwrap();
        }
        let other = to.join("b/c");
        fs::create_dir_all(from.join("b/c")).unwrap();
        fs::write(from.join("b/c/f"), "x").unwrap();
        place(&from, &to, Path::new("b/c/f")).unwrap();
        assert_eq!(fs::metadata(other).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
