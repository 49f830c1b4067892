//! The observer and the account, over real sockets: whatever becomes of a request, it is counted once and for
//! what it was.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use firedrill::http::server::{Limits, serve};
use firedrill::http::{Problem, Routes};
use firedrill::telemetry::{self, Format, Telemetry};
use http_body_util::channel::Channel;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{connect, get, metric, send, wait_for};

const COUNT: &str = "http_server_request_duration_seconds_count";

/// There is one in a process; each test asks about routes of its own.
static TELEMETRY: LazyLock<Telemetry> = LazyLock::new(|| {
    let config = telemetry::Config {
        role: "test",
        service_version: "0".into(),
        log_filter: "error".into(),
        log_export: false,
        traces: None,
    };
    let telemetry = telemetry::init(&config).unwrap();
    // A test that fails is to say so in the words of the test harness, not in a log line.
    drop(std::panic::take_hook());
    telemetry
});

fn scrape() -> String {
    TELEMETRY.render(Format::Prometheus)
}

/// How many requests were counted in the series whose labels are `labels`; none if there is no such series.
fn counted(labels: &str) -> f64 {
    count_of(COUNT, labels)
}

/// How many samples the series `name` with exactly these labels has; none if there is no such series.
fn count_of(name: &str, labels: &str) -> f64 {
    let text = scrape();
    let series = format!("{name}{{{labels}}} ");
    text.lines()
        .find_map(|line| line.strip_prefix(&series))
        .map_or(0.0, |count| count.parse().unwrap())
}

fn labels(method: &str, route: &str, rest: &str) -> String {
    format!("http_request_method=\"{method}\",http_route=\"{route}\"{rest}")
}

/// Waits until the route has counted `requests`, and asserts that all of them are in this series.
fn assert_counted(requests: f64, route: &str, series: &str) {
    let of_route = format!("http_route=\"{route}\"");
    wait_for("a request to be counted", || {
        metric(&scrape(), COUNT, &of_route) >= requests
    });
    let text = scrape();
    assert!(
        (counted(series) - requests).abs() < 1e-9,
        "{series}\n{text}"
    );
    assert!((metric(&text, COUNT, &of_route) - requests).abs() < 1e-9);
    let active = metric(
        &text,
        "firedrill_http_server_oldest_request_age_seconds",
        &of_route,
    );
    assert!(active < 1e-9, "it is still under way: {active}");
}

/// No routes yet, and a process that counts: what is built before would be counted nowhere.
fn routes(requests_max: usize) -> Routes<()> {
    LazyLock::force(&TELEMETRY);
    Routes::new(requests_max)
}

/// A server of these routes, until it is dropped.
struct Server {
    address: String,
    stop: CancellationToken,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    fn start(routes: Routes<()>) -> Self {
        Self::limited(routes, Limits::default())
    }

    fn limited(routes: Routes<()>, limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let stop = CancellationToken::new();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = serve(listener, routes.build(()), limits, stop.clone());
        runtime.spawn(serving);
        Self {
            address,
            stop,
            runtime,
        }
    }

    /// Sends a request and leaves without reading the answer, once `when` is done.
    fn leave(&self, path: &str, when: impl FnOnce(&mut std::net::TcpStream)) {
        let mut stream = connect(&self.address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        when(&mut stream);
    }
}

#[test]
fn answers_are_counted_with_their_status_and_their_reason() {
    async fn broken() {
        panic!("on purpose");
    }
    let slow = || async {
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "It took too long.").error_type("timeout")
    };
    let routes = routes(8)
        .on(Method::GET, "/told/good", &[200], || async { "good" })
        .on(Method::GET, "/told/bad", &[200], || async {
            StatusCode::INTERNAL_SERVER_ERROR
        })
        .on(Method::GET, "/told/late", &[200], slow)
        .on(Method::GET, "/told/broken", &[200], broken);
    let server = Server::start(routes);
    for (path, status, rest) in [
        ("/told/good", 200, ",http_response_status_code=\"200\""),
        (
            "/told/bad",
            500,
            ",http_response_status_code=\"500\",error_type=\"500\"",
        ),
        (
            "/told/late",
            504,
            ",http_response_status_code=\"504\",error_type=\"timeout\"",
        ),
        (
            "/told/broken",
            500,
            ",http_response_status_code=\"500\",error_type=\"panic\"",
        ),
    ] {
        assert_eq!(get(&server.address, path).status, status, "{path}");
        assert_counted(1.0, path, &labels("GET", path, rest));
    }
    let unmatched = labels("BREW", "unmatched", "");
    assert_eq!(
        send(&server.address, "BREW", "/told/nothing", "", b"").status,
        404
    );
    assert!(
        !scrape().contains(&unmatched),
        "a method of one's own is no label value"
    );
    let other = labels("_OTHER", "unmatched", ",http_response_status_code=\"404\"");
    wait_for("the unmatched request to be counted", || {
        counted(&other) > 0.5
    });
    assert_eq!(
        send(&server.address, "HEAD", "/told/good", "", b"").status,
        200
    );
    let head = labels("HEAD", "/told/good", ",http_response_status_code=\"200\"");
    wait_for("the request without a body to be counted", || {
        counted(&head) > 0.5
    });
}

