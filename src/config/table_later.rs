//! Version 1's variables for the queue and the extensions: checked by version 1's rules so that
//! its `.env` files start, shown as not used yet, and without effect.

use super::variable::{Kind, variables};

const POSITIVE: Kind = Kind::Number { min: 1, max: u64::MAX };
const POSITIVE_MS: Kind = Kind::Millis { min: 1, max: u64::MAX };

variables! {
    ORCHESTRATOR_QUEUE_ENABLED "orchestrator.queue_enabled" Kind::Switch, Some("true"),
        "whether background jobs run";
    ORCHESTRATOR_QUEUE_GLOBAL_CONCURRENCY "orchestrator.queue_global_concurrency"
        POSITIVE, Some("2"),
        "jobs that run at the same time";
    ORCHESTRATOR_QUEUE_MAX_PER_PROJECT "orchestrator.queue_max_per_project" POSITIVE, Some("100"),
        "jobs that may wait for one project";
    ORCHESTRATOR_QUEUE_MAX_GLOBAL "orchestrator.queue_max_global" POSITIVE, Some("500"),
        "jobs that may wait in all";
    ORCHESTRATOR_QUEUE_MAX_ATTEMPTS "orchestrator.queue_max_attempts" POSITIVE, Some("2"),
        "how often a job is tried";
    ORCHESTRATOR_QUEUE_DEFAULT_TIMEOUT_MS "orchestrator.queue_default_timeout_ms"
        POSITIVE_MS, Some("60000"),
        "how long a job may run";
    ORCHESTRATOR_QUEUE_BACKGROUND_AGING_MS "orchestrator.queue_background_aging_ms"
        Kind::Millis { min: 0, max: u64::MAX }, Some("15000"),
        "how long a background job waits before it counts as interactive";
    ORCHESTRATOR_QUEUE_MAX_INTERACTIVE_BURST "orchestrator.queue_max_interactive_burst"
        POSITIVE, Some("3"),
        "interactive jobs in a row before a background one has its turn";
    ORCHESTRATOR_SUGGEST_REQUEST_ENABLED "orchestrator.suggest_request_enabled"
        Kind::Switch, Some("true"),
        "whether requests are suggested";
    ORCHESTRATOR_SUGGEST_REQUEST_WAIT_MS "orchestrator.suggest_request_wait_ms"
        POSITIVE_MS, Some("12000"),
        "how long a client waits for a suggestion";
    ORCHESTRATOR_AGENT_TURN_TIMEOUT_MS "orchestrator.agent_turn_timeout_ms"
        POSITIVE_MS, Some("180000"),
        "how long a worker's turn may take";
    ORCHESTRATOR_AGENT_POLL_INTERVAL_MS "orchestrator.agent_poll_interval_ms"
        POSITIVE_MS, Some("350"),
        "how often version 1 looked at a worker's turn";
    ORCHESTRATOR_AGENT_INCLUDE_TURNS_GRACE_MS "orchestrator.agent_include_turns_grace_ms"
        POSITIVE_MS, Some("3000"),
        "how long version 1 waited for a turn to be readable";
    ORCHESTRATOR_AGENT_UNTRUSTED_TERMINAL_GRACE_MS "orchestrator.agent_untrusted_terminal_grace_ms"
        POSITIVE_MS, Some("3000"),
        "how long version 1 doubted that a turn had ended";
    ORCHESTRATOR_AGENT_EMPTY_TURN_GRACE_MS "orchestrator.agent_empty_turn_grace_ms"
        POSITIVE_MS, Some("8000"),
        "how long version 1 waited for a turn to get items";

    AGENT_EXTENSION_RBAC_MODE "extensions.rbac_mode"
        Kind::OneOf(&["disabled", "header", "jwt"]), Some("disabled"),
        "how callers of extension routes prove their role";
    AGENT_EXTENSION_ALLOW_INSECURE_HEADER_MODE "extensions.allow_insecure_header_mode"
        Kind::Switch, Some("false"),
        "whether mode header works without a secret and beyond loopback";
    AGENT_EXTENSION_RBAC_HEADER_SECRET "extensions.rbac_header_secret" Kind::Secret, None,
        "secret of mode header";
    AGENT_EXTENSION_RBAC_JWT_SECRET "extensions.rbac_jwt_secret" Kind::Secret, None,
        "secret of mode jwt";
    AGENT_EXTENSION_RBAC_JWT_ISSUER "extensions.rbac_jwt_issuer" Kind::Text, None,
        "issuer that mode jwt expects";
    AGENT_EXTENSION_RBAC_JWT_AUDIENCE "extensions.rbac_jwt_audience" Kind::Text, None,
        "audience that mode jwt expects";
    AGENT_EXTENSION_RBAC_JWT_ROLE_CLAIM "extensions.rbac_jwt_role_claim" Kind::Text, Some("role"),
        "claim that holds the role";
    AGENT_EXTENSION_RBAC_JWT_ACTOR_CLAIM "extensions.rbac_jwt_actor_claim" Kind::Text, Some("sub"),
        "claim that names the caller";
    AGENT_EXTENSION_TRUST_MODE "extensions.trust_mode"
        Kind::OneOf(&["disabled", "warn", "enforced"]), Some("warn"),
        "what happens to extensions that are not trusted";
    AGENT_EXTENSION_CONFIGURED_ROOTS "extensions.configured_roots" Kind::Paths, Some(""),
        "directories with extensions";
    AGENT_EXTENSION_PACKAGE_ROOTS "extensions.package_roots" Kind::Paths, Some(""),
        "directories with packaged extensions";
}
