//! The table of docs/ARCHITECTURE.md, enforced: which module may import which, and who may name which crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Each module and the modules of ours that it may name.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("telemetry", &[]),
    ("http", &["telemetry"]),
    ("store", &["telemetry", "http"]),
    ("choices", &["store", "http", "telemetry"]),
    ("control", &["choices", "store", "http", "telemetry"]),
    (
        "shop",
        &["control", "choices", "store", "http", "telemetry"],
    ),
    (
        "payments",
        &["control", "choices", "store", "http", "telemetry"],
    ),
    (
        "traffic",
        &["control", "choices", "store", "http", "telemetry"],
    ),
    ("drills", &["control", "http"]),
    ("rules", &["judge"]),
    ("judge", &["http", "telemetry"]),
    ("up", &["control", "http"]),
    (
        "console",
        &["control", "drills", "judge", "http", "telemetry"],
    ),
    (
        "cli",
        &[
            "up",
            "shop",
            "payments",
            "traffic",
            "console",
            "drills",
            "judge",
            "rules",
            "control",
            "choices",
            "store",
            "http",
            "telemetry",
        ],
    ),
];

/// Crates that only some may name, by the folder or file under `src` in which they may be named.
const RESERVED: &[(&str, &[&str])] = &[
    ("promql", &["judge"]),
    ("opentelemetry_proto", &["console/otlp"]),
    ("metrics", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_http", &["telemetry"]),
    ("tracing_opentelemetry", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("rusqlite", &["store", "shop", "payments"]),
    ("clap", &["cli"]),
];

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        (name, code(&std::fs::read_to_string(&path).unwrap()))
    };
    files.into_iter().map(read).collect()
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every name that follows `prefix`: also those of a group in braces.
fn names_after<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (position, _) in text.match_indices(prefix) {
        let rest = &text[position + prefix.len()..];
        let first_names = |list: &'a str| {
            list.split(',')
                .map(|path| path.trim().split("::").next().unwrap_or_default())
        };
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(top_level(group))),
            None => names.extend(
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next(),
            ),
        }
    }
    names
}

/// A group up to its closing brace.
fn top_level(group: &str) -> &str {
    let mut depth = 0;
    let end = group.find(|c| {
        depth += i32::from(c == '{');
        depth -= i32::from(c == '}');
        depth < 0
    });
    &group[..end.unwrap_or(group.len())]
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let module = file.split(['/', '.']).next().unwrap();
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let may = allowed
            .get(module)
            .unwrap_or_else(|| panic!("{module} is not in the table"));
        for name in names_after(&text, "crate::") {
            let is_module = allowed.contains_key(name);
            if is_module && name != module && !may.contains(&name) {
                wrong.push(format!("{file} imports {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the table: {wrong:#?}");
}

#[test]
fn crates_are_named_where_they_belong() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for (name, places) in RESERVED {
            let named = text
                .match_indices(&format!("{name}::"))
                .any(|(position, _)| {
                    let before = text[..position].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
                });
            if named && !places.iter().any(|place| file.starts_with(place)) {
                wrong.push(format!("{file} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "against the table: {wrong:#?}");
}

/// What stands after the bang of each macro that logs an event, for up to a line.
fn events(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for name in ["trace", "debug", "info", "warn", "error", "event"] {
        for (position, macro_call) in text.match_indices(&format!("{name}!(")) {
            let before = text[..position].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                let rest = text[position + macro_call.len()..].trim_start();
                found.push(rest.lines().next().unwrap_or_default());
            }
        }
    }
    found
}

/// Without one an event is named after the module that it stands in: it changes when code moves, and the file of a
/// choice would tell which option is on.
#[test]
fn every_log_event_has_a_target_of_its_own() {
    let mut number = 0;
    for (file, text) in sources() {
        for event in events(&text) {
            let target = event.strip_prefix("target: \"");
            let target = target.and_then(|rest| rest.split('"').next());
            let target = target.unwrap_or_else(|| panic!("{file}: no target in {event}"));
            assert!(
                !target.is_empty() && target.chars().all(|c| c.is_ascii_lowercase()),
                "{file}: {target}"
            );
            assert!(
                !file.starts_with("choices/") || target == "control",
                "{file}: {target}"
            );
            number += 1;
        }
    }
    assert!(number > 20, "the events were not found: {number}");
}

#[test]
fn the_check_sees_what_it_should() {
    let text = "info!(\"a\"); tracing::warn!(\n  target: \"it\",\n); my_event!(); debug!(x)";
    assert_eq!(
        events(text),
        ["x)", "\"a\"); tracing::warn!(", "target: \"it\","]
    );
    let text = "use crate::http::Problem;\nuse crate::{control::lab, drills};\ncrate::shop::run();";
    assert_eq!(
        names_after(text, "crate::"),
        ["http", "control", "drills", "shop"]
    );
}
