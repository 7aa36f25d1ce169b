//! The API's description, made from the handlers.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use bytes::Bytes;
use cm_core::wire::{ErrorBody, StreamCommand, StreamFrame};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, RefOr};
use utoipa::{IntoResponses, OpenApi, ToSchema};

use crate::every_operation::{EveryOperation, merge};
use crate::{
    actions, codex, controls, health, jobs, projects, requests, runtime, security, session_list,
    sessions, stream, transcript, turns,
};

/// Answers by status.
pub(crate) type Answers = BTreeMap<String, RefOr<Response>>;

/// Answers with an error body, by status.
pub(crate) fn errors<const N: usize>(
    described: [(&str, &str); N],
) -> BTreeMap<String, RefOr<Response>> {
    let schema = || utoipa::openapi::Ref::from_schema_name(ErrorBody::name());
    let answer = |(status, description): (&str, &str)| {
        let content = ContentBuilder::new().schema(Some(schema())).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", content)
            .build();
        (status.to_owned(), RefOr::T(response))
    };
    described.into_iter().map(answer).collect()
}

/// Sets of answers with an error body.
macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident { $($status:literal => $description:literal,)* })*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> $crate::openapi::Answers {
                $crate::openapi::errors([$(($status, $description),)*])
            }
        }
    )*};
}
pub(crate) use answers;

