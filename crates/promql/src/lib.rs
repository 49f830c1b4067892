#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod engine;
pub mod error;
mod eval;
mod format;
#[cfg(feature = "serde")]
mod json;
pub mod labels;
mod plan;
pub mod store;
pub mod value;

pub use engine::{Engine, Loaded, Options, Query, Semantics, parse_selector};
pub use error::{AppendError, QueryError};
pub use format::format_float;
pub use labels::Labels;
pub use store::{Limits, Matcher, SeriesRef, Stats, Store};
pub use value::{InstantSeries, RangeSeries, Sample, Value, nearly_equal};
