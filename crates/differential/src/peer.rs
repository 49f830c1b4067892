//! The HTTP API of a Prometheus, with answers in the types of the promql crate.

use std::time::Duration;

use promql::{InstantSeries, Labels, RangeSeries, Sample, Value};
use prost::Message;
use reqwest::blocking::Client;
use serde_json::Value as Json;

use crate::receiver::WriteRequest;

/// Longer than any query may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// The `errorType` of the API.
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// An answer, or a refusal of the query.
pub(crate) type Answer = Result<Value, Refusal>;

/// A Prometheus that can be asked. Each thread should have its own.
#[derive(Debug)]
pub(crate) struct Prometheus {
    url: String,
    client: Client,
}

impl Prometheus {
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            client,
        })
    }

    /// Fails if the answer is not one of the API; that it refuses the query is an answer.
    pub(crate) fn instant(
        &self,
        query: &str,
        time: i64,
        lookback: Option<i64>,
    ) -> Result<Answer, String> {
        let mut form = vec![("query", query.to_owned()), ("time", seconds(time))];
        form.extend(lookback.map(|ms| ("lookback_delta", seconds(ms))));
        answer(&self.ask("query", &form)?)
    }

    /// The same for a range.
    pub(crate) fn range(
        &self,
        query: &str,
        range: Range,
        lookback: Option<i64>,
    ) -> Result<Answer, String> {
        let mut form = vec![
            ("query", query.to_owned()),
            ("start", seconds(range.start)),
            ("end", seconds(range.end)),
            ("step", seconds(range.step)),
        ];
        form.extend(lookback.map(|ms| ("lookback_delta", seconds(ms))));
        answer(&self.ask("query_range", &form)?)
    }

    /// The whole answer to a query as text: what a dashboard reads.
    pub(crate) fn text(&self, path: &str, form: &[(&str, String)]) -> Result<String, String> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = self
            .client
            .post(format!("{}/api/v1/{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let answer = request.send().and_then(reqwest::blocking::Response::text);
        answer.map_err(|error| format!("{}: {error:?}", self.url))
    }

    /// The values of a label among the series that a selector matches.
    pub(crate) fn label_values(&self, label: &str, selector: &str) -> Result<Vec<String>, String> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("match[]", selector)
            .finish();
        let url = format!("{}/api/v1/label/{label}/values?{query}", self.url);
        let answer = self
            .client
            .get(url)
            .send()
            .and_then(reqwest::blocking::Response::text);
        let text = answer.map_err(|error| format!("{}: {error}", self.url))?;
        let json: Json = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let values = json["data"]
            .as_array()
            .ok_or_else(|| format!("no data: {text}"))?;
        Ok(values
            .iter()
            .filter_map(|value| Some(value.as_str()?.to_owned()))
            .collect())
    }

    /// Hands it samples by remote write.
    pub(crate) fn write(&self, request: &WriteRequest) -> Result<(), String> {
        let body = snap::raw::Encoder::new()
            .compress_vec(&request.encode_to_vec())
            .map_err(|error| error.to_string())?;
        let request = self
            .client
            .post(format!("{}/api/v1/write", self.url))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "0.1.0")
            .body(body);
        let said = |error| format!("{}: {error:?}", self.url);
        let answer = request.send().map_err(said)?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(format!(
            "{}: {}",
            answer.status(),
            answer.text().map_err(said)?
        ))
    }

    fn ask(&self, path: &str, form: &[(&str, String)]) -> Result<Json, String> {
        let text = self.text(path, form)?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }
}

/// The times of a range query, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

pub(crate) fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

fn answer(json: &Json) -> Result<Answer, String> {
    if json["status"] == "error" {
        let text = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
        return Ok(Err(Refusal {
            kind: text("errorType"),
            message: text("error"),
        }));
    }
    value(&json["data"])
        .map(Ok)
        .ok_or_else(|| format!("not an answer: {json}"))
}

fn value(data: &Json) -> Option<Value> {
    let result = &data["result"];
    let series = || {
        result
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
    };
    Some(match data["resultType"].as_str()? {
        "scalar" => Value::Scalar(sample(result)?),
        "string" => Value::String {
            timestamp: milliseconds(&result[0])?,
            text: result[1].as_str()?.to_owned(),
        },
        "vector" => {
            let one = |json: &Json| {
                Some(InstantSeries {
                    labels: labels(&json["metric"])?,
                    sample: sample(&json["value"])?,
                })
            };
            Value::Vector(series().map(one).collect::<Option<_>>()?)
        }
        "matrix" => {
            let one = |json: &Json| {
                let values = json["values"].as_array()?.iter().map(sample);
                Some(RangeSeries {
                    labels: labels(&json["metric"])?,
                    samples: values.collect::<Option<_>>()?,
                })
            };
            Value::Matrix(series().map(one).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn labels(json: &Json) -> Option<Labels> {
    let pairs = json.as_object()?.iter();
    let pairs: Option<Vec<_>> = pairs
        .map(|(name, value)| Some((&**name, value.as_str()?)))
        .collect();
    Some(Labels::new(pairs?))
}

fn sample(json: &Json) -> Option<Sample> {
    let value = match json[1].as_str()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().ok()?,
    };
    Some(Sample::new(milliseconds(&json[0])?, value))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a time in milliseconds is far below 2^53"
)]
fn milliseconds(json: &Json) -> Option<i64> {
    Some((json.as_f64()? * 1e3).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_engine_writes() {
        let series = InstantSeries {
            labels: Labels::new([("__name__", "a"), ("b", "\"c\"")]),
            sample: Sample::new(1_700_000_000_123, f64::NEG_INFINITY),
        };
        let vector = Value::Vector(vec![series.clone()]);
        let matrix = Value::Matrix(vec![RangeSeries {
            labels: series.labels,
            samples: vec![Sample::new(-1_500, 1e-9), Sample::new(0, 1e300)],
        }]);
        let scalar = Value::Scalar(Sample::new(7, f64::INFINITY));
        for written in [vector, matrix, scalar] {
            let json = serde_json::to_value(&written).unwrap();
            assert_eq!(value(&json), Some(written), "{json}");
        }
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let json =
            serde_json::json!({"status": "error", "errorType": "execution", "error": "many"});
        let refusal = answer(&json).unwrap().unwrap_err();
        assert_eq!((&*refusal.kind, &*refusal.message), ("execution", "many"));
        assert!(answer(&serde_json::json!({"status": "success"})).is_err());
    }

    #[test]
    fn seconds_keep_milliseconds() {
        assert_eq!(seconds(1_700_000_000_007), "1700000000.007");
        assert_eq!(seconds(7), "0.007");
    }
}
