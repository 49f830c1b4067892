//! A running lab, as a drill acts on it: through the control planes of its roles, and in no other way.
//!
//! Whatever is set here has a lease of [`LEASE_S`] that is renewed while the drill goes on, so that a lab whose
//! drill was killed is as it was half a minute later; the roles see to that. What is set is written down first,
//! and [`Lab::roll_back`] takes all of it back, also after an error. A log filter is not renewed and ends by itself;
//! what was deployed stays, for a process that runs is steady whatever its version.

use std::time::Duration;

use axum::http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::condition::Calibrated;
use super::format::{Action, Experiment, LOG_S, Load, OptionName, RoleName, Shock};
use super::prometheus::Metrics;
use crate::control::restart::{next_version, one_after_the_other};
use crate::http::Client;

/// For how long a role keeps what a drill set, unless the drill says again that it wants it.
const LEASE_S: f64 = 30.0;

/// How often it says so.
const RENEW: Duration = Duration::from_secs(8);

/// How long it may take until all roles of a lab are scraped.
const DISCOVER_MAX: Duration = Duration::from_secs(10);

/// Where a lab is, as base URLs (`http://127.0.0.1:9464`).
#[derive(Debug, Clone)]
pub struct LabAddresses {
    /// Who is asked for metrics, under `/api/v1`.
    pub metrics: String,
    /// The control plane of the users.
    pub traffic: String,
    /// The control plane of the shop.
    pub shop: String,
    /// The control planes of payments, one for each replica.
    pub payments: Vec<String>,
    /// The token that they ask for.
    pub token: Option<String>,
}

