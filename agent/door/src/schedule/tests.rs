mod levels;
mod reading;

use serde_json::{Value, json};

use super::{Week, WeekError};

fn week(members: &Value) -> Result<Week, WeekError> {
    let mut week = json!({"name": "office", "zone": "Europe/Berlin"});
    let members = members.as_object().unwrap().clone();
    week.as_object_mut().unwrap().extend(members);
    Week::from_json(&week.to_string())
}

fn released(days: &str, from: &str, to: &str) -> Value {
    json!({"days": days, "from": from, "to": to, "want": "released"})
}

fn locked(days: &str, from: &str, to: &str) -> Value {
    json!({"days": days, "from": from, "to": to, "want": "locked"})
}
