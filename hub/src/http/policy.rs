//! `/policies` and `/whoami`: who may do what. Azure has the first in its management API.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use iothub_protocol::error::ErrorCode;
use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::{PolicyDocument, PolicyKey, PolicyRequest, RotateRequest, Whoami};
use iothub_protocol::twin::Object;

use super::auth::Caller;
use super::request::{MAX_BODY, RawBody, read_document};
use super::{Document, HttpError, Id, json_response};
use crate::identity::{Policy, Rights};
use crate::service::{self, IfMatch, PolicyError, Services};

/// `GET /whoami`.
pub(super) async fn whoami(caller: Caller) -> Response {
    json_response(&Whoami {
        policy: caller.policy().clone(),
        rights: caller.rights().to_string(),
        bounds: caller.bounds().cloned(),
    })
}

pub(super) async fn list(State(services): State<Services>) -> Response {
    let policies = services.policy.list();
    json_response(&policies.iter().map(document).collect::<Vec<_>>())
}

pub(super) async fn get(
    State(services): State<Services>,
    Id(name): Id<PolicyName>,
) -> Result<Response, HttpError> {
    let policy = service::find(&mut services.policy.list(), &name)?.clone();
    Ok(json_response(&PolicyDocument {
        jobs: Some(services.policy.jobs(&name).await?),
        ..document(&policy)
    }))
}

/// Without `If-Match` it creates a policy, with `*` it changes one.
pub(super) async fn put(
    State(services): State<Services>,
    Id(name): Id<PolicyName>,
    if_match: IfMatch,
    request: Request,
) -> Result<Response, HttpError> {
    let RawBody(body) = RawBody::read(request, MAX_BODY).await?;
    let PolicyRequest { rights, bounds } = read_document(&body)?;
    let rights = rights.parse::<Rights>();
    let rights =
        rights.map_err(|error| HttpError::new(ErrorCode::ArgumentInvalid, error.to_string()))?;
    match if_match {
        IfMatch::Absent => {
            let add = move |policies: &mut _| service::add(policies, name, rights, bounds);
            let added = services.policy.change(add).await?;
            let created = json_response(&PolicyDocument {
                primary_key: Some(added.keys.primary.clone()),
                secondary_key: Some(added.keys.secondary.clone()),
                ..document(&added)
            });
            Ok((StatusCode::CREATED, created).into_response())
        }
        IfMatch::Any => {
            if !read_document::<Object>(&body)?.contains_key("bounds") {
                let message = "`bounds` is missing; expected the bounds, or `null` for none";
                return Err(HttpError::new(ErrorCode::ArgumentInvalid, message));
            }
            let change =
                move |policies: &mut Vec<_>| service::change(policies, &name, rights, bounds);
            let changed = services.policy.change(change).await?;
            Ok(json_response(&document(&changed)))
        }
        IfMatch::Etag(_) => {
            let message =
                "policies have no etags; expected `If-Match: *`, or no If-Match to create";
            Err(HttpError::new(ErrorCode::PreconditionFailed, message))
        }
    }
}

pub(super) async fn rotate(
    State(services): State<Services>,
    Id(name): Id<PolicyName>,
    Document(RotateRequest { key }): Document<RotateRequest>,
) -> Result<Response, HttpError> {
    let rotate = move |policies: &mut Vec<_>| service::rotate(policies, &name, key);
    let policy = services.policy.change(rotate).await?;
    let mut document = document(&policy);
    match key {
        PolicyKey::Primary => document.primary_key = Some(policy.keys.primary),
        PolicyKey::Secondary => document.secondary_key = Some(policy.keys.secondary),
    }
    Ok(json_response(&document))
}

pub(super) async fn delete(
    State(services): State<Services>,
    Id(name): Id<PolicyName>,
) -> Result<StatusCode, HttpError> {
    let remove = move |policies: &mut _| service::remove(policies, &name);
    services.policy.change(remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn document(policy: &Policy) -> PolicyDocument {
    PolicyDocument {
        name: policy.name.clone(),
        rights: policy.rights.to_string(),
        bounds: policy.bounds.clone(),
        jobs: None,
        primary_key: None,
        secondary_key: None,
    }
}

impl From<PolicyError> for HttpError {
    fn from(error: PolicyError) -> Self {
        let message = error.to_string();
        match error {
            PolicyError::Store(error) => service::ServiceError::from(error).into(),
            PolicyError::Exists(_) => {
                Self::plain(StatusCode::CONFLICT, "PolicyAlreadyExists", message)
            }
            PolicyError::Unknown { .. } => {
                Self::plain(StatusCode::NOT_FOUND, "PolicyNotFound", message)
            }
            PolicyError::NoRights(_)
            | PolicyError::UnboundedRight { .. }
            | PolicyError::Bounds { .. } => Self::new(ErrorCode::ArgumentInvalid, message),
            _ => Self::new(ErrorCode::InvalidOperation, message),
        }
    }
}
