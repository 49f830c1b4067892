//! Telemetry does not give the answer away: which option of a choice is in force must be found by thinking, not
//! by reading a name.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;

use firedrill::choices::{CHOICES, Choice, ChoiceOption};
use serde_json::Value;

use crate::support::{ORDER, Shop, connect, get, put, send, wait_for};
use crate::traces::{exporting, receiver};

/// What a reader of the instruments meets.
#[derive(Default)]
struct Told {
    /// Names: `metric NAME: LABEL`, `span SERVICE NAME: ATTRIBUTE`, `log TARGET MESSAGE: FIELD`. The same whatever the
    /// option is.
    names: BTreeSet<String>,
    /// Values of labels and sentences of help, which differ with what happened.
    words: BTreeSet<String>,
}

/// Words that would say that something is wrong on purpose.
const SPOILERS: &[&str] = &[
    "fault",
    "drill",
    "choice",
    "poor",
    "sound",
    "shock",
    "chaos",
    "inject",
    "simulat",
    "surge",
    "lesson",
    "experiment",
];

#[test]
fn names_do_not_depend_on_the_option_and_do_not_tell_it() {
    for choice in CHOICES
        .iter()
        .filter(|choice| choice.roles.contains(&"shop"))
    {
        let [poor, sound] = [ChoiceOption::Poor, ChoiceOption::Sound].map(|o| told(choice, o));
        let only = |one: &Told, other: &Told| {
            let difference = one.names.difference(&other.names);
            difference.cloned().collect::<Vec<_>>()
        };
        let (in_poor, in_sound) = (only(&poor, &sound), only(&sound, &poor));
        assert!(
            in_poor.is_empty() && in_sound.is_empty(),
            "{}: only under poor {in_poor:#?}, only under sound {in_sound:#?}",
            choice.name
        );
        for name in [&poor, &sound]
            .into_iter()
            .flat_map(|told| told.names.iter().chain(&told.words))
        {
            // Our own name is the prefix of what no convention names, and the kernel's page faults are none of ours.
            let text = name.to_lowercase();
            let text = text.replace("firedrill", "").replace("paging_fault", "");
            let spoiled = SPOILERS.iter().find(|word| text.contains(**word));
            assert_eq!(spoiled, None, "{name}");
        }
        assert!(sound.names.len() > 60, "{:#?}", sound.names);
    }
}

/// Everything that shop and payments name while the same things happen to them.
fn told(choice: &Choice, option: ChoiceOption) -> Told {
    let (endpoint, received) = receiver();
    let mut lab = Shop::start_telling(&exporting(&endpoint));
    let path = format!("/choices/{}", choice.name);
    // Either way the option is another at last, so that a change is told of.
    let other = match option {
        ChoiceOption::Poor => ChoiceOption::Sound,
        ChoiceOption::Sound => ChoiceOption::Poor,
    };
    for option in [other, option] {
        let body = format!(r#"{{"option":"{}"}}"#, option.name());
        assert_eq!(put(&lab.shop.control, &path, &body).status, 200);
    }
    everything_happens(&lab);
    let mut told = Told::default();
    for role in [&lab.shop, &lab.payments] {
        metrics(&get(&role.control, "/metrics").body, &mut told);
    }
    for role in [&mut lab.shop, &mut lab.payments] {
        role.process.signal("TERM");
        assert_eq!(role.process.exit_code(), Some(0), "{}", role.process.log());
        events(&role.process.log(), &mut told);
    }
    for (service, span) in received.lock().unwrap().iter() {
        told.names.insert(format!("span {service} {}", span.name));
        for attribute in &span.attributes {
            told.names
                .insert(format!("span {service} {}: {}", span.name, attribute.key));
        }
    }
    told
}

/// Good days, bad input, a bank that fails, one that is slow and one that does not answer.
fn everything_happens(lab: &Shop) {
    let shop = &lab.shop.data;
    let json = "content-type: application/json\r\n";
    for path in [
        "/items/1",
        "/items/1",
        "/items",
        "/items/popular",
        "/items/popular",
        "/items/0",
        "/search?q=lamp",
        "/nowhere",
    ] {
        get(shop, path);
    }
    for path in [
        "/orders/1",
        "/orders/0",
        "/customers/1/orders",
        "/customers/0/orders",
    ] {
        get(shop, path);
    }
    for password in ["correct horse battery staple", "wrong"] {
        let body = format!(r#"{{"customer_id":1,"password":"{password}"}}"#);
        send(shop, "POST", "/sessions", json, body.as_bytes());
    }
    for key in ["good", "good", "better"] {
        assert_eq!(lab.order(key, ORDER).status, 201);
    }
    lab.order("bad", "{}");
    let shock = |name: &str, parameters: &str| {
        let body = format!(r#"{{{parameters},"ttl_s":60}}"#);
        let answer = put(&lab.payments.control, &format!("/shocks/{name}"), &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let calm = |name: &str| {
        let path = format!("/shocks/{name}");
        send(&lab.payments.control, "DELETE", &path, "", b"");
    };
    shock("bank_failing", r#""share":1"#);
    for number in 0..3 {
        lab.order(&format!("failed{number}"), ORDER);
    }
    calm("bank_failing");
    shock("bank_stalled", r#""share":1"#);
    let client = impatient_order(shop);
    wait_for("the order to be under way", || {
        lab.shop.metric("firedrill_orders_open", "") > 0.5
    });
    drop(client);
    calm("bank_stalled");
    wait_for("every order to be settled", || {
        lab.shop.metric("firedrill_orders_open", "") < 0.5
            && lab.shop.metric("firedrill_queue_depth", "outbox") < 0.5
    });
    assert_eq!(lab.order("after", ORDER).status, 201);
    wait_for("the last delivery", || {
        lab.shop
            .metric("firedrill_outbox_events_total", "delivered")
            > 2.5
    });
}

/// An order of somebody who will not wait for its answer.
fn impatient_order(shop: &str) -> TcpStream {
    let length = ORDER.len();
    let head = "POST /orders HTTP/1.1\r\nhost: shop\r\nidempotency-key: impatient\r\nx-request-timeout-ms: 3000";
    let request = format!(
        "{head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{ORDER}"
    );
    let mut stream = connect(shop).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn metrics(text: &str, told: &mut Told) {
    for line in text.lines() {
        if line.starts_with('#') {
            told.words.insert(line.to_owned());
            continue;
        }
        let Some((series, _)) = line.rsplit_once(' ') else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        // A route in a value may hold braces, but no value holds a quote.
        let parts = labels.split('"');
        let keys = parts.clone().step_by(2);
        let keys = keys.map(|part| part.trim_matches([',', '=', '}']));
        for key in keys.filter(|key| !key.is_empty()) {
            told.names.insert(format!("metric {name}: {key}"));
        }
        let values = parts.skip(1).step_by(2);
        told.words.extend(values.map(ToOwned::to_owned));
        told.names.insert(format!("metric {name}"));
    }
}

fn events(log: &str, told: &mut Told) {
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let name = format!("log {} {}", text("target"), text("message"));
        let fields = event.as_object().into_iter().flat_map(|event| event.keys());
        told.names
            .extend(fields.map(|field| format!("{name}: {field}")));
    }
}
