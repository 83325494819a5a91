//! Requests of another program, signed and sent as they are; for a proxy.

use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use reqwest::header::{AUTHORIZATION, HOST, HeaderMap};
use reqwest::{Body, Method, StatusCode};

use super::error::ClientError;
use super::{HubClient, Request, RetryPolicy};

/// The most that a method call may add to the timeout of a request: Azure's limits of both timeouts
/// of the device.
const METHOD_TIMEOUTS: Duration = Duration::from_secs(600);

impl HubClient {
    /// Signs a request, sends it once and returns the response of any status before its body is
    /// read: a stream of events has no end.
    ///
    /// `headers` may replace `Accept`, `Content-Type` and the reason of the client, but neither its
    /// `Authorization` nor `Host`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unaddressable`] when the path would not reach the hub as it is (`..`), or
    /// when there is no response in time.
    pub async fn forward(
        &self,
        method: Method,
        target: &PathAndQuery,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<http::Response<Body>, ClientError> {
        let mut url = self.inner.base.clone();
        // Neither can change the host, as joining `//host` would.
        url.set_path(target.path());
        url.set_query(target.query());
        if url.path() != target.path() {
            return Err(ClientError::Unaddressable(target.path().to_owned()));
        }
        for own in [AUTHORIZATION, HOST] {
            headers.remove(own);
        }
        let device = match target.path().ends_with("/methods") {
            true => METHOD_TIMEOUTS,
            false => Duration::ZERO,
        };
        let request = Request {
            method,
            url,
            headers,
            body: (!body.is_empty()).then_some(body),
            retry: RetryPolicy::IfThrottled,
            timeout: self.inner.timeout + device,
            is_answer: |_| true,
        };
        let start = Instant::now();
        let token = self.token();
        let mut response = self.response_to(&request, &token).await?;
        if response.status() == StatusCode::UNAUTHORIZED && !token.is_issued_near(self.now()) {
            response = self.response_to(&request, &self.token()).await?;
        }
        self.notify_of_head(&response, start);
        Ok(response.into())
    }
}
