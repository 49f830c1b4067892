//! `firedrill rules`: the alert rules, with the windows of production or with shorter ones.

use super::args::RulesArgs;
use super::print;
use crate::rules::{PRODUCTION, compress};

/// Runs the command.
pub(super) fn run(args: &RulesArgs) -> Result<(), String> {
    print(&compress(PRODUCTION, args.compress)?);
    Ok(())
}
