//! Logging to standard error, and the panic hook.
//!
//! Standard output stays free for what programs read.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Libraries whose ordinary words would hide ours: what they start, and every page they write.
const QUIET: [&str; 3] = ["actix_server=warn", "actix_http=info", "sled=warn"];

use crate::config::{LogFormat, LogLevel, LogSettings};

/// Starts logging. `RUST_LOG`, if it is set, overrules the level. A second call changes nothing.
pub(crate) fn start(log: LogSettings) {
    let filter = match std::env::var("RUST_LOG") {
        // Rules that cannot be read are skipped: logging is no reason not to start.
        Ok(rules) if !rules.trim().is_empty() => EnvFilter::builder().parse_lossy(rules),
        _ => {
            let quiet = QUIET.iter().filter_map(|rule| rule.parse().ok());
            let filter = EnvFilter::default().add_directive(level(log.level).into());
            quiet.fold(filter, EnvFilter::add_directive)
        }
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A log that cannot be written must not end the program, so the outcome does not matter.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let colours = io::IsTerminal::is_terminal(&io::stderr())
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            builder.with_ansi(colours).try_init()
        }
    };
}

/// Logging for the embedded app-server: its configuration is the environment it is given, because
/// the directory in which it runs may belong to anybody.
pub(crate) fn start_from_environment() {
    let level = match std::env::var("LOG_LEVEL").as_deref() {
        Ok("silent") => LogLevel::Silent,
        Ok("fatal" | "error") => LogLevel::Error,
        Ok("warn") => LogLevel::Warn,
        Ok("debug") => LogLevel::Debug,
        Ok("trace") => LogLevel::Trace,
        _ => LogLevel::Info,
    };
    start(LogSettings { level, format: LogFormat::Text });
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Silent => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Makes a panic one log line with thread and place. A backtrace comes with `RUST_BACKTRACE` only.
///
/// Before logging started, or with logging silent, the line goes to standard error as it is: a
/// panic is never without a trace.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed").to_owned();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = message(panic);
        let backtrace = Backtrace::capture();
        let backtrace = match backtrace.status() {
            BacktraceStatus::Captured => Some(backtrace.to_string()),
            _ => None,
        };
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!(thread, place, message, backtrace, "a thread panicked");
        } else {
            let line = format!("thread {thread} panicked at {place}: {message}\n");
            let text = line + backtrace.as_deref().unwrap_or_default();
            let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
        }
    }));
}

fn message(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const INSIDE: &str = "CODEX_MANAGER_TEST_PANIC_INSIDE";

    /// Logging and the hook belong to the process, so this test starts itself once more.
    #[test]
    fn a_panic_is_one_line_with_thread_and_place() {
        if let Ok(level) = std::env::var(INSIDE) {
            install_panic_hook();
            let level = if level == "silent" { LogLevel::Silent } else { LogLevel::Info };
            start(LogSettings { level, format: LogFormat::Json });
            let thread = std::thread::Builder::new().name("doomed".to_owned());
            assert!(thread.spawn(|| panic!("no luck")).unwrap().join().is_err());
            return;
        }
        for level in ["info", "silent"] {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "telemetry::tests::a_panic_is_one_line_with_thread_and_place"])
                .arg("--nocapture")
                .env(INSIDE, level)
                .env_remove("RUST_LOG")
                .env_remove("RUST_BACKTRACE")
                .stdout(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{said}");
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines.len(), 1, "{said}");
            for part in ["doomed", "telemetry.rs:", "no luck"] {
                assert!(lines[0].contains(part), "{level}: {said}");
            }
            assert_eq!(lines[0].starts_with('{'), level == "info", "{said}");
        }
    }
}
