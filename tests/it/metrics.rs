//! Metrics: what is counted, and that it is there before it happens.

use std::collections::BTreeMap;
use std::io::Write;

use firedrill::telemetry::catalog::{CATALOGUE, FRACTIONAL};
use firedrill::telemetry::document;

use crate::support::{ORDER, Role, Shop, connect, get, put, send, wait_for};

#[test]
fn every_known_series_exists_at_zero() {
    let lab = Shop::start();
    let text = get(&lab.shop.control, "/metrics").body;
    for series in [
        "http_server_request_duration_seconds_count{http_request_method=\"POST\",http_route=\"/orders\",http_response_status_code=\"504\",error_type=\"timeout\"} 0",
        "http_server_request_duration_seconds_count{http_request_method=\"POST\",http_route=\"/orders\",error_type=\"cancelled\"} 0",
        "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_route=\"unmatched\",http_response_status_code=\"404\"} 0",
        "firedrill_client_calls_total{peer=\"payments\",outcome=\"unknown\"} 0",
        "firedrill_orders_total{outcome=\"declined\"} 0",
        "db_client_connection_timeouts_total{db_client_connection_pool_name=\"shop\"} 0",
        "firedrill_invariant_violations{invariant=\"charged_twice\"} 0",
        "firedrill_panics_total 0",
    ] {
        assert!(
            text.lines().any(|line| line == series),
            "{series} is not in\n{text}"
        );
    }
}

/// The series of requests at a role, by their labels, with how many there were of each.
fn requests(role: &Role) -> BTreeMap<String, f64> {
    let text = get(&role.control, "/metrics").body;
    let counts = text
        .lines()
        .filter_map(|line| line.strip_prefix("http_server_request_duration_seconds_count"));
    let series = counts.map(|line| {
        let (labels, count) = line.rsplit_once(' ').unwrap();
        (labels.to_owned(), count.parse().unwrap())
    });
    series.collect()
}

/// The labels of the requests that there are by now and that there were none of.
fn new_since(role: &Role, before: &BTreeMap<String, f64>) -> Vec<String> {
    let now = requests(role).into_iter();
    let new = now.filter(|(labels, count)| {
        let before = before.get(labels);
        assert!(before.is_some(), "{labels} appeared when it happened");
        before.is_some_and(|before| count > before)
    });
    new.map(|(labels, _)| labels).collect()
}

