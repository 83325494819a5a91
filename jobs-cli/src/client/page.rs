//! Lists that come a page at a time: rows in the body, the rest in headers.

use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::{HubClient, Request, Response};

/// Rows of a page that is asked for; Azure's SDKs call 100 the most.
const PAGE_ROWS: &str = "100";

/// What the rows of a page are (`x-ms-item-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemType {
    /// Twins.
    Twin,
    /// What a job did on one device.
    DeviceJob,
    /// Jobs.
    JobResponse,
    /// Whatever a query selects.
    Raw,
}

/// Part of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What they are.
    pub item_type: ItemType,
    /// Asks for the next page; none: this was the last.
    pub continuation: Option<String>,
}

impl HubClient {
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        request: Request,
        continuation: Option<&str>,
        what: &'static str,
    ) -> Result<Page<T>, ClientError> {
        let mut request = request.header("x-ms-max-item-count", PAGE_ROWS)?;
        if let Some(continuation) = continuation {
            request = request.header("x-ms-continuation", continuation)?;
        }
        let response = self.send(&request).await?;
        Ok(Page {
            items: response.json(what)?,
            item_type: item_type(&response),
            continuation: response
                .header("x-ms-continuation")
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        })
    }
}

fn item_type(response: &Response) -> ItemType {
    let name = response.header("x-ms-item-type").unwrap_or_default();
    match name.to_ascii_lowercase().as_str() {
        "twin" => ItemType::Twin,
        "devicejob" => ItemType::DeviceJob,
        "jobresponse" => ItemType::JobResponse,
        _ => ItemType::Raw,
    }
}
