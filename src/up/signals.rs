//! What ends the lab: SIGINT, SIGTERM, and the end of the parent.
//!
//! The first signal asks, the second no longer does: whoever presses Ctrl-C twice has waited long enough.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::control::lifecycle::watch_parent;

/// Cancels `stop` at the first signal or when standard input ends, and `kill` at the second signal.
pub(super) fn watch(
    stop: &CancellationToken,
    kill: &CancellationToken,
    parent_pipe: bool,
) -> Result<(), String> {
    let catch = |kind| signal(kind).map_err(|error| format!("signals cannot be watched: {error}"));
    let mut interrupt = catch(SignalKind::interrupt())?;
    let mut terminate = catch(SignalKind::terminate())?;
    let (first, second) = (stop.clone(), kill.clone());
    tokio::spawn(async move {
        for token in [first, second] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        }
    });
    if parent_pipe {
        // The sequence of stopping ends its processes by force by itself.
        watch_parent(stop, || {})?;
    }
    Ok(())
}