answers! {
    /// What the gate tells whom it does not let in.
    AccessErrors {
        "403" => "The `Host` or the `Origin` is not one that may talk to this server: \
                  `host_not_allowed`, `origin_not_allowed`.",
    }

    /// What the gate tells who has no token.
    TokenErrors {
        "401" => "The server needs its token: `unauthorized`.",
    }

    /// Errors of what is read from the query.
    QueryErrors {
        "400" => "A member of the query is wrong: `invalid_request`, with `issues`.",
    }

    /// Errors of a body.
    BodyErrors {
        "400" => "The body is wrong: `invalid_request` with `issues`, or `request_failed`.",
        "413" => "The body is too large: `too_large`.",
        "415" => "The body is not JSON: `unsupported_media_type`.",
    }

    /// Errors of a body where none is looked at.
    NoBodyErrors {
        "400" => "There is a body, which need not be, and it is not JSON: `request_failed`.",
        "413" => "The body is too large: `too_large`.",
        "415" => "The body is not JSON: `unsupported_media_type`.",
    }

    /// Errors of a request with an idempotency key.
    IdempotencyErrors {
        "400" => "The `Idempotency-Key` is none: `invalid_request`.",
        "409" => "With the same `Idempotency-Key`: `request_in_progress`, `outcome_unknown` or \
                  `answer_not_kept`.",
        "422" => "The `Idempotency-Key` belongs to another request: `idempotency_key_reused`.",
        "503" => "The keeper of idempotency keys is not running or has too much to do: \
                  `runtime_unavailable`, `overloaded`.",
        "507" => "With an `Idempotency-Key`: the store cannot be written, and nothing was done: \
                  `store_unavailable`.",
    }

    /// Errors of the manager's own parts.
    ManagerErrors {
        "500" => "Something failed that was not foreseen: `internal_error`.",
        "503" => "A part of the manager has too much to do or is stopping: `overloaded`, \
                  `shutting_down`, `runtime_unavailable`.",
        "504" => "A part of the manager did not answer in time: `deadline_exceeded`.",
        "507" => "The store cannot be written: `store_unavailable`.",
    }

    /// Errors of what only the doorkeeper is asked for.
    StoppingErrors {
        "503" => "The manager is stopping: `shutting_down`.",
    }

    /// Errors of the stream.
    StreamErrors {
        "503" => "The stream is starting or stopping; connect again shortly: `overloaded`.",
    }

    /// Errors of one session.
    SessionErrors {
        "404" => "There is no such session, or nothing of that name in it: `not_found`.",
        "410" => "The session was deleted: `deleted`, with `deletedAt` and `title`.",
        "500" => "Something failed that was not foreseen: `internal_error`.",
        "503" => "A part of the manager has too much to do or is stopping: `overloaded`, \
                  `shutting_down`, `runtime_unavailable`.",
        "504" => "A part of the manager did not answer in time: `deadline_exceeded`.",
        "507" => "The store cannot be written: `store_unavailable`.",
    }

    /// Errors of what a deleted session had.
    GoneErrors {
        "410" => "The session was deleted: `deleted`, with `deletedAt` and `title`.",
    }

    /// Errors of a sandbox.
    SandboxErrors {
        "403" => "The sandbox would let commands write the manager's own state: `unsafe_workspace`.",
    }

    /// Errors of what needs a first turn.
    FirstTurnErrors {
        "409" => "The session never had a turn: `not_materialized`.",
    }

    /// Errors of an interrupt.
    InterruptErrors {
        "409" => "No such turn runs: `invalid_state` with the status `no_active_turn`.",
    }

    /// Errors of a steer.
    SteerErrors {
        "400" => "The runtime refused it: `failed`, with `result`.",
        "409" => "That turn does not run, or takes nothing more: `conflict`, `already_resolved` \
                  or `not_eligible`, with `result`.",
    }

    /// Errors of a request that is named.
    NoRequestErrors {
        "404" => "There is no such request: `not_found`.",
    }

    /// Errors of a decision on an approval.
    ApprovalErrors {
        "404" => "There is no such request, or its session is gone: `not_found`.",
        "409" => "It was decided or has expired: `already_resolved` or `expired` with the status \
                  `reconciled`, `decision`, `by` and `at`.",
    }

    /// Errors of an answer to a question.
    ToolInputErrors {
        "404" => "There is no such request: `not_found`. It was answered or has expired: \
                  `already_decided` or `expired`, with `decision`, `by` and `at`.",
    }

    /// Errors of a result of a tool call.
    ToolCallErrors {
        "404" => "There is no such request: `not_found`. It was answered or has expired: \
                  `already_decided` or `expired`, with `decision`, `by` and `at`.",
        "409" => "Another answer is on its way: `in_flight` with the status `conflict`.",
    }

    /// Errors of a project's route.
    ProjectErrors {
        "404" => "There is no such project, or no such session: `not_found`.",
    }

    /// Errors of a call of the Codex runtime.
    RuntimeErrors {
        "400" => "Something given is wrong: `invalid_request` here, `invalid_params` for the runtime.",
        "401" => "The runtime wants a login first: `auth_required`.",
        "404" => "The runtime does not know what was named: `not_found`.",
        "409" => "The state does not allow it: `invalid_state` or `thread_in_use`.",
        "501" => "This version of the runtime has no such method: `method_not_supported`.",
        "502" => "The runtime failed in a way that is not known: `codex_error`.",
        "503" => "The runtime is not running, has too much to do, or could not reach a service that it \
                  needs: `runtime_unavailable`, `overloaded`, `upstream_unavailable`.",
        "504" => "The runtime did not answer in time: `codex_timeout`.",
    }
}

/// Several sets of errors. What each says of one status stands there together; in a list of
/// answers, the last set would hide the others.
pub(crate) struct AllOf<T>(PhantomData<T>);

macro_rules! all_of {
    ($($set:ident)*) => {
        impl<$($set: IntoResponses),*> IntoResponses for AllOf<($($set,)*)> {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                let mut all = BTreeMap::new();
                $(merge(&mut all, $set::responses());)*
                all
            }
        }
    };
}

all_of!(A B);
all_of!(A B C);
all_of!(A B C D);

