//! A running lab, as a drill acts on it: through the control planes of its roles, and in no other way.
//!
//! Whatever is done here is written down first, and [`Lab::roll_back`] takes all of it back, also after an
//! error. Should this process die before that, every choice and every shock ends by its own time to live.

use std::collections::BTreeMap;

use axum::http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::condition::Journey;
use super::format::{Load, OptionName, RoleName, Shock};
use super::seen::{P99, Second};
use super::signals::whole_seconds;
use super::text_format::Scrape;
use crate::http::Client;

/// Where the control planes of a lab are, as base URLs (`http://127.0.0.1:9464`).
#[derive(Debug, Clone)]
pub struct LabAddresses {
    /// The users'.
    pub traffic_control: String,
    /// The shop's.
    pub shop_control: String,
    /// Those of payments, one for each replica.
    pub payments_controls: Vec<String>,
    /// The token that they ask for.
    pub token: Option<String>,
}

/// The metrics of every role at about the same time.
#[derive(Debug)]
pub(super) struct Scrapes {
    pub(super) shop: Scrape,
    pub(super) payments: Vec<Scrape>,
    pub(super) traffic: Scrape,
}

/// What the users report.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    /// Seconds since the users' process started.
    pub(super) now_s: f64,
    /// The settled seconds that were asked for.
    pub(super) seconds: Vec<Second>,
}

#[derive(Debug, Deserialize)]
struct Totals {
    journeys: BTreeMap<String, Quantiles>,
}

#[derive(Debug, Deserialize)]
struct Quantiles {
    p99_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Choices {
    choices: Vec<ChoiceStatus>,
}

#[derive(Debug, Deserialize)]
struct ChoiceStatus {
    name: String,
    option: OptionName,
}

/// How one thing is taken back.
#[derive(Debug, Clone, PartialEq)]
struct Undo {
    method: Method,
    url: String,
    body: Option<Value>,
}

/// A lab and what was done to it.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    client: Client,
    at: &'a LabAddresses,
    undo: Vec<Undo>,
}

impl<'a> Lab<'a> {
    pub(super) fn new(at: &'a LabAddresses) -> Self {
        Self {
            client: Client::new(),
            at,
            undo: Vec::new(),
        }
    }

    async fn put(&self, url: &str, body: &Value) -> Result<(), String> {
        let token = self.at.token.as_deref();
        let answer = self
            .client
            .control(Method::PUT, url, Some(body), token)
            .await;
        answer
            .map(drop)
            .map_err(|error| format!("PUT {url} failed: {error}"))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let token = self.at.token.as_deref();
        self.client.get_json(url, token).await
    }

    /// Refuses a lab in which a choice is poor already: two causes at once prove nothing about either.
    pub(super) async fn require_all_sound(&self) -> Result<(), String> {
        let url = format!("{}/choices", self.at.shop_control);
        let Choices { choices } = self.get(&url).await?;
        match choices
            .iter()
            .find(|choice| choice.option == OptionName::Poor)
        {
            None => Ok(()),
            Some(choice) => Err(format!(
                "{} is poor in this lab, and a drill begins with every choice sound",
                choice.name
            )),
        }
    }

    /// Sets a choice for at most `ttl_s`; it is sound again after the roll-back.
    pub(super) async fn set_choice(
        &mut self,
        choice: &str,
        option: OptionName,
        ttl_s: f64,
    ) -> Result<(), String> {
        let url = format!("{}/choices/{choice}", self.at.shop_control);
        let back = json!({ "option": OptionName::Sound.name() });
        self.remember(Method::PUT, &url, Some(back));
        let body = json!({ "option": option.name(), "ttl_s": ttl_s });
        self.put(&url, &body).await
    }

    /// Sets what users do; what they did before is restored by the roll-back.
    pub(super) async fn set_load(&mut self, load: &Load) -> Result<(), String> {
        let url = format!("{}/load", self.at.traffic_control);
        let before: Value = self.get(&url).await?;
        let back = json!({ "rate": before["rate"], "mix": before["mix"] });
        self.remember(Method::PUT, &url, Some(back));
        self.put(&url, &json!(load)).await
    }

    /// Begins a shock, at every replica of its role.
    pub(super) async fn begin_shock(&mut self, shock: &Shock) -> Result<(), String> {
        let at = self.at;
        let controls = match shock.role {
            RoleName::Shop => std::slice::from_ref(&at.shop_control),
            RoleName::Traffic => std::slice::from_ref(&at.traffic_control),
            RoleName::Payments => at.payments_controls.as_slice(),
        };
        let mut body = json!(shock.parameters);
        body["ttl_s"] = json!(shock.ttl_s);
        for control in controls {
            let url = format!("{control}/shocks/{}", shock.name);
            self.remember(Method::DELETE, &url, None);
            self.put(&url, &body).await?;
        }
        Ok(())
    }

    /// The first note about a URL counts: it leads back to how the lab was found.
    fn remember(&mut self, method: Method, url: &str, body: Option<Value>) {
        if !self.undo.iter().any(|undo| undo.url == url) {
            let url = url.to_owned();
            self.undo.push(Undo { method, url, body });
        }
    }

    /// Takes back all that was done, the last first; what could not be taken back is said in a sentence each.
    pub(super) async fn roll_back(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        let token = self.at.token.as_deref();
        while let Some(Undo { method, url, body }) = self.undo.pop() {
            let answer = self
                .client
                .control(method, &url, body.as_ref(), token)
                .await;
            if let Err(error) = answer {
                failures.push(format!("{url} could not be taken back: {error}"));
            }
        }
        failures
    }

    /// The users' report; without `since_s` its seconds are of no use, only its clock is.
    pub(super) async fn report(&self, since_s: Option<f64>) -> Result<Report, String> {
        let query = since_s.map_or_else(String::new, |since_s| format!("?since={since_s:.0}"));
        let url = format!("{}/report{query}", self.at.traffic_control);
        self.get(&url).await
    }

    /// The p99 of a journey over the whole seconds of a window.
    pub(super) async fn p99(
        &self,
        journey: Journey,
        from_s: f64,
        to_s: f64,
    ) -> Result<P99, String> {
        let (from_s, to_s) = whole_seconds(from_s, to_s);
        let url = format!(
            "{}/report?since={from_s:.0}&until={to_s:.0}",
            self.at.traffic_control
        );
        let totals: Totals = self.get(&url).await?;
        let quantiles = totals.journeys.get(journey.name());
        Ok(P99 {
            journey,
            from_s,
            to_s,
            p99_s: quantiles.and_then(|quantiles| quantiles.p99_s),
        })
    }

    /// Reads the metrics of every role.
    pub(super) async fn scrape(&self) -> Result<Scrapes, String> {
        let (shop, traffic) = tokio::try_join!(
            self.scrape_one(&self.at.shop_control),
            self.scrape_one(&self.at.traffic_control),
        )?;
        let mut payments = Vec::new();
        for control in &self.at.payments_controls {
            payments.push(self.scrape_one(control).await?);
        }
        Ok(Scrapes {
            shop,
            payments,
            traffic,
        })
    }

    async fn scrape_one(&self, control: &str) -> Result<Scrape, String> {
        let url = format!("{control}/metrics");
        let token = self.at.token.as_deref();
        let answer = self.client.control(Method::GET, &url, None, token).await?;
        Scrape::parse(&String::from_utf8_lossy(&answer.body))
            .map_err(|error| format!("{url}: {error}"))
    }
}
