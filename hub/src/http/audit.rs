//! The audit log: every call of a known policy that changes or commands something is on disk before
//! it runs, and its result before the response is sent. `/audit` reads the log.
//!
//! Why: docs/decisions/0019-audit-before-acting.md.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use iothub_protocol::audit::AuditFilter;
use iothub_protocol::error::ErrorCode;
use iothub_protocol::policy::{PolicyRequest, RotateRequest};
use iothub_protocol::rest::{AUDIT_REASON, ERROR_CODE};
use percent_encoding::{percent_decode, percent_decode_str};
use serde_json::Value;

use super::auth::Caller;
use super::device::MAX_BULK_BODY;
use super::gate::Gate;
use super::request::{MAX_BODY, RawBody, read_document, without_bom};
use super::websocket::Peer;
use super::{HttpError, PageRequest, Parameters, page_response};
use crate::service::{BulkRequest, Services};
use crate::types::AuditAttempt;

/// The longest stored reason, in bytes of UTF-8.
const MAX_REASON: usize = 256;

/// The longest command id that is recorded; doors accept no longer ones.
const MAX_COMMAND_ID: usize = 128;

/// A call that changes or commands something.
#[derive(Debug, PartialEq, Eq)]
struct Operation {
    name: &'static str,
    target: String,
}

/// Records the call, runs it if the caller has the right, and records the result. A call that
/// cannot be recorded is rejected. If the result cannot be recorded, the response is sent all the
/// same, because the call took effect; its row then has no result. Refused calls of a policy with
/// bounds leave a limited number of rows.
pub(super) async fn record(
    State(gate): State<Gate>,
    Extension(Peer(peer)): Extension<Peer>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    let allowed = gate.check(&caller, request.method());
    let operation = operation(&request).or_else(|| {
        // A policy with bounds leaves a row whenever it is refused, for a read, too.
        let is_refused = allowed.is_err() && caller.bounds().is_some();
        is_refused.then(|| refused(&request))
    });
    let Some(operation) = operation else {
        return match allowed {
            Ok(body) if body.needs_body() => caller.refusal("").into_response(),
            Ok(_) => next.run(request).await,
            Err(error) => error.into_response(),
        };
    };
    let services = gate.services;
    let reason = reason(request.headers());
    let is_method = operation.name == "method.invoke";
    let _direct_call = is_method.then(|| services.method.begin_direct_call());
    let (detail, request) = match (allowed, operation.name) {
        (Err(error), _) => (None, Err(error)),
        (Ok(body), name) => match reader(name, body.needs_body()) {
            None => (None, Ok(request)),
            Some((limit, detail)) => {
                peek(request, limit, detail, |bytes| body.check(&caller, bytes)).await
            }
        },
    };
    let to_response = |error: HttpError| {
        let error = if is_method { error.for_method() } else { error };
        error.into_response()
    };
    let is_recorded = caller.bounds().is_none()
        || request.is_ok()
        || services.audit.admits_refusal(caller.policy());
    let request = match request {
        Err(error) if !is_recorded => return to_response(error),
        request => request,
    };
    let attempt = AuditAttempt {
        policy: caller.policy().clone(),
        peer: caller_address(&caller, peer),
        operation: operation.name,
        target: operation.target,
        detail,
        reason,
    };
    let row = match services.audit.begin(attempt).await {
        Ok(row) => row,
        Err(error) => return to_response(error.into()),
    };
    let response = match request {
        Ok(request) => next.run(request).await,
        Err(error) => to_response(error),
    };
    let error = response.headers().get(ERROR_CODE);
    let error = error.and_then(|name| Some(name.to_str().ok()?.to_owned()));
    let ended = services.audit.end(row, response.status().as_u16(), error);
    if let Err(error) = ended.await {
        tracing::error!(
            row,
            error = &error as &dyn std::error::Error,
            "cannot store the result of a call in the audit log"
        );
    }
    response
}

/// Paths of a twin that are recorded.
const MAX_PATHS: usize = 64;

/// What of a body is recorded.
type Detail = fn(&[u8]) -> Option<String>;

/// The address, and that the request comes from the page, if it does.
fn caller_address(caller: &Caller, peer: SocketAddr) -> String {
    match caller.page() {
        Some(_) => format!("{peer} page"),
        None => peer.to_string(),
    }
}

