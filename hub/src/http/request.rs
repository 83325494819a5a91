//! Parses requests: bodies with a limit and a deadline, identifiers in paths, `If-Match`,
//! parameters.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{CONTENT_LENGTH, IF_MATCH, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use iothub_protocol::error::ErrorCode;
use serde::de::DeserializeOwned;

use super::HttpError;
use crate::service::IfMatch;

/// The longest body: a method payload of 128 KiB, or a twin of 40 KiB, with room for the JSON
/// around it.
pub(crate) const MAX_BODY: usize = 256 * 1024;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(20);

/// A complete body.
pub(crate) struct RawBody(pub(crate) Bytes);

impl RawBody {
    /// Reads the body, if it has at most `limit` bytes.
    pub(crate) async fn read(request: Request, limit: usize) -> Result<Self, HttpError> {
        let headers = request.headers();
        let content_length = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if content_length.is_none() && !headers.contains_key(TRANSFER_ENCODING) {
            let message = "the request has a body but neither Content-Length nor Transfer-Encoding";
            return Err(HttpError::plain(
                StatusCode::LENGTH_REQUIRED,
                "LengthRequired",
                message,
            ));
        }
        if content_length.is_some_and(|length| length > limit) {
            return Err(too_long(limit));
        }
        read(request.into_body(), limit).await.map(Self)
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, HttpError> {
    match tokio::time::timeout(BODY_DEADLINE, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long(limit)),
        Ok(Err(error)) => Err(HttpError::new(
            ErrorCode::GenericBadRequest,
            format!("the body ended early: {error}"),
        )),
        Err(_) => {
            let message = format!(
                "the body did not arrive within {} s",
                BODY_DEADLINE.as_secs()
            );
            Err(HttpError::plain(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimedOut",
                message,
            ))
        }
    }
}

fn too_long(limit: usize) -> HttpError {
    HttpError::new(
        ErrorCode::GenericRequestEntityTooLarge,
        format!("the body is longer than {limit} bytes"),
    )
}

/// .NET's clients sometimes send a byte order mark.
pub(crate) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// A body with one JSON object of type `T`.
pub(crate) struct Document<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Document<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, HttpError> {
        let RawBody(body) = RawBody::read(request, MAX_BODY).await?;
        read_document(&body).map(Self)
    }
}

/// Parses one JSON object.
pub(crate) fn read_document<T: DeserializeOwned>(body: &[u8]) -> Result<T, HttpError> {
    let body = without_bom(body);
    // Serde would also accept an array of members.
    if body.trim_ascii_start().first() != Some(&b'{') {
        let message = "the body is not a JSON object";
        return Err(HttpError::new(ErrorCode::ArgumentInvalid, message));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." {
            String::new()
        } else {
            format!(" at `{path}`")
        };
        let message = format!("invalid body{at}: {}", error.inner());
        HttpError::new(ErrorCode::ArgumentInvalid, message)
    })?;
    let ended = reader.end().map(|()| document);
    ended.map_err(|error| {
        HttpError::new(
            ErrorCode::ArgumentInvalid,
            format!("unexpected data after the JSON object: {error}"),
        )
    })
}

/// An identifier in the path, percent-decoded once and validated.
pub(crate) struct Id<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Id<T>
where
    S: Send + Sync,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| {
                HttpError::new(ErrorCode::ArgumentInvalid, format!("invalid path: {error}"))
            })?;
        text.parse().map(Self).map_err(|error| {
            HttpError::new(
                ErrorCode::ArgumentInvalid,
                format!("invalid id `{text}` in the path: {error}"),
            )
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        if_match(&parts.headers)
    }
}

fn if_match(headers: &HeaderMap) -> Result<IfMatch, HttpError> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(IfMatch::Absent);
    };
    let read = value.to_str().ok().and_then(IfMatch::read);
    read.ok_or_else(|| {
        HttpError::new(
            ErrorCode::ArgumentInvalid,
            "invalid If-Match header; expected an etag or `*`",
        )
    })
}

/// The query parameters; names ignore case.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The first value of `name`, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The first value of `name`, as a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, HttpError> {
        let number = |text: &str| {
            let message = || format!("{name} is `{text}`; expected a number from 0");
            text.parse()
                .map_err(|_| HttpError::new(ErrorCode::ArgumentInvalid, message()))
        };
        self.get(name).map(number).transpose()
    }

    /// The parameters of `uri`.
    pub(crate) fn of(uri: &Uri) -> Result<Self, HttpError> {
        let axum::extract::Query(pairs) =
            axum::extract::Query::try_from_uri(uri).map_err(|error| {
                HttpError::new(
                    ErrorCode::ArgumentInvalid,
                    format!("invalid query parameters: {error}"),
                )
            })?;
        Ok(Self(pairs))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        Self::of(&parts.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn etags_and_stars_may_be_bare_quoted_or_weak() {
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(text))]);
            if_match(&headers).map_err(|_| ())
        };
        for text in [
            "AAAAAAAAAAE=",
            "\"AAAAAAAAAAE=\"",
            "W/\"AAAAAAAAAAE=\"",
            " \"AAAAAAAAAAE=\" ",
        ] {
            assert_eq!(
                read(text),
                Ok(IfMatch::Etag("AAAAAAAAAAE=".into())),
                "{text}"
            );
        }
        assert_eq!(read("*"), Ok(IfMatch::Any));
        assert_eq!(read("\"*\""), Ok(IfMatch::Any));
        assert_eq!(read("\"open"), Err(()));
        assert_eq!(read(""), Err(()));
        assert!(matches!(if_match(&HeaderMap::new()), Ok(IfMatch::Absent)));
    }
}
