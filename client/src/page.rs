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

/// The pages of a list. From the third on each is requested while the caller works on the one
/// before: many callers need only the first.
pub struct Pages<T> {
    hub: HubClient,
    /// The request of the next page.
    request: Request,
    /// The response to it, if it was sent.
    sent: Option<AbortOnDropHandle<Result<Response, ClientError>>>,
    is_first: bool,
    is_over: bool,
    /// The body of an answer, for errors.
    what: &'static str,
    rows: PhantomData<fn() -> T>,
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
            sent: None,
            is_first: true,
            is_over: false,
            what,
            rows: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Pages<T> {
    /// The next page; `None` after the last, after an error, and after a call that was cancelled.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Page<T>>, ClientError> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(None);
        }
        let response = match self.sent.take() {
            Some(sent) => sent.await.map_err(ClientError::Interrupted)??,
            None => self.hub.send(&self.request).await?,
        };
        let header = |name| response.header(name).filter(|text| !text.is_empty());
        let continuation = header(rest::CONTINUATION);
        if let Some(continuation) = continuation {
            let mut request = self.request.clone();
            if let Some(rows) = header(rest::LARGEST_PAGE) {
                request = request.header(rest::MAX_ITEM_COUNT, rows)?;
            }
            self.request = request.header(rest::CONTINUATION, continuation)?;
            if !self.is_first {
                let (hub, request) = (self.hub.clone(), self.request.clone());
                let sent = tokio::spawn(async move { hub.send(&request).await });
                self.sent = Some(AbortOnDropHandle::new(sent));
            }
        }
        let items = response.json(self.what)?;
        self.is_first = false;
        self.is_over = continuation.is_none();
        Ok(Some(Page {
            items,
            item_type: item_type(&response),
            is_last: self.is_over,
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
