//! Tests of loading as a whole: layers, origins, problems, the child's environment.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cm_core::controls::SandboxMode;
use cm_core::error::ErrorCode;

use super::settings::Settings;
use super::table::*;
use super::*;

/// A working directory with nothing around it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn sources(&self, environment: &[(&str, &str)]) -> Sources {
        let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        Sources {
            working_directory: self.path().to_owned(),
            environment: environment.iter().map(pair).collect(),
            ..Sources::default()
        }
    }

    fn settings(&self, environment: &[(&str, &str)]) -> Settings {
        load(self.sources(environment)).unwrap().settings
    }

    fn problems(&self, environment: &[(&str, &str)]) -> Vec<String> {
        let Problems(problems) = load(self.sources(environment)).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }
}

fn origin(loaded: &Loaded, variable: &Variable) -> String {
    let one = loaded.effective.iter().find(|one| one.variable.name == variable.name).unwrap();
    one.origin.to_string()
}

fn flag(
    variable: &'static Variable,
    flag: &'static str,
    value: &str,
) -> (&'static Variable, &'static str, Raw) {
    (variable, flag, Raw::Text(value.to_owned()))
}

#[test]
fn the_defaults_are_what_the_documents_say() {
    let place = Place::new();
    let settings = place.settings(&[]);
    assert_eq!((settings.server.host.as_str(), settings.server.port), ("127.0.0.1", 3001));
    assert_eq!(settings.data_dir, place.path().join(".data"));
    assert_eq!(settings.runtime.codex_home, place.path().join(".data/codex-home"));
    assert_eq!(settings.runtime.default_cwd, place.path());
    assert_eq!(settings.runtime.call_timeout, Duration::from_secs(120));
    assert_eq!(settings.runtime.initialize_timeout, Duration::from_secs(30));
    assert_eq!(settings.supervision, cm_core::restart::Policy::default());
    assert_eq!(settings.defaults.controls, cm_core::controls::Controls::default());
    assert_eq!((settings.limits.ring, settings.limits.max_body), (64 << 20, 1 << 20));
    assert_eq!(settings.limits.line_cap, cm_core::rpc::DEFAULT_LINE_CAP);
    assert_eq!(settings.log.level, LogLevel::Info);
    assert!((1..=8).contains(&settings.server.http_workers));
    assert_eq!(settings.server.token, None);
    let origins = ["http://127.0.0.1:5173", "http://localhost:5173"].map(str::to_owned);
    assert_eq!(settings.server.allowed_origins, origins);
}

#[test]
fn each_layer_wins_over_the_one_beneath_and_values_remember_theirs() {
    let place = Place::new();
    place.file(
        "codex-manager.toml",
        "[server]\nhost = \"::1\"\nport = 1\ndata_dir = \"from-file\"\n\n[log]\nlevel = \"warn\"\n",
    );
    place.file(".env", "PORT=2\nLOG_LEVEL=debug\nDATA_DIR=from-dotenv\n");
    let mut sources = place.sources(&[("PORT", "3"), ("LOG_LEVEL", "error")]);
    sources.flags = vec![flag(&PORT, "--port", "4")];
    let loaded = load(sources).unwrap();
    assert_eq!(loaded.settings.server.port, 4);
    assert_eq!(loaded.settings.log.level, LogLevel::Error);
    assert_eq!(loaded.settings.data_dir, place.path().join("from-dotenv"));
    assert_eq!(origin(&loaded, &HOST), "codex-manager.toml:2");
    assert_eq!(origin(&loaded, &PORT), "flag --port");
    assert_eq!(origin(&loaded, &LOG_LEVEL), "environment variable LOG_LEVEL");
    assert_eq!(origin(&loaded, &DATA_DIR), ".env:3");
    assert_eq!(origin(&loaded, &LOG_FORMAT), "default");
}

