//! Asks a Prometheus, or what speaks as one: the console of a lab.
//!
//! Whoever reads metrics reads them through `/api/v1`, so that one URL decides whether the answers come from the
//! judge in the console or from a real Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, header};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::http::Client;

/// An alert as `/api/v1/alerts` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// What identifies it, `alertname` included.
    pub labels: BTreeMap<String, String>,
    /// The texts for a person.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// `pending` or `firing`.
    pub state: String,
    /// Since when its expression has held, in RFC 3339.
    #[serde(rename = "activeAt")]
    pub active_at: String,
    /// Since when it has only been kept firing.
    #[serde(
        rename = "keepFiringSince",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub keep_firing_since: Option<String>,
    /// What the expression gave, as text.
    pub value: String,
}

/// The answer to a query at one time: labels and value of each series.
pub type Vector = Vec<(BTreeMap<String, String>, f64)>;

#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Alerts {
    pub(super) alerts: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Answer {
    Vector(Vec<Series>),
    Scalar((f64, String)),
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// One Prometheus.
#[derive(Debug, Clone)]
pub struct Ask {
    client: Client,
    url: String,
    token: Option<String>,
    patience: Duration,
}

impl Ask {
    /// Asks the Prometheus at `url`, which has no slash at its end; with a token, if it wants one. A question takes
    /// `patience` at most.
    #[must_use]
    pub fn new(url: &str, token: Option<String>, patience: Duration) -> Self {
        Self {
            client: Client::new(),
            url: url.into(),
            token,
            patience,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The alerts that are pending or firing. A sentence says why not.
    pub async fn alerts(&self) -> Result<Vec<Alert>, String> {
        let told: Alerts = self.get("/api/v1/alerts").await?;
        Ok(told.alerts)
    }

    /// The value of an expression now; a number is a series without labels. A sentence says why not.
    pub async fn query(&self, expression: &str) -> Result<Vector, String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("query", expression);
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        match self
            .get(&format!("/api/v1/query?{}", query.finish()))
            .await?
        {
            Answer::Scalar((_, value)) => Ok(vec![(BTreeMap::new(), number(&value)?)]),
            Answer::Vector(series) => series
                .into_iter()
                .map(|one| Ok((one.metric, number(&one.value.1)?)))
                .collect(),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let url = format!("{}{path}", self.url);
        let mut request = Request::get(&url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::<Bytes>::default())
            .map_err(|error| format!("{url} cannot be asked: {error}"))?;
        let answer = self.client.send(request, Some(self.patience)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status;
        match answer.json::<Envelope<T>>() {
            Ok(Envelope {
                data: Some(data), ..
            }) if status.is_success() => Ok(data),
            Ok(Envelope {
                error: Some(error), ..
            }) => Err(format!("{url} answered: {error}")),
            Ok(_) => Err(format!("{url} answered {status}")),
            Err(_) if !status.is_success() => Err(format!("{url} answered {status}")),
            Err(error) => Err(format!("{url} answered what cannot be read: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_prometheus_writes_them() {
        let text = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"job":"x"},"value":[1435781451.781,"+Inf"]}]}}"#;
        let envelope: Envelope<Answer> = serde_json::from_str(text).unwrap();
        let Some(Answer::Vector(series)) = envelope.data else {
            panic!("a vector");
        };
        assert_eq!(
            (series[0].metric["job"].as_str(), series[0].value.1.as_str()),
            ("x", "+Inf")
        );
        let text = r#"{"status":"success","data":{"resultType":"scalar","result":[5,"1"]}}"#;
        let envelope: Envelope<Answer> = serde_json::from_str(text).unwrap();
        assert!(matches!(envelope.data, Some(Answer::Scalar((5.0, _)))));
    }
}
