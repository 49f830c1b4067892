//! Whatever is asked, the engine answers or refuses: it does not panic, and it ends.

use std::time::Duration;

use promql::{
    Engine, Labels, Limits, Options, Query, QueryError, Sample, Store, Value, parse_selector,
};

const QUERIES: &[&str] = &[
    r#"sum by (job) (rate(a{job=~"x|y", z!="1"}[5m] offset 1m)) / on (job) group_left (z) b @ end()"#,
    "histogram_quantile(0.9, sum without (z) (increase(a_bucket[1m]))) > bool 1e3 or vector(time())",
    "max_over_time(deriv(b[30s])[10m:7s]) and topk(2, -b ^ 2 % 3) unless absent(c)",
    r#"label_replace(label_join(a, "z", "-", "job", "z"), "job", "${1}x", "z", "(.*)-(?:1|2)")"#,
    r#"count_values("v", round(clamp(b, -1, 1), 0.5)) + quantile(0.5, b) - stddev(b) atan2 2"#,
    "predict_linear(b[1m:5s] @ start(), 60) == scalar(b) != bool hour(b) # a comment",
    "sort_desc(timestamp(b)) * ignoring (z) group_right () bottomk by (job) (1, a) or `raw` < 0x1f",
    "quantile_over_time(0.1, b[1h]) + on () minute() - absent_over_time(c{x=\"y\"}[1h30m])",
];

const PIECES: &[&str] = &[
    "(",
    ")",
    "[5m]",
    "[1h:1ms]",
    "{",
    "}",
    "{a=\"b\"}",
    "{a=~\"(\"}",
    "sum",
    "by (x)",
    "rate",
    "-",
    "^",
    "%",
    "and",
    "or",
    "offset -1y",
    "offset 999999999y",
    "@ 1e30",
    "@ -1",
    "@ end()",
    "@ NaN",
    "Inf",
    "NaN",
    "1e999",
    "0x",
    "\"",
    "'",
    "`",
    "\\",
    "\u{0}",
    "é",
    "#",
    "\n",
    ":",
    "::",
    ",",
    "bool",
    "group_left",
    "on ()",
    "[0s]",
    "[1y:1y]",
    "vector(1)",
    "topk(1e300, b)",
    "b",
    "a",
    "__name__",
    "=",
    "!=",
    "=~",
    "==",
    "9223372036854775807",
];

fn store() -> Store {
    let mut store = Store::new(Limits::default());
    let mut random = fastrand::Rng::with_seed(5);
    for name in ["a", "b", "a_bucket"] {
        for (job, z, le) in [("x", "1", "1"), ("x", "2", "+Inf"), ("y", "1", "NaN")] {
            let labels = Labels::new([("__name__", name), ("job", job), ("z", z), ("le", le)]);
            let series = store.register(&labels, Duration::from_secs(9_999)).unwrap();
            for second in 0..300 {
                let sample = match random.u8(0..20) {
                    0 => Sample::stale(second * 1_000),
                    1 => Sample::new(second * 1_000, f64::NAN),
                    2 => Sample::new(second * 1_000, f64::INFINITY),
                    _ => Sample::new(second * 1_000, random.f64() * 10.0),
                };
                store.append(series, sample).unwrap();
            }
        }
    }
    store
}

fn mutated(random: &mut fastrand::Rng) -> String {
    let mut text = random
        .choice(QUERIES)
        .copied()
        .unwrap_or_default()
        .to_owned();
    for _ in 0..random.usize(0..4) {
        let positions: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let Some(at) = random.choice(&positions).copied() else {
            break;
        };
        match random.u8(0..4) {
            0 => text.insert_str(at, random.choice(PIECES).copied().unwrap_or_default()),
            1 => {
                text.remove(at);
            }
            2 => {
                // Another query's tail, so that whole expressions meet.
                let other = random.choice(QUERIES).copied().unwrap_or_default();
                let from = random.usize(0..other.len());
                text.replace_range(at.., other.get(from..).unwrap_or_default());
            }
            _ => {
                let piece = random.choice(PIECES).copied().unwrap_or_default();
                text.truncate(at);
                text.push_str(piece);
            }
        }
    }
    text
}

fn strict() -> Engine {
    Engine::new(Options {
        timeout: Some(Duration::from_secs(5)),
        max_samples: 200_000,
        ..Options::default()
    })
}