#[test]
fn the_file_is_the_first_that_is_named_or_found() {
    let place = Place::new();
    place.file("home/.config/codex-manager/config.toml", "server.port = 1");
    let home = place.path().join("home");
    let home = ("HOME", home.to_str().unwrap());
    assert_eq!(place.settings(&[home]).server.port, 1);
    place.file("xdg/codex-manager/config.toml", "server.port = 2");
    let xdg = place.path().join("xdg");
    let xdg = ("XDG_CONFIG_HOME", xdg.to_str().unwrap());
    assert_eq!(place.settings(&[home, xdg]).server.port, 2);
    place.file("codex-manager.toml", "server.port = 3");
    assert_eq!(place.settings(&[home, xdg]).server.port, 3);
    place.file("other.toml", "server.port = 4");
    place.file(".env", "CODEX_MANAGER_CONFIG=other.toml");
    assert_eq!(place.settings(&[home, xdg]).server.port, 4);
    let mut sources = place.sources(&[home]);
    place.file("flag.toml", "server.port = 5");
    sources.config_flag = Some("flag.toml".into());
    assert_eq!(load(sources).unwrap().settings.server.port, 5);
    // One that is named must be there.
    let problems = place.problems(&[("CODEX_MANAGER_CONFIG", "missing.toml")]);
    assert!(problems[0].contains("missing.toml: cannot be read"), "{problems:?}");
}

#[test]
fn all_problems_are_reported_at_once_each_with_its_origin() {
    let place = Place::new();
    place.file("codex-manager.toml", "[server]\nprot = 1\n\n[log]\nformat = \"xml\"\n");
    place.file(".env", "DEFAULT_SANDBOX_MODE=none\nLOG_LEVEL=\n");
    let mut sources = place.sources(&[
        ("PORT", "70000"),
        ("HOST", "0.0.0.0"),
        ("ORCHESTRATOR_QUEUE_MAX_ATTEMPTS", "0"),
        ("CODEX_MANAGER_RESTART_BACKOFF_MS", "60000"),
        ("AGENT_EXTENSION_RBAC_MODE", "jwt"),
    ]);
    sources.environment.push(("CODEX_BIN".into(), OsString::from_vec(vec![0xff])));
    sources.flags = vec![flag(&CODEX_MANAGER_RUNTIME, "--runtime", "best")];
    let Problems(problems) = load(sources).unwrap_err();
    let all = Problems(problems.clone()).to_string();
    for expected in [
        "codex-manager.toml:2: unknown name `server.prot`; did you mean `server.port`?",
        "codex-manager.toml:5: log.format is `xml`; it must be one of text, json",
        ".env:1: DEFAULT_SANDBOX_MODE is `none`; it must be one of read-only, workspace-write",
        ".env:2: LOG_LEVEL is ``; it must be one of fatal",
        "environment variable PORT: PORT is `70000`; it must be a whole number from 0 to 65535",
        "environment variable HOST: HOST is `0.0.0.0`, which others can reach: make a token",
        "ORCHESTRATOR_QUEUE_MAX_ATTEMPTS is `0`; it must be a whole number, at least 1",
        "it must be at most CODEX_MANAGER_RESTART_BACKOFF_MAX_MS, 30000",
        "environment variable AGENT_EXTENSION_RBAC_MODE: AGENT_EXTENSION_RBAC_MODE is `jwt`",
        "environment variable CODEX_BIN: not valid UTF-8",
        "flag --runtime: CODEX_MANAGER_RUNTIME is `best`; it must be one of auto, codex, embedded",
    ] {
        assert!(all.contains(expected), "{expected}\nnot in\n{all}");
    }
    assert_eq!(problems.len(), 11, "{all}");
}

#[test]
fn version_1_files_start_and_odd_lines_are_warnings() {
    let place = Place::new();
    place.file(
        ".env",
        "HOST=127.0.0.1\nPORT=3001\nLOG_LEVEL=fatal\nCODEX_BIN=codex\nOPENAI_API_KEY=\n\
         ORCHESTRATOR_QUEUE_ENABLED=true\nAGENT_EXTENSION_TRUST_MODE=enforced\n\
         AGENT_EXTENSION_RBAC_HEADER_SECRET=\nSOMETHING_ELSE=1\nnonsense\n\
         ORCHESTRATOR_QUEUE_ENABLE=true\nCODEX_MANAGER_API_BASE=http://x\n",
    );
    let loaded = load(place.sources(&[])).unwrap();
    assert_eq!(loaded.settings.log.level, LogLevel::Error);
    assert_eq!(loaded.settings.runtime.codex_bin.as_deref(), Some("codex"));
    assert_eq!(loaded.settings.runtime.openai_api_key, None);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            ".env:10: skipped: no `=`",
            ".env:11: unknown name `ORCHESTRATOR_QUEUE_ENABLE`; did you mean \
             `ORCHESTRATOR_QUEUE_ENABLED`?",
        ]
    );
    let shown = show_text(&loaded, true);
    let line = shown.lines().find(|line| line.starts_with("AGENT_EXTENSION_TRUST_MODE")).unwrap();
    assert!(line.ends_with("enforced  (.env:7; not used yet)"), "{line}");
}

