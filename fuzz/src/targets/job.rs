//! Job documents: the printed text parses to the same.

use iothub_protocol::job::{DeviceJob, JobRequest, JobResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Seeds, texts};

pub(crate) fn run(data: &[u8]) {
    if let Some(request) = round_trip::<JobRequest>(data) {
        assert!(!request.query_condition.trim().is_empty());
        assert!(u32::try_from(request.max_execution_time.as_secs()).is_ok());
    }
    round_trip::<JobResponse>(data);
    round_trip::<DeviceJob>(data);
}

fn round_trip<T: Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let document: T = serde_json::from_slice(data).ok()?;
    let written = serde_json::to_string(&document).expect("a document can be written");
    let again: T = match serde_json::from_str(&written) {
        Ok(again) => again,
        Err(error) => panic!("{written} was printed but does not parse: {error}"),
    };
    // Times are printed with a resolution of 0.1 µs and may be parsed finer: compare the second
    // printing with the first.
    assert_eq!(serde_json::to_string(&again).ok(), Some(written));
    Some(document)
}

pub(crate) fn seeds() -> Seeds {
    texts([
        concat!(
            r#"{"jobId":"lock-1","type":"scheduleDeviceMethod","#,
            r#""cloudToDeviceMethod":{"methodName":"lockDoor","responseTimeoutInSeconds":30,"#,
            r#""connectTimeoutInSeconds":0,"payload":{"lockTime":"10m"}},"#,
            r#""queryCondition":"tags.floor = 3","startTime":"2026-11-23T22:00:00.0000000Z","#,
            r#""maxExecutionTimeInSeconds":600}"#
        ),
        concat!(
            r#"{"type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"floor":null},"#,
            r#""properties":{"desired":{"mode":"passage"}}},"queryCondition":"*"}"#
        ),
        concat!(
            r#"{"jobId":"lock-1","queryCondition":"*","#,
            r#""createdTime":"2026-11-23T21:59:59.1234567Z","#,
            r#""startTime":"2026-11-23T22:00:00Z","endTime":"2026-11-23T22:00:01Z","#,
            r#""maxExecutionTimeInSeconds":3600,"type":"scheduleDeviceMethod","#,
            r#""status":"completed","deviceJobStatistics":{"deviceCount":3,"failedCount":1,"#,
            r#""succeededCount":2,"runningCount":0,"pendingCount":0}}"#
        ),
        concat!(
            r#"{"deviceId":"lobby-east","jobId":"lock-1","jobType":"scheduleDeviceMethod","#,
            r#""status":"completed","startTimeUtc":"2026-11-23T22:00:00Z","#,
            r#""endTimeUtc":"2026-11-23T22:00:01Z","createdDateTimeUtc":"2026-11-23T21:00:00Z","#,
            r#""lastUpdatedDateTimeUtc":"2026-11-23T22:00:01Z","#,
            r#""outcome":{"deviceMethodResponse":{"status":200,"payload":{"bolt":"thrown"}}}}"#
        ),
    ])
}
