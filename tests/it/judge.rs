//! The judge in the console: real roles, and targets that break the format.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Answer, Process, Role, Shop, firedrill, get, send, wait_for};
use crate::up::Up;

/// A console that watches `targets`, each `ROLE=HOST:PORT`.
fn console(dir: &TempDir, targets: &[String], more: &[&str]) -> Role {
    let targets = targets.iter().map(|target| target.replace('=', "=http://"));
    let targets: Vec<String> = targets.collect();
    let targets = targets.iter().flat_map(|target| ["--target", target]);
    let arguments = ["--otlp", "127.0.0.1:0"].into_iter().chain(targets);
    let arguments: Vec<&str> = arguments.chain(more.iter().copied()).collect();
    Role::start("console", dir.path(), &arguments)
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The result of an instant query: labels and value of each series.
fn ask(console: &str, query: &str) -> Vec<(Value, String)> {
    let answer = get(console, &format!("/api/v1/query?query={}", encoded(query)));
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    let answer = answer.json();
    assert_eq!(answer["data"]["resultType"], "vector", "{answer}");
    let series = answer["data"]["result"].as_array().unwrap().iter();
    let value = |one: &Value| one["value"][1].as_str().unwrap().to_owned();
    series
        .map(|one| (one["metric"].clone(), value(one)))
        .collect()
}

/// The one value of a query; none where it has no result.
fn value(console: &str, query: &str) -> Option<f64> {
    ask(console, query)
        .first()
        .map(|(_, value)| value.parse().unwrap())
}

/// The state of an alert as `/api/v1/alerts` tells it.
fn state(console: &str, alert: &str) -> Option<String> {
    let answer = get(console, "/api/v1/alerts").json();
    let alerts = answer["data"]["alerts"].as_array().unwrap();
    let found = alerts
        .iter()
        .find(|one| one["labels"]["alertname"] == alert)?;
    Some(found["state"].as_str().unwrap().to_owned())
}

#[test]
fn every_role_of_a_lab_is_scraped() {
    let up = Up::start(&[]);
    let console = up.address("console");
    wait_for("each role to be up", || {
        value(&console, "sum(up)") == Some(4.0)
    });
    for (labels, value) in ask(&console, "up") {
        let role = labels["role"].as_str().unwrap();
        let member = up.lab().member(role).unwrap().control.to_string();
        assert_eq!(
            (labels["job"].as_str(), labels["instance"].as_str()),
            (Some("firedrill"), Some(&*member))
        );
        assert_eq!(value, "1");
    }
    wait_for("the users' rate to be recorded", || {
        value(&console, "sum(rate(firedrill_journey_arrivals_total[5s]))") > Some(5.0)
            && value(
                &console,
                "slo:sli_error:ratio_rate5m{slo=\"users-availability\",journey=\"browse\"}",
            )
            .is_some()
    });
    // Parameters of paths are labels like any other.
    let routes = ask(
        &console,
        "http_server_request_duration_seconds_count{http_route=\"/items/{id}\"} > 0",
    );
    assert!(!routes.is_empty());
    // The judge measures itself.
    wait_for("its size to be told", || {
        value(&console, "firedrill_judge_series{role=\"console\"}") > Some(100.0)
    });
    assert_eq!(
        value(
            &console,
            "firedrill_judge_samples_total{outcome=\"dropped\"}"
        ),
        Some(0.0)
    );
    assert_eq!(
        value(
            &console,
            "firedrill_judge_rule_evaluations_total{outcome=\"failed\"}"
        ),
        Some(0.0)
    );
}

#[test]
fn a_role_that_is_gone_is_noticed_until_it_is_back() {
    let shop = Shop::start();
    let (own, peer) = (shop.shop.control.clone(), shop.payments.control.clone());
    let targets = [format!("shop={own}"), format!("payments={peer}")];
    let console = console(&shop.dir, &targets, &[]);
    let at = console.data.as_str();
    wait_for("all to be up", || value(at, "sum(up)") == Some(3.0));
    assert!(value(at, "firedrill_orders_open").is_some());
    let Shop {
        payments,
        shop,
        dir,
    } = shop;
    shop.process.signal("KILL");
    wait_for("the shop to be down", || {
        value(at, "up{role=\"shop\"}") == Some(0.0)
    });
    assert_eq!(
        ask(at, "firedrill_orders_open").len(),
        0,
        "its series have ended"
    );
    let mut states = Vec::new();
    wait_for("its alert to fire", || {
        let now = state(at, "FiredrillRoleDown");
        if let Some(now) = now.filter(|now| states.last() != Some(now)) {
            states.push(now);
        }
        states.last().is_some_and(|state| state == "firing")
    });
    assert_eq!(states, ["pending", "firing"]);
    let fired = ask(
        at,
        "ALERTS{alertname=\"FiredrillRoleDown\",alertstate=\"firing\"}",
    );
    assert_eq!(fired[0].0["service"], "shop", "its labels are filled in");
    wait_for("the page to show it", || {
        let alerts = get(at, "/api/status").json()["alerts"].clone();
        let first = &alerts["list"][0];
        first["state"] == "firing"
            && first["runbook"] == "/runbooks/FiredrillRoleDown"
            && first["summary"].as_str().unwrap().contains(&own)
    });
    let again = restart(&dir, &own, &payments.data);
    wait_for("the shop to be up again", || {
        value(at, "up{role=\"shop\"}") == Some(1.0)
    });
    wait_for("the alert to end", || {
        state(at, "FiredrillRoleDown").is_none()
    });
    assert_eq!(ask(at, "ALERTS{alertname=\"FiredrillRoleDown\"}").len(), 0);
    drop(again);
}

/// The shop once more, with its control plane at the same address.
fn restart(dir: &TempDir, control: &str, payments: &str) -> Process {
    let mut command = firedrill();
    command
        .args([
            "shop",
            "--listen",
            "127.0.0.1:0",
            "--control",
            control,
            "--data",
        ])
        .arg(dir.path().join("shop"))
        .args(["--payments", &format!("http://{payments}")]);
    Process::start(command, &dir.path().join("again.log"), 1)
}

/// A console that has scraped a fake shop several times.
fn watching(fake: &Fake) -> (TempDir, Role) {
    let dir = tempfile::tempdir().unwrap();
    let console = console(&dir, &[format!("shop={}", fake.address)], &[]);
    wait_for("some samples", || {
        value(&console.data, "min(count_over_time(up[1m]))") > Some(3.0)
            && value(&console.data, "count(up)") == Some(2.0)
    });
    (dir, console)
}

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

#[test]
fn an_expression_has_a_value_now_and_over_time() {
    let (_dir, console) = watching(&Fake::start());
    let at = console.data.as_str();
    let json = |path: &str| get(at, path).json();
    let sum = json("/api/v1/query?query=1%2B1&time=5");
    assert_eq!(sum["data"]["result"][1], "2");
    let range = "/api/v1/query_range?query=vector(1)&start=0&end=2015-07-01T20:10:30Z&step=1y";
    let matrix = json(range)["data"]["result"][0]["values"].clone();
    assert_eq!(matrix.as_array().unwrap().len(), 46, "{matrix}");
    let asked = b"query=sum(up)+%3E+0&limit=1";
    let post = send(at, "POST", "/api/v1/query", FORM, asked).json();
    assert_eq!(post["data"]["result"][0]["value"][1], "2");
}

#[test]
fn series_and_labels_are_listed() {
    let (_dir, console) = watching(&Fake::start());
    let json = |path: &str| get(&console.data, path).json();
    let series = json("/api/v1/series?match[]=up&match[]=scrape_samples_scraped");
    assert_eq!(series["data"].as_array().unwrap().len(), 4, "{series}");
    let cut = json("/api/v1/series?match[]=up&limit=1");
    assert_eq!(cut["warnings"][0], "results truncated due to limit");
    let names = json("/api/v1/labels?match[]=up")["data"].clone();
    let expected = serde_json::json!(["__name__", "instance", "job", "role"]);
    assert_eq!(names, expected);
    let names = json("/api/v1/labels?match[]=up&match[]=fake")["data"].clone();
    assert_eq!(names.as_array().unwrap().len(), 5, "{names}");
    let values = json("/api/v1/label/role/values")["data"].clone();
    assert_eq!(values, serde_json::json!(["console", "shop"]));
}

#[test]
fn rules_targets_and_metadata_are_told() {
    let (_dir, console) = watching(&Fake::start());
    let json = |path: &str| get(&console.data, path).json();
    let rules = json("/api/v1/rules?type=alert&rule_name[]=FiredrillRoleDown");
    let rule = &rules["data"]["groups"][0]["rules"][0];
    assert_eq!(
        (&rule["type"], &rule["duration"], &rule["health"]),
        (&"alerting".into(), &5.0.into(), &"ok".into())
    );
    assert_eq!(rule["labels"]["service"], "{{ $labels.role }}");
    let targets = json("/api/v1/targets?state=active")["data"]["activeTargets"].clone();
    let targets = targets.as_array().unwrap().iter();
    let health: Vec<_> = targets.map(|target| target["health"].clone()).collect();
    assert_eq!(health, ["up", "up"]);
    let told = json("/api/v1/metadata?metric=fake&limit_per_metric=1");
    assert_eq!(told["data"]["fake"][0]["type"], "gauge", "{told}");
    assert!(json("/api/v1/status/buildinfo")["data"]["version"].is_string());
    assert_eq!(json("/sd")[0]["labels"]["role"], "shop");
}

/// Questions that are refused: status, `errorType`, and what the error says.
const REFUSED: &[(&str, u16, &str, &str)] = &[
    ("query?query=up%7B", 400, "bad_data", "query"),
    ("query", 400, "bad_data", "query"),
    ("query?query=up&time=soon", 400, "bad_data", "soon"),
    ("query?query=info(up)", 400, "bad_data", "not supported"),
    ("query?query=up+*+on()+up", 422, "execution", "many-to-many"),
    (
        "query?query=sum_over_time(vector(1)[200d:1s])",
        422,
        "execution",
        "limit of 5000000 samples",
    ),
    (
        "query?query=sum_over_time(vector(1)[20d:1s])&timeout=1ms",
        503,
        "timeout",
        "",
    ),
    ("query?query=up&timeout=soon", 400, "bad_data", "timeout"),
    (
        "query_range?query=up&start=1&end=0&step=1",
        400,
        "bad_data",
        "end",
    ),
    (
        "query_range?query=up&start=0&end=1&step=0",
        400,
        "bad_data",
        "step",
    ),
    (
        "query_range?query=up&start=0&end=20000&step=1",
        400,
        "bad_data",
        "11000",
    ),
    (
        "query_range?query=up&start=0&end=1",
        400,
        "bad_data",
        "step",
    ),
    ("series", 400, "bad_data", "match[]"),
    ("series?match[]=%7B%7D", 400, "bad_data", "match[]"),
    ("rules?type=odd", 400, "bad_data", "odd"),
    ("rules?match[]=up", 400, "bad_data", "match[]"),
    ("label/%ff/values", 400, "bad_data", "UTF-8"),
    ("nothing", 404, "not_found", "path"),
];

#[test]
fn what_cannot_be_answered_is_refused_as_prometheus_does() {
    let (_dir, console) = watching(&Fake::start());
    for (path, status, kind, why) in REFUSED {
        let answer = get(&console.data, &format!("/api/v1/{path}"));
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
        let answer = answer.json();
        let told = (answer["status"].as_str(), answer["errorType"].as_str());
        assert_eq!(told, (Some("error"), Some(*kind)), "{path}");
        let error = answer["error"].as_str().unwrap();
        assert!(!error.is_empty() && error.contains(why), "{path}: {error}");
    }
    let many = "match[]=up&".repeat(65);
    let answer = send(
        &console.data,
        "POST",
        "/api/v1/series",
        FORM,
        many.as_bytes(),
    );
    assert_eq!(answer.status, 400, "{answer:?}");
    let origin = "origin: http://evil.example\r\n";
    let elsewhere = send(&console.data, "GET", "/api/v1/query?query=up", origin, b"");
    assert_eq!(elsewhere.status, 403);
}

/// What a fake target answers.
#[derive(Clone)]
enum Body {
    Text(Vec<u8>),
    Slow,
}

/// A target that answers what it is told to.
struct Fake {
    address: String,
    body: Arc<Mutex<Body>>,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap().to_string(),
            body: Arc::new(Mutex::new(Body::Text(GOOD.into()))),
            heard: Arc::default(),
        };
        let (body, heard) = (Arc::clone(&fake.body), Arc::clone(&fake.heard));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (body, heard) = (Arc::clone(&body), Arc::clone(&heard));
                std::thread::spawn(move || answer(stream.unwrap(), &body, &heard));
            }
        });
        fake
    }

    fn serve(&self, text: impl Into<Vec<u8>>) {
        *self.body.lock().unwrap() = Body::Text(text.into());
    }
}

