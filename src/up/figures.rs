//! How the users fare, as `traffic` reports it: the numbers of the status and of the log line.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::termios::tcgetwinsize;
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::output::Level;
use super::status::{View, render};

/// How often the status is drawn.
const FRAME_EVERY: Duration = Duration::from_secs(1);

/// How often the log line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How long the report is waited for: the next frame must not be late because `traffic` is.
const REPORT_WAIT: Duration = Duration::from_millis(800);

/// The last ten settled seconds, seen by the users.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Figures {
    /// Requests that were meant to start, per second.
    pub(super) offered_per_s: f64,
    /// Those that were answered well and in time, per second.
    pub(super) good_per_s: f64,
    /// Median latency in seconds, from the intended start.
    pub(super) p50_s: Option<f64>,
    /// 99th percentile in seconds.
    pub(super) p99_s: Option<f64>,
    /// The others, by kind.
    #[serde(default)]
    pub(super) errors: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Report {
    total: Figures,
}

/// Shows how the lab fares until it is dropped.
pub(super) async fn show(shared: Arc<Shared>) {
    let every = if shared.plan.terminal {
        FRAME_EVERY
    } else {
        LINE_EVERY
    };
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let figures = fetch(&shared).await;
        if shared.plan.terminal {
            draw(&shared, figures.as_ref());
        } else if let Some(figures) = figures {
            let fields = json!({
                "offered_per_s": figures.offered_per_s,
                "good_per_s": figures.good_per_s,
                "p99_s": figures.p99_s,
            });
            shared.output.event(Level::Info, "Load.", &fields);
        }
    }
}

async fn fetch(shared: &Shared) -> Option<Figures> {
    let lab = shared.board.lab();
    let traffic = lab.member("traffic").filter(|traffic| traffic.pid > 0)?;
    let url = format!("http://{}/report", traffic.control);
    let report = shared
        .client
        .get_json::<Report>(&url, shared.plan.token.as_deref());
    // No answer in time means no figures, and the status says so.
    let report = tokio::time::timeout(REPORT_WAIT, report).await.ok()?;
    report.ok().map(|report| report.total)
}

/// The columns and rows of a terminal. What cannot be asked is taken to be an ordinary window.
pub fn window(terminal: impl AsFd) -> (usize, usize) {
    tcgetwinsize(terminal)
        .ok()
        .filter(|size| size.ws_col > 0 && size.ws_row > 0)
        .map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

/// Draws the status.
pub(super) fn draw(shared: &Shared, figures: Option<&Figures>) {
    let (columns, rows) = window(std::io::stdout());
    let lab = shared.board.lab();
    let view = View {
        uptime: shared.started.elapsed(),
        stopping: shared.stop.is_cancelled(),
        figures,
        lab: &lab,
        logs_dir: &shared.plan.logs_dir(),
    };
    shared.output.frame(render(&view, columns), columns, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_also_before_anything_was_answered() {
        let text = r#"{"now_s":63.2,"since_s":50,"until_s":60,"seconds":[],"journeys":{},
            "total":{"offered":1000,"good":990,"bad":10,"offered_per_s":100,"good_per_s":99,
            "p50_s":0.002,"p99_s":null,"max_s":null,"errors":{"503":4,"timeout":6}}}"#;
        let total = serde_json::from_str::<Report>(text).unwrap().total;
        assert_eq!((total.p50_s, total.p99_s), (Some(0.002), None));
        assert_eq!(total.errors["timeout"], 6);
    }
}
