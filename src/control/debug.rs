//! Profiles of the role: what its processor time goes into, and who holds its memory.
//!
//! The paths, the parameters and the form are those of Go's `net/http/pprof`, which `go tool pprof`, Grafana Alloy
//! and Pyroscope ask for: a CPU profile covers the seconds that were asked for and nothing before them, so that one
//! scrape after the other adds up. Taken on the control plane, it works while every worker of the data plane is
//! blocked; and in a thread beside it, so that `/metrics` and the choices answer meanwhile.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::sync::CancellationToken;

use super::Plane;
use crate::http::Problem;
use crate::http::extract::ValidQuery;
use crate::telemetry::profiles::{self, CpuTurn, HZ_DEFAULT, HZ_MAX, NotTaken, Profile};

type Query = ValidQuery<BTreeMap<String, String>>;

const SECONDS: RangeInclusive<u32> = 1..=60;

/// As Go has it; `go tool pprof URL` asks without a number.
const SECONDS_DEFAULT: u32 = 30;

/// `GET /debug/pprof/profile?seconds=N&hz=N`
pub(super) async fn cpu(State(plane): State<Plane>, query: Query) -> Result<Response, Problem> {
    let asked = Asked::read(&query.0)?;
    let bytes = sample(plane, asked, |profile| Ok(profile.pprof())).await?;
    Ok(pprof("profile", bytes))
}

/// `GET /debug/pprof/heap`
pub(super) async fn heap(query: Query) -> Result<Response, Problem> {
    only(&query.0, &[])?;
    let taken = tokio::task::spawn_blocking(|| profiles::heap().map(|profile| profile.pprof()));
    let bytes = taken
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| refusal("heap profile", &error))?;
    Ok(pprof("heap", bytes))
}

/// `GET /debug/flamegraph?seconds=N&hz=N`
pub(super) async fn flamegraph(
    State(plane): State<Plane>,
    query: Query,
) -> Result<Response, Problem> {
    let asked = Asked::read(&query.0)?;
    let (role, seconds) = (plane.role, asked.seconds);
    let draw = move |profile: Profile| {
        let used_s = profile.used().as_secs_f64();
        let title = format!("{role}: {used_s:.2} s of CPU time in {seconds} s");
        profile.flamegraph(&title)
    };
    let svg = sample(plane, asked, draw).await?;
    let headers = [
        (header::CONTENT_TYPE, "image/svg+xml"),
        // The page zooms and searches by a script of its own; nothing in it may talk to the control plane.
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'",
        ),
    ];
    Ok((headers, svg).into_response())
}

/// What a CPU profile was asked for.
#[derive(Debug, Clone, Copy)]
struct Asked {
    seconds: u32,
    hz: u32,
}

impl Asked {
    fn read(query: &BTreeMap<String, String>) -> Result<Self, Problem> {
        only(query, &["seconds", "hz"])?;
        Ok(Self {
            seconds: number(query, "seconds", SECONDS)?.unwrap_or(SECONDS_DEFAULT),
            hz: number(query, "hz", 1..=HZ_MAX)?.unwrap_or(HZ_DEFAULT),
        })
    }
}

/// Refuses what would be ignored.
fn only(query: &BTreeMap<String, String>, known: &[&str]) -> Result<(), Problem> {
    let Some((name, value)) = query
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()))
    else {
        return Ok(());
    };
    let allowed = match known {
        [] => "no parameters".to_owned(),
        known => known.join(", "),
    };
    let detail = "There is no such parameter.";
    Err(Problem::new(StatusCode::BAD_REQUEST, detail)
        .field(name)
        .value(value.as_str())
        .allowed(allowed))
}

fn number(
    query: &BTreeMap<String, String>,
    name: &str,
    allowed: RangeInclusive<u32>,
) -> Result<Option<u32>, Problem> {
    let Some(text) = query.get(name) else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|number| allowed.contains(number));
    number.map(Some).ok_or_else(|| {
        let allowed = format!(
            "a whole number from {} to {}",
            allowed.start(),
            allowed.end()
        );
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("{name} must be {allowed}."),
        )
        .field(name)
        .value(text.as_str())
        .allowed(allowed)
    })
}

/// Takes a CPU profile and tells it in the form of `tell`, both on a thread that may block. Ends early when the client
/// leaves, because then this future is dropped, and when the role stops.
async fn sample(
    plane: Plane,
    asked: Asked,
    tell: impl FnOnce(Profile) -> std::io::Result<Vec<u8>> + Send + 'static,
) -> Result<Vec<u8>, Problem> {
    let refused = |error| refusal("CPU profile", &error);
    let turn = CpuTurn::take().map_err(refused)?;
    let cancelled: CancellationToken = plane.stop.child_token();
    let _until_dropped = cancelled.clone().drop_guard();
    let taken = tokio::task::spawn_blocking(move || {
        let lasting = Duration::from_secs(asked.seconds.into());
        turn.profile(asked.hz, lasting, || cancelled.is_cancelled())
            .map(tell)
    });
    taken
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(refused)?
        .map_err(|error| Problem::internal(&error))
}

fn refusal(what: &str, error: &NotTaken) -> Problem {
    let (status, detail) = match error {
        NotTaken::Busy => {
            let detail = format!("Another {what} is being taken; there can be one at a time.");
            (StatusCode::CONFLICT, detail)
        }
        NotTaken::Cancelled => {
            let detail = format!("The role stops; the {what} was broken off.");
            (StatusCode::SERVICE_UNAVAILABLE, detail)
        }
        NotTaken::Unavailable(why) => {
            let detail = format!("There is no {what} here. {why}");
            (StatusCode::NOT_IMPLEMENTED, detail)
        }
    };
    Problem::new(status, detail)
}

fn pprof(name: &str, bytes: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}.pb.gz\""),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (headers, bytes).into_response()
}
