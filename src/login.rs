//! The one-time copy of the user's own codex login into the child's CODEX_HOME.
//!
//! The child never works in the user's own `~/.codex`, so that their own codex is neither locked
//! nor rewritten; the copy is why a user who is logged in need not log in again.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cm_core::error::{ErrorCode, Failure};
use serde_json::Value;

use crate::config::{ResolvedRuntime, RuntimeKind, RuntimeSettings, Settings};

/// Name of the login inside a CODEX_HOME.
pub(crate) const AUTH_FILE: &str = "auth.json";

/// Largest login that is copied, in bytes. A real one has a few KiB.
const MOST_BYTES: u64 = 1 << 20;

/// What was done about the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoginCopy {
    /// The child's home has a login of its own.
    AlreadyThere,
    /// The user has no login that could be copied.
    NothingToCopy,
    /// The embedded runtime runs, which must not be given anybody's credentials.
    NotNeeded,
    /// The child works in the user's own home: there is nothing between them to copy.
    SameHome,
    /// The login was copied.
    Copied {
        /// From here.
        from: PathBuf,
        /// To here.
        to: PathBuf,
        /// Whether original and copy share a refresh token.
        shares_refresh_token: bool,
    },
}

impl fmt::Display for LoginCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyThere => f.write_str("codex has a login of its own"),
            Self::NothingToCopy => f.write_str("no codex login to copy"),
            Self::NotNeeded => f.write_str("the embedded runtime needs no login"),
            Self::SameHome => f.write_str("codex works in the user's own home"),
            Self::Copied { from, to, shares_refresh_token } => {
                write!(f, "copied the codex login {} to {}", from.display(), to.display())?;
                if *shares_refresh_token {
                    let home = to.parent().unwrap_or(to);
                    write!(
                        f,
                        "; both now share one ChatGPT refresh token, which changes when either \
                         uses it: if one of them is logged out one day, log in there again (here: \
                         CODEX_HOME={} codex login)",
                        home.display()
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// The user's own login, if there is one that may be copied.
pub(crate) fn own_login(runtime: &RuntimeSettings) -> Option<PathBuf> {
    let path = runtime.user_home.as_ref()?.join(".codex").join(AUTH_FILE);
    path.is_file().then_some(path)
}

/// Makes the child's CODEX_HOME, readable by its owner only, and copies the user's login into it if
/// codex will run there and has none.
///
/// # Errors
///
/// `data_dir_unusable` when the directory cannot be made or written.
pub(crate) fn prepare_home(
    settings: &Settings,
    runtime: &ResolvedRuntime,
) -> Result<LoginCopy, Failure> {
    let home = &settings.runtime.codex_home;
    let prepared = match runtime.kind {
        RuntimeKind::Codex => copy_once(own_login(&settings.runtime).as_deref(), home),
        RuntimeKind::Embedded => make_home(home).map(|()| LoginCopy::NotNeeded),
    };
    prepared.map_err(|error| {
        let way_out = if home.starts_with(&settings.data_dir) {
            "choose another data directory with --data-dir (DATA_DIR)"
        } else {
            "name another with --codex-home (CODEX_HOME)"
        };
        let message = format!(
            "CODEX_HOME {} cannot be prepared: {error}. Make it writable, or {way_out}.",
            home.display()
        );
        Failure::new(ErrorCode::DataDirUnusable, message)
    })
}

/// Makes a CODEX_HOME, readable by its owner only.
///
/// # Errors
///
/// [`io::Error`].
pub(crate) fn make_home(home: &Path) -> io::Result<()> {
    if home.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(home)
}

fn copy_once(own: Option<&Path>, home: &Path) -> io::Result<LoginCopy> {
    make_home(home)?;
    let target = home.join(AUTH_FILE);
    // A dangling link counts as there: what it points to is its owner's business.
    if target.symlink_metadata().is_ok() {
        return Ok(LoginCopy::AlreadyThere);
    }
    let Some(own) = own else {
        return Ok(LoginCopy::NothingToCopy);
    };
    if own.parent().and_then(|parent| parent.canonicalize().ok()) == home.canonicalize().ok() {
        return Ok(LoginCopy::SameHome);
    }
    let mut login = Vec::new();
    fs::File::open(own)?.take(MOST_BYTES + 1).read_to_end(&mut login)?;
    if login.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("{} is too large for a login", own.display())));
    }
    if !place(&login, &target)? {
        return Ok(LoginCopy::AlreadyThere);
    }
    Ok(LoginCopy::Copied {
        from: own.to_owned(),
        to: target,
        shares_refresh_token: holds_refresh_token(&login),
    })
}

