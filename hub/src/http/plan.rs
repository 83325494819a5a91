//! `/plans`: images of floors, on which the page shows doors.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use iothub_protocol::error::ErrorCode;
use ring::digest::{SHA256, digest};

use super::auth::CallerScope;
use super::request::RawBody;
use super::{HttpError, json_response};
use crate::service::Services;
use crate::types::{PlanPut, PlanRecord};

/// The largest image in bytes.
pub(super) const MAX_IMAGE: usize = 2 * 1024 * 1024;

/// The most plans of a hub.
const MAX_PLANS: u32 = 200;

/// The longest id of a plan.
const MAX_ID: usize = 64;

/// `GET /plans`.
pub(super) async fn list(State(services): State<Services>) -> Result<Response, HttpError> {
    Ok(json_response(&services.plans().await?))
}

/// `GET /plans/{id}`: the image.
pub(super) async fn get(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let id = checked(id)?;
    let found = services.plan_get(&id, scope.as_deref()).await?;
    let (media_type, etag, image) = found.ok_or_else(|| missing(&id))?;
    let etag = HeaderValue::from_str(&format!("\"{etag}\"")).ok();
    let is_known = etag.is_some() && headers.get(IF_NONE_MATCH) == etag.as_ref();
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Body::from(image).into_response(),
    };
    let set = response.headers_mut();
    // One of [`TYPES`].
    if let Ok(media_type) = HeaderValue::from_str(&media_type) {
        set.insert(CONTENT_TYPE, media_type);
    }
    if let Some(etag) = etag {
        set.insert(ETAG, etag);
    }
    Ok(response)
}

/// `PUT /plans/{id}`: the type is read from the image, not from the request.
pub(super) async fn put(
    State(services): State<Services>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, HttpError> {
    let id = checked(id)?;
    let RawBody(image) = RawBody::read(request, MAX_IMAGE).await?;
    let media_type = media_type(&image).ok_or_else(|| {
        let message = "invalid image: expected PNG, JPEG or WebP";
        HttpError::new(ErrorCode::ArgumentInvalid, message)
    })?;
    let etag = digest(&SHA256, &image);
    let etag = etag.as_ref().iter().map(|byte| format!("{byte:02x}"));
    let plan = PlanRecord {
        id,
        media_type: media_type.to_owned(),
        bytes: image.len() as u64,
        etag: etag.collect(),
    };
    let status = match services.plan_put(plan.clone(), image, MAX_PLANS).await? {
        PlanPut::Created => StatusCode::CREATED,
        PlanPut::Replaced => StatusCode::OK,
        PlanPut::TooMany => {
            let message = format!("there are already {MAX_PLANS} plans; delete one first");
            return Err(HttpError::new(ErrorCode::ThrottlingException, message));
        }
    };
    let mut response = json_response(&plan);
    *response.status_mut() = status;
    Ok(response)
}

/// `DELETE /plans/{id}`.
pub(super) async fn delete(
    State(services): State<Services>,
    Path(id): Path<String>,
) -> Result<Response, HttpError> {
    let id = checked(id)?;
    match services.plan_delete(id.clone()).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(missing(&id)),
    }
}

fn checked(id: String) -> Result<String, HttpError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_plain) {
        return Ok(id);
    }
    let message = format!("the plan's id is `{id}`; expected 1 to {MAX_ID} of A-Z, a-z, 0-9, -_.");
    Err(HttpError::new(ErrorCode::ArgumentInvalid, message))
}

fn missing(id: &str) -> HttpError {
    HttpError::new(
        ErrorCode::GenericNotFound,
        format!("there is no plan `{id}`"),
    )
}

/// The media type by the first bytes (PNG, section 5.2; JPEG, B.1.1.3; WebP container, RIFF).
fn media_type(image: &[u8]) -> Option<&'static str> {
    match image {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_that_of_the_bytes() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\n rest"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"RIFF\x10\0\0\0WEBPVP8 ", Some("image/webp")),
            (b"RIFF\x10\0\0\0WAVEfmt ", None),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
            (b"GIF89a", None),
            (b"\x89PN", None),
            (b"", None),
        ] {
            assert_eq!(media_type(bytes), expected, "{bytes:?}");
        }
    }
}
