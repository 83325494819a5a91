//! Locks the first connected door of a hub for ten minutes.
//!
//! ```console
//! $ cargo run -p iothub-client --example lock -- service-connection-string ca.pem
//! ```
//!
//! door-hub has both files in its data folder. Azure IoT Hub needs only the first: the system
//! trusts its certificate.

use std::env;
use std::error::Error;
use std::fs;

use iothub_client::{ClientOptions, HubClient};
use iothub_protocol::method::MethodRequest;
use iothub_protocol::twin::Twin;
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let connection = arguments
        .next()
        .ok_or("expected a connection string file")?;
    let ca_pem = arguments.next().map(fs::read).transpose()?;
    let options = ClientOptions {
        ca_pem,
        ..ClientOptions::default()
    };
    let hub = HubClient::new(fs::read_to_string(connection)?.trim().parse()?, &options)?;

    let query = "SELECT * FROM devices WHERE connectionState = 'Connected'";
    let twins: Vec<Twin> = hub.query(query).await?;
    let door = &twins.first().ok_or("no device is connected")?.device_id;

    let payload = serde_json::value::to_raw_value(&json!({"lockTime": "10m"}))?;
    let call = MethodRequest::new("lockDoor".parse()?).with_payload(payload);
    let answer = hub.invoke(door, &call).await?;
    let answered = answer
        .payload
        .map_or(String::new(), |payload| payload.to_string());
    println!("{door}: {} {answered}", answer.status);
    Ok(())
}