#[test]
fn mutated_queries_are_answered_or_refused() {
    let (store, engine) = (store(), strict());
    let mut random = fastrand::Rng::with_seed(6);
    let (mut answered, mut refused, mut compared) = (0, 0, 0);
    for _ in 0..6_000 {
        let text = mutated(&mut random);
        let Ok(query) = Query::parse(&text) else {
            refused += 1;
            continue;
        };
        let time = random.i64(-100_000..400_000);
        let instant = engine.instant(&store, &query, time);
        let range = engine.range(&store, &query, time, time + 60_000, 7_000);
        if let (Ok(instant), Ok(range)) = (instant, range) {
            answered += 1;
            let loaded = engine.load(&store, &query);
            let again = (
                loaded.instant(time),
                loaded.range(time, time + 60_000, 7_000),
            );
            let shown = |value: &Value| format!("{value:?}");
            assert_eq!(shown(&again.0.unwrap()), shown(&instant), "{text}");
            assert_eq!(shown(&again.1.unwrap()), shown(&range), "{text}");
            check(&instant, &text);
            check(&range, &text);
            let depends_on_range = ["start", "end"].iter().any(|word| text.contains(word));
            if !depends_on_range {
                compared += usize::from(same_at_first_step(&instant, &range, time, &text));
            }
        }
    }
    assert!(
        answered > 500 && refused > 500,
        "{answered} answered, {refused} refused"
    );
    assert!(compared > 200, "only {compared} compared");
}

/// A range query must find at its first step what an instant query finds at that time. Says whether there was
/// anything to compare.
fn same_at_first_step(instant: &Value, range: &Value, time: i64, text: &str) -> bool {
    let (Value::Vector(instant), Value::Matrix(range)) = (instant, range) else {
        return false;
    };
    let mut instant: Vec<(&Labels, f64)> = instant
        .iter()
        .map(|s| (&s.labels, s.sample.value))
        .collect();
    instant.sort_by(|a, b| a.0.cmp(b.0));
    let first = range.iter().filter_map(|series| {
        let sample = series.samples.first()?;
        (sample.timestamp == time).then_some((&series.labels, sample.value))
    });
    let first: Vec<(&Labels, f64)> = first.collect();
    let near = |a: f64, b: f64| {
        let equal = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        equal || (a - b).abs() <= 1e-9 * a.abs()
    };
    let same = instant.len() == first.len()
        && instant
            .iter()
            .zip(&first)
            .all(|(a, b)| a.0 == b.0 && near(a.1, b.1));
    assert!(same, "{text} at {time}: {instant:?} and {first:?}");
    !instant.is_empty()
}

/// No series twice, no stale marker, no series without a sample.
fn check(value: &Value, text: &str) {
    let mut labels: Vec<&Labels> = match value {
        Value::Vector(series) => series.iter().map(|s| &s.labels).collect(),
        Value::Matrix(series) => {
            assert!(series.iter().all(|s| !s.samples.is_empty()), "{text}");
            let mut samples = series.iter().flat_map(|s| &s.samples);
            assert!(!samples.any(Sample::is_stale), "{text}");
            series.iter().map(|s| &s.labels).collect()
        }
        _ => return,
    };
    let count = labels.len();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), count, "{text}");
}

#[test]
fn noise_is_refused() {
    let mut random = fastrand::Rng::with_seed(8);
    let mut refused = 0;
    for _ in 0..5_000 {
        let pieces = (0..random.usize(1..12)).map(|_| *random.choice(PIECES).unwrap());
        let text = pieces.collect::<Vec<_>>().join(" ");
        refused += usize::from(Query::parse(&text).is_err());
        let bytes: Vec<u8> = (0..random.usize(4..40)).map(|_| random.u8(..)).collect();
        let text = String::from_utf8_lossy(&bytes);
        refused += usize::from(Query::parse(&text).is_err());
    }
    assert!(refused > 9_000, "only {refused} refused");
}

