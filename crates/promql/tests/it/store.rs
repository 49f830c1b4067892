//! The store: what it accepts, what it refuses, what it forgets, and that it stays within its bounds.

use std::collections::HashMap;
use std::time::Duration;

use promql::error::AppendError;
use promql::labels::Labels;
use promql::store::{Limits, Matcher, SeriesRef, Store};
use promql::value::Sample;
use promql::{Engine, Query, Value};

const HOUR: Duration = Duration::from_secs(3_600);

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied())
}

fn store_with(series: &[&[(&str, &str)]]) -> Store {
    let mut store = Store::new(Limits::default());
    for pairs in series {
        let series = store.register(&labels(pairs), HOUR).unwrap();
        store.append(series, Sample::new(1_000, 1.0)).unwrap();
    }
    store
}

fn samples(store: &Store, series: usize) -> Vec<Sample> {
    let mut samples = Vec::new();
    store.select(&[])[series].read(i64::MIN, i64::MAX, &mut samples);
    samples
}

#[test]
fn refuses_older_and_contradicting_samples_and_takes_a_repeated_one() {
    let mut store = Store::new(Limits::default());
    let series = store.register(&labels(&[("a", "1")]), HOUR).unwrap();
    store.append(series, Sample::new(2_000, 1.0)).unwrap();
    assert_eq!(
        store.append(series, Sample::new(1_000, 1.0)),
        Err(AppendError::OutOfOrder {
            timestamp: 1_000,
            newest: 2_000
        })
    );
    assert_eq!(
        store.append(series, Sample::new(2_000, 2.0)),
        Err(AppendError::Duplicate { timestamp: 2_000 })
    );
    store.append(series, Sample::new(2_000, 1.0)).unwrap();
    store.append(series, Sample::stale(3_000)).unwrap();
    let kept = samples(&store, 0);
    assert_eq!(kept[0], Sample::new(2_000, 1.0));
    assert!(kept[1].is_stale());
    assert_eq!(kept.len(), 2);
}

#[test]
fn matchers_choose_as_in_prometheus() {
    let store = store_with(&[
        &[("__name__", "up"), ("job", "shop"), ("instance", "a")],
        &[("__name__", "up"), ("job", "bank"), ("instance", "b")],
        &[("__name__", "up"), ("instance", "c")],
        &[("__name__", "down"), ("job", "shop\nfront")],
    ]);
    let found = |matchers: &[Matcher]| -> String {
        let found = store.select(matchers);
        let names = found.iter().map(|series| {
            let labels = series.labels();
            format!("{}{}", labels.metric_name(), labels.get("instance"))
        });
        names.collect::<Vec<_>>().join(" ")
    };
    let up = || Matcher::equal("__name__", "up");
    assert_eq!(found(&[up()]), "upa upb upc");
    assert_eq!(found(&[up(), Matcher::equal("job", "")]), "upc");
    assert_eq!(found(&[up(), Matcher::not_equal("job", "shop")]), "upb upc");
    assert_eq!(found(&[up(), Matcher::not_equal("job", "")]), "upa upb");
    let re = |pattern| Matcher::matches("job", pattern).unwrap();
    assert_eq!(found(&[re("sh.p")]), "upa");
    assert_eq!(found(&[re("shop.*")]), "upa down");
    assert_eq!(found(&[up(), re("shop|")]), "upa upc");
    assert_eq!(found(&[up(), re(".*")]), "upa upb upc");
    let not = Matcher::matches_not("job", "shop.*").unwrap();
    assert_eq!(found(&[not]), "upb upc");
    assert_eq!(found(&[Matcher::equal("nosuch", "x")]), "");
    assert_eq!(found(&[]), "upa upb upc down");
    assert!(Matcher::matches("job", "(").is_err());
}

#[test]
fn lists_series_names_and_values() {
    let mut store = store_with(&[
        &[("__name__", "up"), ("job", "shop")],
        &[("__name__", "up"), ("job", "bank")],
        &[("__name__", "late"), ("zone", "x")],
    ]);
    let late = store
        .register(&labels(&[("__name__", "late"), ("zone", "x")]), HOUR)
        .unwrap();
    store.append(late, Sample::new(9_000_000, 1.0)).unwrap();
    let up = [vec![Matcher::equal("__name__", "up")]];
    assert_eq!(store.series(&up, 0, 2_000).len(), 2);
    assert_eq!(store.series(&up, 2_000, 3_000).len(), 0);
    assert_eq!(store.series(&[], 0, i64::MAX).len(), 3);
    assert_eq!(
        store.label_names(&[], 0, i64::MAX),
        ["__name__", "job", "zone"]
    );
    assert_eq!(store.label_names(&up, 0, i64::MAX), ["__name__", "job"]);
    assert_eq!(
        store.label_values("job", &[], 0, i64::MAX),
        ["bank", "shop"]
    );
    assert_eq!(
        store.label_values("__name__", &[], 5_000_000, i64::MAX),
        ["late"]
    );
}

#[test]
fn each_series_keeps_its_own_retention() {
    let mut store = Store::new(Limits::default());
    let minute = Duration::from_secs(60);
    let raw = store
        .register(&labels(&[("kind", "raw")]), 5 * minute)
        .unwrap();
    let recorded = store
        .register(&labels(&[("kind", "recorded")]), HOUR)
        .unwrap();
    let end = 7_200;
    for second in 0..=end {
        for series in [raw, recorded] {
            store
                .append(series, Sample::new(second * 1_000, 1.0))
                .unwrap();
        }
    }
    store.trim(end * 1_000);
    let oldest = |series| end - samples(&store, series)[0].timestamp / 1_000;
    // Whole chunks of two minutes go.
    assert!((300..=420).contains(&oldest(0)), "{}", oldest(0));
    assert!((3_600..=3_720).contains(&oldest(1)), "{}", oldest(1));
}