const GOOD: &str = "# TYPE fake gauge\nfake{x=\"1\"} 7\nup_to{x=\"1\"} 8\n";

/// Answers one request; what is posted is kept.
fn answer(mut stream: TcpStream, body: &Mutex<Body>, heard: &Mutex<Vec<Value>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 8_192];
    loop {
        // The other side may have given up.
        let Ok(count @ 1..) = stream.read(&mut buffer) else {
            return;
        };
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, posted)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.to_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap_or("0");
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        if posted.len() >= length {
            if length > 0 {
                let posted: Vec<Value> = serde_json::from_str(posted).unwrap();
                heard.lock().unwrap().extend(posted);
            }
            break;
        }
    }
    let body = body.lock().unwrap().clone();
    let text = match body {
        Body::Text(text) => text,
        Body::Slow => {
            std::thread::sleep(Duration::from_secs(3));
            GOOD.into()
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    drop(stream.write_all(head.as_bytes()));
    drop(stream.write_all(&text));
}

#[test]
fn a_scrape_that_breaks_the_format_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start();
    let console = console(&dir, &[format!("shop={}", fake.address)], &[]);
    let at = console.data.as_str();
    let error = || last_error(at, "shop");
    let huge = format!(
        "{GOOD}{}",
        "more{x=\"long enough to be many bytes\"} 1\n".repeat(250_000)
    );
    let cases: [(&str, Body, &str); 6] = [
        ("cut off", Body::Text(GOOD.trim_end().into()), "line 3"),
        ("huge", Body::Text(huge.into()), "cannot be read"),
        ("slow", Body::Slow, "did not answer within 900ms"),
        (
            "not UTF-8",
            Body::Text([GOOD.as_bytes(), b"a{x=\"\xff\"} 1\n"].concat()),
            "line 4: it is not UTF-8",
        ),
        (
            "twice",
            Body::Text(format!("{GOOD}fake{{x=\"1\"}} 7\n").into()),
            "line 4: the series fake",
        ),
        (
            "no number",
            Body::Text(format!("{GOOD}a seven\n").into()),
            "line 4: \"seven\" is no value",
        ),
    ];
    for (name, body, why) in cases {
        fake.serve(GOOD);
        wait_for("a good scrape", || {
            value(at, "fake") == Some(7.0)
                && value(at, "sum(up)") == Some(2.0)
                && error().is_empty()
        });
        *fake.body.lock().unwrap() = body;
        wait_for(name, || error().contains(why));
        wait_for("the series to end", || {
            ask(at, "{__name__=~\"fake|up_to|a|more\"}").is_empty()
        });
        wait_for("the target to be down", || {
            value(at, "up{role=\"shop\"}") == Some(0.0)
        });
        // Another target hanging or lying does not keep the console from itself.
        wait_for("the console to be up", || {
            value(at, "up{role=\"console\"}") == Some(1.0)
        });
    }
}

