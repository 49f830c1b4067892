//! The parameters of a question, from the URL and from a form in the body.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};

use super::envelope::Failure;
use crate::http::extract::read_body;
use crate::judge::time::{now_ms, parse_duration, parse_rfc3339, to_ms};

/// The largest form that is read: a query has 64 KiB at most, and each byte of it may be escaped.
const FORM_BYTES_MAX: usize = 256 * 1024;

/// The furthest time that a parameter may name, in milliseconds.
const TIME_MAX_MS: f64 = 9e15;

/// Names and values; a name may stand several times.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let owned = |bytes: &[u8]| {
            form_urlencoded::parse(bytes)
                .into_owned()
                .collect::<Vec<_>>()
        };
        let mut found = owned(request.uri().query().unwrap_or_default().as_bytes());
        if request.method() == Method::POST {
            let kind = request.headers().get(header::CONTENT_TYPE);
            let form = "application/x-www-form-urlencoded";
            if kind.is_some_and(|kind| kind.as_bytes().starts_with(form.as_bytes())) {
                let body = read_body(request, FORM_BYTES_MAX).await;
                let body = body.map_err(|problem| Failure::bad_data(problem.detail))?;
                found.extend(owned(&body));
            }
        }
        Ok(Self(found))
    }
}

impl Parameters {
    /// The first value of a parameter that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut of_name = self.0.iter().filter(|(have, _)| have == name);
        let (_, value) = of_name.find(|(_, value)| !value.is_empty())?;
        Some(value)
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let of_name = self.0.iter().filter(move |(have, _)| have == name);
        of_name.map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Failure> {
        let missing = || Failure::parameter(name, "it is missing");
        self.get(name).ok_or_else(missing)
    }

    /// A time in milliseconds; now, if there is none.
    pub(super) fn time_or_now(&self, name: &str) -> Result<i64, Failure> {
        Ok(self.time(name)?.unwrap_or_else(now_ms))
    }

    /// A time in milliseconds: seconds since 1970, or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let wrong = || {
            let why = format!("cannot parse {text:?} to a valid timestamp");
            Failure::parameter(name, &why)
        };
        if let Ok(seconds) = text.parse::<f64>() {
            let ms = (seconds * 1000.0).round();
            #[expect(clippy::cast_possible_truncation, reason = "the bound is checked here")]
            return if ms.abs() <= TIME_MAX_MS {
                Ok(Some(ms as i64))
            } else {
                Err(wrong())
            };
        }
        parse_rfc3339(text).map(Some).ok_or_else(wrong)
    }

    /// The times `start` and `end` of a question about series; all of time, if they are not given.
    pub(super) fn span(&self) -> Result<(i64, i64), Failure> {
        let start = self.time("start")?.unwrap_or(i64::MIN);
        let end = self.time("end")?.unwrap_or(i64::MAX);
        if end < start {
            return Err(Failure::parameter(
                "end",
                "end timestamp must not be before start time",
            ));
        }
        Ok((start, end))
    }

    /// A duration: seconds, or with units.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let read = match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => parse_duration(text).ok(),
        };
        let wrong = || {
            let why = format!("cannot parse {text:?} to a valid duration");
            Failure::parameter(name, &why)
        };
        let bounded = |duration: &Duration| (to_ms(*duration) as f64) <= TIME_MAX_MS;
        read.filter(bounded).map(Some).ok_or_else(wrong)
    }

    /// How many results are wanted; 0 or nothing for all.
    pub(super) fn limit(&self) -> Result<usize, Failure> {
        self.number("limit")
    }

    /// A number of things; 0 if it is not given.
    pub(super) fn number(&self, name: &str) -> Result<usize, Failure> {
        let wrong = |_| Failure::parameter(name, &format!("{name} must be a non-negative number"));
        self.get(name)
            .map_or(Ok(0), |text| text.parse().map_err(wrong))
    }

    /// Whether something is switched on.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name) {
            None | Some("false" | "0" | "f") => Ok(false),
            Some("true" | "1" | "t") => Ok(true),
            Some(other) => {
                let why = format!("{other:?} is neither true nor false");
                Err(Failure::parameter(name, &why))
            }
        }
    }

    /// Refuses what would change the answer of a Prometheus, and would not change ours.
    pub(super) fn refuse(&self, names: &[&str]) -> Result<(), Failure> {
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) => Err(Failure::parameter(name, "it is not supported here")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        for (text, ms) in [
            ("1435781430.781", 1_435_781_430_781),
            ("0", 0),
            ("-1.5", -1_500),
            ("2015-07-01T20:10:30.781Z", 1_435_781_430_781),
            ("2015-07-01T22:10:30.781%2B02:00", 1_435_781_430_781),
        ] {
            assert_eq!(
                parameters(&format!("time={text}")).time("time").unwrap(),
                Some(ms)
            );
        }
        for wrong in ["soon", "NaN", "Inf", "1e300", "2015-01-01"] {
            let result = parameters(&format!("time={wrong}")).time("time");
            assert!(result.is_err(), "{wrong}");
        }
        assert!(parameters("start=2&end=1").span().is_err());
        assert_eq!(
            parameters("start=1&end=").span().unwrap(),
            (1_000, i64::MAX)
        );
    }

    #[test]
    fn durations_are_seconds_or_have_units() {
        for (text, ms) in [("15", 15_000), ("0.5", 500), ("1m30s", 90_000)] {
            let step = parameters(&format!("step={text}"))
                .duration("step")
                .unwrap();
            assert_eq!(step, Some(Duration::from_millis(ms)));
        }
        for wrong in ["-1", "NaN", "1e300", "1x"] {
            assert!(
                parameters(&format!("step={wrong}"))
                    .duration("step")
                    .is_err(),
                "{wrong}"
            );
        }
        assert!(parameters("limit=-1").limit().is_err());
        assert_eq!(parameters("limit=7").limit().unwrap(), 7);
    }

    #[tokio::test]
    async fn a_form_adds_to_the_url() {
        let request = Request::post("/?match[]=a&x=1")
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(Body::from("match%5B%5D=b%7Bc%3D%22%2F%22%7D&y=+"))
            .unwrap();
        let found = Parameters::from_request(request, &()).await.unwrap();
        assert_eq!(
            found.all("match[]").collect::<Vec<_>>(),
            ["a", "b{c=\"/\"}"]
        );
        assert_eq!(
            (found.get("x"), found.get("y"), found.get("z")),
            (Some("1"), Some(" "), None)
        );
    }
}