#[test]
fn a_series_without_samples_goes_and_its_reference_is_refused() {
    let mut store = Store::new(Limits::default());
    let gone = store.register(&labels(&[("a", "1")]), HOUR).unwrap();
    store.append(gone, Sample::new(0, 1.0)).unwrap();
    let full = store.bytes();
    store.trim(3_600_000);
    assert_eq!(store.stats().series, 1);
    store.trim(3_600_001);
    assert_eq!(store.stats().series, 0);
    assert_eq!(store.bytes(), 0, "of {full}");
    assert!(store.label_names(&[], i64::MIN, i64::MAX).is_empty());
    // Its place is taken by another: the old reference must not reach that one.
    let other = store.register(&labels(&[("a", "2")]), HOUR).unwrap();
    assert_eq!(
        store.append(gone, Sample::new(1, 1.0)),
        Err(AppendError::UnknownSeries)
    );
    store.append(other, Sample::new(1, 1.0)).unwrap();
}

#[test]
fn the_number_of_series_is_bounded() {
    let limits = Limits {
        max_series: 2,
        ..Limits::default()
    };
    let mut store = Store::new(limits);
    let first = store.register(&labels(&[("a", "1")]), HOUR).unwrap();
    store.register(&labels(&[("a", "2")]), HOUR).unwrap();
    assert_eq!(
        store.register(&labels(&[("a", "3")]), HOUR),
        Err(AppendError::TooManySeries { limit: 2 })
    );
    assert_eq!(store.register(&labels(&[("a", "1")]), HOUR), Ok(first));
    assert_eq!(
        store.register(&Labels::default(), HOUR),
        Err(AppendError::NoLabels)
    );
}

/// Series come and go, faster than the store can hold them: it must refuse, stay within its bound, forget what is
/// past its retention, and answer with exactly what it accepted.
#[test]
fn churn_stays_within_the_bound_and_loses_nothing_that_was_accepted() {
    let limits = Limits {
        max_series: 400,
        max_bytes: 80_000,
    };
    let mut store = Store::new(limits);
    let mut random = fastrand::Rng::with_seed(4);
    let mut accepted: HashMap<Labels, Vec<Sample>> = HashMap::new();
    let mut refused = 0;
    let mut known: Vec<(Labels, SeriesRef)> = Vec::new();
    let retention = Duration::from_secs(100);
    for second in 0..3_000_i64 {
        let name = format!("pod-{}", second / 10 * 10 + random.i64(0..10));
        let labels = labels(&[("__name__", "up"), ("pod", &name)]);
        match store.register(&labels, retention) {
            Ok(series) => known.push((labels, series)),
            Err(_) => refused += 1,
        }
        for (labels, series) in known.iter().rev().take(60) {
            let sample = Sample::new(second * 1_000, random.f64());
            match store.append(*series, sample) {
                Ok(()) => accepted.entry(labels.clone()).or_default().push(sample),
                Err(AppendError::OutOfMemory { .. }) => refused += 1,
                Err(AppendError::UnknownSeries | AppendError::Duplicate { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(store.bytes() <= limits.max_bytes);
        }
        if second % 50 == 0 {
            store.trim(second * 1_000);
        }
    }
    assert!(refused > 0, "the bound was never met");
    let oldest = (3_000 - 100) * 1_000;
    let mut seen = 0;
    for (labels, samples) in accepted {
        let wanted: Vec<Sample> = samples
            .into_iter()
            .filter(|sample| sample.timestamp >= oldest)
            .collect();
        let matchers = [Matcher::equal("pod", labels.get("pod"))];
        let mut found = Vec::new();
        for series in store.select(&matchers) {
            series.read(oldest, i64::MAX, &mut found);
        }
        assert_eq!(found, wanted, "{labels}");
        seen += found.len();
    }
    assert!(seen > 1_000, "only {seen} samples to compare");
}

/// The store goes on while a query is evaluated: what was loaded stays what it was.
#[test]
fn what_is_loaded_does_not_change_with_the_store() {
    let mut store = Store::new(Limits::default());
    let minute = Duration::from_secs(60);
    let series = store.register(&labels(&[("a", "1")]), minute).unwrap();
    let append = |store: &mut Store, from: i64, to: i64| {
        for second in from..to {
            store
                .append(series, Sample::new(second * 1_000, 1.0))
                .unwrap();
        }
    };
    append(&mut store, 0, 500);
    let (engine, query) = (
        Engine::default(),
        Query::parse("count_over_time({a=\"1\"}[1h])").unwrap(),
    );
    let count = |value: Value| value.vector().first().map(|series| series.sample.value);
    let loaded = engine.load(&store, &query);
    let before = count(loaded.instant(500_000).unwrap());
    assert_eq!(
        before,
        count(engine.instant(&store, &query, 500_000).unwrap())
    );
    assert!(before.is_some());
    append(&mut store, 500, 2_000);
    store.trim(9_000_000);
    assert_eq!(store.stats().samples, 0);
    assert_eq!(count(loaded.instant(500_000).unwrap()), before);
    let empty = Store::new(Limits::default());
    assert_eq!(count(engine.load(&empty, &query).instant(0).unwrap()), None);
}
