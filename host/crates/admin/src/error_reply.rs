//! Answers that report an error.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer that reports an error: its status and its text.
#[derive(Debug)]
pub(crate) struct ErrorReply(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for ErrorReply {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}
