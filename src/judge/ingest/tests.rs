use promql::{Engine, Limits, Query};

use super::*;

struct Lab {
    store: RwLock<Store>,
    ingest: Ingest,
}

/// A store of which scraped samples may fill `room`.
fn lab(room: Limits) -> Lab {
    let labels = [("job", "firedrill"), ("instance", "a:1"), ("role", "shop")];
    let owned = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Lab {
        store: RwLock::new(Store::new(Limits::default())),
        ingest: Ingest::new(owned.into(), room),
    }
}

impl Lab {
    fn take(&mut self, text: &str, at: i64) -> Result<Counts, String> {
        let outcome = self.scrape(Ok(text), at);
        let counts = outcome.report.counts;
        outcome
            .result
            .map(|()| counts)
            .map_err(|fault| fault.to_string())
    }

    fn scrape(&mut self, answer: Result<&str, String>, at: i64) -> Outcome {
        let answer = answer.map(str::as_bytes);
        self.ingest.take(&self.store, answer, at, Instant::now())
    }

    fn fail(&mut self, at: i64) -> Outcome {
        self.scrape(Err("it is gone".into()), at)
    }

    fn series(&self) -> usize {
        self.store.read().unwrap().stats().series
    }

    fn ask(&self, query: &str, at: i64) -> Vec<String> {
        let query = Query::parse(query).unwrap();
        let store = self.store.read().unwrap();
        let value = Engine::default().instant(&store, &query, at).unwrap();
        let series = value.vector().iter();
        series
            .map(|s| format!("{} {}", s.labels, s.sample.value))
            .collect()
    }
}