#[test]
fn others_get_in_only_with_a_token() {
    let place = Place::new();
    for host in ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"] {
        assert_eq!(place.settings(&[("HOST", host)]).server.token, None);
    }
    for host in ["0.0.0.0", "::", "192.168.1.2", "example.org"] {
        let problems = place.problems(&[("HOST", host)]);
        assert!(problems[0].contains("codex-manager token new"), "{problems:?}");
    }
    let token = place.path().join("token");
    write_new_token(&token).unwrap();
    let named = [("HOST", "0.0.0.0"), ("CODEX_MANAGER_TOKEN_FILE", "token")];
    assert!(place.settings(&named).server.token.is_some());
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let problems = place.problems(&named);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("chmod 600"), "{problems:?}");
}

#[test]
fn secrets_are_never_shown() {
    let place = Place::new();
    let environment =
        [("OPENAI_API_KEY", "sk-hidden"), ("AGENT_EXTENSION_RBAC_JWT_SECRET", "jwt-hidden")];
    let loaded = load(place.sources(&environment)).unwrap();
    let everything =
        format!("{}{}{:?}", show_text(&loaded, true), show_json(&loaded), loaded.settings);
    assert!(!everything.contains("hidden"), "{everything}");
    assert!(show_text(&loaded, false).contains("***"));
    assert_eq!(loaded.settings.runtime.openai_api_key.unwrap().expose(), "sk-hidden");
}

#[test]
fn paths_start_at_the_working_directory_or_at_home() {
    let place = Place::new();
    let settings = place.settings(&[
        ("HOME", "/home/someone"),
        ("DATA_DIR", "~/data"),
        ("CODEX_HOME", "here"),
        ("CODEX_BIN", "./bin/codex"),
        ("CODEX_MANAGER_DEFAULT_CWD", "/elsewhere"),
    ]);
    assert_eq!(settings.data_dir, Path::new("/home/someone/data"));
    assert_eq!(settings.runtime.codex_home, place.path().join("here"));
    let program = place.path().join("./bin/codex").display().to_string();
    assert_eq!(settings.runtime.codex_bin, Some(program));
    assert_eq!(settings.runtime.default_cwd, Path::new("/elsewhere"));
}

#[test]
fn defaults_of_sessions_are_typed() {
    let place = Place::new();
    place.file(
        "codex-manager.toml",
        "[defaults]\nsandbox_mode = \"workspace-write\"\nlocked = true\n",
    );
    let defaults = place.settings(&[]).defaults;
    assert_eq!(defaults.controls.filesystem_sandbox, SandboxMode::WorkspaceWrite);
    assert!(defaults.locked);
}

#[test]
fn the_child_gets_our_environment_without_our_secrets() {
    let place = Place::new();
    place.file(
        ".env",
        "OPENAI_API_KEY=sk-file\nPORT=3001\nHTTPS_PROXY=http://proxy\nLANG=C\n\
         CODEX_MANAGER_BEARER_TOKEN=t\n",
    );
    let settings = place.settings(&[
        ("PATH", "/bin"),
        ("LANG", "de_DE"),
        ("OPENAI_API_KEY", "sk-env"),
        ("AGENT_EXTENSION_RBAC_HEADER_SECRET", "s"),
        ("CODEX_MANAGER_RBAC_TOKEN", "s"),
        ("CODEX_HOME", "/home/codex"),
    ]);
    let mut runtime = ResolvedRuntime {
        kind: RuntimeKind::Codex,
        program: "/opt/codex".into(),
        args: Vec::new(),
        version: None,
        tools: None,
        why: String::new(),
    };
    let pairs = |runtime: &ResolvedRuntime| -> Vec<String> {
        let environment = child_environment(&settings, runtime).into_iter();
        environment.map(|(name, value)| format!("{}={}", name.display(), value.display())).collect()
    };
    let expected =
        ["CODEX_HOME=/home/codex", "HTTPS_PROXY=http://proxy", "LANG=de_DE", "PATH=/bin"];
    assert_eq!(pairs(&runtime), expected);
    runtime.tools = Some("/opt/tools".into());
    assert!(pairs(&runtime).contains(&"PATH=/opt/tools:/bin".to_owned()));
}

