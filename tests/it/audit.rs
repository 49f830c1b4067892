//! The audit: it finds what is made wrong in the real databases, and nothing where nothing is wrong.

use std::path::Path;

use rusqlite::Connection;

use crate::support::{ORDER, Role, Shop, get, put, send, signal, try_raw, wait_for};
use crate::up::Up;

const INVARIANTS: [&str; 3] = ["oversold", "charged_twice", "charge_without_order"];

/// The three numbers in the order of [`INVARIANTS`], or nothing while the shop does not answer.
fn violations(control: &str) -> Option<[f64; 3]> {
    let text = metrics(control)?;
    let metric = |invariant: &str| {
        let label = format!("invariant=\"{invariant}\"");
        crate::support::metric(&text, "firedrill_invariant_violations", &label)
    };
    Some(INVARIANTS.map(metric))
}

/// When each audit last got to its end: of the stock, and of the charges.
fn successes(control: &str) -> Option<[f64; 2]> {
    let text = metrics(control)?;
    let name = "firedrill_audit_last_success_timestamp_seconds";
    let metric = |audit: &str| crate::support::metric(&text, name, &format!("audit=\"{audit}\""));
    Some(["stock", "charges"].map(metric))
}

/// What a role exposes once it audits.
fn metrics(control: &str) -> Option<String> {
    let request = b"GET /metrics HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
    let body = try_raw(control, request).ok()?.body;
    let audits = body.contains("firedrill_audit_last_success_timestamp_seconds{audit=\"charges\"}");
    audits.then_some(body)
}

fn is(found: [f64; 3], expected: [u32; 3]) -> bool {
    found
        .iter()
        .zip(expected)
        .all(|(found, expected)| (found - f64::from(expected)).abs() < 1e-9)
}

/// Waits for turns of both audits that began after this call: the one under way may have passed already.
fn wait_for_turns(control: &str) {
    for _ in 0..2 {
        let before = successes(control).unwrap();
        wait_for("a turn of both audits", || {
            successes(control)
                .is_some_and(|now| now.iter().zip(before).all(|(now, before)| *now > before))
        });
    }
}

/// Changes a database by hand, as nothing of ours would.
fn alter(database: &Path, sql: &str) {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(crate::support::DEADLINE).unwrap();
    connection
        .pragma_update(None, "foreign_keys", false)
        .unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn each_violation_is_found_and_gone_when_it_was_mended() {
    let lab = Shop::start();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(lab.order(key, ORDER).status, 201);
    }
    let shop = lab.dir.path().join("shop/shop.db");
    let ledger = lab.dir.path().join("payments/ledger.db");
    wait_for("the first turns", || {
        successes(&lab.shop.control).is_some_and(|times| times.iter().all(|time| *time > 0.0))
    });
    wait_for_turns(&lab.shop.control);
    assert_eq!(violations(&lab.shop.control), Some([0.0; 3]));

    // Orders b and c are the 102nd and the 103rd: a hundred are seeded.
    alter(
        &shop,
        "CREATE TABLE kept AS SELECT * FROM orders WHERE idempotency_key = 'b'",
    );
    alter(&shop, "DELETE FROM orders WHERE idempotency_key = 'b'");
    alter(
        &shop,
        "UPDATE orders SET status = 'cancelled' WHERE idempotency_key = 'c'",
    );
    alter(
        &shop,
        "UPDATE items SET stock = stock + 1 WHERE id IN (7, 501, 10000)",
    );
    alter(
        &ledger,
        "INSERT INTO charges (key, order_id, amount_cents, verdict)
         SELECT key || '/ again & again', order_id, amount_cents, verdict FROM charges WHERE order_id = 101",
    );
    wait_for("each to be found", || {
        violations(&lab.shop.control).is_some_and(|found| is(found, [3, 1, 2]))
    });
    let log = lab.shop.process.log();
    for named in [
        "item 501, 1 too many",
        "order 102 is not there",
        "order 103 is cancelled",
        "order 101",
    ] {
        assert!(log.contains(named), "{named} is not in\n{log}");
    }

    alter(
        &shop,
        "INSERT INTO orders SELECT * FROM kept; DROP TABLE kept",
    );
    alter(
        &shop,
        "UPDATE orders SET status = 'paid' WHERE idempotency_key = 'c'",
    );
    alter(
        &shop,
        "UPDATE items SET stock = stock - 1 WHERE id IN (7, 501, 10000)",
    );
    alter(&ledger, "DELETE FROM charges WHERE key LIKE '%again'");
    wait_for("each to be gone", || {
        violations(&lab.shop.control).is_some_and(|found| is(found, [0; 3]))
    });
}

/// Stock that is sold and not taken off is what a lost update leaves behind.
#[test]
fn an_order_whose_stock_was_not_taken_is_one_too_many() {
    let lab = Shop::start();
    let shop = lab.dir.path().join("shop/shop.db");
    alter(
        &shop,
        "INSERT INTO orders (customer_id, item_id, quantity, amount_cents, status, created_at_ms)
         VALUES (1, 9, 2, 100, 'paid', 0), (1, 8, 2, 100, 'cancelled', 0), (1, 8, 2, 100, 'declined', 0)",
    );
    wait_for("it to be found", || {
        violations(&lab.shop.control).is_some_and(|found| is(found, [1, 0, 0]))
    });
    assert!(lab.shop.process.log().contains("item 9, 2 too many"));
}

