//! `firedrill log`: which log events the roles of a lab write, and changing that while they run.

use axum::http::Method;
use serde::Deserialize;
use serde_json::json;

use super::args::{Common, LogArgs};
use super::{labs, print};
use crate::control::lab::Member;
use crate::http::Client;

/// Runs the command.
pub(super) fn run(args: &LogArgs, common: &Common) -> Result<(), String> {
    let lab = labs::running(args.data.as_deref())?;
    let runtime = super::small_runtime()?;
    for member in labs::members(&lab, &args.role)? {
        let filter = runtime.block_on(in_force(member, args, common))?;
        print(&format!("{}: {filter}", member.name));
    }
    Ok(())
}

/// The filter of a role, after it was changed if that is asked.
async fn in_force(member: &Member, args: &LogArgs, common: &Common) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Answer {
        filter: String,
        expires_in_s: Option<u64>,
    }
    let url = format!("http://{}/log", member.control);
    let token = common.token.as_deref();
    if let Some(filter) = &args.filter {
        let mut body = json!({ "filter": filter });
        if let Some(ttl) = args.ttl {
            body["ttl_s"] = ttl.as_secs().into();
        }
        Client::new()
            .control(Method::PUT, &url, Some(&body), token)
            .await?;
    }
    let answer: Answer = Client::new().get_json(&url, token).await?;
    Ok(match answer.expires_in_s {
        Some(left) => format!("{} (for {left} s more)", answer.filter),
        None => answer.filter,
    })
}