#[test]
fn depth_is_bounded() {
    for count in [40, 150, 900, 100_000] {
        let whole = [
            format!("{}1", "-".repeat(count)),
            format!("1{}", "+1".repeat(count)),
            format!("1{}", "^1".repeat(count)),
            format!("a{}", " and a".repeat(count)),
            format!("{}a{}", "sum(".repeat(count), ")".repeat(count)),
            format!(
                "{}a{}",
                "max_over_time(".repeat(count),
                "[1m:1s])".repeat(count)
            ),
        ];
        for text in whole {
            // Two minus signs before a number leave nothing in the tree.
            let allowed = count <= 40 || (count < 1_000 && text.starts_with('-'));
            assert_eq!(
                Query::parse(&text).is_ok(),
                allowed,
                "{count} levels: {text:.20}"
            );
        }
        for broken in ["(", "{", "sum(", "[", "a[1m:1s]"] {
            assert!(Query::parse(&broken.repeat(count)).is_err());
        }
    }
    let (store, engine) = (store(), strict());
    let deep = format!("{}b{}", "abs(".repeat(95), ")".repeat(95));
    let query = Query::parse(&deep).unwrap();
    engine.instant(&store, &query, 100_000).unwrap();
    let sum = format!("1{}", "+1".repeat(98));
    let query = Query::parse(&sum).unwrap();
    let Value::Scalar(sample) = engine.instant(&store, &query, 0).unwrap() else {
        panic!("no scalar");
    };
    assert!((sample.value - 99.0).abs() < f64::EPSILON);
}

#[test]
fn times_are_bounded() {
    let (store, engine) = (store(), strict());
    let query = Query::parse("b").unwrap();
    let refused = |start, end, step| {
        let error = engine.range(&store, &query, start, end, step).unwrap_err();
        assert!(matches!(error, QueryError::Range(_)), "{error}");
        assert_eq!(error.kind(), "bad_data");
    };
    refused(0, 1_000, 0);
    refused(0, 1_000, -1);
    refused(1_000, 0, 1_000);
    refused(0, 11_001, 1);
    refused(i64::MIN, i64::MAX, 1);
    refused(0, i64::MAX, i64::MAX);
    assert!(engine.range(&store, &query, 0, 11_000, 1).is_ok());
    assert!(engine.instant(&store, &query, i64::MIN).is_err());
    for text in ["b[1m]", "\"text\""] {
        let query = Query::parse(text).unwrap();
        assert!(engine.range(&store, &query, 0, 1_000, 1_000).is_err());
        assert!(engine.instant(&store, &query, 0).is_ok());
    }
}

#[test]
fn samples_are_bounded() {
    let store = store();
    let engine = Engine::new(Options {
        max_samples: 800,
        ..Options::default()
    });
    for text in [
        "sum_over_time(b[5m])",
        "sum_over_time(b[5m:100ms])",
        "sum_over_time(vector(1)[900y:1ms])",
        "max_over_time(max_over_time(vector(1)[1h:1s])[1h:1s])",
    ] {
        let query = Query::parse(text).unwrap();
        let error = engine.instant(&store, &query, 300_000).unwrap_err();
        assert_eq!(error, QueryError::TooManySamples { limit: 800 }, "{text}");
        assert_eq!(error.kind(), "execution");
    }
}

#[test]
fn matchers_are_bounded() {
    let of = |matcher: &str, count: usize| format!("a{{{}}}", vec![matcher; count].join(","));
    for matcher in ["x=\"1\"", "x!=\"1\"", "x=~\".*\"", "x!~`1|2`"] {
        assert!(Query::parse(&of(matcher, 1_000)).is_ok(), "{matcher}");
        let error = Query::parse(&of(matcher, 1_001)).unwrap_err();
        assert!(error.to_string().contains("at most 1000"), "{error}");
        assert!(parse_selector(&of(matcher, 1_001)).is_err());
    }
}

#[test]
fn regular_expressions_are_bounded_before_they_are_compiled() {
    let of = |count: usize, pattern: &dyn Fn(usize) -> String| {
        let matchers: Vec<String> = (0..count).map(|i| format!("x=~`{}`", pattern(i))).collect();
        Query::parse(&format!("a{{{}}}", matchers.join(",")))
    };
    let said = |refused: Result<Query, QueryError>, limit: &str| {
        let error = refused.unwrap_err();
        assert!(error.to_string().contains(limit), "{error}");
    };
    assert!(of(50, &|i| format!("a.{i}")).is_ok());
    said(of(51, &|i| format!("a.{i}")), "50 different");
    said(of(20, &|i| "a.b".repeat(300 + i)), "16384 bytes");
    said(of(1, &|_| "\\pL{80}".into()), "524288 bytes");
    // What occurs again, and what needs no regular expression, costs nothing.
    assert!(of(1_000, &|_| "a.b".into()).is_ok());
    assert!(of(500, &|i| format!("a{i}|b{i}.*")).is_ok());
    let text = "label_replace(a, 'x', '', 'y', 'a.b') + ".repeat(70) + "a";
    assert!(Query::parse(&text).is_ok());
}

