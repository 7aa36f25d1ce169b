//! `GET /api/docs/`: the description of the API as a page.
//!
//! The page is Swagger UI, which is part of the program. It loads nothing from elsewhere, and the
//! policy that it is sent with would not let it.

use std::sync::{Arc, LazyLock};

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, LOCATION};
use actix_web::web::{Bytes, Path};
use cm_core::error::ErrorCode;
use utoipa_swagger_ui::Config;

use crate::answer::ApiError;

/// What the page may load, and from where. Its pictures are data in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What the page shows: this description alone, so there is no field for the address of another
/// one. Without `none` it would have the description checked on a site of others.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("/api/openapi.json").validator_url("none");
    Arc::new(config.use_base_layout())
});

/// `GET /api/docs`: its files are named as of a folder.
pub(crate) async fn page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "docs/")).finish()
}

/// `GET /api/docs/{file}`
pub(crate) async fn file(path: Path<String>) -> Result<HttpResponse, ApiError> {
    let file = utoipa_swagger_ui::serve(&path, Arc::clone(&CONFIG)).map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("The page cannot be written: {error}."))
    })?;
    let missing = || ApiError::new(ErrorCode::NotFound, "The page has no such file.");
    let file = file.ok_or_else(missing)?;
    let mut answer = HttpResponse::Ok();
    answer.content_type(file.content_type).insert_header((CONTENT_SECURITY_POLICY, POLICY));
    if file.gzpipped {
        // They are kept compressed; every browser takes them so.
        answer.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(answer.body(Bytes::from(file.bytes.into_owned())))
}
