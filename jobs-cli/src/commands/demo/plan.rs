//! The plan of the floors, for the web page: one image, on which each floor has its doors.

use anyhow::{Context as _, ensure};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use iothub_client::HubClient;
use iothub_protocol::DeviceId;
use iothub_protocol::twin::{Object, SectionPatch, TwinPatch};
use serde_json::json;

use super::doors::{DemoDoors, FLOORS};
use crate::commands::many::for_each_door;

const ID: &str = "demo-floor";

/// PNG, 1,200 by 600 pixels.
const IMAGE: &[u8] = include_bytes!("floor.png");

/// The doors of the image: parts of its width and height. Of a large floor the others are in the
/// table alone.
const SPOTS: [(f64, f64); 10] = [
    (0.05, 0.5),
    (0.163, 0.425),
    (0.388, 0.425),
    (0.613, 0.425),
    (0.838, 0.425),
    (0.95, 0.5),
    (0.125, 0.575),
    (0.312, 0.575),
    (0.575, 0.575),
    (0.838, 0.575),
];

/// Stores the image and places the doors on it.
pub(super) async fn draw(demo: &DemoDoors, hub: &HubClient) -> anyhow::Result<()> {
    let target = PathAndQuery::try_from(format!("/plans/{ID}"))?;
    let stored = hub.forward(Method::PUT, &target, HeaderMap::new(), IMAGE.to_vec());
    let status = stored.await.context("cannot store the plan")?.status();
    ensure!(status.is_success(), "cannot store the plan: {status}");
    let floors = (1..=FLOORS).flat_map(|floor| {
        let doors = demo.doors.iter().filter(move |door| door.floor == floor);
        doors.map(|door| door.id.clone()).zip(SPOTS)
    });
    let placed = for_each_door(floors, hub, |hub, id, spot| async move {
        place(&hub, &id, spot).await
    });
    placed.await.into_iter().try_for_each(|(_, placed)| placed)
}

async fn place(hub: &HubClient, id: &DeviceId, (x, y): (f64, f64)) -> anyhow::Result<()> {
    let plan = json!({ "id": ID, "x": x, "y": y });
    let patch = TwinPatch {
        tags: SectionPatch::Values(Object::from_iter([("plan".to_owned(), plan)])),
        ..TwinPatch::default()
    };
    let patched = hub.twin_patch(id, &patch, None).await;
    patched.with_context(|| format!("cannot place {id}"))?;
    Ok(())
}
