//! The map page.

use std::sync::Arc;

use axum::Router;

use super::Http;

/// Its addresses.
pub(super) fn routes() -> Router<Arc<Http>> {
    Router::new()
}