/// How much of a body is read before the call, and what of it is recorded; `None`: nothing.
fn reader(operation: &str, is_checked: bool) -> Option<(usize, Detail)> {
    Some(match operation {
        "method.invoke" | "job.create" => (MAX_BODY, detail),
        "twin.update" | "twin.replace" => (MAX_BODY, twin_detail),
        "device.regenerateKeys" => (MAX_BODY, renewal_detail),
        "device.bulk" => (MAX_BULK_BODY, bulk_detail),
        "policy.create" | "policy.update" | "policy.rotate" => (MAX_BODY, policy_detail),
        _ if is_checked => (MAX_BODY, |_| None),
        _ => return None,
    })
}

/// A request that is recorded only because it is refused.
fn refused(request: &Request) -> Operation {
    let target = percent_decode_str(request.uri().path()).decode_utf8_lossy();
    Operation {
        name: "request.refuse",
        target: target.into_owned(),
    }
}

/// The operation of the request, if it changes or commands anything.
fn operation(request: &Request) -> Option<Operation> {
    let path = request.uri().path();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (name, target) = match (request.method(), parts.as_slice()) {
        (&Method::PUT, ["devices", id]) if request.headers().contains_key(IF_MATCH) => {
            ("device.update", *id)
        }
        (&Method::PUT, ["devices", id]) => ("device.create", *id),
        (&Method::DELETE, ["devices", id]) => ("device.delete", *id),
        (&Method::POST, ["devices"]) => ("device.bulk", ""),
        (&Method::POST, ["devices", "keys", "regenerate"]) => ("device.regenerateKeys", ""),
        (&Method::DELETE, ["devices", id, "commands"]) => ("message.purge", *id),
        (&Method::PATCH, ["twins", id]) => ("twin.update", *id),
        (&Method::PUT, ["twins", id]) => ("twin.replace", *id),
        (&Method::POST, ["twins", id, "methods"]) => ("method.invoke", *id),
        (&Method::PUT, ["jobs", "v2", id]) => ("job.create", *id),
        (&Method::POST, ["jobs", "v2", id, "cancel"]) => (cancel_or_stop(request.uri()), *id),
        (&Method::PUT, ["policies", name]) if request.headers().contains_key(IF_MATCH) => {
            ("policy.update", *name)
        }
        (&Method::PUT, ["policies", name]) => ("policy.create", *name),
        (&Method::POST, ["policies", name, "rotate"]) => ("policy.rotate", *name),
        (&Method::DELETE, ["policies", name]) => ("policy.delete", *name),
        (&Method::PUT, ["plans", id]) => ("plan.put", *id),
        (&Method::DELETE, ["plans", id]) => ("plan.delete", *id),
        _ => return None,
    };
    let target = percent_decode_str(target).decode_utf8_lossy().into_owned();
    Some(Operation { name, target })
}

fn cancel_or_stop(uri: &Uri) -> &'static str {
    let stops = Parameters::of(uri).is_ok_and(|parameters| {
        let stop = parameters.get("stop");
        stop.is_some_and(|text| text.eq_ignore_ascii_case("true"))
    });
    if stops { "job.stop" } else { "job.cancel" }
}

/// The reason in the percent-encoded header, cut to [`MAX_REASON`] at the end of a character.
fn reason(headers: &HeaderMap) -> Option<String> {
    let encoded = headers.get(AUDIT_REASON)?.as_bytes();
    let mut reason = percent_decode(encoded).decode_utf8_lossy().into_owned();
    let mut end = MAX_REASON.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    (!reason.trim().is_empty()).then_some(reason)
}

/// Reads and checks the body, and returns the request with it, and the detail for the audit log.
async fn peek(
    request: Request,
    limit: usize,
    detail: Detail,
    check: impl Fn(&[u8]) -> Result<(), HttpError>,
) -> (Option<String>, Result<Request, HttpError>) {
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    match RawBody::read(whole, limit).await {
        Ok(RawBody(body)) => {
            let (detail, checked) = (detail(&body), check(&body));
            let allowed = checked.map(|()| Request::from_parts(parts, Body::from(body)));
            (detail, allowed)
        }
        Err(error) => (None, Err(error)),
    }
}

