//! What the Compose file and its neighbours must agree on, and cannot be seen before somebody starts them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The services of the Compose file, each with its own lines.
fn services(compose: &str) -> Vec<(String, Vec<&str>)> {
    let mut services: Vec<(String, Vec<&str>)> = Vec::new();
    let body = compose
        .lines()
        .skip_while(|line| *line != "services:")
        .skip(1);
    for line in body.take_while(|line| *line != "volumes:") {
        match line
            .strip_prefix("  ")
            .and_then(|line| line.strip_suffix(':'))
        {
            Some(name) if !name.starts_with(' ') => services.push((name.into(), Vec::new())),
            _ => services.last_mut().unwrap().1.push(line.trim()),
        }
    }
    services
}

#[test]
fn every_service_is_contained() {
    let compose = file("docker-compose.yml");
    let services = services(&compose);
    assert_eq!(services.len(), 9);
    for (name, lines) in services {
        let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
        // The anchors hold the rest: read-only root, no capabilities, restarts.
        assert!(has("<<: *role") || has("<<: *contained"), "{name}");
        for limit in ["user:", "mem_limit:", "pids_limit:"] {
            assert!(has("<<: *role") || has(limit), "{name} lacks {limit}");
        }
        let shown = lines.iter().filter(|line| line.starts_with("ports:"));
        for ports in shown {
            let all = ports.matches('"').count() / 2;
            assert_eq!(
                ports.matches("\"${FIREDRILL_PUBLISH:-127.0.0.1}:").count(),
                all,
                "{name}: {ports}"
            );
        }
    }
}

#[test]
fn every_image_is_of_one_version() {
    let (compose, dockerfile) = (file("docker-compose.yml"), file("Dockerfile"));
    let in_compose = compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "));
    let in_dockerfile = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "));
    let images: BTreeSet<_> = in_compose
        .chain(in_dockerfile)
        .map(|image| image.split(' ').next().unwrap())
        .collect();
    assert!(images.len() >= 7, "{images:?}");
    for image in images {
        let (_, tag) = image.split_once(':').expect(image);
        assert!(
            tag.contains('.') && tag.chars().any(|c| c.is_ascii_digit()),
            "{image}"
        );
    }
    let collector = file(".ci/collector/builder.yaml");
    let version = collector
        .lines()
        .find_map(|line| line.trim().strip_prefix("version: "))
        .unwrap();
    assert!(
        compose.contains(&format!("opentelemetry-collector:{version}")),
        "CI tests {version}"
    );
    assert!(compose.contains(&format!("image: firedrill:{}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn both_profiles_scrape_the_same() {
    let from_scrape = |name: &str| {
        let text = file(name);
        let (_, rest) = text.split_once("alerting:").unwrap();
        rest.to_owned()
    };
    let drill = from_scrape("deploy/prometheus/drill.yml");
    assert_eq!(drill, from_scrape("deploy/prometheus/production.yml"));
    let compose = file("docker-compose.yml");
    for (role, port) in [
        ("shop", 9464),
        ("payments", 9465),
        ("traffic", 9470),
        ("console", 9480),
    ] {
        assert!(drill.contains(&format!("\"{role}:{port}\"")));
        assert!(compose.contains(&format!("--target={role}=http://{role}:{port}")));
    }
}

/// Grafana's shortest rate is four scrapes: with another number panels are empty, or hide what a drill shows.
#[test]
fn grafana_knows_how_often_is_scraped() {
    for profile in ["drill", "production"] {
        let scraped = file(&format!("deploy/prometheus/{profile}.yml"));
        let interval = scraped
            .lines()
            .find_map(|line| line.strip_prefix("  scrape_interval: "))
            .unwrap();
        let told = file(&format!("deploy/grafana/{profile}.env"));
        let line = format!("FIREDRILL_SCRAPE_INTERVAL={interval}");
        assert!(told.lines().any(|told| told == line), "{profile}: {line}");
    }
    let source = file("dashboards/provisioning/datasources/firedrill.yml");
    assert!(source.contains("timeInterval: $FIREDRILL_SCRAPE_INTERVAL\n"));
    let compose = file("docker-compose.yml");
    for per_profile in [
        "/prometheus/${FIREDRILL_PROFILE:-drill}.yml",
        "deploy/grafana/${FIREDRILL_PROFILE:-drill}.env",
    ] {
        assert!(compose.contains(per_profile), "{per_profile}");
    }
}

/// What Compose puts in the place of the webhook must be there to be replaced, and a setting must be explained.
#[test]
fn the_webhook_and_every_setting_are_known() {
    let (compose, example) = (file("docker-compose.yml"), file(".env.example"));
    let standard = "http://127.0.0.1:9099";
    assert!(compose.contains(&format!("sed \"s|{standard}|$$FIREDRILL_WEBHOOK|\"")));
    assert_eq!(
        file("alerts/alertmanager.yml")
            .matches(&format!("url: {standard}/"))
            .count(),
        2
    );
    for rest in compose.split("${").skip(1) {
        let name = rest.split([':', '}']).next().unwrap();
        let set = format!("\n{name}=");
        assert!(example.contains(&set), "{name} is not in .env.example");
    }
}

/// The files under `folder`, with those of its folders.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The image is built of what the Dockerfile copies: a file that is compiled in, or a crate of the workspace, from
/// elsewhere breaks the build, and nobody would notice before they build it.
#[test]
fn what_is_compiled_is_in_the_image() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    let mut needed = BTreeSet::from(["src".to_owned()]);
    for source in found {
        let text = std::fs::read_to_string(&source).unwrap();
        for piece in text.split("include_").skip(1) {
            let Some((_, rest)) = piece.split_once("!(\"") else {
                continue;
            };
            let included = source.with_file_name(rest.split('"').next().unwrap());
            if let Ok(path) = included.canonicalize() {
                let inside = path.strip_prefix(root.canonicalize().unwrap()).unwrap();
                needed.insert(inside.to_string_lossy().into_owned());
            }
        }
    }
    let manifest = file("Cargo.toml");
    let members = manifest.lines().find(|line| line.starts_with("members"));
    for member in members.unwrap_or_default().split('"').skip(1).step_by(2) {
        needed.insert(member.split('/').next().unwrap().to_owned());
    }
    let (dockerfile, ignored) = (file("Dockerfile"), file(".dockerignore"));
    let copied = dockerfile.lines().filter_map(|line| {
        let (from, to) = line.strip_prefix("COPY ")?.split_once(' ')?;
        (from == to).then_some(from)
    });
    let sent = ignored.lines().filter_map(|line| line.strip_prefix('!'));
    for folders in [copied.collect::<Vec<_>>(), sent.collect()] {
        for path in &needed {
            let covered = folders
                .iter()
                .any(|folder| Path::new(path).starts_with(folder));
            assert!(covered, "{path} is in none of {folders:?}");
        }
    }
    let drills = needed
        .iter()
        .any(|path| Path::new(path).starts_with("drills"));
    assert!(drills, "the includes were not found: {needed:?}");
}

/// cargo looks for a test or benchmark without a path, and an image that is built without them has none.
#[test]
fn the_image_is_built_without_tests_and_benchmarks() {
    let manifest = file("Cargo.toml");
    let targets = manifest
        .split("\n[")
        .filter(|table| table.starts_with("[test]]") || table.starts_with("[bench]]"));
    let mut count = 0;
    for target in targets {
        assert!(target.contains("\npath = "), "[{target}");
        count += 1;
    }
    assert_eq!(count, 3);
}
