//! Bodies of requests: read within their size and time, and taken apart strictly.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use graticule_common::error::ErrorClass;
use graticule_common::literal::Literal;
use http_body_util::BodyExt;

use super::Http;
use super::error::HttpError;

/// Nesting of JSON in a body, as of a graft with some room around it.
const DEPTH_MAX: usize = 300;

/// A body that is too large is read, and forgotten, up to this many times the limit: many clients look for
/// an answer only after they have sent all, and would see a broken connection instead.
const READ_TIMES_MAX: usize = 4;

/// The bytes of a body.
pub(crate) struct Raw(pub(crate) Bytes);

/// A JSON object: its members, each at most once.
pub(crate) struct Json(pub(crate) Vec<(String, Literal)>);

impl FromRequest<Arc<Http>> for Raw {
    type Rejection = HttpError;

    async fn from_request(request: Request, http: &Arc<Http>) -> Result<Self, HttpError> {
        let rules = &http.rules;
        let limit = rules.body_bytes;
        let too_large = || {
            let message = format!("the body has more than {limit} bytes, which is the limit");
            HttpError::new(ErrorClass::LimitExceeded, message)
        };
        let mut body = request.into_body();
        // What says how much too large it is, is not read for nothing.
        if body.size_hint().lower() > (limit * READ_TIMES_MAX) as u64 {
            return Err(too_large());
        }
        let reading = async {
            let (mut bytes, mut read) = (BytesMut::new(), 0);
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| HttpError::invalid("the body ends before its end"))?;
                let Ok(data) = frame.into_data() else { continue };
                read += data.len();
                if read <= limit {
                    bytes.extend_from_slice(&data);
                } else if read > limit * READ_TIMES_MAX {
                    break;
                }
            }
            if read > limit { Err(too_large()) } else { Ok(Raw(bytes.freeze())) }
        };
        let late = |_| {
            let message = format!("the body took longer than {} s", rules.body_within.as_secs());
            HttpError::new(ErrorClass::Timeout, message)
        };
        tokio::time::timeout(rules.body_within, reading).await.map_err(late)?
    }
}

impl FromRequest<Arc<Http>> for Json {
    type Rejection = HttpError;

    async fn from_request(request: Request, http: &Arc<Http>) -> Result<Self, HttpError> {
        let Raw(bytes) = Raw::from_request(request, http).await?;
        object(&bytes).map(Json)
    }
}

/// The members of a JSON object.
///
/// # Errors
/// What is wrong with it, with line and column.
pub(crate) fn object(bytes: &[u8]) -> Result<Vec<(String, Literal)>, HttpError> {
    match json(bytes)? {
        Literal::Object(members) => Ok(members),
        other => {
            Err(HttpError::invalid(format!("the body must be a JSON object, it is {}", other.kind_name())))
        }
    }
}

/// Any JSON.
///
/// # Errors
/// What is wrong with it, with line and column.
pub(crate) fn json(bytes: &[u8]) -> Result<Literal, HttpError> {
    check_depth(bytes)?;
    let wrong = |error: serde_json::Error| HttpError::invalid(format!("this is no JSON: {error}"));
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // Depth is bounded above.
    deserializer.disable_recursion_limit();
    let value = serde::Deserialize::deserialize(&mut deserializer).map_err(wrong)?;
    deserializer.end().map_err(wrong)?;
    Ok(value)
}

/// Bounds nesting before anything recurses over it.
fn check_depth(bytes: &[u8]) -> Result<(), HttpError> {
    graticule_common::graft::check_depth(bytes, DEPTH_MAX).map_err(|_| {
        HttpError::new(
            ErrorClass::LimitExceeded,
            format!("the JSON is nested deeper than {DEPTH_MAX} levels"),
        )
    })
}
