//! Queries (`/devices/query`).

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::page::Pages;
use super::{HubClient, Request, RetryPolicy};

/// The body of an answer, for errors.
const ROWS: &str = "the rows that the query selects";

#[derive(Serialize)]
struct Query<'a> {
    query: &'a str,
}

impl HubClient {
    /// The pages of a query; nothing is sent before the first is asked for.
    ///
    /// # Errors
    ///
    /// [`ClientError::Encode`].
    pub fn query_pages<T: DeserializeOwned>(&self, text: &str) -> Result<Pages<T>, ClientError> {
        self.pages(self.query_request(text)?, ROWS)
    }

    /// Reads all pages of a query.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn query<T: DeserializeOwned>(&self, text: &str) -> Result<Vec<T>, ClientError> {
        self.all_pages(self.query_request(text)?, usize::MAX, ROWS)
            .await
    }

    fn query_request(&self, text: &str) -> Result<Request, ClientError> {
        let path = ["devices", "query"];
        self.request(Method::POST, &path, RetryPolicy::Idempotent)?
            .json(&Query { query: text })
    }
}
