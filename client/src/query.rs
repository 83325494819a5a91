//! Queries (`/devices/query`).

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::page::Page;
use super::{HubClient, RetryPolicy};

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
        let path = ["devices", "query"];
        let request = self
            .request(Method::POST, &path, RetryPolicy::Idempotent)?
            .json(&Query { query: text })?;
        self.page(request, continuation, "the rows that the query selects")
            .await
    }

    /// Reads all pages of a query.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn query<T: DeserializeOwned>(&self, text: &str) -> Result<Vec<T>, ClientError> {
        let mut rows = Vec::new();
        let mut continuation = None;
        loop {
            let page = self.query_page(text, continuation.as_deref()).await?;
            rows.extend(page.items);
            continuation = page.continuation;
            if continuation.is_none() {
                return Ok(rows);
            }
        }
    }
}