#[test]
fn a_client_that_leaves_before_the_answer_is_counted() {
    let (entered, inside) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, never) = (Arc::clone(&entered), Arc::clone(&inside));
    let handler = move || async move {
        told.notify_one();
        never.notified().await;
    };
    let server = Server::start(routes(8).on(Method::GET, "/left/before", &[200], handler));
    server.leave("/left/before", |_| {
        server.runtime.block_on(entered.notified());
    });
    assert_counted(
        1.0,
        "/left/before",
        &labels("GET", "/left/before", ",error_type=\"cancelled\""),
    );
}

/// A body that goes on until nobody takes it any more.
async fn endless() -> Body {
    let (mut sender, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move {
        let chunk = Bytes::from_static(&[b'x'; 4096]);
        while sender.send_data(chunk.clone()).await.is_ok() {}
    });
    Body::new(body)
}

#[test]
fn a_client_that_leaves_in_the_middle_of_the_body_is_counted() {
    let server = Server::start(routes(8).on(Method::GET, "/left/within", &[200], endless));
    server.leave("/left/within", |stream| {
        stream.read_exact(&mut [0; 1000]).unwrap();
    });
    let rest = ",http_response_status_code=\"200\",error_type=\"cancelled\"";
    assert_counted(1.0, "/left/within", &labels("GET", "/left/within", rest));
}

#[test]
fn a_client_that_does_not_read_its_answer_is_given_up() {
    let limits = Limits {
        write_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let routes = routes(8).on(Method::GET, "/left/unread", &[200], endless);
    let server = Server::limited(routes, limits);
    server.leave("/left/unread", |_stream_stays_open| {
        let rest = ",http_response_status_code=\"200\",error_type=\"cancelled\"";
        let series = labels("GET", "/left/unread", rest);
        assert_counted(1.0, "/left/unread", &series);
    });
}

#[test]
fn a_body_that_breaks_is_an_error_whatever_its_status_was() {
    let handler = async || {
        let (mut sender, body) = Channel::<Bytes, axum::Error>::new(1);
        tokio::spawn(async move {
            let chunk = Bytes::from_static(b"half of it");
            sender.send_data(chunk).await.unwrap();
            sender.abort(axum::Error::new("the rest is lost"));
        });
        Body::new(body)
    };
    let server = Server::start(routes(8).on(Method::GET, "/broken/body", &[200], handler));
    server.leave("/broken/body", |stream| {
        let mut answer = Vec::new();
        // Closed in the middle: to the client the answer is not whole.
        drop(stream.read_to_end(&mut answer));
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{answer:?}");
    });
    let rest = ",http_response_status_code=\"200\",error_type=\"body\"";
    assert_counted(1.0, "/broken/body", &labels("GET", "/broken/body", rest));
}

#[test]
fn two_servers_with_one_route_tell_the_oldest_request_of_both() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, wait) = (Arc::clone(&entered), Arc::clone(&release));
    let hanging = move || async move {
        inside.notify_one();
        wait.notified().await;
    };
    let route = "/in/both";
    let first = Server::start(routes(8).on(Method::GET, route, &[200], hanging));
    let _second = Server::start(routes(8).on(Method::GET, route, &[200], async || ()));
    let age = || {
        let name = "firedrill_http_server_oldest_request_age_seconds";
        metric(&scrape(), name, "http_route=\"/in/both\"")
    };
    first.leave(route, |_| {
        first.runtime.block_on(entered.notified());
        wait_for("the age of the request", || age() > 0.0);
    });
    release.notify_one();
}