/// What the judge says of the last scrape of the target with this role.
fn last_error(console: &str, role: &str) -> String {
    let targets = get(console, "/api/v1/targets").json()["data"]["activeTargets"].clone();
    let mut targets = targets.as_array().unwrap().iter();
    let target = targets.find(|target| target["labels"]["role"] == role);
    target.map_or_else(String::new, |target| {
        target["lastError"].as_str().unwrap().to_owned()
    })
}

#[test]
fn a_target_that_floods_costs_its_own_scrapes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (flood, quiet) = (Fake::start(), Fake::start());
    let targets = [
        format!("shop={}", flood.address),
        format!("payments={}", quiet.address),
    ];
    let console = console(&dir, &targets, &[]);
    let at = console.data.as_str();
    wait_for("all to be up", || value(at, "sum(up)") == Some(3.0));
    let scrapes = || value(at, "count_over_time(fake{role=\"payments\"}[10m])").unwrap_or(0.0);
    // The other target is scraped on, and its `up` and the alerts on it are as ever.
    let goes_on = |what: &str| {
        let before = scrapes();
        wait_for(what, || scrapes() > before + 3.0);
        assert_eq!(value(at, "up{role=\"payments\"}"), Some(1.0), "{what}");
        assert_eq!(value(at, "up{role=\"console\"}"), Some(1.0), "{what}");
    };
    let series = |from: usize, count: usize| -> String {
        let lines = (from..from + count).map(|i| format!("flood{{x=\"{i}\"}} {i}\n"));
        lines.collect()
    };
    flood.serve(series(0, 40_000));
    wait_for("the flood to be refused", || {
        last_error(at, "shop").contains("40000 samples are more than the limit of 30000")
    });
    goes_on("a flood of series");
    assert_eq!(ask(at, "flood").len(), 0);
    assert_eq!(value(at, "up{role=\"shop\"}"), Some(0.0));
    wait_for("its alert to fire", || {
        state(at, "FiredrillRoleDown").as_deref() == Some("firing")
    });
    // Each scrape is small, and all of its names are new.
    let mut from = 0;
    wait_for("the new names to be refused", || {
        flood.serve(series(from, 9_000));
        from += 9_000;
        last_error(at, "shop").contains("more than the limit of 30000")
    });
    goes_on("a flood of new names");
    // Comments that describe other metrics each time.
    let described = |turn: usize| -> String {
        let lines = (0..10_000).map(|i| format!("# HELP m{turn}_{i} Flood.\n"));
        lines.collect::<String>() + GOOD
    };
    for turn in 0..3 {
        flood.serve(described(turn));
        wait_for("the comments to be read", || {
            let named = format!("/api/v1/metadata?metric=m{turn}_0");
            let told = get(at, &named).json()["data"].clone();
            told.as_object().unwrap().len() == 1
        });
    }
    let told = get(at, "/api/v1/metadata").json()["data"].clone();
    assert!(
        told.as_object().unwrap().len() < 3_000,
        "those of before are forgotten"
    );
    // Times that lie in the year 287000.
    let dropped = "firedrill_judge_samples_total{outcome=\"dropped\"}";
    let before = value(at, dropped).unwrap();
    flood.serve(format!("{GOOD}future{{x=\"1\"}} 1 8999999999999000\n"));
    wait_for("the time to be refused", || {
        value(at, dropped).unwrap() > before
    });
    goes_on("a flood of far times");
    let listed = get(at, "/api/v1/series?match[]=future").json()["data"].clone();
    assert_eq!(listed, serde_json::json!([]));
    wait_for("the target to be well again", || {
        value(at, "sum(up)") == Some(3.0)
    });
}

