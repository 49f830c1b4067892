//! Shocks: what the world does to a role (a surge of users, a slow bank), always with an end.
//!
//! The role itself ends a shock when its time is over, so that a drill that was killed half-way leaves no
//! storm behind. Parameters are numbers with bounds; what is out of bounds is refused and named.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use crate::http::Problem;

/// The longest that a shock lasts.
pub const TTL_MAX: Duration = Duration::from_hours(1);

/// One number that a shock takes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it does, and its unit.
    pub help: &'static str,
    /// The least that is allowed.
    pub min: f64,
    /// The most that is allowed.
    pub max: f64,
    /// What it is when it is not given.
    pub default: f64,
}

/// What a role can be hit by.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Its numbers.
    pub parameters: &'static [Parameter],
}

/// Values by parameter name; every parameter of the spec is there.
pub type Values = BTreeMap<&'static str, f64>;

/// Called with the values when a shock begins, with `None` when it ends.
pub type Apply = Box<dyn Fn(Option<&Values>) + Send + Sync>;

/// The shocks of one role.
#[derive(Default)]
pub struct Shocks {
    known: Vec<(Spec, Apply)>,
    active: Mutex<BTreeMap<&'static str, Active>>,
}

impl std::fmt::Debug for Shocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.known.iter().map(|(spec, _)| spec.name))
            .finish()
    }
}

#[derive(Debug, Clone)]
struct Active {
    values: Values,
    ends: Instant,
}

/// A shock as the control plane shows it.
#[derive(Debug, Serialize)]
pub struct Status {
    /// What it is.
    #[serde(flatten)]
    pub spec: Spec,
    /// Its numbers, if it is under way.
    pub values: Option<Values>,
    /// Seconds until it ends, if it is under way.
    pub ends_in_s: Option<f64>,
}

impl Shocks {
    /// No shocks.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds one shock.
    #[must_use]
    pub fn with(
        mut self,
        spec: Spec,
        apply: impl Fn(Option<&Values>) + Send + Sync + 'static,
    ) -> Self {
        self.known.push((spec, Box::new(apply)));
        self
    }

    fn find(&self, name: &str) -> Result<&(Spec, Apply), Problem> {
        self.known
            .iter()
            .find(|(spec, _)| spec.name == name)
            .ok_or_else(|| {
                let names: Vec<_> = self.known.iter().map(|(spec, _)| spec.name).collect();
                let allowed = if names.is_empty() {
                    "none: this role has no shocks".into()
                } else {
                    names.join(", ")
                };
                Problem::not_found("shock", "name", name).allowed(allowed)
            })
    }

    /// Begins a shock, or begins it anew with other numbers.
    pub fn begin(
        &self,
        name: &str,
        given: &BTreeMap<String, serde_json::Value>,
    ) -> Result<(), Problem> {
        let (spec, apply) = self.find(name)?;
        let mut given = given.clone();
        let ttl = ttl(given.remove("ttl_s").as_ref())?;
        let values = values(spec, &given)?;
        apply(Some(&values));
        let active = Active {
            values,
            ends: Instant::now() + ttl,
        };
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(spec.name, active);
        Ok(())
    }

    /// Ends a shock; one that is not under way stays so.
    pub fn end(&self, name: &str) -> Result<(), Problem> {
        let (spec, apply) = self.find(name)?;
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(spec.name);
        apply(None);
        Ok(())
    }

    /// Ends the shocks whose time is over.
    pub fn expire(&self) {
        let now = Instant::now();
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        for (spec, apply) in &self.known {
            if active.get(spec.name).is_some_and(|shock| shock.ends <= now) {
                active.remove(spec.name);
                apply(None);
            }
        }
    }

    /// Every shock of this role.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(spec, _): &(Spec, Apply)| {
            let shock = active.get(spec.name);
            Status {
                spec: *spec,
                values: shock.map(|shock| shock.values.clone()),
                ends_in_s: shock.map(|shock| {
                    shock
                        .ends
                        .saturating_duration_since(Instant::now())
                        .as_secs_f64()
                }),
            }
        };
        self.known.iter().map(status).collect()
    }
}

/// Reads a time to live in seconds.
pub fn ttl(given: Option<&serde_json::Value>) -> Result<Duration, Problem> {
    let seconds = given.and_then(serde_json::Value::as_f64);
    match seconds {
        Some(seconds) if seconds > 0.0 && seconds <= TTL_MAX.as_secs_f64() => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(Problem::invalid(
            "ttl_s",
            given.cloned().unwrap_or_default(),
            format!(
                "a number of seconds above 0 and up to {}",
                TTL_MAX.as_secs()
            ),
        )),
    }
}

/// Reads a time to live that may be left out: then what is set is set for good.
pub fn ttl_if_given(given: Option<&serde_json::Value>) -> Result<Option<Duration>, Problem> {
    given.map(|given| ttl(Some(given))).transpose()
}

fn values(spec: &Spec, given: &BTreeMap<String, serde_json::Value>) -> Result<Values, Problem> {
    if let Some(name) = given
        .keys()
        .find(|name| !spec.parameters.iter().any(|known| known.name == **name))
    {
        let known: Vec<_> = spec
            .parameters
            .iter()
            .map(|parameter| parameter.name)
            .collect();
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("{} has no parameter {name}.", spec.name),
        )
        .field(name)
        .allowed(format!("{}, ttl_s", known.join(", "))));
    }
    let read = |parameter: &Parameter| match given.get(parameter.name) {
        None => Ok((parameter.name, parameter.default)),
        Some(value) => match value.as_f64() {
            Some(number) if (parameter.min..=parameter.max).contains(&number) => {
                Ok((parameter.name, number))
            }
            _ => Err(Problem::invalid(
                parameter.name,
                value.clone(),
                format!("a number from {} to {}", parameter.min, parameter.max),
            )),
        },
    };
    spec.parameters.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    const SPEC: Spec = Spec {
        name: "slow",
        help: "Slower.",
        parameters: &[Parameter {
            name: "share",
            help: "",
            min: 0.0,
            max: 1.0,
            default: 1.0,
        }],
    };

    fn begin(body: &serde_json::Value) -> Result<(), Problem> {
        let given: BTreeMap<String, serde_json::Value> =
            serde_json::from_value(body.clone()).unwrap();
        Shocks::none().with(SPEC, |_| {}).begin("slow", &given)
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        assert_eq!(
            begin(&json!({"ttl_s": 5, "share": 2}))
                .unwrap_err()
                .field
                .as_deref(),
            Some("share")
        );
        assert_eq!(
            begin(&json!({"ttl_s": 5, "sahre": 1}))
                .unwrap_err()
                .field
                .as_deref(),
            Some("sahre")
        );
        assert_eq!(
            begin(&json!({"share": 1})).unwrap_err().field.as_deref(),
            Some("ttl_s")
        );
        assert_eq!(
            begin(&json!({"ttl_s": 1e12})).unwrap_err().field.as_deref(),
            Some("ttl_s")
        );
        assert!(begin(&json!({"ttl_s": 5, "share": 0.5})).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shock_ends_by_itself() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let shocks = Shocks::none().with(SPEC, move |values| {
            log.lock().unwrap().push(values.is_some());
        });
        shocks
            .begin("slow", &BTreeMap::from([("ttl_s".into(), json!(2))]))
            .unwrap();
        tokio::time::advance(Duration::from_millis(1900)).await;
        shocks.expire();
        assert_eq!(*seen.lock().unwrap(), [true]);
        tokio::time::advance(Duration::from_millis(200)).await;
        shocks.expire();
        assert_eq!(*seen.lock().unwrap(), [true, false]);
    }
}
