//! Errors as answers of HTTP: one JSON shape, statuses from the one table.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use graticule_common::assembly::AssemblyError;
use graticule_common::error::{Classify, ErrorClass};
use graticule_common::graft::GraftError;
use graticule_common::status::{class_of, http_status, path_of, retry_after};
use serde_json::json;
use tonic::Status;

use crate::access::AccessError;
use crate::catalog::CatalogError;
use crate::layers::LayerError;
use crate::objects::ObjectError;
use crate::render::RenderError;
use crate::request::RequestError;

/// When to come back where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpError {
    /// What the caller can do about it.
    pub(crate) class: ErrorClass,
    /// What is wrong, where, and the way out.
    pub(crate) message: String,
    /// Where in the graft or the body: a JSON pointer.
    pub(crate) path: Option<String>,
    /// When to come back.
    pub(crate) retry_after: Option<Duration>,
    /// The one status that says more than a class: the method is not one of this address.
    pub(super) is_method: bool,
}

impl HttpError {
    /// An error of a class.
    pub(crate) fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        let waits = matches!(class, ErrorClass::Unavailable | ErrorClass::Overloaded);
        let retry_after = waits.then_some(RETRY_AFTER);
        HttpError { class, message: message.into(), path: None, retry_after, is_method: false }
    }

    /// A malformed request.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        HttpError::new(ErrorClass::InvalidRequest, message)
    }

    /// Something that is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        HttpError::new(ErrorClass::NotFound, message)
    }

    /// A defect.
    pub(crate) fn internal(reason: impl std::fmt::Display) -> Self {
        HttpError::new(ErrorClass::Internal, format!("a defect of the server: {reason}"))
    }

    /// What a library answered instead of this program.
    pub(super) fn of_library(status: StatusCode, message: &str) -> Self {
        let class = match status.as_u16() {
            404 => ErrorClass::NotFound,
            405 => return HttpError::method(),
            408 | 504 => ErrorClass::Timeout,
            413 | 414 | 431 => ErrorClass::LimitExceeded,
            401 => ErrorClass::Unauthenticated,
            403 => ErrorClass::Forbidden,
            429 => ErrorClass::Overloaded,
            503 => ErrorClass::Unavailable,
            400..=499 => ErrorClass::InvalidRequest,
            _ => ErrorClass::Internal,
        };
        HttpError::new(class, format!("the request cannot be read: {message}"))
    }

    /// An address that has other methods.
    pub(super) fn method() -> Self {
        let message = "this address does not take this method; `/api` describes what there is";
        HttpError { is_method: true, ..HttpError::invalid(message) }
    }

    /// The same error, at a place in the body.
    pub(crate) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.path = Some(pointer.into());
        self
    }

    /// Any error that classifies itself.
    pub(crate) fn of(error: &dyn Classify) -> Self {
        // The whole graft is no place in it.
        let path = error.place().map(|place| place.pointer()).filter(|path| !path.is_empty());
        HttpError { path, ..HttpError::new(error.class(), error.to_string()) }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        let code = if self.is_method { 405 } else { http_status(self.class) };
        // Every code of the table is one.
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(self.class, ErrorClass::Unavailable | ErrorClass::Overloaded)
    }

    /// The header that says when to come back, in whole seconds, up.
    pub(crate) fn retry_after_header(&self) -> Option<HeaderValue> {
        let after = self.retry_after.filter(|_| self.is_retryable())?;
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        Some(HeaderValue::from(seconds.max(1)))
    }

    /// The body.
    pub(crate) fn json(&self, request_id: &str) -> serde_json::Value {
        json!({
            "code": self.class.name(),
            "message": self.message,
            "detail": self.message,
            "path": self.path,
            "retryable": self.is_retryable(),
            "request_id": request_id,
        })
    }

    /// The whole answer.
    pub(super) fn answer(&self, request_id: &str) -> Response {
        let body = self.json(request_id).to_string();
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut response = (self.status(), [kind, store], body).into_response();
        if let Some(after) = self.retry_after_header() {
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        if self.class == ErrorClass::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl IntoResponse for HttpError {
    /// The layer around all routes, which knows the request's id, makes the body.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Status> for HttpError {
    fn from(status: Status) -> Self {
        let error = HttpError::new(class_of(&status), status.message());
        HttpError {
            path: path_of(&status).filter(|path| !path.is_empty()),
            retry_after: retry_after(&status).or(error.retry_after),
            ..error
        }
    }
}

impl From<RequestError> for HttpError {
    fn from(error: RequestError) -> Self {
        error.status().into()
    }
}

impl From<AccessError> for HttpError {
    fn from(error: AccessError) -> Self {
        let plain = HttpError::of(&error);
        match error {
            AccessError::TooMany { retry_after } => HttpError { retry_after: Some(retry_after), ..plain },
            _ => plain,
        }
    }
}

/// Errors that have nothing to add to what they say of themselves.
macro_rules! classified {
    ($($error:ty),*) => {
        $(impl From<$error> for HttpError {
            fn from(error: $error) -> Self {
                HttpError::of(&error)
            }
        })*
    };
}

classified!(LayerError, ObjectError, CatalogError, RenderError, GraftError, AssemblyError);

#[cfg(test)]
mod tests {
    use super::*;
    use graticule_common::error::GraftPath;
    use graticule_common::status::to_status;

    #[test]
    fn an_error_keeps_its_class_its_place_and_when_to_come_back() {
        let at = GraftPath::root().join("a/b").join("1");
        let error = GraftError::MissingParameter { at, name: "start".into() };
        let over_grpc = HttpError::from(to_status(&error));
        let direct = HttpError::from(error);
        assert_eq!(over_grpc, direct);
        assert_eq!(direct.path.as_deref(), Some("/a~1b/1"));
        assert_eq!(direct.status(), StatusCode::BAD_REQUEST);
        let error = HttpError::from(AccessError::TooMany { retry_after: Duration::from_millis(1200) });
        assert_eq!((error.status().as_u16(), error.retry_after_header()), (429, Some(HeaderValue::from(2))));
        let body = error.json("abc");
        assert_eq!((&body["code"], &body["retryable"]), (&"overloaded".into(), &true.into()));
        assert_eq!(body["detail"], body["message"]);
    }
}
