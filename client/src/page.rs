//! Paged lists: rows in the body, continuation and item type in headers.

use iothub_protocol::rest;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::{HubClient, Request, Response};

/// Rows per page; Azure's SDKs document 100 as the maximum.
const PAGE_ROWS: &str = "100";

/// Type of the rows (`x-ms-item-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemType {
    /// Device twins.
    Twin,
    /// Outcomes of a job for one device each.
    DeviceJob,
    /// Jobs.
    JobResponse,
    /// Rows of a query with its own columns.
    Raw,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Their type.
    pub item_type: ItemType,
    /// Token for the next page; `None`: this is the last.
    pub continuation: Option<String>,
}

impl HubClient {
    /// Reads pages until the last, or until there are `most` rows.
    pub(super) async fn pages<T: DeserializeOwned>(
        &self,
        request: &Request,
        most: usize,
        what: &'static str,
    ) -> Result<Vec<T>, ClientError> {
        let mut rows = Vec::new();
        let mut continuation: Option<String> = None;
        loop {
            let page = self.page(request.clone(), continuation.as_deref(), what);
            let page = page.await?;
            rows.extend(page.items);
            continuation = page.continuation;
            if continuation.is_none() || rows.len() >= most {
                rows.truncate(most);
                return Ok(rows);
            }
        }
    }

    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        request: Request,
        continuation: Option<&str>,
        what: &'static str,
    ) -> Result<Page<T>, ClientError> {
        let mut request = request.header(rest::MAX_ITEM_COUNT, PAGE_ROWS)?;
        if let Some(continuation) = continuation {
            request = request.header(rest::CONTINUATION, continuation)?;
        }
        let response = self.send(&request).await?;
        Ok(Page {
            items: response.json(what)?,
            item_type: item_type(&response),
            continuation: response
                .header(rest::CONTINUATION)
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        })
    }
}

fn item_type(response: &Response) -> ItemType {
    let name = response.header(rest::ITEM_TYPE).unwrap_or_default();
    match name.to_ascii_lowercase().as_str() {
        "twin" => ItemType::Twin,
        "devicejob" => ItemType::DeviceJob,
        "jobresponse" => ItemType::JobResponse,
        _ => ItemType::Raw,
    }
}
