//! Orders: the same key brings the same answer, stock is kept, and a client that leaves cuts nothing in half.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{ORDER, Role, Shop, connect, get, put, send, wait_for};

#[test]
fn the_same_key_brings_the_same_answer_and_no_second_charge() {
    let lab = Shop::start();
    let first = lab.order("one", ORDER);
    assert_eq!(first.status, 201, "{first:?}");
    let second = lab.order("one", ORDER);
    assert_eq!((second.status, &second.body), (201, &first.body));
    assert!(
        second.head.contains("idempotent-replayed: true"),
        "{second:?}"
    );
    let other = lab.order("one", r#"{"customer_id":1,"item_id":1,"quantity":2}"#);
    assert_eq!(other.status, 409, "{other:?}");
    assert_eq!(other.json()["field"], "Idempotency-Key");
    let charged = lab
        .payments
        .metric("firedrill_bank_charges_total", "outcome=\"charged\"");
    assert!(
        (charged - 1.0).abs() < f64::EPSILON,
        "{charged} charges for one order"
    );
}

#[test]
fn a_declined_charge_gives_the_stock_back() {
    let lab = Shop::start();
    let stock = || stock(&lab, 7);
    let before = stock();
    // A hundred of an item cost more than a card pays, if the item costs over 100.00.
    let dear = (1..200).find(|id| {
        get(&lab.shop.data, &format!("/items/{id}")).json()["price_cents"].as_i64() > Some(10_000)
    });
    let item = dear.unwrap();
    let body = format!(r#"{{"customer_id":1,"item_id":{item},"quantity":100}}"#);
    let declined = lab.order("dear", &body);
    assert_eq!(declined.status, 402, "{declined:?}");
    assert_eq!(
        lab.order("dear", &body).status,
        402,
        "the same answer on replay"
    );
    assert_eq!(stock(), before);
    assert_eq!(self::stock(&lab, item), 1_000_000_000);
}

fn stock(lab: &Shop, item: i64) -> i64 {
    let database = rusqlite::Connection::open(lab.dir.path().join("shop/shop.db")).unwrap();
    database
        .query_row("SELECT stock FROM items WHERE id = ?1", [item], |row| {
            row.get(0)
        })
        .unwrap()
}

#[test]
fn a_client_that_leaves_does_not_cut_its_order_in_half() {
    let lab = Shop::start_with(&["--bank-service-ms", "500"], &[]);
    let mut stream = connect(&lab.shop.data).unwrap();
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: shop\r\nidempotency-key: left\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ORDER}",
        ORDER.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    wait_for("the charge to begin", || {
        lab.payments.metric("firedrill_bank_slots_busy", "") > 0.5
    });
    drop(stream);
    wait_for("the order to be settled", || {
        lab.order("left", ORDER).status == 201
    });
    wait_for("the client that left to be counted", || {
        lab.shop.metric(
            "http_server_request_duration_seconds_count",
            "http_route=\"/orders\",error_type=\"cancelled\"",
        ) > 0.5
    });
}

#[test]
fn an_order_whose_answer_was_lost_is_settled_from_the_ledger() {
    let lab = Shop::start();
    assert_eq!(
        put(
            &lab.payments.control,
            "/shocks/bank_stalled",
            r#"{"share":1,"ttl_s":60}"#
        )
        .status,
        200
    );
    let unknown = lab.order("lost", ORDER);
    assert_eq!(unknown.status, 504, "{unknown:?}");
    wait_for("the bank to notice that nobody waits", || {
        lab.payments
            .metric("firedrill_bank_answers_unclaimed_total", "")
            > 0.5
    });
    wait_for("the order to be settled", || {
        lab.order("lost", ORDER).status == 201
    });
    assert!(
        lab.shop
            .metric("firedrill_orders_reconciled_total", "outcome=\"completed\"")
            > 0.5
    );
}

#[test]
fn an_event_of_the_outbox_becomes_a_shipment_once() {
    let lab = Shop::start();
    for key in ["a", "b", "c"] {
        assert_eq!(lab.order(key, ORDER).status, 201);
    }
    wait_for("three shipments", || {
        lab.shop
            .metric("firedrill_outbox_events_total", "outcome=\"delivered\"")
            > 2.5
    });
    let database = rusqlite::Connection::open(lab.dir.path().join("shop/shop.db")).unwrap();
    let count = |table: &str| -> i64 {
        database
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    assert_eq!((count("shipments"), count("outbox")), (3, 0));
}

#[test]
fn orders_that_wait_to_be_reconciled_are_seen_until_they_are_settled() {
    let lab = Shop::start();
    let gauge = |name: &str| lab.shop.metric(name, "");
    let unsettled = || {
        let count = gauge("firedrill_orders_unsettled");
        (
            count,
            gauge("firedrill_orders_oldest_unsettled_age_seconds"),
        )
    };
    assert_eq!(unsettled(), (0.0, 0.0));
    lab.payments.process.signal("STOP");
    assert_eq!(lab.order("lost", ORDER).status, 504);
    wait_for(
        "the order to be seen getting older",
        || matches!(unsettled(), (1.0, age) if age > 5.0),
    );
    assert!(gauge("firedrill_orders_open") < 0.5, "nobody charges it");
    lab.payments.process.signal("CONT");
    wait_for("it to be settled", || unsettled() == (0.0, 0.0));
    // The charge and what voids it have both waited for payments; the ledger says which of them came first.
    let ledger = rusqlite::Connection::open(lab.dir.path().join("payments/ledger.db")).unwrap();
    let verdict = "SELECT verdict FROM charges";
    let verdict: String = ledger.query_row(verdict, [], |row| row.get(0)).unwrap();
    let (status, outcome) = match verdict.as_str() {
        "voided" => (409, "cancelled"),
        "charged" => (201, "completed"),
        other => panic!("the only order was {other}"),
    };
    assert_eq!(lab.order("lost", ORDER).status, status, "{verdict}");
    let label = format!("outcome=\"{outcome}\"");
    let reconciled = lab.shop.metric("firedrill_orders_reconciled_total", &label);
    assert!((reconciled - 1.0).abs() < f64::EPSILON, "{outcome}");
}

#[test]
fn an_order_that_is_charged_for_too_long_is_unsettled_as_well() {
    let lab = Shop::start_with(&["--bank-service-ms", "60000"], &[]);
    let poor = r#"{"option":"poor"}"#;
    put(&lab.shop.control, "/choices/charge_timeout", poor);
    let _client = begin_order(&lab, 1);
    wait_for("the order to be seen getting older", || {
        let age = "firedrill_orders_oldest_unsettled_age_seconds";
        lab.shop.metric(age, "") > 5.0 && lab.shop.metric("firedrill_orders_open", "") > 0.5
    });
}

#[test]
fn an_order_too_many_is_refused_before_anything_is_done_for_it() {
    let lab = Shop::start_with(&["--bank-service-ms", "60000"], &[]);
    let set = |choice: &str, option: &str| {
        let body = format!(r#"{{"option":"{option}"}}"#);
        let answer = put(&lab.shop.control, &format!("/choices/{choice}"), &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let [depth, capacity] = ["firedrill_queue_depth", "firedrill_queue_capacity"]
        .map(|name| move |lab: &Shop| lab.shop.metric(name, "queue=\"orders\""));
    let shed = || {
        let reason = "reason=\"too_many_orders\"";
        lab.shop.metric("firedrill_requests_shed_total", reason)
    };
    assert_eq!((capacity(&lab), shed()), (20.0, 0.0));
    // Nobody gives up: the places stay taken.
    set("charge_timeout", "poor");
    let clients: Vec<_> = (0..20).map(|key| begin_order(&lab, key)).collect();
    wait_for("twenty orders to be under way", || {
        lab.shop.metric("firedrill_orders_open", "") > 19.5
    });
    drop(clients);
    let refused = lab.order("one-too-many", ORDER);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    assert_eq!(
        (depth(&lab), shed()),
        (20.0, 1.0),
        "their clients left, they did not"
    );
    let database = rusqlite::Connection::open(lab.dir.path().join("shop/shop.db")).unwrap();
    let rows = "SELECT count(*) FROM orders WHERE idempotency_key IS NOT NULL";
    let rows: i64 = database.query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 20);
    set("admission", "poor");
    let _client = begin_order(&lab, 20);
    wait_for("one more to be under way", || depth(&lab) > 20.5);
    assert!(capacity(&lab).is_infinite());
    lab.shop.process.signal("KILL");
}

/// An order of which nobody reads the answer yet.
fn begin_order(lab: &Shop, key: u32) -> TcpStream {
    let headers = format!("content-type: application/json\r\nidempotency-key: {key}\r\n");
    let length = ORDER.len();
    let mut stream = connect(&lab.shop.data).unwrap();
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: shop\r\n{headers}content-length: {length}\r\n\r\n{ORDER}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn what_waits_for_the_writer_is_seen() {
    let lab = Shop::start();
    let lag = || lab.shop.metric("firedrill_outbox_lag_seconds", "");
    let given_up = || lab.shop.metric("db_client_connection_timeouts_total", "");
    assert_eq!(lab.order("before", ORDER).status, 201);
    let path = lab.dir.path().join("shop/shop.db");
    let writer = rusqlite::Connection::open(path).unwrap();
    writer.busy_timeout(Duration::from_secs(10)).unwrap();
    let waits = || {
        writer
            .query_row("SELECT count(*) FROM outbox", [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap()
    };
    // Until an event was written and the lock taken before it was delivered.
    wait_for("an event that is not delivered", || {
        let event = "BEGIN IMMEDIATE; INSERT INTO outbox (order_id, created_at_ms) VALUES (1, unixepoch() * 1000); COMMIT";
        writer.execute_batch(event).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        if waits() == 0 {
            writer.execute_batch("ROLLBACK").unwrap();
        }
        !writer.is_autocommit()
    });
    // More patient than the shop: others leave before it gives up for them.
    let shop = lab.shop.data.as_str();
    std::thread::scope(|scope| {
        for key in 0..8 {
            let headers = format!(
                "content-type: application/json\r\nidempotency-key: {key}\r\nx-request-timeout-ms: 20000\r\n"
            );
            scope.spawn(move || send(shop, "POST", "/orders", &headers, ORDER.as_bytes()));
        }
        wait_for("the event to be seen getting older", || lag() > 1.0);
        wait_for("those who gave up to be counted", || given_up() > 0.5);
        writer.execute_batch("ROLLBACK").unwrap();
    });
    wait_for("the event to be delivered", || lag() < 0.5 && waits() == 0);
}

#[test]
fn an_order_that_was_charged_and_not_written_is_not_called_refused() {
    let lab = Shop::start_with(&["--bank-service-ms", "400"], &[]);
    let address = lab.shop.data.clone();
    let headers = "content-type: application/json\r\nidempotency-key: k\r\n";
    let buyer =
        std::thread::spawn(move || send(&address, "POST", "/orders", headers, ORDER.as_bytes()));
    wait_for("the charge to begin", || {
        lab.payments.metric("firedrill_bank_slots_busy", "") > 0.5
    });
    let database = rusqlite::Connection::open(lab.dir.path().join("shop/shop.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = buyer.join().unwrap();
    assert_eq!(answer.status, 504, "{answer:?}");
    database.execute_batch("ROLLBACK").unwrap();
    wait_for("the order to be settled", || {
        lab.order("k", ORDER).status == 201
    });
}

#[test]
fn a_new_shop_with_an_old_ledger_charges_its_own_orders() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &[]);
    let url = format!("http://{}", payments.data);
    for round in ["one", "other"] {
        let shop = Role::start(
            "shop",
            &dir.path().join(round),
            &["--payments", &url, "--seed-orders", "10"],
        );
        let headers = "content-type: application/json\r\nidempotency-key: k\r\n";
        let answer = send(&shop.data, "POST", "/orders", headers, ORDER.as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let charged = payments.metric("firedrill_bank_charges_total", "outcome=\"charged\"");
    let ledger = rusqlite::Connection::open(dir.path().join("payments/ledger.db")).unwrap();
    let rows: i64 = ledger
        .query_row("SELECT count(*) FROM charges", [], |row| row.get(0))
        .unwrap();
    assert!(
        (charged - 2.0).abs() < f64::EPSILON && rows == 2,
        "{charged}, {rows}"
    );
}

#[test]
fn a_page_of_orders_is_the_same_however_many_queries_it_takes() {
    let lab = Shop::start();
    for key in ["a", "b", "c"] {
        assert_eq!(lab.order(key, ORDER).status, 201);
    }
    let path = "/customers/1/orders?limit=1000";
    let operations = || {
        let family = "firedrill_http_server_request_database_operations_sum";
        lab.shop.metric(family, "/customers/{id}/orders")
    };
    let page = |option: &str| {
        let body = format!(r#"{{"option":"{option}"}}"#);
        put(&lab.shop.control, "/choices/order_listing", &body);
        let page = get(&lab.shop.data, path);
        assert_eq!(page.status, 200, "{page:?}");
        page.json()["orders"].clone()
    };
    let joined = page("sound");
    wait_for("one operation", || (operations() - 1.0).abs() < 0.5);
    let lines = joined.as_array().unwrap();
    assert!(
        lines.len() > 3 && lines[0]["item_name"].is_string(),
        "{joined}"
    );
    assert_eq!(page("poor"), joined);
    let more = lines.len() as f64 + 1.0;
    wait_for("one more for each line", || {
        (operations() - 1.0 - more).abs() < 0.5
    });
    let unknown = get(&lab.shop.data, "/customers/0/orders");
    assert_eq!(
        (unknown.status, &unknown.json()["field"]),
        (404, &"id".into())
    );
    let refused = get(&lab.shop.data, "/customers/1/orders?limit=1001");
    assert_eq!(
        (refused.status, &refused.json()["field"]),
        (422, &"limit".into())
    );
}
