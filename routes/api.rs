//! What handlers reach, and the table of routes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::Addr;
use actix_web::{HttpRequest, HttpResponse, Route, guard, web};
use cm_actors::app_server::AppServerHandle;
use cm_actors::journal::JournalHandle;
use cm_actors::metrics::Stats;
use cm_actors::supervisor::{StateCell, SupervisorHandle};
use cm_actors::thread::ThreadsHandle;
use cm_core::error::ErrorCode;
use cm_core::wire::StoreHealth;

use crate::answer::ApiError;
use crate::metrics::HttpStats;
use crate::security::Doorkeeper;
use crate::{health, metrics, requests, runtime, security, sessions, stream, turns};

/// Facts about the server that do not change while it runs.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Version of the program.
    pub version: String,
    /// `codex` or `embedded`.
    pub runtime: &'static str,
    /// The executable that runs as the child.
    pub program: PathBuf,
    /// The child's CODEX_HOME.
    pub codex_home: PathBuf,
    /// Whether `OPENAI_API_KEY` is set.
    pub has_api_key: bool,
    /// Largest body that is read, in bytes.
    pub max_body: usize,
}

/// What the manager itself needs to work, as readiness sees it.
#[derive(Debug, Clone, Default)]
pub struct Vitals {
    /// Supervision of the store, the journal and the registry together.
    pub state: StateCell,
    /// Supervision of the store.
    pub store: StateCell,
    /// Supervision of the journal.
    pub journal: StateCell,
    /// Supervision of the sessions' registry.
    pub sessions: StateCell,
    /// Whether the store's last write failed.
    pub writes_fail: Arc<AtomicBool>,
    /// The store, as it describes itself.
    pub store_health: StoreGauge,
}

/// Reads the store's part of health, without waiting for the store.
#[derive(Clone)]
pub struct StoreGauge(Arc<dyn Fn() -> StoreHealth + Send + Sync>);

impl StoreGauge {
    /// Makes a gauge.
    pub fn new(read: impl Fn() -> StoreHealth + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The store now.
    pub fn read(&self) -> StoreHealth {
        (self.0)()
    }
}

impl Default for StoreGauge {
    fn default() -> Self {
        Self::new(StoreHealth::default)
    }
}

impl std::fmt::Debug for StoreGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StoreGauge").field(&self.read()).finish()
    }
}

/// What handlers reach: handles only.
#[derive(Debug, Clone)]
pub struct Api {
    /// Facts about the server.
    pub info: Arc<ServerInfo>,
    /// Sessions.
    pub threads: ThreadsHandle,
    /// The child.
    pub app_server: AppServerHandle,
    /// The supervision tree.
    pub supervisor: SupervisorHandle,
    /// The journal.
    pub journal: JournalHandle,
    /// What the manager itself needs to work.
    pub vitals: Vitals,
    /// What is counted.
    pub stats: Stats,
    /// What is counted of requests.
    pub http: HttpStats,
    /// Issues and checks tickets and cookies.
    pub doorkeeper: Addr<Doorkeeper>,
    /// Set when the server is stopping: it is then no longer ready.
    pub stopping: Arc<AtomicBool>,
}

/// A route that reads: GET, and HEAD as health checkers use it.
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Registers every route.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/livez", read().to(health::live))
        .route("/readyz", read().to(health::ready))
        .route("/metrics", read().to(metrics::scrape))
        .route("/api", read().to(health::info))
        .route("/api/health", read().to(health::health))
        .route("/api/runtime", read().to(runtime::view))
        .route("/api/runtime/restart", web::post().to(runtime::restart))
        .route("/api/login", web::post().to(security::log_in))
        .route("/api/logout", web::post().to(security::log_out))
        .route("/api/stream", web::get().to(stream::connect))
        .route("/api/events", web::get().to(stream::all_events))
        .route("/api/sessions/{id}/events", web::get().to(stream::session_events))
        .route("/api/stream/tickets", web::post().to(security::issue_ticket))
        .route("/api/sessions", read().to(sessions::list))
        .route("/api/sessions", web::post().to(sessions::create))
        .route("/api/sessions/{id}", read().to(sessions::read))
        .route("/api/sessions/{id}", web::delete().to(sessions::delete))
        .route("/api/sessions/{id}/items/{item}", read().to(sessions::item))
        .route("/api/sessions/{id}/rename", web::post().to(sessions::rename))
        .route("/api/sessions/{id}/archive", web::post().to(sessions::archive))
        .route("/api/sessions/{id}/unarchive", web::post().to(sessions::unarchive))
        .route("/api/sessions/{id}/resume", web::post().to(sessions::resume))
        .route("/api/sessions/{id}/messages", web::post().to(turns::send))
        .route("/api/sessions/{id}/interrupt", web::post().to(turns::interrupt))
        .route("/api/sessions/{id}/turns/{turn}/steer", web::post().to(turns::steer))
        .route("/api/sessions/{id}/approvals", read().to(requests::approvals))
        .route("/api/sessions/{id}/tool-input", read().to(requests::tool_inputs))
        .route("/api/sessions/{id}/tool-calls", read().to(requests::tool_calls))
        .route("/api/requests/{id}/params", read().to(requests::params))
        .route("/api/approvals/{id}/decision", web::post().to(requests::decide_approval))
        .route("/api/tool-input/{id}/decision", web::post().to(requests::decide_tool_input))
        .route("/api/tool-calls/{id}/response", web::post().to(requests::respond_tool_call))
        .default_service(web::to(unknown_route));
}

/// A path or method that does not exist, with the members that version 1 answers.
async fn unknown_route(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let message = format!("Route {}:{} not found", request.method(), request.path());
    let error = ApiError::new(ErrorCode::NotFound, message);
    Err(error.with("error", "Not Found").with("statusCode", 404))
}
