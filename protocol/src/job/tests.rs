use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::method::MethodRequest;
use crate::twin::TwinPatch;

fn read(value: &serde_json::Value) -> Result<JobRequest, String> {
    serde_json::from_str(&value.to_string()).map_err(|error| error.to_string())
}

/// The samples of "Schedule jobs on multiple devices".
#[test]
fn requests_are_read_and_written() {
    let method = r#"{"jobId":"job01","type":"scheduleDeviceMethod","cloudToDeviceMethod":{"methodName":"testMethod","responseTimeoutInSeconds":30,"connectTimeoutInSeconds":0,"payload":{}},"queryCondition":"deviceId IN ['d1','d2']","startTime":"2019-05-04T15:53:00.077Z","maxExecutionTimeInSeconds":20}"#;
    let request: JobRequest = serde_json::from_str(method).unwrap();
    assert_eq!(request.job_id.as_ref().unwrap(), &"job01");
    assert_eq!(request.action.job_type(), JobType::ScheduleDeviceMethod);
    assert_eq!(request.max_execution_time, Duration::from_secs(20));
    assert_eq!(serde_json::to_string(&request).unwrap(), method);

    let twin = r#"{"jobId":"job02","type":"scheduleUpdateTwin","updateTwin":{"etag":"*","tags":{"x":null},"properties":{"desired":{"test1":"value1"}}},"queryCondition":"deviceId = 'd1'","startTime":"2019-05-08T12:19:56.868Z","maxExecutionTimeInSeconds":20}"#;
    let request: JobRequest = serde_json::from_str(twin).unwrap();
    assert_eq!(request.action.job_type(), JobType::ScheduleUpdateTwin);
    assert_eq!(serde_json::to_string(&request).unwrap(), twin);
}

#[test]
fn omitted_members_have_defaults() {
    let request = read(&json!({
        "type": "scheduleDeviceMethod", "cloudToDeviceMethod": {"methodName": "m"}, "updateTwin": null,
        "queryCondition": "*", "startTime": null,
    }))
    .unwrap();
    assert_eq!((request.job_id, request.start_time), (None, None));
    assert_eq!(request.max_execution_time, DEFAULT_MAX_EXECUTION_TIME);
}

