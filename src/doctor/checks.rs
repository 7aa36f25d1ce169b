//! All checks in order.

use std::path::Path;

use cm_core::compat::Version;

use crate::config::{
    INSTALL_CODEX, Loaded, Problems, ResolvedRuntime, RuntimeKind, Settings, resolve_runtime,
};
use crate::login::AUTH_FILE;

use super::report::{Finding, Report};
use super::{files, login, port};

/// Since this version, or an earlier one after 0.106, codex brings bubblewrap along on Linux; it
/// used Landlock before.
const BUBBLEWRAP_SINCE: Version = Version::new(0, 140, 0);

/// Looks at everything. A configuration that is wrong ends it early: what it would have said is
/// unknown.
pub(crate) fn examine(loaded: Result<Loaded, Problems>) -> Report {
    let mut report = Report::default();
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(Problems(problems)) => {
            let hint = "`codex-manager config example` prints every name with its default";
            report.findings = problems
                .iter()
                .map(|problem| Finding::problem("config", problem.to_string(), hint))
                .collect();
            return report;
        }
    };
    let settings = &loaded.settings;
    let findings = &mut report.findings;
    configuration(&loaded, findings);
    match resolve_runtime(settings) {
        Ok(runtime) => {
            findings.extend(describe(&runtime));
            findings.push(login::check(settings, &runtime));
        }
        Err(failure) => {
            let mend = format!("run `{INSTALL_CODEX}`, or use --runtime embedded");
            findings.push(Finding::problem("codex", failure.message, mend));
        }
    }
    findings.push(files::directory("data", &settings.data_dir, "--data-dir (DATA_DIR)"));
    let home = &settings.runtime.codex_home;
    findings.push(files::directory("codex home", home, "--codex-home (CODEX_HOME)"));
    findings.extend(files::private("login", &home.join(AUTH_FILE)));
    findings.push(workspace(settings));
    findings.push(who_may_talk(settings));
    findings.extend(port::check(&settings.server));
    report
}

fn configuration(loaded: &Loaded, findings: &mut Vec<Finding>) {
    let files = [&loaded.config_file, &loaded.dotenv_file].into_iter().flatten();
    let sources: Vec<String> = files.map(|path| path.display().to_string()).collect();
    let message = match sources.as_slice() {
        [] => "no file; environment, flags and defaults".to_owned(),
        files => format!("read {}", files.join(" and ")),
    };
    findings.push(Finding::ok("config", message));
    let warnings = loaded.warnings.iter();
    findings.extend(warnings.map(|warning| Finding::note("config", warning.to_string())));
    for path in loaded.files_with_secrets() {
        findings.extend(files::private("config", &path));
    }
}

fn describe(runtime: &ResolvedRuntime) -> Vec<Finding> {
    let version = runtime
        .version
        .map_or_else(|| "of unknown version".to_owned(), |version| version.to_string());
    let program = runtime.program.display();
    match runtime.kind {
        RuntimeKind::Codex => {
            let message =
                format!("{} {version}, {program}: {}", runtime.kind.as_str(), runtime.why);
            let mut findings = vec![Finding::ok("runtime", message)];
            findings.extend(sandbox(runtime));
            findings
        }
        RuntimeKind::Embedded => {
            let message = format!(
                "{} {version}: {}; it has no model and no sandbox, and asks before every command",
                runtime.kind.as_str(),
                runtime.why
            );
            vec![Finding::note("runtime", message)]
        }
    }
}

/// Newer versions of codex confine commands with bubblewrap, which needs user namespaces. Whether
/// that works shows only when a command runs, so that all of this is only worth knowing.
fn sandbox(runtime: &ResolvedRuntime) -> Option<Finding> {
    if !cfg!(target_os = "linux") || runtime.version.is_none_or(|it| it < BUBBLEWRAP_SINCE) {
        return None;
    }
    let beside = runtime.program.ancestors().nth(2).map(|root| root.join("codex-resources"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = beside.into_iter().chain(std::env::split_paths(&path));
    if !directories.any(|directory| directory.join("bwrap").is_file()) {
        let message = "codex sandboxes commands with bwrap, which is neither on PATH nor beside \
                       codex; the package is called bubblewrap";
        return Some(Finding::note("sandbox", message));
    }
    let refused = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    let (switch, value) = refused.into_iter().find(|(switch, value)| {
        std::fs::read_to_string(switch).is_ok_and(|text| text.trim() == *value)
    })?;
    let message = format!(
        "{switch} is {value}: this system may keep codex from sandboxing commands; they then fail, \
         or ask to run without the sandbox"
    );
    Some(Finding::note("sandbox", message))
}

fn workspace(settings: &Settings) -> Finding {
    let path: &Path = &settings.runtime.default_cwd;
    if path.is_dir() {
        return Finding::ok("workspace", format!("{} by default", path.display()));
    }
    let message = format!("{} is not a directory", path.display());
    Finding::problem("workspace", message, "make it, or correct --default-cwd")
}

fn who_may_talk(settings: &Settings) -> Finding {
    let host = &settings.server.host;
    match &settings.server.token {
        Some(_) => Finding::ok("access", format!("{host}, with a token")),
        None => Finding::ok("access", format!("{host}, this machine only, without a token")),
    }
}