#[test]
fn series_carry_the_labels_of_their_target() {
    let mut lab = lab(Limits::default());
    let text = "# TYPE a untyped\n# HELP a Some\\nthing.\na{x=\"1\",job=\"mine\"} 5\nb 6 1500\n";
    let counts = lab.take(text, 2000).unwrap();
    assert_eq!((counts.scraped, counts.added, counts.refused), (2, 2, 0));
    assert_eq!(
        lab.ask("a", 2000),
        [r#"a{exported_job="mine", instance="a:1", job="firedrill", role="shop", x="1"} 5"#]
    );
    let told: Vec<_> = lab.ingest.metadata().collect();
    let expected = Metadata {
        kind: "unknown".into(),
        help: "Some\nthing.".into(),
    };
    assert_eq!(told, [("a", expected)]);
    // Its own time counts, and it is not marked when it is gone.
    assert_eq!(lab.ask("b", 1499).len(), 0);
    assert_eq!(lab.take("c 1\n", 3000).unwrap().added, 1);
    assert_eq!((lab.ask("a", 3000).len(), lab.ask("b", 3000).len()), (0, 1));
}

#[test]
fn what_is_gone_is_marked_and_may_come_back() {
    let mut lab = lab(Limits::default());
    assert_eq!(lab.take("a 1\nb 1\n", 1000).unwrap().added, 2);
    assert_eq!(lab.take("a 2\n", 2000).unwrap().added, 0);
    assert_eq!((lab.ask("a", 2000).len(), lab.ask("b", 2000).len()), (1, 0));
    assert_eq!(lab.take("b 3\na 3\n", 3000).unwrap().added, 1);
    assert_eq!(lab.ask("b", 3000).len(), 1);
    lab.fail(4000);
    assert_eq!(lab.ask("{__name__=~\"a|b\"}", 4000).len(), 0);
    assert_eq!(lab.take("a 5\nb 5\n", 5000).unwrap().added, 0);
    assert_eq!(lab.ask("{__name__=~\"a|b\"}", 5000).len(), 2);
}

#[test]
fn a_scrape_with_a_fault_leaves_nothing() {
    let mut lab = lab(Limits::default());
    lab.take("a 1\n", 1000).unwrap();
    for (text, why) in [
        ("a 2\nnew 1", "line 2: it has no line feed"),
        ("a 2\na 2\n", "line 2: the series a stands twice"),
        (
            "n{x=\"1\",y=\"2\"} 1\nn{y=\"2\",x=\"1\"} 1\n",
            "line 2: the series n",
        ),
        ("a 2\na{} 2\n", "line 2: the series a{} stands twice"),
        ("new 1\nnew 2\n", "line 2: the series new stands twice"),
        ("a 2\nb{x=1} 2\n", "line 2: "),
    ] {
        let error = lab.take(text, 2000).unwrap_err();
        assert!(error.starts_with(why), "{text:?}: {error}");
        assert_eq!(lab.ask("{__name__=~\"new|n|a|b\"}", 2000).len(), 0);
        assert!(lab.ask("up", 2000)[0].ends_with(" 0"));
        assert_eq!(lab.series(), 6, "a and the reports");
    }
    assert!(lab.take("a 2\n", 3000).is_ok());
}

#[test]
fn what_a_full_store_does_not_take_is_counted_and_up_goes_on() {
    let mut lab = lab(Limits {
        max_series: 7,
        max_bytes: 1 << 20,
    });
    lab.ingest.begin(&mut lab.store.write().unwrap());
    assert_eq!(lab.series(), 5, "the places of the reports");
    let counts = lab.take("a 1\nb 1\nc 1\n", 1000).unwrap();
    assert_eq!((counts.added, counts.refused), (2, 1));
    let outcome = lab.scrape(Ok("a 1\nb 1\nc 1\n"), 2000);
    assert_eq!(
        (outcome.report.counts.refused, outcome.report_refused),
        (1, 0)
    );
    lab.ingest.room.max_bytes = 0;
    let outcome = lab.scrape(Ok("a 1\nb 1\nc 1\n"), 3000);
    assert_eq!(
        (outcome.report.counts.refused, outcome.report_refused),
        (3, 0)
    );
    assert!(lab.ask("up", 3000)[0].ends_with(" 1"));
}

#[test]
fn a_flood_of_series_is_refused_with_its_number() {
    let mut lab = lab(Limits::default());
    let scrape = |from: usize, count: usize| -> String {
        let lines = (from..from + count).map(|i| format!("m{i} 1\n"));
        lines.collect()
    };
    let error = lab.take(&scrape(0, SERIES_MAX + 7), 1000).unwrap_err();
    assert_eq!(
        error,
        "30007 samples are more than the limit of 30000 of one target"
    );
    assert_eq!(lab.series(), 5, "only the reports");
    // No scrape is large, but each has new names.
    let third = SERIES_MAX / 3;
    for turn in 0..3 {
        assert!(lab.take(&scrape(turn * third, third), 2000).is_ok());
    }
    let before = lab.series();
    let error = lab.take(&scrape(3 * third, third), 3000).unwrap_err();
    assert!(
        error.starts_with("40000 series in 75 minutes, 10000 of them new, are more"),
        "{error}"
    );
    assert_eq!(lab.series(), before);
    // Those that were there before are not new, and what is gone for long does not count.
    assert!(lab.take(&scrape(0, third), 4000).is_ok());
    let later = 4000 + 2 * to_ms(RAW_KEPT);
    assert!(lab.take(&scrape(3 * third, third), later).is_ok());
    let long = format!("a{{x=\"{}\"}} 1\n", "x".repeat(SERIES_BYTES_MAX));
    let error = lab.take(&long, later + 1000).unwrap_err();
    assert!(
        error.contains("a series of 4103 bytes with its labels; the limit is 4096"),
        "{error}"
    );
}

#[test]
fn a_refused_scrape_leaves_no_series_in_the_store() {
    let mut lab = lab(Limits::default());
    lab.take("a 1\n", 1000).unwrap();
    let before = lab.series();
    let twice = "a 1\nnew 1\nn{x=\"1\",y=\"2\"} 1\nn{y=\"2\",x=\"1\"} 1\n";
    assert!(lab.take(twice, 2000).unwrap_err().starts_with("line 4: "));
    // Written in another way, it is the series that is there already.
    assert!(lab.take("a 1\na{} 1\n", 3000).is_err());
    assert_eq!(lab.series(), before);
    assert_eq!(lab.take("a{} 2\n", 4000).unwrap().refused, 0);
    assert!(lab.ask("a", 4000)[0].ends_with(" 2"));
}

#[test]
fn a_time_far_from_the_scrape_is_dropped() {
    let mut lab = lab(Limits::default());
    let at = 10_000_000;
    let (oldest, newest) = (at - to_ms(RAW_KEPT), at + to_ms(AHEAD_MAX));
    let text = format!(
        "a 1 {oldest}\nb 1 {}\nc 1 {newest}\nd 1 {}\ne 1 9000000000000000\nf 1 -9000000000000000\n",
        oldest - 1,
        newest + 1
    );
    let counts = lab.take(&text, at).unwrap();
    assert_eq!((counts.scraped, counts.added, counts.refused), (6, 2, 4));
    assert_eq!(lab.series(), 7);
    // A series whose time has gone astray is not there.
    lab.take("g 1\n", at + 1000).unwrap();
    let counts = lab
        .take(&format!("g 1 {}\n", 2 * newest), at + 2000)
        .unwrap();
    assert_eq!((counts.refused, lab.ask("g", at + 2000).len()), (1, 0));
}

#[test]
fn what_is_told_of_metrics_is_that_of_the_last_good_scrape() {
    let mut lab = lab(Limits::default());
    let told = |lab: &Lab| {
        let mut names: Vec<_> = lab.ingest.metadata().map(|(n, _)| n.to_owned()).collect();
        names.sort();
        names
    };
    lab.take("# HELP a A.\na 1\n", 1000).unwrap();
    lab.take("# HELP b B.\na 1\n", 2000).unwrap();
    assert_eq!(told(&lab), ["b"]);
    assert!(lab.take("# HELP c C.\na one\n", 3000).is_err());
    assert_eq!(told(&lab), ["b"]);
    let many = (0..10_000).map(|i| format!("# HELP m{i} M.\n"));
    let many: String = many.collect();
    lab.take(&many, 4000).unwrap();
    assert_eq!(told(&lab).len(), 2_000);
    let long = "x".repeat(2_000);
    lab.take(
        &format!("# HELP a {long}\n# HELP {long} A.\n# TYPE a gauge\n"),
        5000,
    )
    .unwrap();
    let kept: Vec<_> = lab.ingest.metadata().collect();
    assert_eq!(
        (kept.len(), kept[0].0, kept[0].1.help.as_str()),
        (1, "a", "")
    );
}

#[test]
fn a_label_of_the_target_is_renamed_until_its_name_is_free() {
    let mut lab = lab(Limits::default());
    lab.take("a{job=\"x\",exported_job=\"y\"} 1\n", 1000)
        .unwrap();
    let series = &lab.ask("a", 1000)[0];
    assert!(
        series.contains("exported_exported_job=\"x\", exported_job=\"y\""),
        "{series}"
    );
}

#[test]
fn series_and_report_change_in_one_moment() {
    let Lab { store, mut ingest } = lab(Limits::default());
    let texts = ["a 1\n", "a one\n"];
    let store = std::sync::Arc::new(store);
    let watched = std::sync::Arc::clone(&store);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let watching = std::thread::spawn(move || {
        let query = Query::parse("(count(a) or vector(0)) - on () up").unwrap();
        let mut looks = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let store = watched.read().unwrap();
            let value = Engine::default().instant(&store, &query, 100_000).unwrap();
            drop(store);
            // Series without `up`, or `up` without series.
            assert!(
                value.vector().iter().all(|s| s.sample.value == 0.0),
                "{value:?}"
            );
            looks += 1;
        }
        looks
    });
    for turn in 0..20_000 {
        let text = texts[turn % 2].as_bytes();
        let at = i64::try_from(turn).unwrap();
        drop(ingest.take(&store, Ok(text), at, Instant::now()));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(watching.join().unwrap() > 10);
}

#[test]
fn a_series_that_the_store_has_dropped_is_registered_again() {
    let mut lab = lab(Limits::default());
    lab.take("a 1\n", 1000).unwrap();
    let later = 1000 + 2 * to_ms(RAW_KEPT);
    lab.store.write().unwrap().trim(later);
    assert_eq!(lab.take("a 2\n", later).unwrap().refused, 0);
    assert_eq!(lab.ask("a", later).len(), 1);
}

#[test]
fn a_report_is_five_series_that_end_with_the_target() {
    let mut lab = lab(Limits::default());
    let outcome = lab.scrape(Ok("a 1\nb 1 9000000000000000\n"), 1000);
    assert!(outcome.report.up && outcome.report_refused == 0);
    let up = r#"up{instance="a:1", job="firedrill", role="shop"} 1"#;
    assert_eq!(lab.ask("up", 1000), [up]);
    for (name, value) in [
        ("scrape_samples_scraped", "2"),
        ("scrape_samples_post_metric_relabeling", "2"),
        ("scrape_series_added", "1"),
    ] {
        let found = &lab.ask(name, 1000)[0];
        assert!(found.ends_with(&format!(" {value}")), "{found}");
    }
    assert_eq!(lab.ask("scrape_duration_seconds > 0", 1000).len(), 1);
    let outcome = lab.fail(2000);
    assert_eq!(outcome.result, Err(Fault::Failed("it is gone".into())));
    assert!(lab.ask("up", 2000)[0].ends_with(" 0"));
    lab.ingest.end(&lab.store, 3000);
    assert_eq!(lab.ask("{job=\"firedrill\"}", 3000), Vec::<String>::new());
}
