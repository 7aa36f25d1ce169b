//! The API's description, made from the handlers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use bytes::Bytes;
use cm_core::wire::ErrorBody;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, RefOr};
use utoipa::{IntoResponses, OpenApi, ToSchema};

use crate::{actions, codex, controls, transcript};

/// Answers with an error body, by status.
fn errors<const N: usize>(described: [(&str, &str); N]) -> BTreeMap<String, RefOr<Response>> {
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

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident { $($status:literal => $description:literal,)* })*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                errors([$(($status, $description),)*])
            }
        }
    )*};
}

answers! {
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

    /// Errors of a session's route.
    SessionErrors {
        "404" => "There is no such session: `not_found`.",
        "410" => "The session was deleted: `deleted`.",
        "503" => "The session has too much to do, or the manager is stopping: `overloaded`, `shutting_down`.",
        "504" => "The session did not answer in time: `deadline_exceeded`.",
        "507" => "The store cannot be written: `store_unavailable`.",
    }

    /// Errors of a call of the Codex runtime.
    RuntimeErrors {
        "400" => "Something given is wrong: `invalid_request` here, `invalid_params` for the runtime.",
        "401" => "The runtime wants a login first: `auth_required`.",
        "404" => "The runtime does not know what was named: `not_found`.",
        "409" => "The state does not allow it: `invalid_state` or `thread_in_use`.",
        "501" => "This version of the runtime has no such method: `method_not_supported`.",
        "502" => "The runtime failed in a way that is not known: `codex_error`.",
        "503" => "The runtime is not running or has too much to do: `runtime_unavailable`, `overloaded`.",
        "504" => "The runtime did not answer in time: `codex_timeout`.",
    }
}

/// The description of the whole API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Codex Manager API",
        description = "A local control plane for Codex sessions. docs/protocol/rest.md has what a \
                       description of operations cannot say.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ErrorBody)),
    paths(
        serve,
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
        transcript::upsert,
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

    use super::*;
    use crate::api::ROUTES;

    /// Routes of the server itself, beside the API.
    const UNDESCRIBED: [&str; 3] = ["/livez", "/readyz", "/metrics"];

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes = ROUTES.iter().filter(|(_, path)| !UNDESCRIBED.contains(path));
        let verb = |verb: &str| if verb == "read" { "get".to_owned() } else { verb.to_owned() };
        let routes: BTreeSet<_> =
            routes.map(|(name, path)| (verb(name), (*path).to_owned())).collect();
        let description = serde_json::to_value(Description::openapi()).unwrap();
        assert_eq!(description["openapi"], "3.1.0");
        let mut described = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            described
                .extend(operations.as_object().unwrap().keys().map(|v| (v.clone(), path.clone())));
        }
        assert_eq!(described, routes);
    }
}