#[test]
fn no_failure_brings_a_series_that_was_not_there() {
    let mut lab = Shop::start_with(&["--bank-slots", "1", "--bank-queue", "1"], &[]);
    let (shop, payments) = (requests(&lab.shop), requests(&lab.payments));
    let json = "content-type: application/json\r\n";
    let charge = |key: &str| {
        let body = format!(r#"{{"key":"{key}","order_id":1,"amount_cents":1}}"#);
        send(
            &lab.payments.data,
            "POST",
            "/charges",
            json,
            body.as_bytes(),
        )
        .status
    };
    let shock = |name: &str, body: &str| {
        let path = format!("/shocks/{name}");
        assert_eq!(
            put(&lab.payments.control, &path, body).status,
            200,
            "{name}"
        );
    };
    shock("bank_failing", r#"{"share":1,"ttl_s":60}"#);
    assert_eq!(charge("a"), 502);
    shock("bank_failing", r#"{"share":0,"ttl_s":60}"#);
    shock("bank_stalled", r#"{"share":1,"ttl_s":60}"#);
    assert_eq!(lab.order("timeout", ORDER).status, 504);
    shock("bank_stalled", r#"{"share":0,"ttl_s":60}"#);
    shock("bank_slow", r#"{"factor":20,"share":1,"ttl_s":60}"#);
    let refused = std::thread::scope(|scope| {
        let charges: Vec<_> = ["b", "c", "d", "e"]
            .map(|key| scope.spawn(move || charge(key)))
            .into();
        let statuses = charges.into_iter().map(|charge| charge.join().unwrap());
        statuses.filter(|status| *status == 503).count()
    });
    assert!(refused >= 1);
    shock("bank_slow", r#"{"factor":1,"share":0,"ttl_s":60}"#);
    // Another writer, and two orders: one is in the busy loop, and one waits for its turn.
    let path = lab.dir.path().join("shop/shop.db");
    let writer = rusqlite::Connection::open(path).unwrap();
    writer.busy_timeout(crate::support::DEADLINE).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let order = |key: &str| {
        let headers = format!("{json}idempotency-key: {key}\r\nx-request-timeout-ms: 20000\r\n");
        send(
            &lab.shop.data,
            "POST",
            "/orders",
            &headers,
            ORDER.as_bytes(),
        )
        .status
    };
    let statuses = std::thread::scope(|scope| {
        let orders: Vec<_> = ["f", "g"].map(|key| scope.spawn(move || order(key))).into();
        orders
            .into_iter()
            .map(|order| order.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(statuses.contains(&503), "{statuses:?}");
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: shop\r\n{json}idempotency-key: h\r\ncontent-length: {}\r\n\r\n{ORDER}",
        ORDER.len()
    );
    let mut stream = connect(&lab.shop.data).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    wait_for("it to be under way", || {
        lab.shop.metric("http_server_active_requests", "POST") > 0.5
    });
    drop(stream);
    wait_for("it to be given up", || {
        lab.shop.metric("http_server_active_requests", "POST") < 0.5
    });
    writer.execute_batch("ROLLBACK").unwrap();
    let of_payments = new_since(&lab.payments, &payments);
    lab.payments.process.child.kill().unwrap();
    // The first may be on a connection that breaks under it: whether that one was charged stays unknown.
    let mut attempts = 0;
    wait_for("payments to be gone", || {
        attempts += 1;
        lab.order(&format!("i{attempts}"), ORDER).status == 503
    });
    let of_shop = new_since(&lab.shop, &shop);
    for (seen, kinds) in [
        (of_payments, ["bank", "queue_full"].as_slice()),
        (
            of_shop,
            &["timeout", "pool_timeout", "cancelled", "payments"],
        ),
    ] {
        for kind in kinds {
            let label = format!("error_type=\"{kind}\"");
            assert!(
                seen.iter().any(|labels| labels.contains(&label)),
                "{kind}: {seen:?}"
            );
        }
    }
}

#[test]
fn the_users_are_counted_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = ["--shop", "http://127.0.0.1:1", "--rate", "0"];
    let traffic = Role::start("traffic", dir.path(), &nowhere);
    for series in [
        "firedrill_journey_arrivals_total{journey=\"order\"} 0",
        "firedrill_journey_duration_seconds_count{journey=\"order\",outcome=\"bad\"} 0",
        "firedrill_journey_target_rate{journey=\"order\"} 0",
        "firedrill_journeys_active 0",
    ] {
        let text = get(&traffic.control, "/metrics").body;
        assert!(
            text.lines().any(|line| line == series),
            "{series} is not in\n{text}"
        );
    }
    crate::support::put(&traffic.control, "/load", r#"{"rate":100}"#);
    wait_for("users to arrive", || {
        traffic.metric("firedrill_journey_arrivals_total", "journey=\"order\"") > 0.0
    });
}

#[test]
fn what_is_exposed_is_in_the_catalogue_and_described() {
    let lab = Shop::start();
    let all = CATALOGUE.iter().chain(FRACTIONAL);
    let known: Vec<_> = all.map(|metric| metric.name).collect();
    for control in [&lab.shop.control, &lab.payments.control] {
        let text = get(control, "/metrics").body;
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(known.contains(&name), "{name} is not in the catalogue");
            assert!(
                text.contains(&format!("# HELP {name} ")),
                "{name} has no help"
            );
            assert_ne!(
                kind, "summary",
                "{name}: a summary cannot be added up over processes"
            );
        }
    }
}

#[test]
fn paths_that_clients_invent_become_one_series() {
    let lab = Shop::start();
    for path in ["/a", "/b", "/c?d", "/items/1/x"] {
        assert_eq!(get(&lab.shop.data, path).status, 404);
    }
    let counted = lab.shop.metric(
        "http_server_request_duration_seconds_count",
        "http_route=\"unmatched\"",
    );
    assert!((counted - 4.0).abs() < f64::EPSILON, "{counted}");
    assert!(
        !get(&lab.shop.control, "/metrics")
            .body
            .contains("/items/1/x")
    );
}

/// Values of the label `http_route` at the shop that are paths of the crawler's.
fn paths_counted(shop: &Role) -> usize {
    let text = get(&shop.control, "/metrics").body;
    let counts = text.lines().filter(|line| {
        line.starts_with("http_server_request_duration_seconds_count") && line.contains("/pages/")
    });
    counts.count()
}

#[test]
fn a_crawler_makes_series_while_paths_are_labels_and_is_on_no_journey() {
    let lab = Shop::start();
    let url = format!("http://{}", lab.shop.data);
    let users = Role::start("traffic", lab.dir.path(), &["--rate", "0", "--shop", &url]);
    let unmatched = || {
        let name = "http_server_request_duration_seconds_count";
        lab.shop.metric(name, "http_route=\"unmatched\"")
    };
    let choose = |option: &str| {
        let body = format!(r#"{{"option":"{option}"}}"#);
        let answer = put(&lab.shop.control, "/choices/label_policy", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let crawl = r#"{"rate":100,"ttl_s":60}"#;
    assert_eq!(put(&users.control, "/shocks/crawler", crawl).status, 200);
    wait_for("the crawler to be counted", || unmatched() > 20.0);
    assert_eq!(paths_counted(&lab.shop), 0);
    choose("poor");
    wait_for("paths to be series", || paths_counted(&lab.shop) > 20);
    choose("sound");
    let (before, asked) = (paths_counted(&lab.shop), unmatched());
    wait_for("the crawler to go on", || unmatched() > asked + 20.0);
    // One that was under way when the option changed may come late.
    let after = paths_counted(&lab.shop);
    assert!(after >= before && after <= before + 16, "{before}, {after}");
    let arrivals = users.metric("firedrill_journey_arrivals_total", "");
    assert!(arrivals < 0.5, "{arrivals} journeys");
}

#[test]
fn the_process_and_its_runtime_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start(
        "payments",
        dir.path(),
        &["--workers", "3", "--open-files-max", "256"],
    );
    assert!(payments.metric("process_resident_memory_bytes", "") > 1e6);
    assert!(payments.metric("process_open_fds", "") > 3.0);
    assert!((payments.metric("process_max_fds", "") - 256.0).abs() < f64::EPSILON);
    assert!((payments.metric("tokio_workers", "") - 3.0).abs() < f64::EPSILON);
    assert!(payments.metric("process_threads", "") >= 4.0);
    assert!(payments.metric("process_context_switches_total", "\"voluntary\"") > 0.0);
    assert!(payments.metric("process_paging_faults_total", "\"minor\"") > 0.0);
    wait_for("a worker to have slept", || {
        payments.metric("tokio_worker_parks_total", "") > 0.0
    });
    assert!(payments.metric("firedrill_metrics_render_duration_seconds_count", "") >= 4.0);
    let (size, text) = (
        payments.metric("firedrill_metrics_render_size_bytes", ""),
        get(&payments.control, "/metrics").body,
    );
    assert!((size / text.len() as f64 - 1.0).abs() < 0.2, "{size}");
    crate::support::wait_for("the probe of the scheduler", || {
        payments.metric("tokio_scheduler_delay_seconds_count", "") > 5.0
    });
    let started = payments.metric("process_start_time_seconds", "");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    assert!(
        (now - started).abs() < 120.0,
        "started {started}, now {now}"
    );
}

#[test]
fn a_request_that_does_not_end_shows_by_its_age() {
    let lab = Shop::start_with(&["--bank-service-ms", "60000"], &[]);
    let age = || {
        lab.shop
            .metric("firedrill_http_server_oldest_request_age_seconds", "")
    };
    assert!(age() < 1e-9, "nothing is under way");
    crate::support::put(
        &lab.shop.control,
        "/choices/charge_timeout",
        r#"{"option":"poor"}"#,
    );
    let mut stream = connect(&lab.shop.data).unwrap();
    let length = ORDER.len();
    let head = "POST /orders HTTP/1.1\r\nhost: shop\r\nidempotency-key: k";
    let request = format!(
        "{head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{ORDER}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    wait_for("the request to grow old", || age() > 1.0);
    let count = "http_server_request_duration_seconds_count";
    let done = lab.shop.metric(count, "http_route=\"/orders\"");
    assert!(
        done < 0.5,
        "it has no duration yet, so no histogram tells of it"
    );
    drop(stream);
    wait_for("it to be forgotten with its client", || age() < 1e-9);
}

#[test]
fn charges_that_wait_are_counted_while_they_wait() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--bank-slots", "1", "--bank-service-ms", "60000"];
    let payments = Role::start("payments", dir.path(), &arguments);
    let charge = |order: u32| {
        let body = format!(r#"{{"key":"k{order}","order_id":{order},"amount_cents":1}}"#);
        let length = body.len();
        let request = format!(
            "POST /charges HTTP/1.1\r\nhost: bank\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut stream = connect(&payments.data).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let callers: Vec<_> = (0..5).map(charge).collect();
    wait_for("four charges to wait for the one slot", || {
        let depth = payments.metric("firedrill_queue_depth", "queue=\"bank\"");
        (depth - 4.0).abs() < f64::EPSILON
    });
    drop(callers);
}

#[test]
fn every_charge_whose_slot_ended_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &["--bank-service-ms", "1"]);
    let charge = |cents: u32| {
        let body = format!(r#"{{"key":"k","order_id":1,"amount_cents":{cents}}}"#);
        let json = "content-type: application/json\r\n";
        send(&payments.data, "POST", "/charges", json, body.as_bytes()).status
    };
    let outcome = |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        payments.metric("firedrill_bank_charges_total", &label)
    };
    assert_eq!((charge(1), charge(2)), (201, 422));
    let database = rusqlite::Connection::open(dir.path().join("payments/ledger.db")).unwrap();
    database.execute_batch("DROP TABLE charges").unwrap();
    assert_eq!(charge(1), 500);
    for name in ["charged", "key_reused", "not_written"] {
        assert!((outcome(name) - 1.0).abs() < f64::EPSILON, "{name}");
    }
}

#[test]
fn what_the_documentation_says_is_what_the_code_has() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TELEMETRY.md");
    let written = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        written.trim_end(),
        document::markdown().trim_end(),
        "write it anew: firedrill telemetry > docs/TELEMETRY.md"
    );
}

#[test]
fn the_connections_to_a_peer_are_counted_while_they_are_open() {
    let mut lab = Shop::start();
    let open = |shop: &Role| {
        let text = get(&shop.control, "/metrics").body;
        let name = "http_client_open_connections";
        let known = text.lines().any(|line| line.starts_with(name));
        known.then(|| crate::support::metric(&text, name, "server_port"))
    };
    assert_eq!(lab.order("k1", ORDER).status, 201);
    // The audit reads the ledger through the same client: if both asked at once, there are two.
    let kept = open(&lab.shop);
    assert!(
        matches!(kept, Some(1.0 | 2.0)),
        "kept for the next: {kept:?}"
    );
    lab.payments.process.child.kill().unwrap();
    wait_for("the connection to be gone with its peer", || {
        open(&lab.shop) == Some(0.0)
    });
}