/// A `codex` that tells a version.
fn fake_codex(place: &Place, name: &str, version: &str) -> PathBuf {
    let path = place.file(name, &format!("#!/bin/sh\necho codex-cli {version}\n"));
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn auto_takes_codex_if_it_is_there_and_else_the_embedded_one() {
    let place = Place::new();
    let directory = place.path().join("bin");
    let path = ("PATH", directory.to_str().unwrap());
    let without = resolve_runtime(&place.settings(&[path])).unwrap();
    assert_eq!(
        (without.kind, without.args.as_slice()),
        (RuntimeKind::Embedded, &["app-server".to_owned()][..])
    );
    assert!(without.why.contains(INSTALL_CODEX), "{}", without.why);
    assert_eq!(without.program, std::env::current_exe().unwrap());
    let codex = fake_codex(&place, "bin/codex", "0.169.0");
    let with = resolve_runtime(&place.settings(&[path])).unwrap();
    assert_eq!((with.kind, with.program), (RuntimeKind::Codex, codex));
    assert_eq!(with.version, Some(cm_core::compat::Version::new(0, 169, 0)));
    let embedded = place.settings(&[path, ("CODEX_MANAGER_RUNTIME", "embedded")]);
    assert_eq!(resolve_runtime(&embedded).unwrap().kind, RuntimeKind::Embedded);
}

#[test]
fn an_explicit_codex_never_falls_back() {
    let place = Place::new();
    place.file("blunt", "not executable");
    for environment in [
        [("CODEX_BIN", "./missing")],
        [("CODEX_BIN", "./blunt")],
        [("CODEX_BIN", "no-such-codex")],
        [("CODEX_MANAGER_RUNTIME", "codex")],
    ] {
        let failure = resolve_runtime(&place.settings(&environment)).unwrap_err();
        assert_eq!(failure.code, ErrorCode::CodexNotFound);
        for way_out in [INSTALL_CODEX, "--runtime embedded"] {
            assert!(failure.message.contains(way_out), "{failure}");
        }
    }
}

#[test]
fn a_key_is_kept_in_memory_where_codex_can_and_has_no_login_to_lose() {
    let place = Place::new();
    let in_memory = ["-c", "cli_auth_credentials_store=\"ephemeral\"", "app-server"];
    let args = |name: &str, key: &str| {
        let settings = place.settings(&[("CODEX_BIN", name), ("OPENAI_API_KEY", key)]);
        resolve_runtime(&settings).unwrap().args
    };
    fake_codex(&place, "new", "0.140.0");
    fake_codex(&place, "old", "0.106.0");
    assert_eq!(args("./new", "sk"), in_memory);
    assert_eq!(args("./new", " "), ["app-server"]);
    assert_eq!(args("./old", "sk"), ["app-server"]);
    place.file(".data/codex-home/auth.json", "{}");
    assert_eq!(args("./new", "sk"), ["app-server"]);
    fs::remove_file(place.path().join(".data/codex-home/auth.json")).unwrap();
    place.file("home/.codex/auth.json", "{}");
    let home = place.path().join("home");
    let settings = place.settings(&[
        ("HOME", home.to_str().unwrap()),
        ("CODEX_BIN", "./new"),
        ("OPENAI_API_KEY", "sk"),
    ]);
    assert_eq!(resolve_runtime(&settings).unwrap().args, ["app-server"]);
}

#[test]
fn the_example_in_the_repository_is_the_one_that_is_printed() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");
    let committed = fs::read_to_string(committed).unwrap();
    assert!(
        committed == example(),
        "write it again: cargo run -- config example > .env.example\n{}",
        example()
    );
    // Without its comment signs it sets every variable to its default.
    let place = Place::new();
    let active: String = committed
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.contains('=') && !line.starts_with(' ') && !line.ends_with('='))
        .map(|line| format!("{line}\n"))
        .collect();
    place.file(".env", &active);
    let loaded = load(place.sources(&[])).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.server.port, 3001);
}

#[test]
fn every_variable_is_described_in_the_documentation() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations/configuration.md");
    let page = fs::read_to_string(page).unwrap();
    let missing: Vec<String> = example()
        .lines()
        .filter_map(|line| line.strip_prefix('#')?.split_once('=').map(|(name, _)| name.to_owned()))
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not described: {missing:?}");
}