#[test]
fn a_refused_request_names_what_was_expected() {
    let method = json!({"methodName": "m"});
    for (body, expected) in [
        (json!({"queryCondition": "*"}), "missing field `type`"),
        (
            json!({"type": "scheduleTwinUpdate", "queryCondition": "*"}),
            "`type` is \"scheduleTwinUpdate\"; expected `scheduleDeviceMethod`",
        ),
        (
            json!({"type": "scheduleDeviceMethod", "queryCondition": "*"}),
            "a job of type `scheduleDeviceMethod` needs `cloudToDeviceMethod`",
        ),
        (
            json!({"type": "scheduleUpdateTwin", "queryCondition": "*"}),
            "needs `updateTwin`",
        ),
        (
            json!({"type": "scheduleDeviceMethod", "cloudToDeviceMethod": method}),
            "missing field `queryCondition`",
        ),
        (
            json!({"type": "scheduleDeviceMethod", "cloudToDeviceMethod": method, "queryCondition": " "}),
            "`queryCondition` is empty",
        ),
        (
            json!({"type": "scheduleDeviceMethod", "cloudToDeviceMethod": method, "queryCondition": "*", "deviceIds": []}),
            "`deviceIds`",
        ),
        (
            json!({"type": "scheduleDeviceMethod", "cloudToDeviceMethod": method, "queryCondition": "*", "startTime": "soon"}),
            "\"soon\" is not a time",
        ),
        (
            json!({"type": "scheduleDeviceMethod", "cloudToDeviceMethod": method, "queryCondition": "*", "maxExecutionTimeInSeconds": -1}),
            "expected 0 to 4294967295",
        ),
        (
            json!({"jobId": "a b", "type": "scheduleDeviceMethod", "cloudToDeviceMethod": method, "queryCondition": "*"}),
            "job id",
        ),
    ] {
        let error = read(&body).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

/// A fixture of the unit tests of azure-iot-cli-extension.
#[test]
fn a_job_is_read_and_written_as_the_service_spells_it() {
    let text = r#"{"jobId":"test-job-1","queryCondition":"deviceId in ['d1','d2']","createdTime":"2020-01-06T21:44:00.8884134Z","startTime":"2020-01-06T21:44:00.8884134Z","endTime":"2020-01-06T21:44:06.2536519Z","maxExecutionTimeInSeconds":300,"type":"scheduleUpdateTwin","status":"completed","updateTwin":{"deviceId":null,"etag":"*","tags":{"deviceClass":"Class1"}},"deviceJobStatistics":{"deviceCount":2,"failedCount":0,"succeededCount":2,"runningCount":0,"pendingCount":0}}"#;
    let job: JobResponse = serde_json::from_str(text).unwrap();
    assert!(job.status.is_over());
    assert_eq!(job.device_job_statistics.unwrap().succeeded_count, 2);
    assert_eq!(
        serde_json::to_string(&job).unwrap(),
        text.replace(r#""deviceId":null,"#, "")
    );
}

/// The short body of "Schedule jobs on multiple devices" and of the clients' recordings.
#[test]
fn a_new_job_has_id_type_and_status_only() {
    let job = JobResponse::short(
        "job01".parse().unwrap(),
        JobType::ScheduleDeviceMethod,
        JobStatus::Queued,
    );
    let text = r#"{"jobId":"job01","type":"scheduleDeviceMethod","status":"queued"}"#;
    assert_eq!(serde_json::to_string(&job).unwrap(), text);
    assert_eq!(serde_json::from_str::<JobResponse>(text).unwrap(), job);
}

/// The sample of "IoT Hub query language", section on jobs; the error is one seen in an issue
/// thread.
#[test]
fn a_device_record_is_read_and_written_as_the_service_spells_it() {
    for text in [
        r#"{"deviceId":"d1","jobId":"myJobId","jobType":"scheduleDeviceMethod","status":"completed","startTimeUtc":"2016-09-29T18:18:52.7418462Z","endTimeUtc":"2016-09-29T18:20:52.7418462Z","createdDateTimeUtc":"2016-09-29T18:18:56.7787107Z","lastUpdatedDateTimeUtc":"2016-09-29T18:18:56.8894408Z","outcome":{"deviceMethodResponse":{"status":200,"payload":{}}}}"#,
        r#"{"deviceId":"d1","jobId":"j","jobType":"scheduleUpdateTwin","status":"completed","outcome":{"deviceMethodResponse":null}}"#,
        r#"{"deviceId":"d1","jobId":"j","jobType":"scheduleDeviceMethod","status":"failed","error":{"code":"DeviceNotOnline","description":"Timed out waiting for device to connect."}}"#,
        r#"{"deviceId":"d1","jobId":"j","jobType":"scheduleDeviceMethod","status":"canceled"}"#,
    ] {
        let record: DeviceJob = serde_json::from_str(text).unwrap();
        assert!(record.status.is_over());
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }
}

#[test]
fn names_ignore_case_and_unknown_names_are_accepted() {
    assert_eq!(
        "ScheduleDeviceMethod".parse(),
        Ok(JobType::ScheduleDeviceMethod)
    );
    assert_eq!("Running".parse(), Ok(JobStatus::Running));
    assert_eq!(
        serde_json::from_str::<JobStatus>("\"paused\"").unwrap(),
        JobStatus::Unknown
    );
    let error = "canceled".parse::<JobStatus>().unwrap_err().to_string();
    assert!(
        error.starts_with("\"canceled\" is not a job status; expected one of unknown, enqueued,"),
        "{error}"
    );
    for &status in JobStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
    }
    assert_eq!(
        (
            JobStatus::Cancelled.as_str(),
            DeviceJobStatus::Canceled.as_str()
        ),
        ("cancelled", "canceled")
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        job_id in prop::option::of("[A-Za-z0-9-]{1,64}"),
        method in any::<bool>(),
        query_condition in "\\PC{0,20}x",
        start in prop::option::of(0..4_000_000_000_i64),
        seconds in any::<u32>(),
    ) {
        let request = JobRequest {
            job_id: job_id.map(|id| id.parse().unwrap()),
            action: if method {
                JobAction::Method(MethodRequest::new("m".parse().unwrap()))
            } else {
                JobAction::UpdateTwin(TwinPatch { etag: Some("*".into()), ..TwinPatch::default() })
            },
            query_condition,
            start_time: start.map(|seconds| jiff::Timestamp::from_second(seconds).unwrap()),
            max_execution_time: Duration::from_secs(seconds.into()),
        };
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(serde_json::from_str::<JobRequest>(&text).unwrap(), request);
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in "[{}\"a-zA-Z:,0-9. -]{0,60}") {
        let _ = serde_json::from_str::<JobRequest>(&text);
        let _ = serde_json::from_str::<JobResponse>(&text);
        let _ = serde_json::from_str::<DeviceJob>(&text);
    }
}
