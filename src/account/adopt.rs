//! `codex-manager account adopt`: the user's own login, taken over once more.
//!
//! Two copies of a ChatGPT login share a refresh token, which changes when either uses it; the copy
//! that is behind cannot be renewed. This command replaces it by the fresh one.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cm_actors::store::{StoreError, StoreFolder};
use cm_core::error::{ErrorCode, exit};
use serde::Serialize;
use serde_json::Value;

use super::replace::{read, replace};
use crate::app::store_failure;
use crate::complaint::Complaint;
use crate::config::Settings;
use crate::login::{AUTH_FILE, holds_refresh_token};
use crate::neighbour;
use crate::store_tool::{Done, done};

/// What is to be taken over.
#[derive(Debug)]
pub(crate) struct Adoption {
    /// The home of the login; the user's own `~/.codex` where none is named.
    pub(crate) from: Option<PathBuf>,
    /// Whether sessions that are at work may be interrupted.
    pub(crate) interrupt: bool,
    /// Whether programs read the output.
    pub(crate) json: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Adopted {
    /// `adopted`, or `same` when the login that is here is that one already.
    status: &'static str,
    /// The login that was taken.
    from: String,
    /// Where it is now.
    to: String,
    /// Where the one is that was here before.
    replaced: Option<String>,
    /// Whether original and copy share a refresh token.
    shares_refresh_token: bool,
    /// Whether a running manager was told to start codex again.
    restarted: bool,
}

/// A manager that runs on the data directory.
struct Running {
    address: SocketAddr,
    /// Whether any of its sessions is at work.
    busy: bool,
}

/// Takes the user's own login over.
///
/// # Errors
///
/// [`Complaint`]; nothing was changed then, unless it says so.
pub(crate) fn adopt(adoption: &Adoption, settings: &Settings) -> Result<Done, Complaint> {
    let from = source(adoption, settings)?.join(AUTH_FILE);
    let home = &settings.runtime.codex_home;
    let to = home.join(AUTH_FILE);
    let login = read(&from).map_err(|error| unreadable(&from, &error))?;
    let login = login.ok_or_else(|| {
        let hint = "sign in with `codex login` first, or name another home with --from";
        complaint(format!("there is no login in {}", from.display()), exit::NOT_FOUND, hint)
    })?;
    if from.canonicalize().ok() == to.canonicalize().ok() {
        let primary = format!("{} is the login that the manager uses itself", from.display());
        return Err(complaint(primary, exit::CONFLICT, "name another home with --from"));
    }
    let mut adopted = Adopted {
        status: "same",
        from: from.display().to_string(),
        to: to.display().to_string(),
        replaced: None,
        shares_refresh_token: holds_refresh_token(&login),
        restarted: false,
    };
    // One that cannot be read is replaced as well as any other.
    let same = read(&to).ok().flatten().is_some_and(|here| here == login);
    if !same {
        let running = hold(settings)?;
        if let Held::Running(running) = &running
            && running.busy
            && !adoption.interrupt
        {
            let primary = "sessions are at work, and codex must start again".to_owned();
            let hint = "wait for them, or interrupt them with --interrupt";
            return Err(complaint(primary, exit::CONFLICT, hint));
        }
        adopted.replaced = place(&login, home, &to)?.map(|old| old.display().to_string());
        adopted.status = "adopted";
        if let Held::Running(running) = running {
            restart(&running, settings)?;
            adopted.restarted = true;
        }
    }
    done(adoption.json, &adopted, adopted.text(), exit::OK)
}

fn source(adoption: &Adoption, settings: &Settings) -> Result<PathBuf, Complaint> {
    let own = || settings.runtime.user_home.as_ref().map(|home| home.join(".codex"));
    adoption.from.clone().or_else(own).ok_or_else(|| {
        let primary = "it is not known where your own login is".to_owned();
        complaint(primary, exit::USAGE, "name its home with --from")
    })
}

/// Who has the data directory.
enum Held {
    /// This process, as long as this is there.
    Here(#[expect(dead_code, reason = "held until it is dropped")] Option<StoreFolder>),
    /// A manager that can be told.
    Running(Running),
}

/// Makes sure that no codex writes the login meanwhile, or that the manager above it can be told.
fn hold(settings: &Settings) -> Result<Held, Complaint> {
    let data_dir = &settings.data_dir;
    // A directory that is not there is made by the first start.
    if !data_dir.is_dir() {
        return Ok(Held::Here(None));
    }
    match StoreFolder::lock(data_dir) {
        Ok(folder) => Ok(Held::Here(Some(folder))),
        Err(StoreError::InUse(_)) => running(settings).map(Held::Running).map_err(|why| {
            let primary = format!(
                "a manager runs on {}, and it cannot be told to start codex again: {why}",
                data_dir.display()
            );
            let hint =
                "stop it and repeat the command, or name its --host, --port and --token-file";
            let mut refused = complaint(primary, exit::CONFLICT, hint);
            refused.code = Some(ErrorCode::DataDirInUse);
            refused
        }),
        Err(error) => Err(store_failure(error, data_dir).into()),
    }
}

/// The manager on the configured port, if it is the one whose login this is.
fn running(settings: &Settings) -> Result<Running, String> {
    let server = &settings.server;
    let address = neighbour::address(server).map_err(|error| error.to_string())?;
    let get = |path: &str| {
        neighbour::get_ok::<Value>(address, server.token.as_ref(), path)
            .map_err(|error| format!("none answers on {address} as it should: {error}"))
    };
    let runtime = get("/api/runtime")?;
    let home = runtime.pointer("/appServer/codexHome").and_then(Value::as_str);
    let home = home.ok_or_else(|| format!("what answers on {address} is no manager of ours"))?;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(Path::new(home)) != real(&settings.runtime.codex_home) {
        return Err(format!("the one on {address} has another home of codex, {home}"));
    }
    Ok(Running { address, busy: is_busy(get)? })
}

/// Whether any session is at work, whatever its age, and archived or not. What is no list of
/// sessions says nothing, and is an error.
fn is_busy(get: impl Fn(&str) -> Result<Value, String>) -> Result<bool, String> {
    for archived in [false, true] {
        for status in ["running", "waiting"] {
            let path = format!("/api/sessions?status={status}&archived={archived}&limit=1");
            let answer = get(&path)?;
            let sessions = answer.get("data").and_then(Value::as_array);
            match sessions.map(Vec::is_empty) {
                Some(true) => {}
                Some(false) => return Ok(true),
                None => return Err(format!("what it answers to {path} is no list of sessions")),
            }
        }
    }
    Ok(false)
}

fn place(login: &[u8], home: &Path, to: &Path) -> Result<Option<PathBuf>, Complaint> {
    crate::login::make_home(home).and_then(|()| replace(login, to)).map_err(|error| {
        let primary = format!("{} cannot be replaced: {error}", to.display());
        complaint(primary, exit::FAILURE, "the login that was there is still in its place")
    })
}

fn restart(running: &Running, settings: &Settings) -> Result<(), Complaint> {
    let token = settings.server.token.as_ref();
    let asked = neighbour::post(running.address, token, "/api/runtime/restart");
    let why = match asked {
        Ok(202) => return Ok(()),
        Ok(status) => format!("it answered {status}"),
        Err(error) => error.to_string(),
    };
    let primary =
        format!("the login was replaced, but the manager did not start codex again: {why}");
    let hint = "POST /api/runtime/restart, or start the manager again";
    Err(complaint(primary, exit::UNAVAILABLE, hint))
}

fn unreadable(path: &Path, error: &io::Error) -> Complaint {
    let hint = "name another home with --from";
    complaint(format!("{} cannot be read: {error}", path.display()), exit::FAILURE, hint)
}

fn complaint(primary: String, exit: u8, hint: &str) -> Complaint {
    let mut complaint = Complaint::plain(primary);
    (complaint.exit, complaint.hint) = (exit, Some(hint.to_owned()));
    complaint
}

impl Adopted {
    fn text(&self) -> String {
        if self.status == "same" {
            return format!(
                "{} is the same login already. If it cannot be renewed, sign in again with `codex \
                 login`, then repeat this.\n",
                self.to
            );
        }
        let mut text = format!("copied the codex login {} to {}\n", self.from, self.to);
        if let Some(old) = &self.replaced {
            text.push_str(&format!(
                "the one that was there is {old} now; remove it when you like\n"
            ));
        }
        if self.shares_refresh_token {
            text.push_str(
                "both share one ChatGPT refresh token, which changes when either uses it: to be rid \
                 of that, sign in for this home by itself (CODEX_HOME=… codex login)\n",
            );
        }
        text.push_str(match self.restarted {
            true => "the running manager starts codex again with it\n",
            false => "the next start uses it\n",
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_at_work_is_found_among_any_number_and_what_is_no_list_is_refused() {
        let sessions = |busy: &'static str| {
            move |path: &str| {
                let data = if path.contains(busy) { vec![json!({})] } else { Vec::new() };
                Ok(json!({ "data": data }))
            }
        };
        assert_eq!(is_busy(sessions("none")), Ok(false));
        assert_eq!(is_busy(sessions("status=running&archived=false")), Ok(true));
        assert_eq!(is_busy(sessions("status=waiting&archived=false")), Ok(true));
        assert_eq!(is_busy(sessions("archived=true")), Ok(true));
        assert!(is_busy(|_| Ok(json!({ "error": { "code": "overloaded" } }))).is_err());
        assert!(is_busy(|_| Err("503".to_owned())).is_err());
    }
}
