//! The program against a scripted server: how it handles broken responses and wrong clocks.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alarms;
mod clock;
mod commands;
mod lockdown;
mod staged;
mod tables;

use serde_json::json;

const TWIN: &str = concat!(
    r#"{"deviceId":"d","etag":"AAAAAAAAAAE=","version":2,"#,
    r#""properties":{"desired":{"$version":1},"reported":{"$version":1}}}"#
);

fn refusal(name: &str) -> String {
    json!({"Message": format!("ErrorCode:{name};so it is"), "ExceptionMessage": ""}).to_string()
}
