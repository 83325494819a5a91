//! `/twins/{id}/methods`: direct methods. Their errors have a format of their own.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use iothub_protocol::id::DeviceId;
use iothub_protocol::method::MethodRequest;

use super::auth::{Caller, CallerScope};
use super::{Document, HttpError, Id, json_response};
use crate::service::{PreparedCall, Services};

pub(super) async fn post(
    State(services): State<Services>,
    caller: Caller,
    CallerScope(scope): CallerScope,
    device: Result<Id<DeviceId>, HttpError>,
    request: Result<Document<MethodRequest>, HttpError>,
) -> Response {
    let answer = async {
        let (Id(device), Document(request)) = (device?, request?);
        let call = PreparedCall::new(&request).map_err(HttpError::method)?;
        let (policy, policies) = (caller.authority(), services.policy.clone());
        let is_authorised = move || policies.is_unchanged(&policy);
        let result = services
            .method
            .invoke(&device, &call, scope, is_authorised)
            .await
            .map_err(HttpError::method)?;
        Ok::<_, HttpError>(json_response(&result))
    };
    answer
        .await
        .unwrap_or_else(|error| error.for_method().into_response())
}