#[test]
fn an_alertmanager_is_told_what_fires_and_what_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, manager) = (Fake::start(), Fake::start());
    let rules = dir.path().join("own.rules.yml");
    let text = "groups: [{name: own, rules: [{alert: High, expr: 'fake > 5', labels: {severity: critical}, \
                annotations: {summary: '{{ $value }} is high'}}]}]";
    std::fs::write(&rules, text).unwrap();
    let url = format!("http://{}/", manager.address);
    let arguments = ["--rules", rules.to_str().unwrap(), "--alertmanager", &url];
    let console = console(&dir, &[format!("shop={}", fake.address)], &arguments);
    let told = |resolved: bool| {
        let heard = manager.heard.lock().unwrap();
        let now = get(&console.data, "/api/v1/query?query=time()").json();
        let now = now["data"]["result"][0].as_f64().unwrap();
        let over = |alert: &&Value| {
            let ends = alert["endsAt"].as_str().unwrap();
            firedrill::judge::time::parse_rfc3339(ends).unwrap() as f64 / 1e3 <= now
        };
        heard.iter().find(|alert| over(alert) == resolved).cloned()
    };
    wait_for("the Alertmanager to be told", || told(false).is_some());
    let alert = told(false).unwrap();
    assert_eq!(alert["labels"]["alertname"], "High");
    assert_eq!(alert["labels"]["severity"], "critical");
    assert_eq!(alert["annotations"]["summary"], "7 is high");
    let generator = alert["generatorURL"].as_str().unwrap();
    let own = format!("http://{}", console.data);
    let path = generator.strip_prefix(&own).unwrap();
    assert_eq!(
        get(&console.data, path).json()["data"]["result"][0]["value"][1],
        "7"
    );
    assert!(told(true).is_none());
    fake.serve("fake{x=\"1\"} 1\n");
    wait_for("it to be told that it is over", || told(true).is_some());
    assert_eq!(told(true).unwrap()["labels"], alert["labels"]);
    assert!(console.metric("firedrill_judge_notifications_total", "sent") > 1.5);
}

