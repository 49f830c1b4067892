//! Profiles, as `go tool pprof`, a scraper and a browser ask for them.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prost::Message;

use crate::support::{Role, Shop, connect, get, put, send, wait_for};

/// What these tests read of `profile.proto`.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    /// Asks for a profile and unpacks it.
    fn take(control: &str, path: &str) -> Self {
        let mut stream = connect(control).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {control}\r\nconnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.unwrap() + 4);
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(
            head.contains("content-type: application/octet-stream"),
            "{head}"
        );
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(body)
            .read_to_end(&mut bytes)
            .unwrap();
        Self::decode(bytes.as_slice()).unwrap()
    }

    fn text(&self, id: i64) -> &str {
        &self.string_table[usize::try_from(id).unwrap()]
    }

    fn measures(&self) -> Vec<(&str, &str)> {
        let measures = self.sample_type.iter();
        measures
            .map(|measure| (self.text(measure.kind), self.text(measure.unit)))
            .collect()
    }

    /// The names on a stack, innermost first.
    fn stack(&self, sample: &Sample) -> Vec<&str> {
        let locations = sample.location_id.iter().map(|id| {
            let location = self.location.iter().find(|location| location.id == *id);
            location.unwrap()
        });
        let functions = locations.flat_map(|location| &location.line).map(|line| {
            let function = self
                .function
                .iter()
                .find(|function| function.id == line.function_id);
            function.unwrap()
        });
        functions.map(|function| self.text(function.name)).collect()
    }

    fn threads(&self) -> Vec<&str> {
        let labels = self.sample.iter().flat_map(|sample| &sample.label);
        labels
            .map(|label| {
                assert_eq!(self.text(label.key), "thread");
                self.text(label.text)
            })
            .collect()
    }
}

/// Does `meanwhile` while two users of the shop at `data` log in over and over: some 20 ms of hashing each.
fn while_users_log_in<T>(data: &str, meanwhile: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    log_in(data);
                }
            });
        }
        let result = meanwhile();
        done.store(true, Ordering::Relaxed);
        result
    })
}

fn log_in(shop: &str) -> u16 {
    let body = br#"{"customer_id":1,"password":"wrong"}"#;
    send(
        shop,
        "POST",
        "/sessions",
        "content-type: application/json\r\n",
        body,
    )
    .status
}

#[test]
fn a_cpu_profile_names_what_the_processor_did() {
    let shop = Shop::start();
    let control = &shop.shop.control;
    let profile = while_users_log_in(&shop.shop.data, || {
        Profile::take(control, "/debug/pprof/profile?seconds=2&hz=200")
    });
    assert_eq!(
        profile.measures(),
        [("samples", "count"), ("cpu", "nanoseconds")]
    );
    assert_eq!(profile.period, 5_000_000);
    assert!(
        profile.duration_nanos >= 2_000_000_000,
        "{}",
        profile.duration_nanos
    );
    for sample in &profile.sample {
        assert_eq!(sample.value[1], sample.value[0] * profile.period);
    }
    let login = profile
        .sample
        .iter()
        .map(|sample| profile.stack(sample))
        .find(|stack| stack.iter().take(2).any(|name| name.contains("argon2::")));
    let login = login.expect("hashing is most of what a login costs");
    assert!(
        login.iter().any(|name| name.contains("firedrill::")),
        "{login:#?}"
    );
    assert!(
        profile.threads().contains(&"data"),
        "{:?}",
        profile.threads()
    );
}

#[test]
fn a_profile_is_taken_while_every_worker_is_blocked() {
    let shop = Shop::start_with(&[], &["--workers", "1"]);
    let control = &shop.shop.control;
    put(control, "/choices/password_hashing", r#"{"option":"poor"}"#);
    let profile = while_users_log_in(&shop.shop.data, || {
        Profile::take(control, "/debug/pprof/profile?seconds=1")
    });
    // Not on a thread that may block: inside of the request, on the only worker that there is.
    let on_the_worker = profile.sample.iter().any(|sample| {
        let stack = profile.stack(sample);
        let has = |part: &str| stack.iter().any(|name| name.contains(part));
        has("argon2::") && has("axum::") && profile.text(sample.label[0].text) == "data"
    });
    assert!(on_the_worker, "{:?}", profile.string_table);
}

#[test]
fn one_profile_at_a_time_and_the_control_plane_answers_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &[]);
    let control = &payments.control;
    let mut first = connect(control).unwrap();
    let request =
        format!("GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nhost: {control}\r\n\r\n");
    std::io::Write::write_all(&mut first, request.as_bytes()).unwrap();
    // Its place in the line: what is sent afterwards is read afterwards.
    get(control, "/livez");
    let refused = get(control, "/debug/pprof/profile?seconds=1");
    assert_eq!(refused.status, 409);
    assert!(
        refused.head.contains("application/problem+json"),
        "{refused:?}"
    );
    for path in ["/metrics", "/choices", "/livez"] {
        assert_eq!(get(control, path).status, 200, "{path}");
    }
    // Whoever leaves takes the profile along.
    let left = Instant::now();
    drop(first);
    wait_for("the turn of the next", || {
        get(control, "/debug/pprof/profile?seconds=1").status == 200
    });
    assert!(
        left.elapsed() < Duration::from_secs(50),
        "it ran to its end"
    );
}

