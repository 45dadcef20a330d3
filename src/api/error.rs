//! Error answers: always JSON, with a message that says what to do.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{auth::Denied, shapes::ErrorBody};
use crate::{config::SettingsError, ledger::ReadError};

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    problems: Vec<String>,
    /// Seconds for the header Retry-After.
    retry_after: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), problems: Vec::new(), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "This needs the admin password: sign in, or send it as a bearer token.";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// Of a first password.
    pub(super) fn bad_password(what: &str) -> Self {
        SettingsError::Refused(vec![format!("admin_password {what}")]).into()
    }

    /// Settings that are understood, and name what does not work.
    pub(super) fn try_failed(problems: Vec<String>) -> Self {
        let message = "This was tried and does not work. Nothing was changed.";
        Self { problems, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "try-failed", message) }
    }

    pub(super) fn too_many_tries(wait: Duration) -> Self {
        let seconds = wait.as_secs() + 1;
        let message = format!("Too much has been tried of late: try again in {seconds} s.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tries", message).retry_after(seconds)
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, problems, retry_after } = self;
        let body = ErrorBody { error: code, message, problems };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"gatewayd\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::ReadOnly => Self::new(
                StatusCode::FORBIDDEN,
                "read-only",
                "Nothing can be changed here: set api.admin_password_file in gatewayd.toml to the \
                 path of a file with a password, and send SIGHUP.",
            ),
            Denied::WrongPassword => {
                Self::new(StatusCode::UNAUTHORIZED, "wrong-password", "The password is wrong.")
            }
            Denied::WrongCode => Self::new(
                StatusCode::UNAUTHORIZED,
                "wrong-code",
                "The first settings take the set-up code that gatewayd wrote to its log when it \
                 started: see `journalctl -u gatewayd`, `docker logs`, or the terminal.",
            ),
            Denied::Wait(wait) => {
                let seconds = wait.as_secs() + 1;
                let message = format!(
                    "Too many wrong passwords from your address: try again in {seconds} s."
                );
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-attempts", message)
                    .retry_after(seconds)
            }
            Denied::Busy => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "busy",
                "Others are signing in right now: try again in a second.",
            )
            .retry_after(1),
        }
    }
}

impl From<SettingsError> for ApiError {
    fn from(error: SettingsError) -> Self {
        let message = error.to_string();
        match error {
            SettingsError::Refused(problems) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self { problems, ..Self::new(status, "bad-settings", message) }
            }
            SettingsError::Outdated => Self::new(StatusCode::CONFLICT, "outdated", message),
            SettingsError::SetUpAlready => {
                Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
            }
            SettingsError::NotWritable(_) => {
                Self::new(StatusCode::CONFLICT, "not-writable", message)
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-history", error.to_string()).retry_after(5)
    }
}