#[test]
fn rules_that_ask_for_more_than_is_kept_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let production = console(
        &dir,
        &["shop=127.0.0.1:1".into()],
        &["--rules", "production"],
    );
    wait_for("the page to say it", || {
        let alerts = get(&production.data, "/api/status").json()["alerts"].clone();
        let notice = alerts["notice"].as_str().unwrap_or_default();
        notice.contains("samples for 1h15m") && notice.contains("slo:sli_error:ratio_rate")
    });
    let log = production.process.log();
    assert!(log.contains("slo:sli_error:ratio_rate3d"), "{log}");
}

#[test]
fn the_page_can_show_what_a_prometheus_found() {
    let dir = tempfile::tempdir().unwrap();
    let judge = console(&dir, &["shop=127.0.0.1:1".into()], &[]);
    let url = format!("http://{}", judge.data);
    let other = tempfile::tempdir().unwrap();
    let page = console(&other, &[], &["--prometheus", &url]);
    wait_for("the alert to come over", || {
        let alerts = get(&page.data, "/api/status").json()["alerts"].clone();
        alerts["source"] == url.as_str() && alerts["list"][0]["name"] == "FiredrillRoleDown"
    });
    assert_eq!(get(&page.data, "/api/v1/query?query=up").status, 404);
    drop(judge);
    wait_for("the silence to be told", || {
        let alerts = get(&page.data, "/api/status").json()["alerts"].clone();
        alerts["error"]
            .as_str()
            .is_some_and(|error| error.contains(&url[7..]))
    });
}

