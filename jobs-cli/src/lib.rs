//! A client of IoT Hub's service API (api-version 2021-04-12): Azure's, or door-hub's, which speaks
//! the same.
//!
//! [`HubClient`] keeps to the paths and fields that Azure documents, so what works on the one works
//! on the other. It owns how a request is signed, sent, repeated and read; it knows nothing of
//! doors, files or terminals. The `doorctl` program is built on it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use doorctl::{ClientOptions, HubClient};
//!
//! let connection = std::fs::read_to_string("service-connection-string")?.trim().parse()?;
//! let ca = std::fs::read("ca.pem")?;
//! let hub = HubClient::new(connection, &ClientOptions { ca_pem: Some(ca), ..ClientOptions::default() })?;
//! let twin = hub.twin(&"lobby-east".parse()?).await?;
//! # Ok(()) }
//! ```

mod client;

pub use client::audit::{AuditEntry, AuditRequest};
pub use client::bulk::{BulkError, BulkItem, ImportMode, NewProperties};
pub use client::device::{Authentication, DeviceIdentity, NewDevice, SymmetricKey};
pub use client::error::{BuildError, ClientError, ErrorResponse};
pub use client::event::{EventRequest, EventStream, EventStreamItem, HubEvent};
pub use client::health::Health;
pub use client::watcher::{Traffic, Watcher};
pub use client::{ClientOptions, HubClient, HubStatistics, ItemType, Page};
