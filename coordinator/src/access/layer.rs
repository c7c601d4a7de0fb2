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

use super::quota::Permit;
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
    let credentials: Vec<_> = request.headers().get_all(AUTHORIZATION).iter().cloned().collect();
    request.headers_mut().remove(AUTHORIZATION);
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    let admitted = match identify(&access, &credentials, peer).await {
        Ok(identity) => access.admit(&identity, &path).map(|permit| (identity, permit)),
        Err(error) => Err(error),
    };
    match admitted {
        Ok((identity, permit)) => {
            if needs(&path) == Needs::Scope(Scope::Worker) {
                let standing = Standing { access, credentials, peer, path };
                request.extensions_mut().insert(standing);
            }
            request.extensions_mut().insert(identity);
            let permit = permit.map(Arc::new);
            if let Some(permit) = &permit {
                request.extensions_mut().insert(UnderWay::new(permit.clone()));
            }
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

/// A call under way, in its request's extensions: it counts as long as its answer lasts, and as long as
/// whoever works for it holds this.
#[derive(Clone, Debug)]
pub struct UnderWay {
    _permit: Arc<Permit>,
}

impl UnderWay {
    /// What lasts as long as this permit.
    pub fn new(permit: Arc<Permit>) -> UnderWay {
        UnderWay { _permit: permit }
    }
}

/// The credentials of a call that lasts, in its request's extensions: what was let in once is not let in for
/// ever.
#[derive(Clone)]
pub struct Standing {
    access: Arc<Access>,
    credentials: Vec<HeaderValue>,
    peer: Peer,
    path: String,
}

impl Standing {
    /// Whether the call would be let in again now. That it cannot be judged just now is no reason to end it.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] or [`AccessError::Forbidden`], once credentials are revoked, have
    /// expired or are worth less.
    pub async fn check(&self) -> Result<(), AccessError> {
        match identify(&self.access, &self.credentials, self.peer).await {
            Ok(identity) => self.access.allows(&identity, &self.path),
            Err(error @ AccessError::Unauthenticated) => Err(error),
            Err(_) => Ok(()),
        }
    }
}

/// Who makes a request: whoever its header names; a worker also by its certificate.
async fn identify(access: &Access, credentials: &[HeaderValue], peer: Peer) -> Result<Identity, AccessError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX / 2, |now| now.as_secs());
    let is_worker = peer.role == Some(Role::Worker);
    let worker = Scopes::of([Scope::Worker]);
    match access.identify_header(credentials, now).await {
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