/// The method's name, or the job's type, method or paths, and condition, and the command id;
/// nothing else of a payload, because it may hold secrets.
fn detail(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(without_bom(body)).ok()?;
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let job_method = text("/cloudToDeviceMethod/methodName");
    let id = text("/payload/commandId").or(text("/cloudToDeviceMethod/payload/commandId"));
    let is_id = |id: &&str| {
        (1..=MAX_COMMAND_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let paths = body.get("updateTwin").map(paths);
    let parts = [
        text("/type"),
        text("/methodName").or(job_method),
        paths.as_deref().filter(|paths| !paths.is_empty()),
        id.filter(is_id),
        text("/queryCondition"),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The paths that are written.
fn twin_detail(body: &[u8]) -> Option<String> {
    let twin: Value = serde_json::from_slice(without_bom(body)).ok()?;
    Some(paths(&twin)).filter(|paths| !paths.is_empty())
}

/// The paths that a document of a twin writes, without values.
fn paths(twin: &Value) -> String {
    let mut paths = Vec::new();
    for (path, pointer) in [("tags", "/tags"), ("desired", "/properties/desired")] {
        if let Some(section) = twin.pointer(pointer) {
            add_paths(path, section, &mut paths);
        }
    }
    paths.join(" ")
}

fn add_paths(path: &str, value: &Value, paths: &mut Vec<String>) {
    match value.as_object().filter(|members| !members.is_empty()) {
        Some(members) => {
            let names = members.iter().filter(|(name, _)| !name.starts_with('$'));
            for (name, value) in names {
                if paths.len() < MAX_PATHS {
                    add_paths(&format!("{path}.{name}"), value, paths);
                }
            }
        }
        None => paths.push(path.to_owned()),
    }
}

/// The number of operations by mode, and the devices.
fn bulk_detail(body: &[u8]) -> Option<String> {
    let request = BulkRequest::read(without_bom(body)).ok()?;
    Some(request.to_string())
}

/// The keys and the devices.
fn renewal_detail(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(without_bom(body)).ok()?;
    let ids = body.get("devices")?.as_array()?.iter();
    let ids: Vec<&str> = ids.filter_map(|item| item.get("id")?.as_str()).collect();
    let key = body.get("policyKey")?.as_str()?;
    Some(format!("{key} of {} devices: {}", ids.len(), ids.join(" ")))
}

/// The rights and the bounds, or which key is rotated: requests hold no keys.
fn policy_detail(body: &[u8]) -> Option<String> {
    if let Ok(PolicyRequest { rights, bounds }) = read_document(body) {
        let bounds = bounds.map(|bounds| serde_json::to_string(&bounds).unwrap_or_default());
        let parts = [Some(rights), bounds];
        return Some(parts.into_iter().flatten().collect::<Vec<_>>().join(" "));
    }
    let RotateRequest { key } = read_document(body).ok()?;
    Some(key.to_string())
}

/// `GET /audit`.
pub(super) async fn list(
    State(services): State<Services>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, HttpError> {
    let page = PageRequest::from_headers(&headers)?.or_top(&parameters)?;
    let since = parameters.get("since").map(iothub_protocol::time::parse);
    let since = since
        .transpose()
        .map_err(|error| HttpError::new(ErrorCode::ArgumentInvalid, format!("since: {error}")))?;
    let text = |name| parameters.get(name).map(str::to_owned);
    let filter = AuditFilter {
        since,
        policy: text("policy"),
        target: text("target"),
        operation: text("operation"),
    };
    let answer = services
        .audit
        .list(filter, page.size, page.continuation.as_deref())
        .await?;
    Ok(page_response(
        &answer.rows,
        "AuditEntry",
        answer.continuation.as_deref(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_change_or_command_have_stable_names_and_other_calls_have_none() {
        let named = |method: &str, uri: &str| {
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .body(Body::empty())
                .unwrap();
            operation(&request).map(|operation| (operation.name, operation.target))
        };
        for (method, uri, name, target) in [
            (
                "PUT",
                "/devices/a%23b?api-version=1",
                "device.create",
                "a#b",
            ),
            ("DELETE", "/devices/a", "device.delete", "a"),
            ("POST", "/devices", "device.bulk", ""),
            (
                "POST",
                "/devices/keys/regenerate",
                "device.regenerateKeys",
                "",
            ),
            ("DELETE", "/devices/a/commands", "message.purge", "a"),
            ("PUT", "/devices/query", "device.create", "query"),
            ("PATCH", "/twins/a", "twin.update", "a"),
            ("PUT", "/twins/a", "twin.replace", "a"),
            ("POST", "/twins/a/methods", "method.invoke", "a"),
            ("PUT", "/jobs/v2/j", "job.create", "j"),
            ("POST", "/jobs/v2/j/cancel?api-version=1", "job.cancel", "j"),
            (
                "POST",
                "/jobs/v2/j/cancel?api-version=1&Stop=%74rue",
                "job.stop",
                "j",
            ),
        ] {
            assert_eq!(
                named(method, uri),
                Some((name, target.to_owned())),
                "{method} {uri}"
            );
        }
        for (method, uri) in [
            ("GET", "/devices/a"),
            ("POST", "/devices/query"),
            ("GET", "/jobs/v2/j"),
            ("GET", "/audit"),
        ] {
            assert_eq!(named(method, uri), None, "{method} {uri}");
        }
    }

    #[test]
    fn the_detail_has_the_method_and_the_condition_but_no_payload() {
        let method = detail(br#"{"methodName":"lockDoor","payload":{"methodName":"secret"}}"#);
        assert_eq!(method.as_deref(), Some("lockDoor"));
        let job = detail(
            br#"{
                "type":"scheduleDeviceMethod",
                "cloudToDeviceMethod":{"methodName":"lockDoor","payload":"secret"},
                "queryCondition":"*"
            }"#,
        );
        assert_eq!(job.as_deref(), Some("scheduleDeviceMethod lockDoor *"));
        assert_eq!(detail(b"secret"), None);
        let marked = detail("\u{feff}{\"methodName\":\"lockDoor\"}".as_bytes());
        assert_eq!(marked.as_deref(), Some("lockDoor"));
        let named = detail(
            br#"{"methodName":"lockDoor","payload":{"commandId":"night-1","lockTime":"10m"}}"#,
        );
        assert_eq!(named.as_deref(), Some("lockDoor night-1"));
        let strange = detail(br#"{"methodName":"lockDoor","payload":{"commandId":"a b\u001b"}}"#);
        assert_eq!(strange.as_deref(), Some("lockDoor"));
    }

    #[test]
    fn the_detail_of_a_twin_has_the_paths_but_no_value() {
        let twin = r#"{
            "tags":{"alarm":{"jammed":null},"wing":"secret"},
            "properties":{"desired":{"$version":3,"mode":"secret","timed":{}}}
        }"#;
        let paths = "tags.alarm.jammed tags.wing desired.mode desired.timed";
        assert_eq!(twin_detail(twin.as_bytes()).as_deref(), Some(paths));
        let job =
            format!(r#"{{"type":"scheduleUpdateTwin","updateTwin":{twin},"queryCondition":"*"}}"#);
        let job = detail(job.as_bytes());
        assert_eq!(job, Some(format!("scheduleUpdateTwin {paths} *")));
        for none in ["{}", "[]", "secret", r#"{"tags":5,"etag":"*"}"#] {
            let expected = none.contains("tags").then_some("tags");
            assert_eq!(twin_detail(none.as_bytes()).as_deref(), expected, "{none}");
        }
        let members: Vec<_> = (0..1000).map(|n| format!(r#""a{n}":{n}"#)).collect();
        let many = format!(r#"{{"tags":{{{}}}}}"#, members.join(","));
        let recorded = twin_detail(many.as_bytes()).unwrap();
        assert_eq!(recorded.split(' ').count(), MAX_PATHS);
    }

    #[test]
    fn any_reason_is_decoded_and_cut_at_the_limit() {
        let long = "%C3%A4".repeat(200);
        let kept = "\u{e4}".repeat(128);
        for (header, expected) in [
            (None, None),
            (Some(""), None),
            (Some("%20"), None),
            (Some("fire%20drill"), Some("fire drill")),
            (Some("T%C3%BCr%1B%5B2J%0A"), Some("T\u{fc}r\u{1b}[2J\n")),
            (Some("plain text"), Some("plain text")),
            (Some("%FF%zz"), Some("\u{fffd}%zz")),
            (Some(long.as_str()), Some(kept.as_str())),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(text) = header {
                headers.insert(AUDIT_REASON, text.parse().unwrap());
            }
            assert_eq!(reason(&headers).as_deref(), expected, "{header:?}");
        }
    }
}
