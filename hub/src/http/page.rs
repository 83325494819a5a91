//! Paged lists: the page size and the continuation come in headers (or, for jobs, in parameters);
//! the next continuation is returned in a header.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::rest;
use serde::Serialize;

use super::{HttpError, Parameters, json_response};

const MAX_ITEM_COUNT: HeaderName = HeaderName::from_static(rest::MAX_ITEM_COUNT);
const CONTINUATION: HeaderName = HeaderName::from_static(rest::CONTINUATION);
const LARGEST_PAGE: HeaderName = HeaderName::from_static(rest::LARGEST_PAGE);
const ITEM_TYPE: HeaderName = HeaderName::from_static(rest::ITEM_TYPE);

/// Rows of a page if the client gives no size.
const DEFAULT_SIZE: u32 = 100;

/// The most rows of a page; a client that requests more gets these and a continuation.
const MAX_SIZE: u32 = 1000;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageRequest {
    /// The most rows.
    pub(super) size: u32,
    /// Where the previous page ended.
    pub(super) continuation: Option<String>,
}

impl PageRequest {
    /// Reads the headers that the official clients send.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, HttpError> {
        let text = |name: &HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .filter(|text| !text.is_empty())
        };
        Ok(Self {
            size: text(&MAX_ITEM_COUNT)
                .map_or(Ok(DEFAULT_SIZE), |text| size(text, MAX_ITEM_COUNT.as_str()))?,
            continuation: text(&CONTINUATION).map(str::to_owned),
        })
    }

    /// Overrides the headers with Azure's documented parameters, if given.
    pub(super) fn or_parameters(mut self, parameters: &Parameters) -> Result<Self, HttpError> {
        if let Some(text) = parameters.get("pageSize") {
            self.size = size(text, "pageSize")?;
        }
        if let Some(text) = parameters.get("continuationToken") {
            self.continuation = Some(text.to_owned());
        }
        Ok(self)
    }

    /// Overrides the size with `top`, the parameter of this hub's own lists, if given.
    pub(super) fn or_top(mut self, parameters: &Parameters) -> Result<Self, HttpError> {
        if let Some(text) = parameters.get("top") {
            self.size = size(text, "top")?;
        }
        Ok(self)
    }
}

fn size(text: &str, name: &str) -> Result<u32, HttpError> {
    match text.trim().parse::<i64>() {
        // Some clients send -1 for "default".
        Ok(-1) => Ok(DEFAULT_SIZE),
        Ok(size @ 1..) => Ok(u32::try_from(size).unwrap_or(MAX_SIZE).min(MAX_SIZE)),
        _ => Err(HttpError::new(
            ErrorCode::ArgumentInvalid,
            format!("{name} is `{text}`; expected a number from 1"),
        )),
    }
}

/// A page: a bare array, the kind of its rows, and the continuation, if there is more. An empty
/// continuation header would make Node's client request pages forever.
pub(super) fn page_response(
    rows: &impl Serialize,
    item_type: &'static str,
    continuation: Option<&str>,
) -> Response {
    let mut response = json_response(rows);
    let headers = response.headers_mut();
    headers.insert(ITEM_TYPE, HeaderValue::from_static(item_type));
    if let Some(continuation) = continuation.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.insert(CONTINUATION, continuation);
        headers.insert(LARGEST_PAGE, HeaderValue::from(MAX_SIZE));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_size_has_a_default_and_a_maximum() {
        let size = |text: &'static str| {
            let headers = HeaderMap::from_iter([(MAX_ITEM_COUNT, HeaderValue::from_static(text))]);
            PageRequest::from_headers(&headers)
                .map(|page| page.size)
                .map_err(|_| ())
        };
        assert_eq!(size(""), Ok(DEFAULT_SIZE));
        assert_eq!(size("-1"), Ok(DEFAULT_SIZE));
        assert_eq!(size("1"), Ok(1));
        assert_eq!(size("99999999999"), Ok(MAX_SIZE));
        assert_eq!(size("0"), Err(()));
        assert_eq!(size("many"), Err(()));
    }
}
