//! What answers look like: to Rust, and as JSON.

use std::time::Duration;

use promql::{
    Engine, Labels, Limits, Options, Query, Sample, Semantics, Store, Value, parse_selector,
};
use serde_json::{Value as Json, json};

const HOUR: Duration = Duration::from_secs(3_600);

/// `up` is 1 and 0, `count` grows by 1 a second.
fn store() -> Store {
    let mut store = Store::new(Limits::default());
    let up = |job| Labels::new([("__name__", "up"), ("job", job)]);
    for (labels, value) in [(up("shop"), 1.0), (up("bank"), 0.0)] {
        let series = store.register(&labels, HOUR).unwrap();
        store.append(series, Sample::new(1_500, value)).unwrap();
    }
    let count = store
        .register(&Labels::new([("__name__", "count")]), HOUR)
        .unwrap();
    for second in 0_i32..=60 {
        let sample = Sample::new(i64::from(second) * 1_000, f64::from(second));
        store.append(count, sample).unwrap();
    }
    store
}

fn instant(text: &str, time: i64) -> Value {
    let query = Query::parse(text).unwrap();
    Engine::default().instant(&store(), &query, time).unwrap()
}

fn json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap()
}

#[test]
fn json_is_that_of_prometheus() {
    assert_eq!(
        json(&instant("up == 1", 2_000)),
        json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "shop"}, "value": [2, "1"]}
        ]})
    );
    assert_eq!(
        json(&instant("1 / 0", 1_500)),
        json!({"resultType": "scalar", "result": [1.5, "+Inf"]})
    );
    assert_eq!(
        json(&instant("\"text\"", 0)),
        json!({"resultType": "string", "result": [0, "text"]})
    );
    assert_eq!(
        json(&instant("up{job=\"shop\"}[5s]", 2_000)),
        json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "up", "job": "shop"}, "values": [[1.5, "1"]]}
        ]})
    );
    let query = Query::parse("sum(up) / 3").unwrap();
    let range = Engine::default()
        .range(&store(), &query, 1_000, 3_000, 1_000)
        .unwrap();
    let third = "0.3333333333333333";
    assert_eq!(
        json(&range),
        json!({"resultType": "matrix", "result": [
            {"metric": {}, "values": [[2, third], [3, third]]}
        ]})
    );
}

#[test]
fn range_queries_are_sorted_by_labels() {
    let query = Query::parse("up").unwrap();
    let range = Engine::default()
        .range(&store(), &query, 2_000, 3_000, 1_000)
        .unwrap();
    let Value::Matrix(series) = range else {
        panic!("{range:?}");
    };
    let jobs: Vec<&str> = series.iter().map(|s| s.labels.get("job")).collect();
    assert_eq!(jobs, ["bank", "shop"]);
}

/// The order of values is that of an instant query, and of nothing within it.
#[test]
fn only_an_instant_query_keeps_an_order() {
    let jobs = |text: &str| -> Vec<String> {
        let value = instant(text, 2_000);
        let series = value.vector().iter();
        series
            .map(|series| series.labels.get("job").to_owned())
            .collect()
    };
    assert_eq!(jobs("sort(up)"), ["bank", "shop"]);
    assert_eq!(jobs("bottomk(2, up)"), ["bank", "shop"]);
    for of in ["sort(up)", "bottomk(2, up)"] {
        for range in ["1s:1s", "2s:1s"] {
            let text = format!("last_over_time({of}[{range}])");
            assert_eq!(jobs(&text), ["shop", "bank"], "{text}");
        }
    }
}

#[test]
fn a_query_names_its_selectors() {
    let text =
        r#"sum(rate(b{x="1"}[5m])) / scalar(a) or max_over_time(b[1m:]) + {__name__=~"c.*"}"#;
    let query = Query::parse(text).unwrap();
    assert_eq!(query.text(), text);
    assert_eq!(query.metric_names(), ["a", "b"]);
    let sizes: Vec<usize> = query
        .selectors()
        .iter()
        .map(|matchers| matchers.len())
        .collect();
    assert_eq!(sizes, [2, 1, 1, 1]);
}

#[test]
fn a_selector_can_be_read_alone() {
    let matchers = parse_selector(r#"up{job="shop"}"#).unwrap();
    let found = store().series(&[matchers], 0, 10_000);
    assert_eq!(found.len(), 1);
    for text in ["up[5m]", "up + 1", "sum(up)", "up offset 5m", "{}", ""] {
        assert!(parse_selector(text).is_err(), "{text}");
    }
}

/// One query may be evaluated by several threads on one store.
#[test]
fn queries_and_stores_are_shared_between_threads() {
    let (store, query) = (store(), Query::parse("sum(up)").unwrap());
    let answers = std::thread::scope(|scope| {
        let ask = || Engine::default().instant(&store, &query, 2_000).unwrap();
        [scope.spawn(ask), scope.spawn(ask)].map(|thread| thread.join().unwrap())
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn options_hold() {
    let store = store();
    let value = |options: Options, text: &str| {
        let query = Query::parse(text).unwrap();
        let value = Engine::new(options)
            .instant(&store, &query, 60_000)
            .unwrap();
        value.vector().first().map(|series| series.sample.value)
    };
    let lookback = |seconds| Options {
        lookback: Duration::from_secs(seconds),
        ..Options::default()
    };
    assert_eq!(value(lookback(58), "sum(up)"), None);
    assert_eq!(value(lookback(59), "sum(up)"), Some(1.0));
    let step = Options {
        subquery_step: Duration::from_secs(20),
        ..Options::default()
    };
    assert_eq!(value(step, "count_over_time(count[1m:])"), Some(3.0));
    let v2 = Options {
        semantics: Semantics::V2,
        ..Options::default()
    };
    assert_eq!(value(v2, "count_over_time(count[30s])"), Some(31.0));
    assert_eq!(
        value(Options::default(), "count_over_time(count[30s])"),
        Some(30.0)
    );
}

#[test]
fn errors_have_the_kind_that_prometheus_gives_them() {
    for (text, kind) in [
        ("up +", "bad_data"),
        ("up{job=~\"(\"}", "bad_data"),
        (
            "label_replace(up, \"x\", \"\", \"job\", \"(\")",
            "execution",
        ),
        ("label_replace(up, \"\", \"\", \"job\", \"\")", "execution"),
        ("count_values(\"\", up)", "execution"),
    ] {
        assert_eq!(Query::parse(text).unwrap_err().kind(), kind, "{text}");
    }
}
