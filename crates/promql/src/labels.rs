//! Label sets: what identifies a series.
//!
//! A label set is shared by the series, the index and every result that carries it, so it is a counted pointer and
//! cloning it is cheap. It is sorted by name and holds no empty value, because in PromQL an empty label and a
//! missing one are the same thing: two sets are equal exactly if Prometheus holds them for equal.

use std::fmt;
use std::sync::Arc;

/// The label that carries the name of a metric.
pub const METRIC_NAME: &str = "__name__";

/// The labels that say what a sample measures; a result that measures something else loses them.
const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// One label: its name and its value.
pub type Label = (Arc<str>, Arc<str>);

/// A sorted set of labels without empty values.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[Label]>);

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl Labels {
    /// Sorts the pairs and drops those with an empty value. Of pairs with the same name the last one counts.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut labels: Vec<Label> = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        labels.reverse();
        labels.sort_by(|a, b| a.0.cmp(&b.0));
        labels.dedup_by(|later, kept| later.0 == kept.0);
        labels.retain(|(_, value)| !value.is_empty());
        Self(labels.into())
    }

    /// The value of a label, empty if there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        // A linear scan: label sets are short, and most of the names differ in their first bytes.
        self.0
            .iter()
            .find(|(have, _)| **have == *name)
            .map_or("", |(_, value)| value)
    }

    /// The name of the metric, empty if there is none.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }

    /// The labels in the order of their names.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn pairs(&self) -> &[Label] {
        &self.0
    }

    /// From pairs that are sorted and not empty already.
    pub(crate) fn from_sorted(pairs: Vec<Label>) -> Self {
        Self(pairs.into())
    }

    /// Only the labels that `keep` wants.
    pub(crate) fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        let wanted = |pair: &&Label| keep(&pair.0);
        Self(self.0.iter().filter(wanted).cloned().collect())
    }

    /// Without the labels that say what was measured.
    pub(crate) fn without_metadata(&self) -> Self {
        if self.0.iter().any(|(name, _)| METADATA.contains(&&**name)) {
            self.filtered(|name| !METADATA.contains(&name))
        } else {
            self.clone()
        }
    }

    /// Whether there is metadata besides the name.
    pub(crate) fn has_type_or_unit(&self) -> bool {
        METADATA[1..].iter().any(|name| !self.get(name).is_empty())
    }

    /// With one label set; an empty value removes it.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut pairs: Vec<Label> = self.0.to_vec();
        match pairs.binary_search_by(|(have, _)| (**have).cmp(name)) {
            Ok(at) if value.is_empty() => {
                pairs.remove(at);
            }
            Ok(at) => pairs[at].1 = value.into(),
            Err(_) if value.is_empty() => {}
            Err(at) => pairs.insert(at, (name.into(), value.into())),
        }
        Self(pairs.into())
    }
}

/// Whether a name may be used for a label: Prometheus 3 takes any text that is not empty.
pub(crate) fn valid_label_name(name: &str) -> bool {
    !name.is_empty()
}

/// As Prometheus writes a series: `name{label="value", ...}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        f.write_str(name)?;
        if !name.is_empty() && self.len() == 1 {
            return Ok(());
        }
        f.write_str("{")?;
        let others = self.iter().filter(|(name, _)| *name != METRIC_NAME);
        for (position, (name, value)) in others.enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_drops_empty_values_and_keeps_the_last_of_equal_names() {
        let labels = Labels::new([("b", "2"), ("a", "old"), ("c", ""), ("a", "1")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!(labels.get("c"), "");
    }

    #[test]
    fn setting_a_label_keeps_the_order_and_an_empty_value_removes_it() {
        let labels = Labels::new([("a", "1"), ("c", "3")]);
        assert_eq!(
            labels.with("b", "2").to_string(),
            r#"{a="1", b="2", c="3"}"#
        );
        assert_eq!(labels.with("a", "").to_string(), r#"{c="3"}"#);
        assert_eq!(labels.with("x", ""), labels);
    }

    #[test]
    fn losing_the_name_also_loses_type_and_unit() {
        let labels = Labels::new([(METRIC_NAME, "up"), ("__unit__", "s"), ("job", "x")]);
        assert_eq!(labels.without_metadata().to_string(), r#"{job="x"}"#);
        assert_eq!(Labels::new([(METRIC_NAME, "up")]).to_string(), "up");
    }
}