impl LabAddresses {
    /// The lab that is scraped by whoever answers at `metrics`: the console of a lab, or a Prometheus. It may have
    /// been started a moment ago.
    pub async fn discover(metrics: &str, token: Option<&str>) -> Result<Self, String> {
        let deadline = Instant::now() + DISCOVER_MAX;
        loop {
            let found = Self::look(metrics, token).await;
            if found.is_ok() || Instant::now() > deadline {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn look(metrics: &str, token: Option<&str>) -> Result<Self, String> {
        let targets = Metrics::new(metrics, token).targets().await?;
        let controls = |role: RoleName| -> Vec<String> {
            let targets = targets.iter().filter(|target| target.role == role.name());
            targets.map(|target| target.control.clone()).collect()
        };
        let only = |role: RoleName| match controls(role).as_slice() {
            [one] => Ok(one.clone()),
            all => Err(format!(
                "{metrics} scrapes {} targets with the label role=\"{}\"; a drill needs one",
                all.len(),
                role.name()
            )),
        };
        Ok(Self {
            metrics: metrics.into(),
            traffic: only(RoleName::Traffic)?,
            shop: only(RoleName::Shop)?,
            payments: controls(RoleName::Payments),
            token: token.map(str::to_owned),
        })
    }

    /// Refuses a lab that is another than the drill reckons with.
    pub(super) fn require(&self, experiment: &Experiment) -> Result<(), String> {
        let (there, wanted) = (self.payments.len(), experiment.payments_replicas);
        if there == usize::from(wanted) {
            return Ok(());
        }
        Err(format!(
            "{} needs a lab with --payments-replicas {wanted}, and this one has {there}",
            experiment.id
        ))
    }

    /// The control plane of each process that a drill acts on.
    fn all(&self) -> impl Iterator<Item = &String> {
        [&self.shop, &self.traffic]
            .into_iter()
            .chain(&self.payments)
    }

    fn controls(&self, role: RoleName) -> &[String] {
        match role {
            RoleName::Shop => std::slice::from_ref(&self.shop),
            RoleName::Traffic => std::slice::from_ref(&self.traffic),
            RoleName::Payments => &self.payments,
        }
    }
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

/// Whether the load has an end.
#[derive(Debug, Deserialize)]
struct Passing {
    ends_in_s: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Shocks {
    shocks: Vec<ShockStatus>,
}

/// What a role says of one of its shocks.
#[derive(Debug, Deserialize)]
pub(super) struct ShockStatus {
    pub(super) name: String,
    pub(super) parameters: Vec<Parameter>,
    /// None while it is not under way.
    values: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Parameter {
    pub(super) name: String,
}

/// Something that is set at a role.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    url: String,
    /// Said again and again, with a lease.
    wanted: Value,
    /// How it is taken back.
    back: (Method, Option<Value>),
}

/// A lab and what was done to it.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    client: Client,
    at: &'a LabAddresses,
    held: Vec<Held>,
    /// Where shocks were begun: they end by themselves, but not all of them that soon.
    shocks: Vec<String>,
    renewed: Instant,
}

impl<'a> Lab<'a> {
    pub(super) fn new(at: &'a LabAddresses) -> Self {
        Self {
            client: Client::new(),
            at,
            held: Vec::new(),
            shocks: Vec::new(),
            renewed: Instant::now(),
        }
    }

    async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<(), String> {
        let token = self.at.token.as_deref();
        let answer = self.client.control(method.clone(), url, body, token).await;
        answer
            .map(drop)
            .map_err(|error| format!("{method} {url} failed: {error}"))
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let token = self.at.token.as_deref();
        self.client.get_json(url, token).await
    }

    /// Refuses a lab in which somebody else does something for a while: another drill, or a shock.
    pub(super) async fn require_alone(&self) -> Result<(), String> {
        let Passing { ends_in_s } = self.get(&format!("{}/load", self.at.traffic)).await?;
        if ends_in_s.is_some() {
            return Err("the load of this lab was set for a while: another drill goes on".into());
        }
        for control in self.at.all() {
            let shocks = self.shocks_at(control).await?;
            if let Some(shock) = shocks.iter().find(|shock| shock.values.is_some()) {
                return Err(format!("{} goes on in this lab already", shock.name));
            }
        }
        Ok(())
    }

    /// The names of its choices.
    pub(super) async fn choices(&self) -> Result<Vec<String>, String> {
        let Choices { choices } = self.get(&format!("{}/choices", self.at.shop)).await?;
        Ok(choices.into_iter().map(|choice| choice.name).collect())
    }

    /// The shocks that this role can have.
    pub(super) async fn shocks(&self, role: RoleName) -> Result<Vec<ShockStatus>, String> {
        let control = self.at.controls(role).first();
        let control = control.ok_or_else(|| format!("there is no {}", role.name()))?;
        self.shocks_at(control).await
    }

    async fn shocks_at(&self, control: &str) -> Result<Vec<ShockStatus>, String> {
        let Shocks { shocks } = self.get(&format!("{control}/shocks")).await?;
        Ok(shocks)
    }

    /// Refuses a lab in which a choice is poor already: two causes at once prove nothing about either.
    pub(super) async fn require_all_sound(&self) -> Result<(), String> {
        for control in self.at.all() {
            let Choices { choices } = self.get(&format!("{control}/choices")).await?;
            let poor = choices.iter().find(|one| one.option == OptionName::Poor);
            if let Some(choice) = poor {
                return Err(format!(
                    "{} is poor in this lab, and a drill begins and ends with every choice sound",
                    choice.name
                ));
            }
        }
        Ok(())
    }

    /// Deploys an option; the choice is sound again after the roll-back.
    pub(super) async fn set_choice(
        &mut self,
        choice: &str,
        option: OptionName,
    ) -> Result<(), String> {
        let url = format!("{}/choices/{choice}", self.at.shop);
        let sound = json!({ "option": OptionName::Sound.name() });
        let wanted = json!({ "option": option.name() });
        self.hold(url, wanted, (Method::PUT, Some(sound))).await
    }

    /// Sets what users do; what they did before is restored by the roll-back.
    pub(super) async fn set_load(&mut self, load: &Load) -> Result<(), String> {
        let url = format!("{}/load", self.at.traffic);
        self.hold(url, json!(load), (Method::DELETE, None)).await
    }

    /// Of several notes about a URL the last one says what is wanted; how it is taken back is the same in all.
    async fn hold(
        &mut self,
        url: String,
        wanted: Value,
        back: (Method, Option<Value>),
    ) -> Result<(), String> {
        match self.held.iter_mut().find(|held| held.url == url) {
            Some(held) => held.wanted = wanted.clone(),
            None => self.held.push(Held {
                url: url.clone(),
                wanted: wanted.clone(),
                back,
            }),
        }
        self.lease(&url, &wanted).await
    }

    async fn lease(&self, url: &str, wanted: &Value) -> Result<(), String> {
        let mut body = wanted.clone();
        body["ttl_s"] = json!(LEASE_S);
        self.send(Method::PUT, url, Some(&body)).await
    }

    /// Renews the leases when that is due: all that can be, also if one cannot.
    pub(super) async fn renew(&mut self) -> Result<(), String> {
        if self.renewed.elapsed() < RENEW {
            return Ok(());
        }
        let mut renewed = Ok(());
        for held in &self.held {
            renewed = renewed.and(self.lease(&held.url, &held.wanted).await);
        }
        if renewed.is_ok() {
            self.renewed = Instant::now();
        }
        renewed
    }

    /// Begins a shock, at every replica of its role. One without an end of its own goes on until it is ended.
    pub(super) async fn begin_shock(
        &mut self,
        shock: &Shock,
        calibrated: &Calibrated,
        endless: bool,
    ) -> Result<(), String> {
        let mut wanted = json!({});
        for (name, amount) in &shock.parameters {
            wanted[name] = json!(amount.number(calibrated)?);
        }
        for control in self.at.controls(shock.role) {
            let url = format!("{control}/shocks/{}", shock.name);
            if !self.shocks.contains(&url) {
                self.shocks.push(url.clone());
            }
            if endless {
                self.hold(url, wanted.clone(), (Method::DELETE, None))
                    .await?;
                continue;
            }
            let mut body = wanted.clone();
            body["ttl_s"] = json!(shock.ttl_s);
            self.send(Method::PUT, &url, Some(&body)).await?;
        }
        Ok(())
    }

    /// Ends every shock.
    pub(super) async fn end_shocks(&mut self) -> Result<(), String> {
        self.held.retain(|held| !self.shocks.contains(&held.url));
        while let Some(url) = self.shocks.last().cloned() {
            self.send(Method::DELETE, &url, None).await?;
            self.shocks.pop();
        }
        Ok(())
    }

    /// Does what an operator would do.
    pub(super) async fn act(&mut self, action: &Action, load: &Load) -> Result<(), String> {
        match action {
            Action::Choice(options) => {
                for (choice, option) in options {
                    self.set_choice(choice, *option).await?;
                }
                Ok(())
            }
            Action::Restart(role) => self.restart(*role, None).await,
            Action::Deploy(role) => {
                let controls = self.at.controls(*role);
                let first = controls.first().ok_or("there is nothing to deploy")?;
                let version = next_version(first, self.at.token.as_deref()).await?;
                self.restart(*role, Some(&version)).await
            }
            Action::Log(filters) => {
                for (role, filter) in filters {
                    let wanted = json!({ "filter": filter, "ttl_s": LOG_S });
                    for control in self.at.controls(*role) {
                        self.send(Method::PUT, &format!("{control}/log"), Some(&wanted))
                            .await?;
                    }
                }
                Ok(())
            }
            Action::Silence => Ok(()),
            Action::Rate(rate) => {
                let load = Load {
                    rate: *rate,
                    mix: load.mix.clone(),
                };
                self.set_load(&load).await
            }
        }
    }

    /// Restarts a role, and renews the leases at the others meanwhile: it may take longer than they last.
    async fn restart(&mut self, role: RoleName, version: Option<&str>) -> Result<(), String> {
        let (controls, token) = (self.at.controls(role), self.at.token.as_deref());
        let restarted = one_after_the_other(controls, version, token, |_, _| ());
        tokio::pin!(restarted);
        loop {
            tokio::select! {
                done = &mut restarted => return done,
                // Who is being restarted cannot be told; it has kept what it was told before.
                () = tokio::time::sleep(RENEW) => drop(self.renew().await),
            }
        }
    }

    /// Takes back all that was done, the last first; what could not be taken back is said in a sentence each.
    pub(super) async fn roll_back(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        self.held.retain(|held| !self.shocks.contains(&held.url));
        while let Some(url) = self.shocks.pop() {
            if let Err(error) = self.send(Method::DELETE, &url, None).await {
                failures.push(error);
            }
        }
        while let Some(Held { url, back, .. }) = self.held.pop() {
            let (method, body) = back;
            if let Err(error) = self.send(method, &url, body.as_ref()).await {
                failures.push(error);
            }
        }
        failures
    }
}
