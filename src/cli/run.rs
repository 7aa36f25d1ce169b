//! `run`: a message, its turn, the answer.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use cm_core::ids::ThreadId;
use cm_core::wire::{CreateSession, Health, SessionCreated};

use crate::console::{Console, Style};
use crate::failure::Failure;
use crate::follow::{START_LIMIT, patiently};
use crate::hooks::{RunHooks, StartServer, StartedServer};
use crate::http::Api;
use crate::message::{AnswerArgs, ControlArgs, EffortArgs, Errand, TypedMessage, typed_message};
use crate::options::ClientOptions;
use crate::render::one_line;
use crate::resolve;
use crate::terminal::Terminal;
use crate::trust::{self, TrustArgs};

/// How long one look for a server may take before it counts as absent.
const GLANCE_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks for a server that is starting.
const START_PAUSE: Duration = Duration::from_millis(100);

/// Exit codes, for the help.
const EXIT_CODES: &str = "\
Exit codes:
  0  the turn completed
  1  something unexpected failed
  2  the command line is wrong
  3  no server answers, or the connection broke and did not come back
  4  the session does not exist
  5  the session is busy, archived or locked
  6  not allowed; or a request was declined because there was no terminal to ask on
  7  a deadline passed (the turn was told to stop)
  8  the turn failed or was interrupted
  9  the server or its runtime cannot serve now";

/// Arguments of `run`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct RunArgs {
    /// What to say to the agent; `-` reads it from standard input
    #[arg(required = true, value_name = "TEXT")]
    pub text: Vec<String>,

    /// Work in this directory; the current one by default
    #[arg(long, value_name = "DIR", conflicts_with = "session")]
    pub cd: Option<PathBuf>,

    /// Continue this session: its id, the beginning of its id, or `latest`
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,

    /// Start a server for this command if none answers
    #[arg(long)]
    pub serve: bool,

    /// What the agent may do
    #[command(flatten)]
    pub controls: ControlArgs,

    /// Whether Codex may trust the folder
    #[command(flatten)]
    pub trust: TrustArgs,

    /// How much the model thinks
    #[command(flatten)]
    pub effort: EffortArgs,

    /// Who answers
    #[command(flatten)]
    pub answers: AnswerArgs,

    /// Where the server is and how to print
    #[command(flatten)]
    pub options: ClientOptions,
}

/// Runs the command with a server that was started for it, if need be.
pub(crate) fn execute(
    arguments: &RunArgs,
    api: Api,
    console: &mut Console,
    hooks: RunHooks,
) -> Result<(), Failure> {
    let message = typed_message(&arguments.text, std::io::stdin())?;
    let terminal = Terminal::of_process(message.from_stdin);
    let RunHooks { start_server, interrupted } = hooks;
    let started = if arguments.serve { serve(&api, start_server)? } else { None };
    let Some(server) = started else {
        return converse(arguments, message, &api, terminal, &interrupted, console);
    };
    let StartedServer { base_url, stop } = server;
    let outcome = own_server(arguments, &api, &base_url).and_then(|api| {
        wait_for_server(&api, &interrupted)?;
        converse(arguments, message, &api, terminal, &interrupted, console)
    });
    stop();
    outcome
}

fn own_server(arguments: &RunArgs, api: &Api, base_url: &str) -> Result<Api, Failure> {
    let endpoint = crate::endpoint::Endpoint::parse(base_url, &arguments.options.api_prefix)?;
    Ok(Api::new(endpoint, api.token().map(str::to_owned), api.timeout()))
}

/// Starts a server unless one answers already.
fn serve(api: &Api, start: Option<StartServer>) -> Result<Option<StartedServer>, Failure> {
    match api.with_timeout(GLANCE_TIMEOUT).get::<Health>("/health") {
        Err(Failure::Unreachable { url, reason }) => {
            let start = start.ok_or(Failure::Unreachable { url, reason })?;
            start()
                .map(Some)
                .map_err(|reason| Failure::Usage(format!("a server cannot be started: {reason}")))
        }
        // Whatever else is wrong with it, somebody is there.
        _ => Ok(None),
    }
}

/// Waits until a server that was just started answers.
fn wait_for_server(api: &Api, interrupted: &AtomicBool) -> Result<(), Failure> {
    let until = Instant::now() + START_LIMIT;
    let glance = api.with_timeout(GLANCE_TIMEOUT);
    loop {
        match glance.get_value("/health") {
            Ok(_) => return Ok(()),
            Err(failure @ (Failure::Unreachable { .. } | Failure::TimedOut { .. })) => {
                if Instant::now() >= until {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
        if interrupted.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return Err(Failure::Interrupted);
        }
        std::thread::sleep(START_PAUSE);
    }
}

/// Creates or finds the session, sends the message and follows the turn.
pub(crate) fn converse(
    arguments: &RunArgs,
    message: TypedMessage,
    api: &Api,
    mut terminal: Option<Terminal>,
    interrupted: &AtomicBool,
    console: &mut Console,
) -> Result<(), Failure> {
    let limit = arguments.answers.limit();
    let deadline = Instant::now() + limit;
    let effort = arguments.effort.effort;
    let (session, body) = match &arguments.session {
        Some(text) => {
            let session = resolve::session(api, text)?;
            (session, arguments.controls.message(message.text, effort))
        }
        None => {
            let cwd = working_directory(arguments.cd.clone())?;
            let create = arguments.controls.create(Some(cwd));
            let agreed = arguments.trust.trust || arguments.answers.yes;
            trust::agree(&create, agreed, api, terminal.as_mut(), console)?;
            let session = create_session(&create, api, deadline, interrupted, console)?;
            (session, ControlArgs::default().message(message.text, effort))
        }
    };
    let errand = Errand {
        api,
        session: &session,
        is_new: arguments.session.is_none(),
        policy: arguments.answers.policy(),
        terminal,
        interrupted,
        deadline,
        limit,
    };
    errand.run(&body, console)
}

/// Creates a session, waiting for the runtime if it is not there yet.
pub(crate) fn create_session(
    body: &CreateSession,
    api: &Api,
    deadline: Instant,
    interrupted: &AtomicBool,
    console: &mut Console,
) -> Result<ThreadId, Failure> {
    let until = deadline.min(Instant::now() + START_LIMIT);
    let created: SessionCreated = patiently(
        until,
        interrupted,
        |failure| {
            console.note(&format!("waiting: {}", one_line(&failure.to_string())), Style::Dim);
        },
        || api.post("/sessions", body),
    )?;
    let controls = &created.session.session_controls;
    console.note(
        &format!(
            "session {} · sandbox {} · approvals {} · {}",
            created.session.session_id,
            controls.filesystem_sandbox.as_str(),
            controls.approval_policy.as_str(),
            one_line(&created.session.cwd),
        ),
        Style::Dim,
    );
    if created.trusts_project {
        let trusted = format!("Codex trusts {} from now on", one_line(&created.session.cwd));
        console.note(&trusted, Style::Dim);
    }
    for warning in &created.warnings {
        console.note(&format!("warning: {}", one_line(warning)), Style::Yellow);
    }
    Ok(created.session.session_id)
}

/// A directory as the server needs it: absolute. Whether it exists is for the server to say, which
/// may be on another machine.
pub(crate) fn working_directory(given: Option<PathBuf>) -> Result<String, Failure> {
    let path = std::path::absolute(given.unwrap_or_else(|| PathBuf::from(".")))
        .map_err(|error| Failure::Usage(format!("the working directory is not known: {error}")))?;
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Failure::Usage(format!("the path {} is not UTF-8", path.display()))),
    }
}
