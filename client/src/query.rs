//! Queries (`/devices/query`).

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::page::Page;
use super::{HubClient, Request, RetryPolicy};

/// The body of an answer, for errors.
const ROWS: &str = "the rows that the query selects";

#[derive(Serialize)]
struct Query<'a> {
    query: &'a str,
}

impl HubClient {
    /// Reads one page of a query; `continuation` is that of the previous page.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn query_page<T: DeserializeOwned>(
        &self,
        text: &str,
        continuation: Option<&str>,
    ) -> Result<Page<T>, ClientError> {
        self.page(self.query_request(text)?, continuation, ROWS)
            .await
    }

    /// Reads all pages of a query.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn query<T: DeserializeOwned>(&self, text: &str) -> Result<Vec<T>, ClientError> {
        self.pages(&self.query_request(text)?, usize::MAX, ROWS)
            .await
    }

    fn query_request(&self, text: &str) -> Result<Request, ClientError> {
        let path = ["devices", "query"];
        self.request(Method::POST, &path, RetryPolicy::Idempotent)?
            .json(&Query { query: text })
    }
}
