//! Runs against a lab that is not real, over HTTP that is.

use super::fake_lab::{DRILL, FakeLab};
use super::*;
use crate::drills::Verdict;

const POOR: Legs = Legs::One {
    option: OptionName::Poor,
    fix: false,
};

async fn run_in(
    lab: &FakeLab,
    (legs, sabotage): (Legs, bool),
    progress: impl FnMut(&Progress),
    stop: &CancellationToken,
) -> Result<Record, String> {
    let drill = Drill::parse("00-fake.md", DRILL).unwrap();
    let request = Request {
        drill: &drill,
        legs,
        seed: Some(7),
        fresh: true,
        sabotage,
        clock: lab.clock(),
    };
    run(request, &lab.addresses(), stop, progress).await
}

async fn fly(lab: &FakeLab, legs: Legs) -> Result<Record, String> {
    run_in(lab, (legs, false), |_| {}, &CancellationToken::new()).await
}

fn names(record: &Record) -> Vec<&str> {
    record.legs.iter().map(|leg| leg.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_leg_is_run_judged_and_taken_back() {
    let lab = FakeLab::start(10.0).await;
    let record = fly(&lab, Legs::All).await.unwrap();
    assert_eq!(record.verdict, Verdict::AsExpected, "{:?}", record.reasons);
    let all = [
        "sound", "poor", "reject", "reject", "fix", "replay", "steady",
    ];
    assert_eq!(names(&record), all);
    assert!(record.left_behind.is_empty(), "{:?}", record.left_behind);
    assert!(lab.is_as_found());
    assert_eq!(record.calibrated["speed"].to_bits(), 2.5_f64.to_bits());
    let poor = record.leg("poor").unwrap();
    assert!(poor.headline[0] < Some(0.5), "{:?}", poor.headline);
    assert!(poor.rows.iter().all(|row| row.values[0].is_some()));
    assert_eq!(poor.alerts[0].name, "Burn");
    // The restart heals the fake, so it takes the shock once more to tell that it is no cure.
    let surges = lab.heard().iter().filter(|one| *one == "surge").count();
    assert_eq!(surges, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leg_can_be_flown_alone() {
    for (legs, expected) in [
        (POOR, vec!["poor"]),
        (Legs::Both, vec!["sound", "poor"]),
        (
            Legs::One {
                option: OptionName::Poor,
                fix: true,
            },
            vec!["poor", "fix"],
        ),
    ] {
        let lab = FakeLab::start(20.0).await;
        let record = fly(&lab, legs).await.unwrap();
        assert_eq!(record.verdict, Verdict::AsExpected, "{:?}", record.reasons);
        assert_eq!(names(&record), expected);
        assert!(lab.is_as_found());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_fails_where_the_sound_option_is_the_poor_one() {
    let lab = FakeLab::start(20.0).await;
    let stop = CancellationToken::new();
    let record = run_in(&lab, (Legs::All, true), |_| {}, &stop)
        .await
        .unwrap();
    assert_eq!(record.verdict, Verdict::NotAsExpected);
    let sound = record.leg("sound").unwrap();
    let broken = |check: &&Check| check.part == Part::HarmBounds && !check.held;
    assert_eq!(sound.checks.iter().filter(broken).count(), 1);
    assert!(lab.is_as_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_fails_where_what_is_no_cure_cures() {
    let lab = FakeLab::start(20.0).await;
    lab.forgive();
    let record = fly(&lab, Legs::All).await.unwrap();
    assert_eq!(record.verdict, Verdict::NotAsExpected);
    let said = record.reasons.join(" ");
    assert!(said.contains("restart shop: it cures"), "{said}");
}

/// What is said of a run that `interrupt` ends while the outage lasts; it must have left nothing behind.
async fn interrupted(interrupt: impl Fn(&FakeLab, &CancellationToken)) -> String {
    let lab = FakeLab::start(20.0).await;
    let stop = CancellationToken::new();
    let half_way = |progress: &Progress| {
        if progress.phase == "poor: after the shock" {
            interrupt(&lab, &stop);
        }
    };
    let run = run_in(&lab, (POOR, false), half_way, &stop);
    let error = run.await.unwrap_err();
    assert!(lab.heard().contains(&"surge".to_owned()));
    assert!(lab.is_as_found());
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lab_that_dies_half_way_is_taken_back() {
    let error = interrupted(|lab, _| lab.stop_answering()).await;
    assert!(error.contains("503"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_is_taken_back() {
    let error = interrupted(|_, stop| stop.cancel()).await;
    assert!(error.contains("stopped"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lab_that_never_becomes_steady_is_no_verdict_on_the_option() {
    let lab = FakeLab::start(200.0).await;
    lab.break_it();
    let record = fly(&lab, POOR).await.unwrap();
    assert_eq!(record.verdict, Verdict::Invalid);
    let said = record.reasons.join(" ");
    assert!(
        said.contains("how good it is") && said.contains("Burn"),
        "{said}"
    );
    assert!(
        !lab.heard().contains(&"surge".to_owned()),
        "no shock without a steady lab"
    );
    assert!(lab.is_as_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_too_slow_is_no_verdict_on_the_option() {
    let lab = FakeLab::start(20.0).await;
    lab.be_too_slow();
    let record = fly(&lab, POOR).await.unwrap();
    assert_eq!(record.verdict, Verdict::Invalid);
    assert!(
        record.reasons[0].starts_with("How fast it is.: 0.5"),
        "{:?}",
        record.reasons
    );
    assert!(!lab.heard().contains(&"surge".to_owned()));
}

#[tokio::test]
async fn two_causes_at_once_are_refused() {
    let lab = FakeLab::start(10.0).await;
    lab.make_another_choice_poor();
    let error = fly(&lab, POOR).await.unwrap_err();
    assert!(error.contains("another is poor"), "{error}");
    assert_eq!(lab.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn a_sound_option_has_nothing_to_cure() {
    let lab = FakeLab::start(10.0).await;
    let legs = Legs::One {
        option: OptionName::Sound,
        fix: true,
    };
    let error = fly(&lab, legs).await.unwrap_err();
    assert!(error.contains("nothing to cure"), "{error}");
}
