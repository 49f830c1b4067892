//! A run against a lab that is not real, over HTTP that is.

use super::fake_lab::{DRILL, FakeLab};
use super::*;
use crate::drills::Verdict;

fn drill() -> Drill {
    Drill::parse("00-fake.md", DRILL).unwrap()
}

async fn run_in(
    lab: &FakeLab,
    option: OptionName,
    fix: bool,
    progress: impl FnMut(&Progress),
    stop: &CancellationToken,
) -> Result<Record, String> {
    let drill = drill();
    let request = Request {
        drill: &drill,
        option,
        fix,
        seed: 7,
        time_scale: lab.time_scale(),
    };
    run(request, &lab.addresses(), stop, progress).await
}

async fn run_leg(lab: &FakeLab, option: OptionName, fix: bool) -> Result<Record, String> {
    run_in(lab, option, fix, |_| {}, &CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_leg_is_judged_and_taken_back() {
    let leg = async |option, fix| {
        let lab = FakeLab::start(10.0).await;
        let record = run_leg(&lab, option, fix).await.unwrap();
        assert_eq!(record.verdict, Verdict::AsExpected, "{:?}", record.reasons);
        assert!(record.left_behind.is_empty(), "{:?}", record.left_behind);
        assert!(
            record.rows.iter().all(|row| row.p99_s.is_some()),
            "{:?}",
            record.rows
        );
        assert!(lab.is_as_found());
        let set = lab.heard().first().cloned().unwrap();
        assert_eq!(set, format!("choice {}", option.name()));
    };
    tokio::join!(
        leg(OptionName::Poor, false),
        leg(OptionName::Sound, false),
        leg(OptionName::Poor, true),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lab_that_dies_half_way_is_taken_back() {
    let lab = FakeLab::start(10.0).await;
    let dies = |progress: &Progress| {
        if progress.phase == "after the shock" {
            lab.stop_reporting();
        }
    };
    let stop = CancellationToken::new();
    let error = run_in(&lab, OptionName::Poor, false, dies, &stop)
        .await
        .unwrap_err();
    assert!(error.contains("no report"), "{error}");
    assert!(lab.heard().contains(&"surge".to_owned()));
    assert!(lab.is_as_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_is_taken_back() {
    let lab = FakeLab::start(10.0).await;
    let stop = CancellationToken::new();
    let stops = |progress: &Progress| {
        if progress.phase == "after the shock" {
            stop.cancel();
        }
    };
    let error = run_in(&lab, OptionName::Poor, false, stops, &stop)
        .await
        .unwrap_err();
    assert!(error.contains("stopped"), "{error}");
    assert!(lab.heard().contains(&"surge".to_owned()));
    assert!(lab.is_as_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lab_that_never_becomes_steady_is_no_verdict_on_the_option() {
    let lab = FakeLab::start(50.0).await;
    lab.break_orders();
    let record = run_leg(&lab, OptionName::Poor, false).await.unwrap();
    assert_eq!(record.verdict, Verdict::Invalid);
    assert!(
        record.reasons[0].contains("not steady"),
        "{:?}",
        record.reasons
    );
    assert!(
        !lab.heard().contains(&"surge".to_owned()),
        "no shock without a steady lab"
    );
    assert!(lab.is_as_found());
}

#[tokio::test]
async fn two_causes_at_once_are_refused() {
    let lab = FakeLab::start(10.0).await;
    lab.make_another_choice_poor();
    let error = run_leg(&lab, OptionName::Sound, false).await.unwrap_err();
    assert!(error.contains("another is poor"), "{error}");
    assert_eq!(lab.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn a_sound_option_has_nothing_to_cure() {
    let lab = FakeLab::start(10.0).await;
    let error = run_leg(&lab, OptionName::Sound, true).await.unwrap_err();
    assert!(error.contains("nothing to cure"), "{error}");
}