#[test]
fn an_open_order_is_no_violation_however_long_it_is_open() {
    let lab = Shop::start();
    assert_eq!(lab.order("open", ORDER).status, 201);
    // As if the answer had been lost, and too young to be reconciled for a day to come.
    let tomorrow = "status = 'charging', created_at_ms = created_at_ms + 86400000";
    let open = format!("UPDATE orders SET {tomorrow} WHERE idempotency_key = 'open'");
    alter(&lab.dir.path().join("shop/shop.db"), &open);
    wait_for_turns(&lab.shop.control);
    assert_eq!(violations(&lab.shop.control), Some([0.0; 3]));
}

#[test]
fn without_payments_the_numbers_stay_and_grow_old() {
    let mut lab = Shop::start();
    assert_eq!(lab.order("one", ORDER).status, 201);
    let twice = "INSERT INTO charges (key, order_id, amount_cents, verdict)
                 SELECT key || '-2', order_id, amount_cents, verdict FROM charges";
    alter(&lab.dir.path().join("payments/ledger.db"), twice);
    wait_for("it to be found", || {
        violations(&lab.shop.control).is_some_and(|found| is(found, [0, 1, 0]))
    });
    lab.payments.process.signal("KILL");
    lab.payments.process.exit_code();
    let [stock, charges] = successes(&lab.shop.control).unwrap();
    wait_for("the audit of the stock to go on", || {
        successes(&lab.shop.control).unwrap()[0] > stock + 10.0
    });
    let charges_now = successes(&lab.shop.control).unwrap()[1];
    assert!(
        charges_now - charges < 10.0,
        "{charges_now} after {charges}"
    );
    let page = |audit: &str| {
        let label = format!("audit=\"{audit}\"");
        let name = "firedrill_audit_last_page_timestamp_seconds";
        lab.shop.metric(name, &label)
    };
    assert!(page("stock") > stock + 10.0);
    assert!((charges - 1.0..charges + 10.0).contains(&page("charges")));
    assert_eq!(violations(&lab.shop.control), Some([0.0, 1.0, 0.0]));
    assert!(
        lab.shop
            .process
            .log()
            .contains("A turn of the audit was given up")
    );
}

#[test]
fn shops_that_share_a_ledger_audit_their_own_charges() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &[]);
    let url = format!("http://{}", payments.data);
    let shops = ["one", "other"].map(|name| {
        let arguments = ["--payments", &url, "--seed-orders", "10"];
        let shop = Role::start("shop", &dir.path().join(name), &arguments);
        let headers = "content-type: application/json\r\nidempotency-key: k\r\n";
        let answer = send(&shop.data, "POST", "/orders", headers, ORDER.as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
        shop
    });
    alter(
        &dir.path().join("other/shop/shop.db"),
        "DELETE FROM orders WHERE id = 11",
    );
    wait_for("its own shop to find it", || {
        violations(&shops[1].control).is_some_and(|found| is(found, [0, 0, 1]))
    });
    wait_for_turns(&shops[0].control);
    assert_eq!(violations(&shops[0].control), Some([0.0; 3]));
}

#[test]
fn a_page_of_the_ledger_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &[]);
    let empty = get(&payments.data, "/charges?prefix=a-&after=a-1&limit=1000");
    assert_eq!(
        (empty.status, empty.json()),
        (200, serde_json::json!({"charges": [], "after": null}))
    );
    for limit in ["0", "1001", "-1"] {
        let answer = get(&payments.data, &format!("/charges?limit={limit}"));
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (422, &"limit".into())
        );
    }
    for query in ["limit=x", "prefx=a"] {
        let answer = get(&payments.data, &format!("/charges?{query}"));
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (400, &"query".into())
        );
    }
}

#[test]
fn kill_minus_nine_under_load_raises_no_alarm() {
    let up = Up::start_with_replicas(2);
    let control = |role: &str| up.lab().member(role).unwrap().control.to_string();
    let shop = control("shop");
    // Many answers are lost, so that there is always something to reconcile.
    for member in up
        .lab()
        .members
        .iter()
        .filter(|member| member.role == "payments")
    {
        let stalled = r#"{"share":0.3,"ttl_s":300}"#;
        let answer = put(&member.control.to_string(), "/shocks/bank_stalled", stalled);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    for role in ["shop", "payments", "shop"] {
        let killed = up.lab().member(role).unwrap().clone();
        signal(killed.pid, "KILL");
        let mut turns = 0;
        let mut last = [0.0; 2];
        wait_for("two turns of both audits", || {
            if let (Some(found), Some(times)) = (violations(&shop), successes(&shop)) {
                assert!(is(found, [0; 3]), "{found:?} after {role} was killed");
                if times.iter().zip(last).all(|(now, last)| *now > last) {
                    (turns, last) = (turns + 1, times);
                }
            }
            turns > 2 // the first was seen half
        });
    }
    let database = |path: &str| Connection::open(up.dir.path().join(path)).unwrap();
    let count = |connection: &Connection, query: &str| -> i64 {
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    };
    let ledger = database("ledger/ledger.db");
    let charged = "SELECT count(*) FROM charges WHERE verdict = 'charged'";
    assert!(count(&ledger, charged) > 20, "there was nothing to audit");
    // The same lab, the same audit: were it blind, the zeros above would mean nothing.
    alter(
        &up.dir.path().join("shop/shop.db"),
        "UPDATE orders SET status = 'declined' WHERE id = (SELECT max(id) FROM orders WHERE status = 'paid')",
    );
    wait_for("a real violation to be found", || {
        violations(&shop).is_some_and(|found| is(found, [0, 0, 1]))
    });
}
