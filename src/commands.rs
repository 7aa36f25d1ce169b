//! What each command does.

use std::io::{self, Write};
use std::path::Path;

use cm_core::error::exit;

use crate::account::{self, Adoption};
use crate::arguments::{
    AccountCommand, Command, ConfigCommand, ImportFlags, SettingsFlags, TokenCommand,
};
use crate::complaint::Complaint;
use crate::config::{Loaded, Problems, example, load, show_json, show_text, write_new_token};
use crate::store_tool::Done;
use crate::{app, client, doctor, import, store_tool, telemetry};

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// Whoever read the output went away. That is no failure.
    #[error("write output: nobody reads it")]
    PipeClosed,
    /// Something went wrong.
    #[error(transparent)]
    Complaint(#[from] Complaint),
}

/// Runs a command and returns the exit code.
///
/// # Errors
///
/// [`Ended`].
pub(crate) fn run(command: Command) -> Result<u8, Ended> {
    match command {
        Command::Serve(flags) => serve(*flags),
        Command::AppServer => app_server(),
        Command::Config(ConfigCommand::Show { origin, json, flags }) => {
            let loaded = configuration(*flags)?.map_err(Complaint::from)?;
            for warning in &loaded.warnings {
                let _ = writeln!(io::stderr(), "warning: {warning}");
            }
            match json {
                true => print(&format!("{:#}\n", show_json(&loaded)))?,
                false => print(&show_text(&loaded, origin))?,
            }
            Ok(exit::OK)
        }
        Command::Config(ConfigCommand::Example) => {
            print(&example())?;
            Ok(exit::OK)
        }
        Command::Doctor { json, flags } => {
            let report = doctor::examine(configuration(*flags)?);
            match json {
                true => print(&format!("{:#}\n", report.json()))?,
                false => print(&report.to_string())?,
            }
            Ok(report.exit())
        }
        Command::Account(AccountCommand::Adopt { from, interrupt, json, flags }) => {
            let loaded = configuration(*flags)?.map_err(Complaint::from)?;
            let adoption = Adoption { from, interrupt, json };
            let Done { output, exit } = account::adopt(&adoption, &loaded.settings)?;
            print(&output)?;
            Ok(exit)
        }
        Command::Token(TokenCommand::New { path }) => new_token(&path),
        Command::Import(flags) => {
            let loaded = configuration(flags.settings())?.map_err(Complaint::from)?;
            let ImportFlags { source, source_codex_home: source_home, dry_run, json, .. } = flags;
            let order = import::Order { source, source_home, dry_run, json };
            let Done { output, exit } = import::run(&order, &loaded.settings)?;
            print(&output)?;
            Ok(exit)
        }
        Command::Store(command) => {
            let loaded = configuration(command.settings())?.map_err(Complaint::from)?;
            let Done { output, exit } = store_tool::run(&command, &loaded.settings.data_dir)?;
            print(&output)?;
            Ok(exit)
        }
        Command::Client(command) => Ok(client::run(command)),
    }
}

fn configuration(flags: SettingsFlags) -> Result<Result<Loaded, Problems>, Complaint> {
    let sources = flags.sources().map_err(|error| {
        Complaint::plain(format!("the working directory cannot be used: {error}"))
    })?;
    Ok(load(sources))
}

fn serve(flags: SettingsFlags) -> Result<u8, Ended> {
    let loaded = configuration(flags)?.map_err(Complaint::from)?;
    telemetry::start(loaded.settings.log);
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "configuration");
    }
    app::serve(loaded.settings).map_err(Complaint::from)?;
    Ok(exit::OK)
}

fn app_server() -> Result<u8, Ended> {
    telemetry::start_from_environment();
    let home = std::env::var_os("CODEX_HOME").filter(|home| !home.is_empty());
    let Some(home) = home else {
        let mut complaint = Complaint::plain("CODEX_HOME is not set");
        complaint.exit = exit::USAGE;
        complaint.hint = Some("the embedded app-server keeps its threads there".to_owned());
        return Err(complaint.into());
    };
    let options = cm_runtime::RuntimeOptions::new(home, env!("CARGO_PKG_VERSION"));
    cm_runtime::run(options, io::stdin(), io::stdout())
        .map_err(|error| Complaint::plain(format!("the app-server failed to {error}")))?;
    Ok(exit::OK)
}

fn new_token(path: &Path) -> Result<u8, Ended> {
    let path = write_new_token(path).map_err(|error| Complaint::plain(error.to_string()))?;
    let shown = path.display();
    print(&format!(
        "{shown}\nStart the server with it:  codex-manager serve --token-file {shown}\n\
         Clients present it:        --token-file {shown}\n"
    ))?;
    Ok(exit::OK)
}

fn print(text: &str) -> Result<(), Ended> {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ended::PipeClosed,
        _ => Complaint::plain(format!("output cannot be written: {error}")).into(),
    })
}