/// The description of the whole API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Codex Manager API",
        description = "A local control plane for Codex sessions. docs/protocol/rest.md has what a \
                       description of operations cannot say.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&EveryOperation),
    components(schemas(ErrorBody, StreamFrame, StreamCommand)),
    tags(
        (name = "service", description = "The server itself, and the runtime below it."),
        (name = "access", description = "Who may talk to a server that needs a token."),
        (name = "sessions", description = "Sessions and what was said and done in them."),
        (name = "controls", description = "What turns may do, and free settings."),
        (name = "projects", description = "Groups of sessions."),
        (name = "transcript", description = "Rows that clients add."),
        (name = "turns", description = "Messages, and the turns that they start."),
        (name = "requests",
            description = "Approvals, questions and tool calls that wait for a decision."),
        (name = "jobs", description = "Background jobs. In this version there is no queue."),
        (name = "stream", description = "Everything that happens, as it happens."),
        (name = "runtime",
            description = "What the Codex runtime has, and what it does outside of sessions."),
        (name = "account", description = "The runtime's login."),
        (name = "config", description = "The runtime's configuration."),
    ),
    paths(
        serve,
        health::info,
        health::health,
        runtime::view,
        runtime::restart,
        security::doorkeeper::log_in,
        security::doorkeeper::log_out,
        security::doorkeeper::issue_ticket,
        stream::socket::connect,
        stream::events::all,
        stream::events::of_session,
        session_list::list,
        sessions::create,
        sessions::read,
        sessions::delete,
        sessions::item,
        sessions::rename,
        sessions::archive,
        sessions::unarchive,
        sessions::resume,
        turns::send,
        turns::interrupt,
        turns::steer,
        requests::approvals,
        requests::tool_inputs,
        requests::tool_calls,
        requests::all,
        requests::params,
        requests::decide_approval,
        requests::decide_tool_input,
        requests::respond_tool_call,
        codex::capabilities::read,
        codex::catalog::models,
        codex::catalog::apps,
        codex::catalog::features,
        codex::catalog::modes,
        codex::skills::list,
        codex::skills::configure,
        codex::skills::remote,
        codex::skills::write_remote,
        codex::mcp::servers,
        codex::mcp::reload,
        codex::mcp::log_in,
        codex::account::read,
        codex::account::start_login,
        codex::account::cancel_login,
        codex::account::log_out,
        codex::account::rate_limits,
        codex::config::read,
        codex::config::requirements,
        codex::config::write_value,
        codex::config::write_batch,
        codex::commands::execute,
        codex::commands::feedback,
        actions::fork,
        actions::compact,
        actions::roll_back,
        actions::clean_terminals,
        actions::review,
        controls::read,
        controls::change,
        controls::change_policy,
        controls::settings,
        controls::change_settings,
        controls::remove_setting,
        transcript::read,
        transcript::turns,
        transcript::upsert,
        projects::list,
        projects::create,
        projects::update,
        projects::delete,
        projects::agent_sessions,
        projects::move_all,
        projects::delete_all,
        projects::assign,
        jobs::read,
        jobs::list,
        jobs::cancel,
        jobs::suggest,
        jobs::queue_suggestion,
        jobs::upsert_suggestion,
    )
)]
struct Description;

/// The description as JSON, written once.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut description = Description::openapi();
    description.info.version = env!("CARGO_PKG_VERSION").to_owned();
    description.to_json().unwrap_or_default().into()
});