#[test]
fn rules_that_cannot_be_loaded_end_the_start_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.yml");
    let refused = |more: &[&str]| {
        let mut command = firedrill();
        command
            .args([
                "console",
                "--listen",
                "127.0.0.1:0",
                "--control",
                "127.0.0.1:0",
                "--otlp",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(dir.path())
            .args(more);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    std::fs::write(
        &file,
        "groups: [{name: g, rules: [{alert: A, expr: up, annotations: {x: '{{ .Value }}'}}]}]",
    )
    .unwrap();
    let said = refused(&["--rules", file.to_str().unwrap()]);
    assert!(said.contains("group g: rule A: annotations: x"), "{said}");
    let said = refused(&["--rules", "none.yml"]);
    assert!(
        said.contains("--rules (FIREDRILL_RULES): none.yml cannot be read"),
        "{said}"
    );
    let said = refused(&["--scrape-interval", "1ms"]);
    assert!(
        said.contains(
            "--scrape-interval (FIREDRILL_SCRAPE_INTERVAL) is 1ms; allowed are 100ms to 1m"
        ),
        "{said}"
    );
    let said = refused(&["--prometheus", "nonsense"]);
    assert!(said.contains("--prometheus"), "{said}");
}

#[test]
fn the_api_asks_for_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let console = Role::start_with(
        "console",
        dir.path(),
        &["--otlp", "127.0.0.1:0"],
        &[("FIREDRILL_TOKEN", "secret")],
    );
    let with = |headers: &str| -> Answer {
        send(&console.data, "GET", "/api/v1/query?query=1", headers, b"")
    };
    assert_eq!(with("").status, 401);
    assert_eq!(with("authorization: Bearer secret\r\n").status, 200);
}