#[test]
fn a_role_that_stops_does_not_wait_for_a_profile() {
    let dir = tempfile::tempdir().unwrap();
    let mut payments = Role::start("payments", dir.path(), &[]);
    let control = payments.control.clone();
    let began = Instant::now();
    let mut asking = connect(&control).unwrap();
    let request = format!("GET /debug/flamegraph?seconds=60 HTTP/1.1\r\nhost: {control}\r\n\r\n");
    std::io::Write::write_all(&mut asking, request.as_bytes()).unwrap();
    get(&control, "/livez");
    assert_eq!(get(&control, "/debug/flamegraph?seconds=1").status, 409);
    payments.process.signal("TERM");
    assert_eq!(payments.process.exit_code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(50),
        "it ran to its end"
    );
}

#[test]
fn bad_parameters_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &[]);
    let seconds = "a whole number from 1 to 60";
    for (path, field, value, allowed) in [
        ("profile?seconds=0", "seconds", "0", seconds),
        ("profile?seconds=61", "seconds", "61", seconds),
        ("profile?seconds=1.5", "seconds", "1.5", seconds),
        ("profile?seconds=", "seconds", "", seconds),
        (
            "profile?hz=251",
            "hz",
            "251",
            "a whole number from 1 to 250",
        ),
        ("profile?second=1", "second", "1", "seconds, hz"),
        ("heap?seconds=1", "seconds", "1", "no parameters"),
    ] {
        let answer = get(&payments.control, &format!("/debug/pprof/{path}"));
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["field"], field, "{path}");
        assert_eq!(problem["value"], value, "{path}");
        assert_eq!(problem["allowed"], allowed, "{path}");
    }
    let answer = get(&payments.control, "/debug/flamegraph?seconds=x");
    assert_eq!(
        (answer.status, &answer.json()["field"]),
        (400, &"seconds".into())
    );
}

#[test]
fn profiles_are_guarded() {
    let dir = tempfile::tempdir().unwrap();
    let token = [("FIREDRILL_TOKEN", "secret")];
    let payments = Role::start_with("payments", dir.path(), &[], &token);
    let control = &payments.control;
    for path in [
        "/debug/pprof/profile?seconds=1",
        "/debug/pprof/heap",
        "/debug/flamegraph?seconds=1",
    ] {
        assert_eq!(get(control, path).status, 401, "{path}");
    }
    let allowed = "authorization: Bearer secret\r\n";
    let path = "/debug/flamegraph?seconds=1";
    assert_eq!(send(control, "GET", path, allowed, b"").status, 200);
    let foreign = "authorization: Bearer secret\r\norigin: http://evil.example\r\n";
    assert_eq!(send(control, "GET", path, foreign, b"").status, 403);
}

#[test]
fn a_flamegraph_is_a_picture_with_names() {
    let shop = Shop::start();
    let answer = while_users_log_in(&shop.shop.data, || {
        get(&shop.shop.control, "/debug/flamegraph?seconds=1")
    });
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: image/svg+xml"),
        "{}",
        answer.head
    );
    assert!(answer.body.contains("<svg") && answer.body.contains("</svg>"));
    assert!(answer.body.contains("of CPU time in 1 s"));
    assert!(
        answer.body.contains("<title>data ("),
        "threads are told apart"
    );
    assert!(answer.body.contains("argon2::"));
}

#[test]
#[cfg(not(feature = "jemalloc"))]
fn a_build_that_cannot_tell_who_holds_memory_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let payments = Role::start("payments", dir.path(), &[]);
    let answer = get(&payments.control, "/debug/pprof/heap");
    assert_eq!(answer.status, 501);
    let detail = answer.json()["detail"].to_string();
    assert!(detail.contains("--features jemalloc"), "{detail}");
}

#[test]
#[cfg(feature = "jemalloc")]
fn a_heap_profile_tells_who_holds_the_memory() {
    let shop = Shop::start();
    let profile = Profile::take(&shop.shop.control, "/debug/pprof/heap");
    assert_eq!(
        profile.measures(),
        [("inuse_objects", "count"), ("inuse_space", "bytes")]
    );
    assert_eq!(profile.period, 524_288);
    let ours = profile
        .sample
        .iter()
        .filter(|sample| {
            let stack = profile.stack(sample);
            stack.iter().any(|name| name.contains("firedrill::"))
        })
        .map(|sample| sample.value[1])
        .sum::<i64>();
    assert!(ours > 0);
    // Who asked stands close to the innermost call: the allocator's own are left out.
    let largest = profile.sample.iter().max_by_key(|sample| sample.value[1]);
    let stack = profile.stack(largest.unwrap());
    assert!(
        !stack.iter().any(|name| name.starts_with("_rjem_")),
        "{stack:#?}"
    );
}
