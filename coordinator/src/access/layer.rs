//! The layer in front of all services: who calls, and may they.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use graticule_common::error::Classify;
use graticule_common::status::{status_after, to_status};
use graticule_common::tls::Role;
use graticule_common::transport::Peer;
use http_body_util::BodyExt;
use tonic::Status;
use tonic::service::Routes;

use super::table::{Needs, needs};
use super::{Access, AccessError, Identity, Scope, Scopes};

/// Puts the layer in front of services.
pub fn guard(routes: Routes, access: Arc<Access>) -> Routes {
    let router = routes.prepare().into_axum_router();
    Routes::from(router.layer(from_fn_with_state(access, check)))
}

async fn check(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if needs(&path) == Needs::Nothing {
        return next.run(request).await;
    }
    // What it carries is not needed any more, and so cannot appear in a log.
    let credentials = request.headers().get_all(AUTHORIZATION).iter().cloned().collect();
    request.headers_mut().remove(AUTHORIZATION);
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    let admitted = match identify(&access, credentials, peer).await {
        Ok(identity) => access.admit(&identity, &path).map(|permit| (identity, permit)),
        Err(error) => Err(error),
    };
    match admitted {
        Ok((identity, permit)) => {
            request.extensions_mut().insert(identity);
            let response = next.run(request).await;
            match permit {
                // The call is under way as long as its answer.
                Some(permit) => response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _until_the_end = &permit;
                        frame
                    }))
                }),
                None => response,
            }
        }
        Err(error) => status_of(&error).into_http(),
    }
}

/// Who makes a request: whoever its header names; a worker also by its certificate.
async fn identify(
    access: &Access,
    credentials: Vec<HeaderValue>,
    peer: Peer,
) -> Result<Identity, AccessError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX / 2, |now| now.as_secs());
    let is_worker = peer.role == Some(Role::Worker);
    let worker = Scopes::of([Scope::Worker]);
    match access.identify_header(&credentials, now).await {
        Ok(identity) if is_worker => Ok(Identity { scopes: identity.scopes.and(worker), ..identity }),
        // Its certificate says who it is; it needs no key beside.
        Err(AccessError::Unauthenticated) if is_worker && credentials.is_empty() => {
            Ok(Identity { tenant: "".into(), scopes: worker })
        }
        other => other,
    }
}

/// An error as an answer.
fn status_of(error: &AccessError) -> Status {
    match error {
        AccessError::TooMany { retry_after } => status_after(error.class(), &error.to_string(), *retry_after),
        _ => to_status(error),
    }
}