#[test]
fn labels_that_a_query_makes_are_bounded() {
    let (store, engine) = (store(), strict());
    let longest = |text: &str| {
        let answer = engine.instant(&store, &Query::parse(text).unwrap(), 60_000);
        answer.map(|value| {
            let labels = value
                .vector()
                .iter()
                .flat_map(|series| series.labels.iter());
            labels.map(|(_, value)| value.len()).max()
        })
    };
    let mut replaced = r#"label_replace(b, "x", "12345678", "", "")"#.to_owned();
    let mut joined = replaced.clone();
    for _ in 0..4 {
        let eight = "$1".repeat(8);
        replaced = format!(r#"label_replace({replaced}, "x", "{eight}", "x", "(.*)")"#);
        let eight = [r#""x""#; 8].join(", ");
        joined = format!(r#"label_join({joined}, "x", "", {eight})"#);
    }
    assert_eq!(longest(&replaced), Ok(Some(32_768)));
    assert_eq!(longest(&joined), Ok(Some(32_768)));
    for text in [
        format!(r#"label_replace({replaced}, "x", "$1$1$1", "x", "(.*)")"#),
        format!(r#"label_join({joined}, "x", "-", "x", "x")"#),
    ] {
        let error = longest(&text).unwrap_err();
        assert_eq!(error.kind(), "execution");
        assert!(error.to_string().contains("65536"), "{error}");
    }
    // Ten times 2 KiB of samples for each of three series.
    let engine = Engine::new(Options {
        max_samples: 10_000,
        ..Options::default()
    });
    let copies =
        "label_replace(".repeat(10) + &replaced + &r#", "y", "$1", "x", "(.*)")"#.repeat(10);
    let query = Query::parse(&copies).unwrap();
    let error = engine.instant(&store, &query, 60_000);
    assert_eq!(error, Err(QueryError::TooManySamples { limit: 10_000 }));
}

#[test]
fn time_is_bounded() {
    let store = store();
    let engine = Engine::new(Options {
        timeout: Some(Duration::from_millis(20)),
        max_samples: usize::MAX,
        ..Options::default()
    });
    let nested = "sum_over_time(sum_over_time(sum_over_time(b[5m:1s])[5m:1s])[5m:10ms])";
    let query = Query::parse(nested).unwrap();
    let error = engine.range(&store, &query, 0, 10_000_000, 1_000);
    assert_eq!(error, Err(QueryError::Timeout(Duration::from_millis(20))));
}

#[test]
fn what_is_not_supported_is_named() {
    for (text, name) in [
        ("histogram_count(a)", "histogram_count"),
        (
            "double_exponential_smoothing(a[5m], 0.5, 0.5)",
            "double_exponential_smoothing",
        ),
        ("mad_over_time(a[5m])", "mad_over_time"),
        ("sort_by_label(a, \"x\")", "sort_by_label"),
        ("limitk(2, a)", "limitk"),
        ("info(a)", "info"),
        ("a + fill (0) b", "fill"),
        ("{a=\"1\" or a=\"2\"}", "or"),
    ] {
        match Query::parse(text) {
            Err(error @ QueryError::Unsupported(_)) => {
                assert!(error.to_string().contains(name), "{text}: {error}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_query_is_refused() {
    for text in [
        "",
        "a +",
        "sum(",
        "nosuch(a)",
        "rate(a)",
        "abs(a[5m])",
        "a[5m] + 1",
        "\"x\" + 1",
        "1 and a",
        "1 > 2",
        "a[0s]",
        "sum_over_time(a[5m:0s])",
        "{}",
        "{a=\"\"}",
        "{a=~\".*\"}",
        "a{b=~\"(\"}",
        "ln(-1)",
        "exp(Inf)",
        "a[5m:1s",
        "topk(a)",
        "count_values(1, a)",
        "quantile(\"x\", a)",
        "a offset 5x",
        "-\"x\"",
        "clamp(a, 1)",
    ] {
        match Query::parse(text) {
            Err(QueryError::Parse(_)) => {}
            other => panic!("{text}: {other:?}"),
        }
    }
}
