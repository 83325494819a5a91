//! `/ui/`: the web page, with a login by the name and a key of a policy.
//!
//! A request of the page has the session's cookie instead of an `Authorization` header. Such a
//! request is served only with the session's token, from the page's own origin, at one of the
//! hub's names.

use axum::Router;
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::PolicyName;
use iothub_protocol::sas::SharedAccessKey;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;

use super::request::Document;
use super::websocket::Peer;
use super::{HttpError, json_response};
use crate::auth::HostNames;
use crate::service::{FAILURE_DELAY, LoginError, PageCaller, Services};
use crate::types::AuditAttempt;

/// The token of a session (request).
const TOKEN: &str = "x-doorfleet-token";

/// Where a request comes from, by the browser (W3C Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Set while somebody uses the page (request): it sends requests on its own, too.
const PERSON: &str = "x-doorfleet-person";

/// What the page needs of its hub.
#[derive(Clone)]
pub(super) struct Page {
    services: Services,
    names: HostNames,
    hub_name: String,
    cookie: String,
}

impl Page {
    /// `port` distinguishes the cookies of two hubs on one host: cookies know no ports.
    pub(super) fn new(services: &Services, names: &HostNames, hub_name: &str, port: u16) -> Self {
        Self {
            services: services.clone(),
            names: names.clone(),
            hub_name: hub_name.to_owned(),
            cookie: cookie_name(port),
        }
    }

    /// The session of a request. `None`: it has no cookie of ours; an error: it has one, and may
    /// not be served.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Option<Result<PageCaller, HttpError>> {
        let cookie = cookie_of(headers, &self.cookie)?;
        let token = match checked_token(&self.names, headers) {
            Ok(token) => token,
            Err(error) => return Some(Err(error)),
        };
        let is_person = headers.contains_key(PERSON);
        let caller = self.services.page_sessions.caller(cookie, token, is_person);
        Some(caller.ok_or_else(|| unauthorized("the session is over; sign in again")))
    }

    /// `Set-Cookie` for a session; an empty value deletes it.
    fn set_cookie(&self, value: &str, max_age_s: i64) -> Result<HeaderValue, HttpError> {
        let name = &self.cookie;
        let text = format!(
            "{name}={value}; Path=/; Max-Age={max_age_s}; Secure; HttpOnly; SameSite=Strict"
        );
        HeaderValue::from_str(&text).map_err(|_| {
            HttpError::new(
                ErrorCode::ServerError,
                "the session's cookie cannot be sent",
            )
        })
    }

    /// What the page starts with.
    fn document(&self, caller: &PageCaller, token: &str) -> serde_json::Value {
        let zone = TimeZone::system();
        json!({
            "token": token,
            "api": "/",
            "hub": self.hub_name,
            "policy": caller.policy.name,
            "bounds": caller.policy.bounds,
            "events": true,
            "zone": zone.iana_name().unwrap_or("UTC"),
            "signOut": true,
        })
    }
}

fn cookie_name(port: u16) -> String {
    format!("__Host-doorfleet-{port}")
}

/// Checks where a request comes from, and returns its token.
fn checked_token<'a>(names: &HostNames, headers: &'a HeaderMap) -> Result<&'a str, HttpError> {
    checked_origin(names, headers)?;
    let token = headers.get(TOKEN).and_then(|token| token.to_str().ok());
    token.ok_or_else(|| unauthorized("the request has a cookie without the token of its session"))
}

fn checked_origin(names: &HostNames, headers: &HeaderMap) -> Result<(), HttpError> {
    let site = headers.get(FETCH_SITE).and_then(|site| site.to_str().ok());
    if site != Some("same-origin") {
        let message = "the request does not come from the page of this hub (Sec-Fetch-Site); a \
                       browser from before 2023 cannot be used";
        return Err(unauthorized(message));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| names.accept(host)) {
        let host = host.unwrap_or_default();
        let message = format!("invalid Host `{host}`: expected a name of this hub (--name, --san)");
        return Err(unauthorized(&message));
    }
    Ok(())
}

fn unauthorized(message: &str) -> HttpError {
    HttpError::new(ErrorCode::IotHubUnauthorizedAccess, message)
}

/// The value of a cookie; `None` also if there are several of the name.
fn cookie_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name).then_some(value)
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

pub(super) fn router(page: Page) -> Router {
    Router::new()
        .route("/ui", get(redirect))
        .route("/ui/", get(index))
        .route("/ui/session", get(session))
        .route("/ui/login", post(login))
        .route("/ui/logout", post(logout))
        .route("/ui/{*path}", get(file))
        .with_state(page)
}

