//! Reads the Prometheus text format, as far as a drill needs it: the sum of the series of one name.

/// One answer of `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scrape {
    series: Vec<Series>,
}

#[derive(Debug, Clone, PartialEq)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// A test of one label's value; a label that is absent is empty.
pub(super) type LabelTest<'a> = (&'a str, &'a dyn Fn(&str) -> bool);

impl Scrape {
    /// Reads the text; a sentence names the line that cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut series = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let one = parse_series(line)
                .ok_or_else(|| format!("line {} of the metrics cannot be read", number + 1))?;
            series.push(one);
        }
        Ok(Self { series })
    }

    /// The sum of the series called `name` that pass every test; `None` if there is none.
    pub(super) fn sum(&self, name: &str, tests: &[LabelTest<'_>]) -> Option<f64> {
        let passes = |series: &&Series| {
            series.name == name
                && tests.iter().all(|(key, test)| {
                    let label = series.labels.iter().find(|(known, _)| known == key);
                    test(label.map_or("", |(_, value)| value))
                })
        };
        let values = self.series.iter().filter(passes).map(|series| series.value);
        values.reduce(|sum, value| sum + value)
    }
}

fn parse_series(line: &str) -> Option<Series> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        (labels, rest) = parse_labels(inside)?;
    }
    // A time stamp may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series {
        name: name.into(),
        labels,
        value,
    })
}

/// Reads labels up to the closing brace; the second part is what follows it.
fn parse_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let (value, after) = parse_quoted(quoted)?;
        labels.push((key.trim().to_owned(), value));
        rest = after;
    }
}

/// Reads a label's value up to its closing quote.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{peer="payments",outcome="ok"} 10
calls_total{outcome="a \"b\", c}\n",peer="payments"} 2.5 1700000000
calls_total{peer="other"} 100
calls_total_extra 7
depth 1e3
wait_bucket{le="+Inf"} 4
"#;

    #[test]
    fn series_of_one_name_are_summed() {
        let scrape = Scrape::parse(TEXT).unwrap();
        let payments: LabelTest<'_> = ("peer", &|value| value == "payments");
        assert_eq!(scrape.sum("calls_total", &[]), Some(112.5));
        assert_eq!(scrape.sum("calls_total", &[payments]), Some(12.5));
        let odd: LabelTest<'_> = ("outcome", &|value| value == "a \"b\", c}\n");
        assert_eq!(scrape.sum("calls_total", &[payments, odd]), Some(2.5));
        assert_eq!(scrape.sum("depth", &[]), Some(1000.0));
        assert_eq!(scrape.sum("wait_bucket", &[]), Some(4.0));
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        assert_eq!(Scrape::parse(TEXT).unwrap().sum("calls", &[]), None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for line in ["calls_total", "a{b=\"c} 1", "a{b} 1", "a one"] {
            let error = Scrape::parse(&format!("depth 1\n{line}\n")).unwrap_err();
            assert!(error.contains("line 2"), "{line}: {error}");
        }
    }
}
