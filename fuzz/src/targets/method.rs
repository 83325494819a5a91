//! Method calls and results: within their limits, and payloads pass through byte for byte.

use iothub_protocol::method::{CONNECT_TIMEOUT_S, MethodRequest, MethodResult, RESPONSE_TIMEOUT_S};
use serde_json::value::RawValue;

use crate::{Seeds, texts};

pub(crate) fn run(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<MethodRequest>(data) {
        assert!(RESPONSE_TIMEOUT_S.contains(&request.response_timeout().as_secs()));
        assert!(CONNECT_TIMEOUT_S.contains(&request.connect_timeout().as_secs()));
        if let Some(payload) = request.payload() {
            let payload = payload.get().as_bytes();
            let is_there = data.windows(payload.len()).any(|sent| sent == payload);
            assert!(is_there, "the payload was changed");
        }
        let written = serde_json::to_vec(&request).expect("a call can be written");
        let again: MethodRequest =
            serde_json::from_slice(&written).expect("what was written reads");
        assert_eq!(again, request);
    }
    if let Ok(result) = serde_json::from_slice::<MethodResult>(data) {
        let written = serde_json::to_string(&result).expect("a result can be written");
        let again: MethodResult = serde_json::from_str(&written).expect("what was written reads");
        assert_eq!(serde_json::to_string(&again).ok(), Some(written));
    }
}

pub(crate) fn seeds() -> Seeds {
    let call = |payload: &str| {
        let payload = RawValue::from_string(payload.to_owned()).expect("JSON");
        let method = "lockDoor".parse().expect("a method's name");
        let request = MethodRequest::new(method).with_payload(payload);
        serde_json::to_string(&request).expect("a call can be written")
    };
    texts([
        call("{\"lockTime\": \"10m\",\"b\":[1.50, null]}"),
        call("null"),
        r#"{"methodName":"reboot","timeoutInSeconds":5,"connectTimeoutInSeconds":300}"#.to_owned(),
        r#"{"status":200,"payload":{"bolt": "thrown"}}"#.to_owned(),
        r#"{"status":-1,"payload":null}"#.to_owned(),
    ])
}