/// The description of the API, as it is served: OpenAPI 3.1.
#[utoipa::path(
    get, path = "/api/openapi.json", tag = "service", operation_id = "readOpenApi",
    responses((status = 200, body = Object)),
)]
pub(crate) async fn serve() -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(TEXT.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::api::ROUTES;

    /// Routes of the server itself and of pages, beside the API.
    const UNDESCRIBED: [&str; 5] =
        ["/livez", "/readyz", "/metrics", "/api/docs", "/api/docs/{file:.*}"];

    fn description() -> Value {
        serde_json::from_slice(&TEXT).unwrap()
    }

    /// Every operation with its verb and path.
    fn operations(description: &Value) -> Vec<(String, String, &Value)> {
        let mut all = Vec::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (verb, operation) in operations.as_object().unwrap() {
                all.push((verb.clone(), path.clone(), operation));
            }
        }
        all
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes = ROUTES.iter().filter(|(_, path)| !UNDESCRIBED.contains(path));
        let verb = |verb: &str| match verb {
            "read" => "get".to_owned(),
            "once" | "repeatable" => "post".to_owned(),
            verb => verb.to_owned(),
        };
        let routes: BTreeSet<_> =
            routes.map(|(name, path)| (verb(name), (*path).to_owned())).collect();
        let description = description();
        assert_eq!(description["openapi"], "3.1.0");
        let described = operations(&description).into_iter().map(|(verb, path, _)| (verb, path));
        assert_eq!(described.collect::<BTreeSet<_>>(), routes);
    }

    #[test]
    fn every_operation_says_what_a_reader_needs() {
        let description = description();
        let tags: Vec<&Value> =
            description["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
        let mut ids = BTreeSet::new();
        for (verb, path, operation) in operations(&description) {
            let what = format!("{verb} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{what}: {id} is another one's");
            let summary = operation["summary"].as_str().unwrap();
            assert!(summary.ends_with('.') && !summary.contains(['\n', '`']), "{what}: {summary}");
            for tag in operation["tags"].as_array().unwrap() {
                assert!(tags.contains(&tag), "{what}: {tag} is not explained");
            }
            let answers = operation["responses"].as_object().unwrap();
            let good = |status: &String| status.starts_with('2') || status == "101";
            assert_eq!(answers.keys().filter(|status| good(status)).count(), 1, "{what}");
            for (status, answer) in answers {
                assert_ne!(answer["description"], "", "{what} {status}");
                let has_body = answer["content"].is_object();
                assert_eq!(has_body, status != "101", "{what} {status}");
            }
            let named: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
            let in_path: Vec<_> = in_path.map(|one| one["name"].as_str().unwrap()).collect();
            assert_eq!(in_path, named, "{what}");
        }
    }

    #[test]
    fn what_every_operation_may_answer_is_there() {
        let description = description();
        for (verb, path, operation) in operations(&description) {
            let what = format!("{verb} {path}");
            let answers = &operation["responses"];
            assert!(answers["403"].is_object() && answers["401"].is_object(), "{what}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            if parameters.iter().any(|parameter| parameter["in"] == "query") {
                assert!(answers["400"].is_object(), "{what}");
            }
        }
        let login = &description["paths"]["/api/login"]["post"];
        assert_eq!(login["security"], serde_json::json!([]), "it is the way to get a cookie");
        let create = &description["paths"]["/api/sessions"]["post"]["responses"];
        let forbidden = create["403"]["description"].as_str().unwrap();
        assert!(forbidden.contains("unsafe_workspace") && forbidden.contains("host_not_allowed"));
        let wrong = create["400"]["description"].as_str().unwrap();
        assert!(wrong.contains("invalid_params") && wrong.contains("request_failed"), "{wrong}");
    }

    #[test]
    fn the_key_is_described_where_it_is_looked_at_and_nowhere_else() {
        let description = description();
        for (verb, path, operation) in operations(&description) {
            let takes = |(verb, route): &&(&str, &str)| {
                *route == path && matches!(*verb, "once" | "repeatable")
            };
            let expected = verb == "post" && ROUTES.iter().any(|route| takes(&route));
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let described = parameters.iter().any(|one| one["name"] == "Idempotency-Key");
            assert_eq!(described, expected, "{verb} {path}");
            assert_eq!(operation["responses"]["422"].is_object(), expected, "{verb} {path}");
        }
    }

    /// Every value below one that is an object's member of this name.
    fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(all) => {
                found.extend(all.get(name));
                all.values().for_each(|member| members(member, name, found));
            }
            Value::Array(items) => items.iter().for_each(|item| members(item, name, found)),
            _ => {}
        }
    }

    #[test]
    fn members_are_spelled_as_they_are_sent() {
        let description = description();
        let mut found = Vec::new();
        members(&description["components"]["schemas"], "properties", &mut found);
        let names = found.iter().flat_map(|properties| properties.as_object().unwrap().keys());
        let strange: Vec<_> = names.filter(|name| name.contains('_')).collect();
        assert!(strange.is_empty(), "{strange:?}");
        for (verb, path, operation) in operations(&description) {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert!(body.is_null() || body["$ref"].is_string(), "{verb} {path}: {body}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let description = description();
        let mut found = Vec::new();
        members(&description, "$ref", &mut found);
        let found: BTreeSet<&str> = found.into_iter().filter_map(Value::as_str).collect();
        assert!(found.len() > 30, "{found:?}");
        let lost: Vec<_> =
            found.iter().filter(|one| description.pointer(&one[1..]).is_none()).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
