//! `firedrill restart`: ends processes of a lab and waits until its supervisor has started them again.

use super::args::{Common, RestartArgs};
use super::{labs, print};
use crate::control::restart::one_after_the_other;

/// Runs the command.
pub(super) fn run(args: &RestartArgs, common: &Common) -> Result<(), String> {
    let lab = labs::running(args.data.as_deref())?;
    let members = labs::members(&lab, &args.role)?;
    let controls = members.iter().map(|one| format!("http://{}", one.control));
    let controls: Vec<_> = controls.collect();
    let (version, token) = (args.service_version.as_deref(), common.token.as_deref());
    super::small_runtime()?.block_on(one_after_the_other(
        &controls,
        version,
        token,
        |index, version| print(&format!("{}: {version} is ready", members[index].name)),
    ))
}
