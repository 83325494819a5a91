//! `/twins/{id}/methods`: direct methods. Their errors have a format of their own.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use iothub_protocol::id::DeviceId;
use iothub_protocol::method::MethodRequest;

use super::auth::CallerScope;
use super::{Document, HttpError, Id, json_response};
use crate::service::{PreparedCall, Services};

pub(super) async fn post(
    State(services): State<Services>,
    CallerScope(scope): CallerScope,
    device: Result<Id<DeviceId>, HttpError>,
    request: Result<Document<MethodRequest>, HttpError>,
) -> Response {
    let answer = async {
        let (Id(device), Document(request)) = (device?, request?);
        let call = PreparedCall::new(&request).map_err(HttpError::method)?;
        let result = services
            .method
            .invoke(&device, &call, scope)
            .await
            .map_err(HttpError::method)?;
        Ok::<_, HttpError>(json_response(&result))
    };
    answer
        .await
        .unwrap_or_else(|error| error.for_method().into_response())
}
