//! Which traces are kept: decided before anything is built for them.
//!
//! The layer that turns spans into traces asks the SDK's sampler when a span is already built, so a trace that
//! is thrown away costs nearly as much as one that is kept. Here the decision comes first, from the caller's
//! flag or from chance, and a request that is not sampled has no span at all. The standard variables
//! `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say what is kept.

use opentelemetry::trace::TraceId;

/// What decides for a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    /// Whether the caller's decision is followed where there is one.
    follows_parent: bool,
    /// Share of the other traces that is kept.
    ratio: f64,
}

/// The names of the specification, with what they mean.
const KNOWN: &str = "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio";

impl Sampler {
    /// The sampler with this name and argument, in the words of the specification; by default, all is kept that
    /// the caller keeps.
    pub(super) fn named(name: Option<&str>, argument: Option<&str>) -> Result<Self, String> {
        let name = name.filter(|name| !name.is_empty());
        let name = name.unwrap_or("parentbased_always_on");
        let (follows_parent, how) = match name.strip_prefix("parentbased_") {
            Some(how) => (true, how),
            None => (false, name),
        };
        let ratio = match how {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => Self::ratio(argument)?,
            _ => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER cannot be {name:?}; allowed: {KNOWN}"
                ));
            }
        };
        Ok(Self {
            follows_parent,
            ratio,
        })
    }

    fn ratio(argument: Option<&str>) -> Result<f64, String> {
        let Some(text) = argument.filter(|text| !text.is_empty()) else {
            return Ok(1.0);
        };
        text.trim()
            .parse()
            .ok()
            .filter(|ratio| (0.0..=1.0).contains(ratio))
            .ok_or_else(|| {
                format!("OTEL_TRACES_SAMPLER_ARG cannot be {text:?}; allowed: a share from 0 to 1")
            })
    }

    /// Whether the trace is kept; `parent` is what the caller decided.
    pub(super) fn keeps(self, trace: TraceId, parent: Option<bool>) -> bool {
        match parent {
            Some(decided) if self.follows_parent => decided,
            _ if self.ratio >= 1.0 => true,
            _ => {
                // By the trace's id, so that every process decides alike: the rule of the SDK's own sampler.
                let bytes = trace.to_bytes();
                let low = u64::from_be_bytes(bytes[8..].try_into().unwrap_or_default()) >> 1;
                (low as f64) < self.ratio * (1_u64 << 63) as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(number: u64) -> TraceId {
        TraceId::from_bytes(u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes())
    }

    #[test]
    fn the_names_of_the_specification_are_known() {
        let keeps = |name, parent| {
            let sampler = Sampler::named(Some(name), None).unwrap();
            sampler.keeps(trace(1), parent)
        };
        assert!(keeps("always_on", Some(false)));
        assert!(!keeps("always_off", Some(true)));
        assert!(keeps("parentbased_always_on", None));
        assert!(!keeps("parentbased_always_on", Some(false)));
        assert!(keeps("parentbased_always_off", Some(true)));
        assert!(!keeps("parentbased_always_off", None));
        assert!(keeps("", None), "an empty variable is as good as none");
    }

    #[test]
    fn a_ratio_keeps_its_share() {
        let sampler = Sampler::named(Some("traceidratio"), Some("0.25")).unwrap();
        let kept = (0..4000).filter(|n| sampler.keeps(trace(*n), None)).count();
        assert!((800..1200).contains(&kept), "{kept}");
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_allowed() {
        let error = Sampler::named(Some("sometimes"), None).unwrap_err();
        assert!(
            error.contains("\"sometimes\"") && error.contains("traceidratio"),
            "{error}"
        );
        let error = Sampler::named(Some("traceidratio"), Some("2")).unwrap_err();
        assert!(
            error.contains("OTEL_TRACES_SAMPLER_ARG") && error.contains("0 to 1"),
            "{error}"
        );
    }
}
