//! Changes of one or many identities.

use doorfleet_testing::{Reply, Server};
use iothub_client::ClientError;
use iothub_protocol::ErrorCode;
use iothub_protocol::bulk::{BulkItem, ImportMode};
use iothub_protocol::identity::DeviceIdentity;
use iothub_protocol::twin::DeviceStatus;
use serde_json::{Value, json};

use super::{Clients as _, device, refusal};

/// An identity of Azure, with read-only members and those of edge devices.
const FULL: &str = r#"{"deviceId":"d","generationId":"637","etag":"ODgxNTgwOA==",
    "connectionState":"Connected","status":"enabled","statusReason":null,
    "statusUpdatedTime":"0001-01-01T00:00:00Z","cloudToDeviceMessageCount":0,
    "authentication":{"symmetricKey":{"primaryKey":"b25l","secondaryKey":"dHdv"},
    "x509Thumbprint":{"primaryThumbprint":null,"secondaryThumbprint":null},"type":"sas"},
    "capabilities":{"iotEdge":true},"deviceScope":"ms-azure-iot-edge://d-1",
    "parentScopes":["ms-azure-iot-edge://e-2"]}"#;

fn items() -> [BulkItem; 2] {
    let mut first = BulkItem::new(device(), ImportMode::Create);
    first.tags.insert("wing".to_owned(), json!("east"));
    [
        first,
        BulkItem::new("e".parse().unwrap(), ImportMode::Delete),
    ]
}

#[tokio::test]
async fn an_identity_is_replaced_as_a_whole_if_its_etag_is_unchanged() {
    let server = Server::play(vec![Reply::ok(FULL), Reply::ok(FULL), Reply::ok(FULL)]).await;
    let hub = server.client();
    let mut identity: DeviceIdentity = hub.device(&device()).await.unwrap();
    identity.status = DeviceStatus::Disabled;
    identity.status_reason = Some("stolen".to_owned());
    hub.device_update(&identity).await.unwrap();
    identity.etag = None;
    hub.device_update(&identity).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests[1].line, "PUT /devices/d?api-version=2021-04-12");
    assert_eq!(requests[1].header("if-match"), Some("\"ODgxNTgwOA==\""));
    assert_eq!(requests[2].header("if-match"), Some("\"*\""));
    let mut wanted: Value = serde_json::from_str(FULL).unwrap();
    wanted["status"] = json!("disabled");
    wanted["statusReason"] = json!("stolen");
    for read_only in [
        "generationId",
        "etag",
        "connectionState",
        "statusUpdatedTime",
        "cloudToDeviceMessageCount",
    ] {
        wanted.as_object_mut().unwrap().remove(read_only);
    }
    let sent: Value = serde_json::from_str(&requests[1].body).unwrap();
    assert_eq!(sent, wanted);
}

#[tokio::test]
async fn a_bulk_call_returns_the_failed_operations_for_any_status() {
    let failed = json!({
        "isSuccessful": false, "warnings": [],
        "errors": [{"deviceId": "e", "errorCode": "DeviceNotFound", "errorStatus": "no `e`",
            "moduleId": null, "operation": "delete"}],
    });
    let by_number =
        json!({"isSuccessful": false, "errors": [{"deviceId": "d", "errorCode": 409001}]});
    let mixed = json!({"isSuccessful": false, "errors": [
        {"deviceId": "d", "errorCode": "DeviceAlreadyExists"},
        {"deviceId": null, "errorCode": "NeverHeardOf"}]});
    let mut with_message = failed.clone();
    with_message["Message"] = json!("ErrorCode:BulkRegistryOperationFailure;1 failed");
    let server = Server::play(vec![
        Reply::ok(r#"{"isSuccessful":true,"errors":[],"warnings":[]}"#),
        Reply::ok(&failed.to_string()),
        Reply::status(400, &with_message.to_string()),
        Reply::status(400, &by_number.to_string()),
        Reply::status(400, &mixed.to_string()),
    ])
    .await;
    let hub = server.client();
    assert_eq!(hub.devices_bulk(&items()).await.unwrap(), []);
    for text in ["DeviceNotFound: no `e`", "DeviceNotFound: no `e`", "409001"] {
        let errors = hub.devices_bulk(&items()).await.unwrap();
        assert_eq!((errors.len(), errors[0].text()), (1, text.to_owned()));
        assert!(errors[0].code().is_some());
    }
    let errors = hub.devices_bulk(&items()).await.unwrap();
    let failed: Vec<_> = errors
        .iter()
        .map(|error| (error.device_id.as_deref(), error.code()))
        .collect();
    assert_eq!(
        failed,
        [
            (Some("d"), Some(ErrorCode::DeviceAlreadyExists)),
            (None, None)
        ]
    );
    let sent = &server.requests()[0];
    assert_eq!(sent.line, "POST /devices?api-version=2021-04-12");
    let body: Value = serde_json::from_str(&sent.body).unwrap();
    assert_eq!(
        body,
        json!([{"id": "d", "importMode": "create", "tags": {"wing": "east"}},
            {"id": "e", "importMode": "delete"}])
    );
}

#[tokio::test]
async fn a_refused_bulk_call_is_an_error_without_retry() {
    let nameless = concat!(
        r#"{"isSuccessful":false,"errors":[{"deviceId":null,"errorCode":"ArgumentInvalid","#,
        r#""errorStatus":"no array"}],"Message":"ErrorCode:ArgumentInvalid;no array"}"#
    );
    let server = Server::play(vec![
        Reply::status(400, nameless),
        Reply::status(401, &refusal("IotHubUnauthorizedAccess")),
        Reply::ok(r#"{"isSuccessful":false,"errors":[]}"#),
        Reply::status(400, r#"{"isSuccessful":false,"errors":[]}"#),
        Reply::hang_up(),
    ])
    .await;
    let hub = server.client();
    let error = hub.devices_bulk(&items()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the hub answers 400 ArgumentInvalid: no array"
    );
    let error = hub.devices_bulk(&items()).await.unwrap_err();
    assert_eq!(error.status(), Some(401));
    for _ in 0..2 {
        let error = hub.devices_bulk(&items()).await.unwrap_err();
        assert!(matches!(error, ClientError::Bulk), "{error:?}");
    }
    let error = hub.devices_bulk(&items()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Unreachable {
                connected: true,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 5);
}
