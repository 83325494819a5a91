//! A client of IoT Hub's service API (api-version 2021-04-12), for Azure IoT Hub and door-hub.
//!
//! [`HubClient`] uses the paths and fields that Azure documents, so that it works with both hubs.
//! It signs, sends and retries requests and reads responses; it knows nothing of doors, files or
//! terminals. The `doorctl` program is built on it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use doorctl::{ClientOptions, HubClient};
//!
//! let connection = std::fs::read_to_string("service-connection-string")?.trim().parse()?;
//! let ca = std::fs::read("ca.pem")?;
//! let options = ClientOptions { ca_pem: Some(ca), ..ClientOptions::default() };
//! let hub = HubClient::new(connection, &options)?;
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