#[test]
fn a_body_is_counted_until_its_end_and_its_headers_apart() {
    let finish = Arc::new(Notify::new());
    let finishing = Arc::clone(&finish);
    let handler = move || async move {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        tokio::spawn(async move {
            finishing.notified().await;
            sender.send_data(Bytes::from_static(b"end")).await.unwrap();
        });
        Body::new(body)
    };
    let route = "/slow/body";
    let server = Server::start(routes(8).on(Method::GET, route, &[200], handler));
    let of_route = format!("http_route=\"{route}\"");
    // There is no such series before the first request.
    let headers = || {
        let name = "firedrill_http_server_headers_duration_seconds_count";
        count_of(name, &of_route)
    };
    let began = Instant::now();
    server.leave(route, |stream| {
        wait_for("the headers", || headers() > 0.5);
        let counted = metric(&scrape(), COUNT, &of_route);
        assert!(counted < 0.5, "its body is still to come: {counted}");
        std::thread::sleep(Duration::from_millis(50));
        let waited = began.elapsed();
        finish.notify_one();
        let mut answer = Vec::new();
        while !answer.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        wait_for("the end", || metric(&scrape(), COUNT, &of_route) > 0.5);
        let sum = |family: &str| metric(&scrape(), &format!("{family}_sum"), &of_route);
        let whole = sum("http_server_request_duration_seconds");
        assert!(whole >= waited.as_secs_f64() / 2.0, "{whole} of {waited:?}");
        assert!(sum("firedrill_http_server_headers_duration_seconds") < whole);
    });
    assert_counted(
        1.0,
        route,
        &labels("GET", route, ",http_response_status_code=\"200\""),
    );
}

#[test]
fn what_is_refused_is_counted_as_shed() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&entered), Arc::clone(&release));
    let handler = move || async move {
        told.notify_one();
        wait.notified().await;
    };
    let routes = routes(1)
        .on(Method::GET, "/shed/taken", &[200], handler)
        .on(Method::GET, "/shed/refused", &[200], || async {});
    let server = Server::start(routes);
    let shed = || {
        metric(
            &scrape(),
            "firedrill_requests_shed_total",
            "reason=\"concurrency\"",
        )
    };
    let before = shed();
    server.leave("/shed/taken", |stream| {
        server.runtime.block_on(entered.notified());
        assert_eq!(get(&server.address, "/shed/refused").status, 503);
        release.notify_one();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    });
    assert!((shed() - before - 1.0).abs() < 1e-9);
    let rest = ",http_response_status_code=\"503\",error_type=\"shed\"";
    assert_counted(1.0, "/shed/refused", &labels("GET", "/shed/refused", rest));
}

#[test]
fn an_account_tells_work_from_waiting_and_what_memory_was_asked_for() {
    const MIB: usize = 1 << 20;
    let allocating = || async {
        drop(std::hint::black_box(vec![0_u8; MIB]));
    };
    let working = || async {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
    };
    let waiting = || tokio::time::sleep(Duration::from_millis(20));
    let routes = routes(8)
        .on(Method::GET, "/account/allocating", &[200], allocating)
        .on(Method::GET, "/account/working", &[200], working)
        .on(Method::GET, "/account/waiting", &[200], waiting);
    let server = Server::start(routes);
    for route in ["allocating", "working", "waiting"] {
        let path = format!("/account/{route}");
        assert_eq!(get(&server.address, &path).status, 200);
        assert_counted(
            1.0,
            &path,
            &labels("GET", &path, ",http_response_status_code=\"200\""),
        );
    }
    let sum = |family: &str, route: &str, part: &str| {
        let of_route = format!("http_route=\"/account/{route}\"{part}");
        metric(
            &scrape(),
            &format!("firedrill_http_server_request_{family}_sum"),
            &of_route,
        )
    };
    let busy = |route| sum("part_seconds", route, ",part=\"busy\"");
    let allocated = |route| sum("allocated_bytes", route, "");
    assert!(allocated("allocating") >= MIB as f64);
    assert!(
        allocated("waiting") < MIB as f64 / 4.0,
        "{}",
        allocated("waiting")
    );
    assert!(busy("working") >= 0.02);
    assert!(sum("polls", "waiting", "") > sum("polls", "working", ""));
    // A turn that the machine interrupts looks longer than it was; waiting that was taken for work would be so
    // each time.
    let mut before = 0.0;
    wait_for("a request that waits and hardly works", || {
        let after = busy("waiting");
        let worked = after - before;
        before = after;
        worked < 0.01 || {
            let count = || sum("part_seconds", "waiting", ",part=\"busy\"");
            let answer = get(&server.address, "/account/waiting");
            assert_eq!(answer.status, 200);
            wait_for("it to be counted", || count() > after);
            false
        }
    });
}
