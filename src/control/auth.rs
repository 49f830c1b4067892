//! Who may ask the control plane.
//!
//! It can break and kill its process, so it listens on loopback unless a token is set. Loopback alone is not
//! enough: a web page that the operator happens to visit can send requests to 127.0.0.1. Such a page cannot
//! forge `Host` (a rebound name shows there) nor `Origin`, so both are checked. `/metrics`, `/livez` and
//! `/readyz` are read-only and open: a Prometheus in another container scrapes them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::Problem;

/// The rules of one listener.
#[derive(Debug, Clone)]
pub struct Guard {
    token: Option<Arc<str>>,
    loopback: bool,
}

/// Refuses to bind a control plane where others could reach it, unless a token is set.
pub fn check_bind(what: &str, address: SocketAddr, token: Option<&str>) -> Result<(), String> {
    if address.ip().is_loopback() || token.is_some() {
        return Ok(());
    }
    Err(format!(
        "{what} would listen on {address}, where others can reach it: set FIREDRILL_TOKEN, or bind to 127.0.0.1"
    ))
}

impl Guard {
    /// The rules for a listener on `address`.
    #[must_use]
    pub fn new(address: SocketAddr, token: Option<&str>) -> Self {
        Self {
            token: token.map(Arc::from),
            loopback: address.ip().is_loopback(),
        }
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        if self.loopback && !is_loopback_host(host) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "This host name does not belong here.",
            )
            .field("Host")
            .value(host)
            .allowed("localhost or a loopback address"));
        }
        if let Some(origin) = text(header::ORIGIN)
            && origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"))
                != Some(host)
        {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "Another site's page may not ask this.",
            )
            .field("Origin")
            .value(origin)
            .allowed("the same host and port"));
        }
        let Some(token) = &self.token else {
            return Ok(());
        };
        let sent = text(header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        if same(sent.as_bytes(), token.as_bytes()) {
            return Ok(());
        }
        Err(
            Problem::new(StatusCode::UNAUTHORIZED, "The token is missing or wrong.")
                .field("Authorization")
                .allowed("Bearer and the value of FIREDRILL_TOKEN"),
        )
    }
}

fn is_loopback_host(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.chars().all(|digit| digit.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Compares without stopping at the first difference: its place must not be told by the time it takes.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

/// Lets a request through if the rules allow it: the middleware for `axum::middleware::from_fn_with_state`.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn status(guard: &Guard, headers: &[(&'static str, &'static str)]) -> u16 {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        guard
            .check(&headers)
            .map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn a_web_page_cannot_reach_a_control_plane_on_loopback() {
        let guard = Guard::new("127.0.0.1:9464".parse().unwrap(), None);
        assert_eq!(status(&guard, &[("host", "127.0.0.1:9464")]), 200);
        assert_eq!(status(&guard, &[("host", "localhost:9464")]), 200);
        assert_eq!(status(&guard, &[("host", "[::1]:9464")]), 200);
        assert_eq!(status(&guard, &[("host", "rebound.example:9464")]), 421);
        assert_eq!(
            status(
                &guard,
                &[
                    ("host", "127.0.0.1:9464"),
                    ("origin", "http://evil.example")
                ]
            ),
            403
        );
        assert_eq!(
            status(&guard, &[("host", "127.0.0.1:9464"), ("origin", "null")]),
            403
        );
        assert_eq!(
            status(
                &guard,
                &[
                    ("host", "127.0.0.1:9464"),
                    ("origin", "http://127.0.0.1:9464")
                ]
            ),
            200
        );
    }

    #[test]
    fn where_a_token_is_set_it_is_asked_for() {
        let guard = Guard::new("0.0.0.0:9464".parse().unwrap(), Some("secret"));
        assert_eq!(status(&guard, &[("host", "shop:9464")]), 401);
        assert_eq!(
            status(
                &guard,
                &[("host", "shop:9464"), ("authorization", "Bearer wrong!")]
            ),
            401
        );
        assert_eq!(
            status(
                &guard,
                &[("host", "shop:9464"), ("authorization", "Bearer secret")]
            ),
            200
        );
    }

    #[test]
    fn a_public_bind_needs_a_token() {
        let public = "0.0.0.0:9464".parse().unwrap();
        assert!(
            check_bind("the control plane", public, None)
                .unwrap_err()
                .contains("FIREDRILL_TOKEN")
        );
        assert!(check_bind("the control plane", public, Some("secret")).is_ok());
    }
}
