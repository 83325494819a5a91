//! Paged lists: rows in the body, continuation and item type in headers.

use std::marker::PhantomData;

use iothub_protocol::rest;
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

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
    /// Whether no page follows.
    pub is_last: bool,
}

/// The pages of a list. Each is requested while the caller works on the one before.
pub struct Pages<T> {
    hub: HubClient,
    request: Request,
    /// The body of an answer, for errors.
    what: &'static str,
    next: Next,
    rows: PhantomData<fn() -> T>,
}

enum Next {
    First,
    Requested(AbortOnDropHandle<Result<Response, ClientError>>),
    None,
}

impl HubClient {
    /// Reads pages until the last, or until there are `most` rows.
    pub(super) async fn all_pages<T: DeserializeOwned>(
        &self,
        request: Request,
        most: usize,
        what: &'static str,
    ) -> Result<Vec<T>, ClientError> {
        let mut pages = self.pages(request, what)?;
        let mut rows = Vec::new();
        while let Some(page) = pages.next().await? {
            rows.extend(page.items);
            if rows.len() >= most {
                rows.truncate(most);
                break;
            }
        }
        Ok(rows)
    }

    pub(super) fn pages<T: DeserializeOwned>(
        &self,
        request: Request,
        what: &'static str,
    ) -> Result<Pages<T>, ClientError> {
        Ok(Pages {
            hub: self.clone(),
            request: request.header(rest::MAX_ITEM_COUNT, PAGE_ROWS)?,
            what,
            next: Next::First,
            rows: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Pages<T> {
    /// The next page; `None` after the last, and after an error.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Page<T>>, ClientError> {
        let response = match std::mem::replace(&mut self.next, Next::None) {
            Next::First => self.hub.send(&self.request).await?,
            Next::Requested(response) => response.await.map_err(ClientError::Interrupted)??,
            Next::None => return Ok(None),
        };
        let header = |name| response.header(name).filter(|text| !text.is_empty());
        if let Some(continuation) = header(rest::CONTINUATION) {
            let mut request = self.request.clone();
            if let Some(rows) = header(rest::LARGEST_PAGE) {
                request = request.header(rest::MAX_ITEM_COUNT, rows)?;
            }
            let request = request.header(rest::CONTINUATION, continuation)?;
            let hub = self.hub.clone();
            let sent = tokio::spawn(async move { hub.send(&request).await });
            self.next = Next::Requested(AbortOnDropHandle::new(sent));
        }
        let items = response.json(self.what);
        if items.is_err() {
            self.next = Next::None;
        }
        Ok(Some(Page {
            items: items?,
            item_type: item_type(&response),
            is_last: matches!(self.next, Next::None),
        }))
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
