//! Who judges the lab, as the command line and the environment say: the console itself, or a Prometheus.

use std::time::Duration;

use clap::Args;

use crate::console::Judging;
use crate::http::client::base_url;
use crate::judge;
use crate::judge::time::{format_duration, parse_duration};
use crate::rules::{PRODUCTION, compress};

/// By how much the drill profile divides time: an hour becomes a minute.
const DRILL: u32 = 60;

/// Below it the scrapes would be most of the load; what is too seldom for the rules is told by the page.
const SCRAPE_INTERVAL_MIN: Duration = Duration::from_millis(100);
const SCRAPE_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Of the console, and of `up` for its console.
#[derive(Debug, Args)]
pub(in crate::cli) struct JudgeArgs {
    /// The alert rules that the console evaluates: drill, production, or a rule file of Prometheus.
    #[arg(
        long,
        env = "FIREDRILL_RULES",
        default_value = "drill",
        value_name = "FILE"
    )]
    rules: String,
    /// How often the roles are scraped; a rule group without an interval of its own is evaluated as often.
    #[arg(
        long,
        env = "FIREDRILL_SCRAPE_INTERVAL",
        default_value = "1s",
        value_name = "TIME"
    )]
    scrape_interval: String,
    /// An Alertmanager to tell what fires.
    #[arg(long, env = "FIREDRILL_ALERTMANAGER", value_name = "URL")]
    alertmanager: Option<String>,
    /// A Prometheus that evaluates the rules instead of the console: the page shows its alerts.
    #[arg(long, env = "FIREDRILL_PROMETHEUS", value_name = "URL")]
    prometheus: Option<String>,
}

impl JudgeArgs {
    /// What the console is to do; a sentence if it cannot.
    pub(in crate::cli) fn judging(&self) -> Result<Judging, String> {
        let (prometheus, alertmanager) = (
            given(self.prometheus.as_ref()),
            given(self.alertmanager.as_ref()),
        );
        if let Some(url) = prometheus {
            if alertmanager.is_some() {
                return Err(
                    "--prometheus (FIREDRILL_PROMETHEUS) has an Alertmanager of its own: \
                    give it or --alertmanager (FIREDRILL_ALERTMANAGER), not both"
                        .into(),
                );
            }
            let flag = "--prometheus (FIREDRILL_PROMETHEUS)";
            let url = base_url(flag, &url, "http://127.0.0.1:9090")?;
            return Ok(Judging::Prometheus(url));
        }
        let rules = match self.rules.as_str() {
            "drill" => compress(PRODUCTION, DRILL)?,
            "production" => PRODUCTION.to_owned(),
            file => std::fs::read_to_string(file).map_err(|error| {
                format!("--rules (FIREDRILL_RULES): {file} cannot be read: {error}")
            })?,
        };
        let interval = parse_duration(&self.scrape_interval)
            .map_err(|why| format!("--scrape-interval (FIREDRILL_SCRAPE_INTERVAL): {why}"))?;
        if !(SCRAPE_INTERVAL_MIN..=SCRAPE_INTERVAL_MAX).contains(&interval) {
            return Err(format!(
                "--scrape-interval (FIREDRILL_SCRAPE_INTERVAL) is {}; allowed are {} to {}",
                self.scrape_interval,
                format_duration(SCRAPE_INTERVAL_MIN),
                format_duration(SCRAPE_INTERVAL_MAX)
            ));
        }
        let flag = "--alertmanager (FIREDRILL_ALERTMANAGER)";
        let alertmanager = alertmanager
            .map(|url| base_url(flag, &url, "http://127.0.0.1:9093"))
            .transpose()?;
        Ok(Judging::Here(judge::Config {
            rules_name: self.rules.clone(),
            rules,
            interval,
            alertmanager,
        }))
    }

    /// The same for the console's own command line.
    pub(in crate::cli) fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = vec![
            ("--rules", self.rules.clone()),
            ("--scrape-interval", self.scrape_interval.clone()),
        ];
        let urls = [
            ("--alertmanager", &self.alertmanager),
            ("--prometheus", &self.prometheus),
        ];
        flags.extend(
            urls.into_iter()
                .filter_map(|(flag, url)| Some((flag, given(url.as_ref())?))),
        );
        flags
    }
}

/// A variable that is set to nothing is as good as none.
fn given(url: Option<&String>) -> Option<String> {
    url.filter(|url| !url.trim().is_empty()).cloned()
}
