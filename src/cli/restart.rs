//! `firedrill restart`: ends processes of a lab and waits until its supervisor has started them again, one after the
//! other, as a deployment does: the next one ends when the one before is ready.

use std::path::Path;
use std::time::Duration;

use axum::http::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::args::{Common, RestartArgs};
use super::{labs, print};
use crate::control::lab::Member;
use crate::http::Client;

/// How long a process that is ready serves before the next one ends: whoever passed it over while it was gone must have
/// found it again, or both would be gone at once.
const SETTLE: Duration = Duration::from_secs(2);

/// How long one process may take to drain, end, start and be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
pub(super) fn run(args: &RestartArgs, common: &Common) -> Result<(), String> {
    let lab = labs::running(args.data.as_deref())?;
    let members = labs::members(&lab, &args.role)?;
    super::small_runtime()?.block_on(async {
        for (index, member) in members.into_iter().enumerate() {
            if index > 0 {
                sleep(SETTLE).await;
            }
            let version = restart(member, args, common).await?;
            print(&format!("{}: {version} is ready", member.name));
        }
        Ok(())
    })
}

/// Restarts one process, and returns the version that runs then.
async fn restart(member: &Member, args: &RestartArgs, common: &Common) -> Result<String, String> {
    let (client, token) = (Client::new(), common.token.as_deref());
    let mut body = json!({ "how": "term" });
    if let Some(version) = &args.service_version {
        body["service_version"] = version.as_str().into();
    }
    let url = format!("http://{}/exit", member.control);
    client
        .control(Method::POST, &url, Some(&body), token)
        .await?;
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        if let Some(version) = ready(&client, member, args.data.as_deref(), token).await? {
            return Ok(version);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(format!(
        "{} was not ready again within {} s",
        member.name,
        PATIENCE.as_secs()
    ))
}

/// The version of the process that has taken the place of `before`, once it is ready.
async fn ready(
    client: &Client,
    before: &Member,
    data: Option<&Path>,
    token: Option<&str>,
) -> Result<Option<String>, String> {
    #[derive(Deserialize)]
    struct Answer {
        service_version: String,
    }
    let lab = labs::running(data)?;
    let now = lab.members.iter().find(|now| now.name == before.name);
    let Some(now) = now.filter(|now| now.pid != 0 && now.pid != before.pid) else {
        return Ok(None);
    };
    let at = |path: &str| format!("http://{}{path}", now.control);
    let asked = client
        .control(Method::GET, &at("/readyz"), None, token)
        .await;
    if asked.is_err() {
        return Ok(None);
    }
    let answer: Answer = client.get_json(&at("/changes"), token).await?;
    Ok(Some(answer.service_version))
}
