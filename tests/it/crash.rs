//! kill -9 under load: no order that was answered 201 is missing afterwards, none was charged twice, and no
//! charge is without its order.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use firedrill::control::lab::Lab;
use rusqlite::Connection;

use crate::support::{ORDER, put, signal, try_raw, wait_for};
use crate::up::Up;

#[test]
fn killing_the_shop_and_payments_loses_nothing_and_charges_nothing_twice() {
    survive(&["shop", "payments", "shop", "payments"], 1);
}

#[test]
fn so_it_is_with_three_replicas_of_payments() {
    survive(&["payments", "shop", "payments"], 3);
}

/// Kills these roles one after another, while users order.
fn survive(roles: &[&str], replicas: usize) {
    let up = Up::start_with_replicas(replicas);
    let shop = up.address("shop");
    let buyers = Buyers::start(&shop);
    let wait_for_orders = || {
        let before = buyers.answered();
        wait_for("orders to be answered", || buyers.answered() >= before + 20);
    };
    for role in roles {
        wait_for_orders();
        let killed = up.lab().member(role).unwrap().clone();
        signal(killed.pid, "KILL");
        wait_for("the supervisor to start it again", || {
            let member = up.lab().member(role).unwrap().clone();
            member.restarts > killed.restarts && member.pid != 0
        });
    }
    wait_for_orders();
    let answered = buyers.stop();
    // The lab's own users would order between two looks at the books.
    assert_eq!(
        put(&up.control("traffic"), "/load", r#"{"rate":0}"#).status,
        200
    );
    let dir = up.dir.path();
    wait_for("every open order to be settled", || {
        count(
            &dir.join("shop/shop.db"),
            "orders WHERE status = 'charging'",
        ) == 0
    });
    check(dir, &answered);
}

/// Place orders, each with a key of its own, ask again with the same key until there is an answer, and keep the ids
/// of those that were answered 201.
struct Buyers {
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<i64>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Buyers {
    fn start(shop: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::new(AtomicU32::new(0));
        let buy = |_| {
            let (stop, answered, next, shop) = (
                Arc::clone(&stop),
                Arc::clone(&answered),
                Arc::clone(&next),
                shop.to_owned(),
            );
            std::thread::spawn(move || {
                let mut key = next.fetch_add(1, Ordering::Relaxed);
                while !stop.load(Ordering::Relaxed) {
                    let request = format!(
                        "POST /orders HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-type: application/json\r\nidempotency-key: buyer-{key}\r\ncontent-length: {}\r\n\r\n{ORDER}",
                        ORDER.len()
                    );
                    match try_raw(&shop, request.as_bytes()) {
                        Ok(answer) if answer.status == 201 => {
                            answered
                                .lock()
                                .unwrap()
                                .push(answer.json()["id"].as_i64().unwrap());
                            key = next.fetch_add(1, Ordering::Relaxed);
                        }
                        // Cancelled, and not charged: that is an answer, and the next try is another order.
                        Ok(answer) if answer.body.contains("cancelled") => {
                            key = next.fetch_add(1, Ordering::Relaxed);
                        }
                        // Down, or the answer was lost: that is what the test is about. Asked again, too fast
                        // would only be noise.
                        _ => std::thread::sleep(std::time::Duration::from_millis(20)),
                    }
                }
            })
        };
        let threads = (0..6).map(buy).collect();
        Self {
            stop,
            answered,
            threads,
        }
    }

    fn answered(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    fn stop(self) -> Vec<i64> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        self.answered.lock().unwrap().clone()
    }
}

fn count(database: &Path, what: &str) -> i64 {
    let connection = Connection::open(database).unwrap();
    connection
        .query_row(&format!("SELECT count(*) FROM {what}"), [], |row| {
            row.get(0)
        })
        .unwrap()
}

fn ids(database: &Path, query: &str) -> Vec<i64> {
    let connection = Connection::open(database).unwrap();
    let mut statement = connection.prepare(query).unwrap();
    statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

fn check(dir: &Path, answered: &[i64]) {
    let keyed = "SELECT id FROM orders WHERE idempotency_key IS NOT NULL AND status = 'paid'";
    let paid: BTreeSet<i64> = ids(&dir.join("shop/shop.db"), keyed).into_iter().collect();
    let charges = ids(
        &dir.join("ledger/ledger.db"),
        "SELECT order_id FROM charges WHERE verdict = 'charged'",
    );
    let charged: BTreeSet<i64> = charges.iter().copied().collect();
    let missing: Vec<_> = answered.iter().filter(|id| !paid.contains(id)).collect();
    assert!(missing.is_empty(), "answered 201 and gone: {missing:?}");
    assert_eq!(charges.len(), charged.len(), "an order was charged twice");
    let unpaid: Vec<_> = paid.difference(&charged).collect();
    assert!(unpaid.is_empty(), "paid and not charged: {unpaid:?}");
    let orphans: Vec<_> = charged.difference(&paid).collect();
    assert!(orphans.is_empty(), "charged without an order: {orphans:?}");
    let once: BTreeSet<_> = answered.iter().collect();
    assert_eq!(once.len(), answered.len(), "two keys, one order");
    assert!(answered.len() >= 80);
    assert!(Lab::read(dir).unwrap().is_some());
}