async fn redirect() -> Response {
    let location = [(LOCATION, HeaderValue::from_static("/ui/"))];
    (StatusCode::PERMANENT_REDIRECT, location).into_response()
}

async fn index(headers: HeaderMap) -> Result<Response, HttpError> {
    file(Path(String::new()), headers).await
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, HttpError> {
    let file = door_dashboard::file(&path).ok_or_else(|| super::nothing_at("this path"))?;
    Ok(file.response(&headers).map(axum::body::Body::from))
}

/// `GET /ui/session`: 401 without a session; the page shows its form then.
async fn session(State(page): State<Page>, request: Request) -> Response {
    let headers = request.headers();
    match page.caller(headers) {
        Some(Ok(caller)) => {
            let token = headers.get(TOKEN).and_then(|token| token.to_str().ok());
            json_response(&page.document(&caller, token.unwrap_or_default()))
        }
        Some(Err(error)) => error.into_response(),
        None => unauthorized("nobody is signed in").into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a JSON object")]
struct Login {
    policy: String,
    key: String,
}

/// `POST /ui/login`.
async fn login(
    State(page): State<Page>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Document(Login { policy, key }): Document<Login>,
) -> Result<Response, HttpError> {
    checked_origin(&page.names, &headers)?;
    let wrong = || unauthorized("no policy has this name and key");
    // No policy can have it: it is not recorded.
    let (Ok(policy), Ok(key)) = (
        policy.parse::<PolicyName>(),
        SharedAccessKey::from_base64(&key),
    ) else {
        tokio::time::sleep(FAILURE_DELAY).await;
        return Err(wrong());
    };
    let attempt = AuditAttempt {
        policy: policy.clone(),
        peer: peer.to_string(),
        operation: "session.begin",
        target: String::new(),
        detail: None,
        reason: None,
    };
    let sessions = &page.services.page_sessions;
    let old = cookie_of(&headers, &page.cookie);
    let logged_in = sessions.login(&policy, &key, peer.ip(), old).await?;
    let throttled = match &logged_in {
        Err(LoginError::TooMany) => Some("too many wrong keys; try again in ten minutes"),
        Err(LoginError::TooOften) => Some("too many sign-ins; try again in a minute"),
        Ok(_) | Err(LoginError::Wrong) => None,
    };
    if let Some(message) = throttled {
        // Not recorded: these rows could push out all others.
        tokio::time::sleep(FAILURE_DELAY).await;
        return Err(HttpError::new(ErrorCode::ThrottlingException, message));
    }
    let (status, code) = match &logged_in {
        Ok(_) => (200, None),
        Err(_) => (401, Some("wrongKey".to_owned())),
    };
    // Before the delay: a client that hangs up is recorded, too.
    let row = page.services.audit.begin(attempt).await?;
    page.services.audit.end(row, status, code).await?;
    let Ok(new) = logged_in else {
        tokio::time::sleep(FAILURE_DELAY).await;
        return Err(wrong());
    };
    let caller = sessions.caller(&new.cookie, &new.token, true);
    let mut response = json_response(&page.document(&caller.ok_or_else(wrong)?, &new.token));
    let cookie = page.set_cookie(&new.cookie, new.max_age_s)?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// `POST /ui/logout`.
async fn logout(State(page): State<Page>, request: Request) -> Result<Response, HttpError> {
    checked_origin(&page.names, request.headers())?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(caller) = page.caller(request.headers()) {
        page.services.page_sessions.logout(caller?.handle).await?;
        response
            .headers_mut()
            .insert(SET_COOKIE, page.set_cookie("", 0)?);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        cookie_of(&headers, "__Host-doorfleet-443").map(str::to_owned)
    }

    #[test]
    fn only_one_cookie_of_the_whole_name_counts() {
        for (lines, expected) in [
            (&["__Host-doorfleet-443=a"][..], Some("a")),
            (&["x=1; __Host-doorfleet-443=a;y=2"], Some("a")),
            (&["x=1", "__Host-doorfleet-443=a=b"], Some("a=b")),
            (&["__Host-doorfleet-443=a; __Host-doorfleet-443=b"], None),
            (&["__Host-doorfleet-443=a", "__Host-doorfleet-443=b"], None),
            (&["__Host-doorfleet-8443=a"], None),
            (&["doorfleet-443=a; __host-doorfleet-443=b"], None),
            (&["__Host-doorfleet-443", ";;="], None),
            (&[], None),
        ] {
            assert_eq!(found(lines).as_deref(), expected, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cookies_are_read(line in "[ -~]{0,80}") {
            let value = found(&[&line]);
            prop_assert!(value.is_none_or(|value| line.contains(&value)));
        }
    }
}