/// Writes a file that appears whole or not at all, and never over another one. Says whether it
/// did: somebody else may have been faster.
fn place(bytes: &[u8], target: &Path) -> io::Result<bool> {
    let temporary = target.with_extension(format!("json.{:016x}.tmp", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    // A link fails where a rename would overwrite.
    let linked = written.and_then(|()| fs::hard_link(&temporary, target));
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a login is one of ChatGPT, whose refresh token changes when it is used.
pub(crate) fn holds_refresh_token(login: &[u8]) -> bool {
    let login: Value = serde_json::from_slice(login).unwrap_or_default();
    let token = login.pointer("/tokens/refresh_token").and_then(Value::as_str);
    token.is_some_and(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Homes {
        _directory: tempfile::TempDir,
        own: PathBuf,
        child: PathBuf,
    }

    fn homes(login: &str) -> Homes {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("user/.codex").join(AUTH_FILE);
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, login).unwrap();
        let child = directory.path().join("data/codex-home");
        Homes { _directory: directory, own, child }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_login_is_copied_once_for_its_owner_only() {
        let homes = homes(r#"{"tokens": {"refresh_token": "r"}}"#);
        fs::set_permissions(&homes.own, fs::Permissions::from_mode(0o644)).unwrap();
        let copied = copy_once(Some(&homes.own), &homes.child).unwrap();
        let target = homes.child.join(AUTH_FILE);
        let expected = LoginCopy::Copied {
            from: homes.own.clone(),
            to: target.clone(),
            shares_refresh_token: true,
        };
        assert_eq!(copied, expected);
        assert!(copied.to_string().contains("refresh token"), "{copied}");
        assert_eq!((mode(&homes.child), mode(&target)), (0o700, 0o600));
        let names: Vec<_> = fs::read_dir(&homes.child).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
        fs::write(&homes.own, "{}").unwrap();
        assert_eq!(copy_once(Some(&homes.own), &homes.child).unwrap(), LoginCopy::AlreadyThere);
        assert!(fs::read_to_string(&target).unwrap().contains("refresh_token"));
    }

    #[test]
    fn an_existing_file_is_never_overwritten_even_by_a_late_writer() {
        let homes = homes("{}");
        fs::create_dir_all(&homes.child).unwrap();
        let target = homes.child.join(AUTH_FILE);
        fs::write(&target, "theirs").unwrap();
        assert!(!place(b"ours", &target).unwrap());
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        fs::remove_file(&target).unwrap();
        std::os::unix::fs::symlink("/nowhere/auth.json", &target).unwrap();
        assert_eq!(copy_once(Some(&homes.own), &homes.child).unwrap(), LoginCopy::AlreadyThere);
    }

    #[test]
    fn there_is_nothing_to_copy_in_ones_own_home_or_without_a_login() {
        let homes = homes("{}");
        assert_eq!(copy_once(None, &homes.child).unwrap(), LoginCopy::NothingToCopy);
        let own_home = homes.own.parent().unwrap();
        assert_eq!(copy_once(Some(&homes.own), own_home).unwrap(), LoginCopy::AlreadyThere);
        let link = homes.child.join("link");
        std::os::unix::fs::symlink(own_home, &link).unwrap();
        let through_link = link.join(AUTH_FILE);
        fs::rename(&homes.own, homes.own.with_extension("away")).unwrap();
        assert_eq!(copy_once(Some(&through_link), own_home).unwrap(), LoginCopy::SameHome);
    }

    #[test]
    fn an_api_key_login_shares_nothing() {
        let homes = homes(r#"{"OPENAI_API_KEY": "k", "tokens": null}"#);
        let copied = copy_once(Some(&homes.own), &homes.child).unwrap();
        assert!(matches!(copied, LoginCopy::Copied { shares_refresh_token: false, .. }));
        assert!(!copied.to_string().contains("refresh"));
    }

    #[test]
    fn a_home_that_cannot_be_made_is_an_error() {
        let homes = homes("{}");
        assert!(copy_once(Some(&homes.own), &homes.own.join("below-a-file")).is_err());
    }
}
