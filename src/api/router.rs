//! All paths, and the description generated from them.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use tower_http::{compression::CompressionLayer, set_header::SetResponseHeaderLayer};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    admin, assets, bans, budget, compat, datum_gateway, extract, host_check, prefix, read,
    state::State,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "gatewayd",
        description = "The state of a gateway, for people, scripts and dashboards. Reading needs \
                       no password; making changes does. Units are in the names; null means not \
                       known.",
    ),
    modifiers(&Security),
)]
struct Description;

/// The ways to prove that one may change things.
struct Security;

impl Modify for Security {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("bearer", bearer);
        let basic = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        components.add_security_scheme("basic", basic);
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(extract::COOKIE)));
        components.add_security_scheme("cookie", cookie);
        let csrf = ApiKeyValue::new(extract::CSRF_HEADER);
        components.add_security_scheme("csrf", SecurityScheme::ApiKey(ApiKey::Header(csrf)));
    }
}

pub(super) fn router(state: &Arc<State>) -> Router {
    let (router, description) = endpoints().split_for_parts();
    // Never an error: the description consists of plain text.
    let description: Bytes = description.to_json().unwrap_or_default().into();
    router
        .route(
            "/api/v1/openapi.json",
            get(async move |state: SharedState| describe(&state, &description)),
        )
        .fallback(assets::serve)
        .method_not_allowed_fallback(assets::not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(from_fn_with_state(Arc::clone(state), budget::hold))
        .layer(from_fn_with_state(Arc::clone(state), host_check::guard))
        .layer(CompressionLayer::new())
        .layer(unless(header::CACHE_CONTROL, "no-store"))
        .layer(always(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(always(header::X_FRAME_OPTIONS, "DENY"))
        .layer(always(header::REFERRER_POLICY, "no-referrer"))
        .layer(always(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(always(HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
        .with_state(Arc::clone(state))
}

fn endpoints() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(read::healthz))
        .routes(routes!(read::readyz))
        .routes(routes!(read::metrics))
        .routes(routes!(read::status))
        .routes(routes!(read::miners))
        .routes(routes!(read::workers))
        .routes(routes!(read::history))
        .routes(routes!(read::rejects))
        .routes(routes!(read::work))
        .routes(routes!(read::pool))
        .routes(routes!(read::nodes))
        .routes(routes!(read::blocks))
        .routes(routes!(read::stratum_ca))
        .routes(routes!(read::events))
        .routes(routes!(admin::session, admin::sign_in, admin::sign_out))
        .routes(routes!(admin::config, admin::set_config))
        .routes(routes!(admin::reload))
        .routes(routes!(admin::notify))
        .routes(routes!(admin::disconnect))
        .routes(routes!(bans::bans))
        .routes(routes!(bans::lift))
        .routes(routes!(compat::notify, compat::notify_post))
        .routes(routes!(compat::umbrel))
        .routes(routes!(datum_gateway::server_info))
        .routes(routes!(datum_gateway::current_job))
        .routes(routes!(datum_gateway::coinbaser))
        .routes(routes!(datum_gateway::thread_stats))
        .routes(routes!(datum_gateway::clients))
        .routes(routes!(datum_gateway::configuration))
}

type SharedState = axum::extract::State<Arc<State>>;

fn describe(state: &SharedState, description: &Bytes) -> Response {
    let base = Arc::clone(&state.handles.configs.borrow().api.base_path);
    let body = match &*base {
        "" => description.clone(),
        base => prefix::describe(description, base).into(),
    };
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

fn always(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}

/// A header for answers that do not have it yet.
fn unless(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Everything is loaded from here; no inline code is run, and nobody may put the dashboard into a
/// frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Enough for a gatewayd.toml with a class for every miner in the world.
const BODY_LEN_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// `config` may not look here, so it has a list.
    #[test]
    fn no_base_path_hides_an_endpoint_or_a_file() {
        let paths = endpoints().into_openapi().paths.paths;
        let files = assets::names().map(|name| format!("/{name}"));
        for path in paths.keys().cloned().chain(files) {
            let first = path.split('/').nth(1).unwrap();
            assert!(crate::config::OWN_PATHS.contains(&first), "{path} may be hidden");
        }
    }

    #[test]
    fn every_endpoint_is_described() {
        let paths = endpoints().into_openapi().paths.paths;
        let known: Vec<_> = paths.keys().map(String::as_str).collect();
        for path in [
            "/healthz",
            "/readyz",
            "/metrics",
            "/NOTIFY",
            "/umbrel-api",
            "/api/v1/status",
            "/api/v1/miners",
            "/api/v1/workers",
            "/api/v1/history",
            "/api/v1/rejects",
            "/api/v1/work",
            "/api/v1/pool",
            "/api/v1/nodes",
            "/api/v1/blocks",
            "/api/v1/events",
            "/api/v1/session",
            "/api/v1/config",
            "/api/v1/miners/{id}/disconnect",
            "/api/v1/bans",
            "/api/v1/bans/{address}",
            "/api/v1/reload",
            "/api/v1/notify",
        ] {
            assert!(known.contains(&path), "{path} is missing in {known:?}");
        }
    }
}
