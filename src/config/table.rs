//! The variables that this build acts on.
//!
//! The names that version 1 had keep their meaning; the rest begin with `CODEX_MANAGER_`.

use cm_core::controls::{ApprovalPolicy, NetworkAccess, SandboxMode};

use super::variable::{Kind, variables};

/// A day: no duration needs to be longer.
const DAY_MS: u64 = 86_400_000;
const MIB: u64 = 1 << 20;

variables! {
    HOST "server.host" Kind::Host, Some("127.0.0.1"),
        "address to listen on; any but loopback needs a token file";
    PORT "server.port" Kind::Number { min: 0, max: 65_535 }, Some("3001"),
        "port to listen on; 0 takes any free one";
    ALLOWED_ORIGINS "server.allowed_origins" Kind::Origins,
        Some("http://127.0.0.1:5173,http://localhost:5173"),
        "web pages that may talk to the server besides its own, separated by commas";
    CODEX_MANAGER_TOKEN_FILE "server.token_file" Kind::Path, None,
        "file with the token that every client must present; `codex-manager token new PATH` makes one";
    CODEX_MANAGER_HTTP_WORKERS "server.http_workers" Kind::Number { min: 0, max: 64 }, Some("0"),
        "HTTP worker threads; 0 is one for each core, at most 8";
    DATA_DIR "server.data_dir" Kind::Path, Some(".data"),
        "directory of everything the manager keeps";

    LOG_LEVEL "log.level"
        Kind::OneOf(&["fatal", "error", "warn", "info", "debug", "trace", "silent"]), Some("info"),
        "how much is logged; RUST_LOG overrules it with finer rules";
    LOG_FORMAT "log.format" Kind::OneOf(&["text", "json"]), Some("text"),
        "how log lines look, on standard error";

    CODEX_MANAGER_RUNTIME "runtime.kind" Kind::OneOf(&["auto", "codex", "embedded"]), Some("auto"),
        "which app-server runs; auto takes codex if it is installed, else the embedded one";
    CODEX_BIN "runtime.codex_bin" Kind::Path, None,
        "codex to run, a path or a name on PATH; unset searches PATH for codex";
    CODEX_HOME "runtime.codex_home" Kind::Path, None,
        "home of codex: login, configuration, threads; unset is codex-home in the data directory";
    OPENAI_API_KEY "runtime.openai_api_key" Kind::Secret, None,
        "key that codex is logged in with when it has no account of its own";
    CODEX_MANAGER_DEFAULT_CWD "runtime.default_cwd" Kind::Path, None,
        "workspace of sessions that name none; unset is the directory the manager starts in";
    CODEX_MANAGER_CALL_TIMEOUT_MS "runtime.call_timeout_ms" Kind::Millis { min: 1, max: DAY_MS },
        Some("120000"),
        "how long one call to the app-server may take";
    CODEX_MANAGER_INITIALIZE_TIMEOUT_MS "runtime.initialize_timeout_ms"
        Kind::Millis { min: 1, max: DAY_MS }, Some("30000"),
        "how long the app-server may take to initialize";

    CODEX_MANAGER_RESTART_BACKOFF_MS "supervision.restart_backoff_ms"
        Kind::Millis { min: 1, max: DAY_MS }, Some("250"),
        "ceiling of the first delay before a restart";
    CODEX_MANAGER_RESTART_BACKOFF_MAX_MS "supervision.restart_backoff_max_ms"
        Kind::Millis { min: 1, max: DAY_MS }, Some("30000"),
        "ceiling that the delays grow to";
    CODEX_MANAGER_RESTART_HEALTHY_MS "supervision.restart_healthy_ms"
        Kind::Millis { min: 1, max: DAY_MS }, Some("60000"),
        "a life this long starts the delays over";
    CODEX_MANAGER_RESTART_INTENSITY "supervision.restart_intensity"
        Kind::Number { min: 0, max: 1_000_000 }, Some("5"),
        "restarts within the window before an actor is marked failed";
    CODEX_MANAGER_RESTART_WINDOW_MS "supervision.restart_window_ms"
        Kind::Millis { min: 1, max: DAY_MS }, Some("30000"),
        "the window in which restarts are counted";
    CODEX_MANAGER_RESTART_PROBE_MS "supervision.restart_probe_ms"
        Kind::Millis { min: 1, max: DAY_MS }, Some("60000"),
        "how long after an actor failed it is tried once more";

    DEFAULT_APPROVAL_POLICY "defaults.approval_policy" Kind::OneOf(ApprovalPolicy::TEXTS),
        Some("untrusted"),
        "when a new session's agent must ask before it acts";
    DEFAULT_SANDBOX_MODE "defaults.sandbox_mode" Kind::OneOf(SandboxMode::TEXTS), Some("read-only"),
        "what a new session's commands may write";
    DEFAULT_NETWORK_ACCESS "defaults.network_access" Kind::OneOf(NetworkAccess::TEXTS),
        Some("restricted"),
        "whether a new session's commands may use the network";
    SESSION_DEFAULTS_LOCKED "defaults.locked" Kind::Switch, Some("false"),
        "whether clients are kept from changing the defaults of new sessions";

    CODEX_MANAGER_STORE_EXPORT_MS "store.export_ms" Kind::Millis { min: 100, max: 30 * DAY_MS },
        Some("3600000"),
        "how often the store is exported while the manager runs, if anything was written";

    CODEX_MANAGER_LINE_CAP_BYTES "limits.line_cap_bytes" Kind::Bytes { min: 1024, max: 1024 * MIB },
        Some("64MiB"),
        "longest line that is taken from the app-server";
    CODEX_MANAGER_RING_BYTES "limits.ring_bytes" Kind::Bytes { min: 65_536, max: 16_384 * MIB },
        Some("64MiB"),
        "memory for recent stream frames, from which slow and returning clients catch up";
    CODEX_MANAGER_LOG_BYTES "limits.log_bytes" Kind::Bytes { min: 65_536, max: 65_536 * MIB },
        Some("64MiB"),
        "disk space for past events, from which clients catch up after a restart";
    CODEX_MANAGER_MAX_BODY_BYTES "limits.max_body_bytes" Kind::Bytes { min: 1024, max: 1024 * MIB },
        Some("1MiB"),
        "largest request body";
    CODEX_MANAGER_THREAD_ITEMS_BYTES "limits.thread_items_bytes"
        Kind::Bytes { min: MIB, max: 1_048_576 * MIB }, Some("256MiB"),
        "items that are kept of one session; the oldest go first";
    CODEX_MANAGER_THREAD_IDLE_MS "limits.thread_idle_ms" Kind::Millis { min: 20, max: DAY_MS },
        Some("60000"),
        "how long nothing happens in a session before its memory is given back";
    CODEX_MANAGER_THREAD_SYNC_MS "limits.thread_sync_ms" Kind::Millis { min: 0, max: DAY_MS },
        Some("60000"),
        "how often sessions of other Codex clients are looked for; 0 for never";

    CODEX_MANAGER_REQUEST_DEADLINE_MS "requests.deadline_ms"
        Kind::Millis { min: 0, max: 365 * DAY_MS }, Some("0"),
        "how long a request of the agent waits for a decision; 0 waits for ever";
    CODEX_MANAGER_REQUEST_POLICY "requests.policy" Kind::OneOf(&["wait", "decline", "cancel"]),
        Some("wait"),
        "what happens to a request whose time is over; cancel also stops its turn";
    CODEX_MANAGER_AUTH_REFRESH_TIMEOUT_MS "requests.auth_refresh_timeout_ms"
        Kind::Millis { min: 100, max: DAY_MS }, Some("60000"),
        "how long Codex waits for fresh ChatGPT tokens of whoever keeps them";
}
