//! Restarting the processes of a role from outside, as a deployment does: one after the other, under a version.
//!
//! Whoever ends the second replica while the first is still missed has none. So the next one ends only when the one
//! before serves again and those who passed it over have had the time to notice. Whoever started the processes (`up`,
//! Compose) starts them again; here they are only asked to end.

use std::time::Duration;

use axum::http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::http::Client;

/// How long a process that is ready serves before the next one ends.
const SETTLE: Duration = Duration::from_secs(2);

/// How long one process may take to drain, end, start and be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often is asked whether it is.
const POLL: Duration = Duration::from_millis(50);

/// What runs at a control plane.
#[derive(Debug, Deserialize)]
struct Running {
    service_version: String,
    started_at_s: f64,
}

/// Restarts what answers at each of these control planes (`http://127.0.0.1:9464`), as `version` if one is named.
/// `told` hears of each that is ready again: which one it is, and the version that runs there now.
pub async fn one_after_the_other(
    controls: &[String],
    version: Option<&str>,
    token: Option<&str>,
    mut told: impl FnMut(usize, &str),
) -> Result<(), String> {
    let client = Client::new();
    for (index, control) in controls.iter().enumerate() {
        if index > 0 {
            sleep(SETTLE).await;
        }
        let running = restart(&client, control, version, token).await?;
        told(index, &running);
    }
    Ok(())
}

/// The version that a deployment there would be: `0.1.0` is followed by `0.1.1`.
pub async fn next_version(control: &str, token: Option<&str>) -> Result<String, String> {
    let running = running(&Client::new(), control, token).await?;
    Ok(next_patch(&running.service_version))
}

fn next_patch(version: &str) -> String {
    let (before, patch) = version.rsplit_once('.').unwrap_or((version, ""));
    match patch.parse::<u32>().map(|patch| patch.checked_add(1)) {
        Ok(Some(next)) => format!("{before}.{next}"),
        _ => format!("{version}.1"),
    }
}

async fn running(client: &Client, control: &str, token: Option<&str>) -> Result<Running, String> {
    client.get_json(&format!("{control}/changes"), token).await
}

/// Restarts one process, and returns the version that runs then.
async fn restart(
    client: &Client,
    control: &str,
    version: Option<&str>,
    token: Option<&str>,
) -> Result<String, String> {
    let before = running(client, control, token).await?.started_at_s;
    let mut body = json!({ "how": "term" });
    if let Some(version) = version {
        body["service_version"] = version.into();
    }
    let exit = format!("{control}/exit");
    client
        .control(Method::POST, &exit, Some(&body), token)
        .await?;
    let asked = Instant::now();
    let ready = format!("{control}/readyz");
    while asked.elapsed() < PATIENCE {
        sleep(POLL).await;
        // Nobody answers while there is no process.
        let Ok(now) = running(client, control, token).await else {
            continue;
        };
        let ready = client.control(Method::GET, &ready, None, token).await;
        if is_another(now.started_at_s, before) && ready.is_ok() {
            return Ok(now.service_version);
        }
    }
    Err(format!(
        "{control} was not ready again within {} s: is there somebody who restarts it?",
        PATIENCE.as_secs()
    ))
}

/// Whether two starts are of two processes; a clock may have been set between them.
fn is_another(now_s: f64, before_s: f64) -> bool {
    now_s.to_bits() != before_s.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_is_the_next_patch() {
        for (version, next) in [
            ("0.1.0", "0.1.1"),
            ("0.1.9", "0.1.10"),
            ("7", "7.1"),
            ("2.x", "2.x.1"),
            ("1.4294967295", "1.4294967295.1"),
        ] {
            assert_eq!(next_patch(version), next);
        }
    }
}
