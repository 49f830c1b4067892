//! The scripts in `tests/scripts`, run as `cargo run --example promqltest` runs them.

use std::path::Path;

#[path = "../../examples/promqltest/runner/mod.rs"]
mod runner;

fn run(text: &str) -> runner::Report {
    runner::run(text).unwrap()
}

#[test]
fn every_script_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut passed = 0;
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let report =
            runner::run(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        problems.extend(
            report
                .problems
                .iter()
                .map(|problem| format!("{name}: {problem}")),
        );
        passed += report.passed;
        assert_eq!((report.unsupported, report.skipped), (0, 0), "{name}");
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(passed > 200, "only {passed} evaluations in all scripts");
}

/// The runner must see what is wrong, or the test above says nothing.
#[test]
fn a_wrong_expectation_fails() {
    let data = "load 1m\n  a{x=\"1\"} 1 2\n  b 3\n\n";
    let wrong = [
        "eval instant at 1m a\n  a{x=\"1\"} 3",
        "eval instant at 1m a\n  a{x=\"2\"} 2",
        "eval instant at 1m a",
        "eval instant at 1m a\n  a{x=\"1\"} 2\n  b 3",
        "eval instant at 1m 1\n  2",
        "eval instant at 1m vector(1)\n  1",
        "eval_fail instant at 1m a",
        "eval instant at 1m a +",
        "eval_ordered instant at 1m {__name__=~\"a|b\"}\n  b 3\n  a{x=\"1\"} 2",
        "eval range from 0 to 1m step 1m a\n  a{x=\"1\"} 1",
        "eval range from 0 to 1m step 1m a\n  a{x=\"1\"} _ 2",
        "eval range from 0 to 1m step 1m a\n  a{x=\"1\"} 1 3",
        "eval_fail instant at 1m a / ignoring (x) a\nexpected_fail_message never said",
    ];
    let at_zero = "load 1m\n  m _ 1\n\neval range from 0 to 1m step 1m m\n  m 1 _\n";
    let report = run(at_zero);
    assert_eq!((report.passed, report.failed), (0, 1), "{at_zero}");
    for eval in wrong {
        let report = run(&format!("{data}{eval}\n"));
        assert_eq!((report.passed, report.failed), (0, 1), "{eval}");
    }
}

/// No error is an answer: neither one instead of an answer, nor one that says something else.
#[test]
fn an_error_counts_as_refused() {
    for (eval, refused) in [
        ("eval instant at 0 a +\n  a 1", 1),
        (
            "eval_fail instant at 0 a +\n  expected_fail_message never said",
            1,
        ),
        ("eval_fail instant at 0 vector(1)", 0),
    ] {
        let report = run(&format!("{eval}\n"));
        assert_eq!(
            (report.passed, report.failed, report.refused),
            (0, 1, refused),
            "{eval}"
        );
    }
}

#[test]
fn what_is_not_supported_is_said() {
    let report = run("load 1m\n  h {{schema:0 count:1}}x3\n\n\
        eval instant at 0 h\n  h {{schema:0 count:1}}\n\n\
        eval instant at 0 mad_over_time(a[1m])\n\n\
        eval instant at 0 histogram_count(h)\n  {} 1\n");
    assert_eq!((report.passed, report.failed), (0, 0));
    assert_eq!((report.skipped, report.unsupported), (2, 1));
    assert!(
        report.problems[0].contains("mad_over_time"),
        "{:?}",
        report.problems
    );
}
