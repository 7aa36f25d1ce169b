//! What every operation of the description has in common, added in one place.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use cm_core::idempotency::IdempotencyKey;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ObjectBuilder, OpenApi, RefOr, Schema, SecurityRequirement, Type};
use utoipa::{IntoResponses, Modify};

use crate::api::ROUTES;
use crate::openapi::{AccessErrors, IdempotencyErrors, NoBodyErrors, QueryErrors, TokenErrors};
use crate::query::max_value;
use crate::security::needs_no_token;

/// Ways to show the token, by name. Any one will do; a server without a token wants none.
const SCHEMES: [&str; 3] = ["bearer", "token", "cookie"];

/// Adds to each operation what the gate and the reading of queries may answer, says how the token
/// is shown, and gives answers without a description their status's usual words.
pub(crate) struct EveryOperation;

impl Modify for EveryOperation {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let key = |name: &str| ApiKeyValue::new(name);
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let token = SecurityScheme::ApiKey(ApiKey::Header(key("x-codex-manager-token")));
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(key("codex_manager_session")));
        for (name, scheme) in SCHEMES.into_iter().zip([bearer, token, cookie]) {
            components.add_security_scheme(name, scheme);
        }
        let scheme = |name: &str| SecurityRequirement::new(name, [""; 0]);
        let any = SCHEMES.into_iter().map(scheme);
        openapi.security = Some(any.chain([SecurityRequirement::default()]).collect());
        for (path, item) in &mut openapi.paths.paths {
            let keyed = |(verb, route): &(&str, &str)| {
                *route == path.as_str() && matches!(*verb, "once" | "repeatable")
            };
            if let Some(operation) = &mut item.post
                && ROUTES.iter().any(keyed)
            {
                take_key(operation);
            }
            for operation in [&mut item.post, &mut item.delete].into_iter().flatten() {
                if operation.request_body.is_none() {
                    merge(&mut operation.responses.responses, NoBodyErrors::responses());
                }
            }
            for operation in operations(item) {
                complete(path, operation);
            }
        }
    }
}

/// The operations of a path: those with a verb that the table of routes has.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, post, put, delete, patch, .. } = item;
    [get, post, put, delete, patch].into_iter().flatten()
}

fn complete(path: &str, operation: &mut Operation) {
    let answers = &mut operation.responses.responses;
    merge(answers, AccessErrors::responses());
    if needs_no_token(path) {
        operation.security = Some(Vec::new());
    } else {
        merge(answers, TokenErrors::responses());
    }
    let in_query = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => false,
    };
    if operation.parameters.iter().flatten().any(in_query) {
        merge(answers, QueryErrors::responses());
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter {
            bound(parameter);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        refuse_null(body);
    }
    for (status, answer) in answers {
        if let RefOr::T(answer) = answer
            && answer.description.is_empty()
        {
            let status = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            let words = status.and_then(|status| status.canonical_reason());
            answer.description = words.unwrap_or("The answer.").to_owned();
        }
    }
}

/// Describes the header by which a request is carried out once.
fn take_key(operation: &mut Operation) {
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    let header = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "A key of the caller's choice: with the same key the request is carried out once, and \
             a repetition within a day gets the answer of the first.",
        ))
        .schema(Some(key.max_length(Some(IdempotencyKey::MAX_BYTES))))
        .build();
    operation.parameters.get_or_insert_default().push(header.into());
    let answers = &mut operation.responses.responses;
    merge(answers, IdempotencyErrors::responses());
    let said = |text: &str| RefOr::T(HeaderBuilder::new().description(Some(text)).build());
    for (status, answer) in answers {
        if status.starts_with('2')
            && let RefOr::T(answer) = answer
        {
            let replayed = said("`true`: it is the answer of an earlier request with the key.");
            let stored = said("`false`: it is too long to be repeated, or could not be stored.");
            answer.headers.insert("Idempotency-Replayed".to_owned(), replayed);
            answer.headers.insert("Idempotency-Stored".to_owned(), stored);
        }
    }
}

/// Says how long a text in the query may be, where nothing shorter is said.
fn bound(parameter: &mut Parameter) {
    if parameter.parameter_in == ParameterIn::Query
        && let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema
        && schema.schema_type == SchemaType::from(Type::String)
        && schema.enum_values.is_none()
        && schema.max_length.is_none()
    {
        schema.max_length = Some(max_value(&parameter.name));
    }
}

/// A body that may be absent is described with an `Option`, which would let it be `null` too.
fn refuse_null(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(either))) = &content.schema
            && let [given @ RefOr::Ref(_), _] = either.items.as_slice()
        {
            content.schema = Some(given.clone());
        }
    }
}

/// Adds answers; where there is one of a status already, what is said of it becomes longer.
pub(crate) fn merge(
    answers: &mut BTreeMap<String, RefOr<Response>>,
    more: BTreeMap<String, RefOr<Response>>,
) {
    for (status, answer) in more {
        match (answers.get_mut(&status), answer) {
            (Some(RefOr::T(known)), RefOr::T(answer)) => {
                if !known.description.contains(&answer.description) {
                    known.description.push(' ');
                    known.description.push_str(&answer.description);
                }
            }
            (_, answer) => {
                answers.insert(status, answer);
            }
        }
    }
}
