//! Lets in who carries the bearer token (RFC 6750 §2.1). Everything needs it, but for what says how the server is.

use super::AppState;
use super::problem::Problem;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

/// What tells nothing of calls or people, for load balancers and collectors.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Answers 401 in place of `next` where the token is missing or wrong.
pub(super) async fn check(
    State(state): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if OPEN.contains(&request.uri().path()) {
        return Ok(next.run(request).await);
    }
    let token = bearer(request.headers());
    if token.is_some_and(|token| state.token.matches(token)) {
        return Ok(next.run(request).await);
    }
    state.metrics.http.unauthorised.inc();
    Err(Problem::unauthorised(token.is_some()))
}

/// The token of the one Authorization header; the scheme's case does not count (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (header::AUTHORIZATION, HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        assert_eq!(bearer(&headers(&["Bearer s3cret"])), Some("s3cret"));
        assert_eq!(bearer(&headers(&["bEARER  s3cret "])), Some("s3cret"));
        for wrong in [&[][..], &["Basic czNjcmV0"], &["Bearer"], &["Bearers3cret"], &["Bearer a", "Bearer a"]] {
            assert_eq!(bearer(&headers(wrong)), None, "{wrong:?}");
        }
    }
}
