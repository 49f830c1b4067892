//! Answers as the `data` of Prometheus' HTTP API: `{"resultType": …, "result": …}`.

use serde::ser::{Serialize, SerializeMap, SerializeStruct, SerializeTuple, Serializer};

use crate::format::format_float;
use crate::labels::Labels;
use crate::value::{InstantSeries, RangeSeries, Sample, Value};

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut data = serializer.serialize_struct("data", 2)?;
        let kind = match self {
            Self::Scalar(_) => "scalar",
            Self::String { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        };
        data.serialize_field("resultType", kind)?;
        match self {
            Self::Scalar(sample) => data.serialize_field("result", sample)?,
            Self::String { timestamp, text } => {
                data.serialize_field("result", &(Seconds(*timestamp), text))?;
            }
            Self::Vector(series) => data.serialize_field("result", series)?,
            Self::Matrix(series) => data.serialize_field("result", series)?,
        }
        data.end()
    }
}

impl Serialize for InstantSeries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut series = serializer.serialize_struct("series", 2)?;
        series.serialize_field("metric", &self.labels)?;
        series.serialize_field("value", &self.sample)?;
        series.end()
    }
}

impl Serialize for RangeSeries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut series = serializer.serialize_struct("series", 2)?;
        series.serialize_field("metric", &self.labels)?;
        series.serialize_field("values", &self.samples)?;
        series.end()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A pair of seconds and the value as a string, since JSON has no infinity.
impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&Seconds(self.timestamp))?;
        pair.serialize_element(&format_float(self.value))?;
        pair.end()
    }
}

/// Milliseconds, written as seconds with a fraction only where there is one.
struct Seconds(i64);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1_000 == 0 {
            serializer.serialize_i64(self.0 / 1_000)
        } else {
            serializer.serialize_f64(self.0 as f64 / 1e3)
        }
    }
}
