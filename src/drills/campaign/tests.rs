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
    run_text(DRILL, lab, (legs, sabotage), progress, stop).await
}

async fn run_text(
    text: &str,
    lab: &FakeLab,
    (legs, sabotage): (Legs, bool),
    progress: impl FnMut(&Progress),
    stop: &CancellationToken,
) -> Result<Record, String> {
    let drill = Drill::parse("00-fake.md", text).unwrap();
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
    let heard = |what: &str| lab.heard().iter().filter(|one| *one == what).count();
    assert_eq!(heard("surge"), 4);
    // What operators do meanwhile comes with every shock.
    assert_eq!((heard("log warn"), heard("restart")), (4, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_a_restart_as_the_next_version() {
    let lab = FakeLab::start(20.0).await;
    let text = DRILL.replace(
        "at_s: 1, do: {log: {shop: warn}}",
        "at_s: 1, do: {deploy: payments}",
    );
    let legs = Legs::One {
        option: OptionName::Sound,
        fix: false,
    };
    let stop = CancellationToken::new();
    let record = run_text(&text, &lab, (legs, false), |_| {}, &stop).await;
    assert_eq!(record.unwrap().verdict, Verdict::AsExpected);
    assert!(
        lab.heard().contains(&"deploy 0.1.1".to_owned()),
        "{:?}",
        lab.heard()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fix_that_only_heals_does_not_survive_the_shock_again() {
    let lab = FakeLab::start(10.0).await;
    let text = DRILL.replace(
        "fix: [{choice: {retries: sound}}]",
        "fix: [{restart: shop}]",
    );
    let stop = CancellationToken::new();
    let record = run_text(&text, &lab, (Legs::All, false), |_| {}, &stop).await;
    let record = record.unwrap();
    assert_eq!(record.verdict, Verdict::NotAsExpected);
    let broken = |leg: &str| {
        let leg = record.leg(leg).unwrap();
        leg.checks.iter().filter(|check| !check.held).count()
    };
    assert_eq!(
        (broken("fix"), broken("replay")),
        (0, 1),
        "{:?}",
        record.reasons
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shock_goes_on_while_cures_are_tried() {
    let lab = FakeLab::start(10.0).await;
    let text = DRILL
        .replace("alerts:", "outage: {while_shock: 4}\nalerts:")
        .replace("do: silence", "do: {rate: 50}");
    let stop = CancellationToken::new();
    let record = run_text(&text, &lab, (Legs::All, false), |_| {}, &stop).await;
    let record = record.unwrap();
    assert_eq!(record.verdict, Verdict::AsExpected, "{:?}", record.reasons);
    let loads = lab
        .heard()
        .into_iter()
        .filter(|one| one.starts_with("rate"));
    // What was no cure is taken back before the next is tried.
    assert_eq!(
        loads.collect::<Vec<_>>(),
        ["rate 100", "rate 50", "rate 100"]
    );
    assert!(lab.is_as_found());
}

#[tokio::test]
async fn a_lab_in_which_another_drill_goes_on_is_refused() {
    let lab = FakeLab::start(20.0).await;
    lab.let_another_drill_begin();
    let error = fly(&lab, POOR).await.unwrap_err();
    assert!(error.contains("another drill"), "{error}");
    assert_eq!(lab.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn what_the_lab_does_not_have_is_named_before_anything_is_done() {
    let lab = FakeLab::start(20.0).await;
    for (from, to, expected) in [
        (
            "poor: {retries:",
            "poor: {retires:",
            "no choice \"retires\"",
        ),
        ("name: surge", "name: sruge", "no shock \"sruge\""),
        (
            "{order: {of",
            "{ordr: {of",
            "no parameter of surge \"ordr\"",
        ),
        ("name: Burn", "name: Brun", "no alert \"Brun\""),
        ("'good[$window]'", "'sum(((('", "00-fake.md: good: "),
    ] {
        let text = DRILL.replacen(from, to, 1);
        let stop = CancellationToken::new();
        let error = run_text(&text, &lab, (POOR, false), |_| {}, &stop).await;
        let error = error.unwrap_err();
        assert!(
            error.starts_with("00-fake.md: ") && error.contains(expected),
            "{error}"
        );
    }
    assert_eq!(lab.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn a_lab_with_another_number_of_replicas_is_refused() {
    let lab = FakeLab::start(20.0).await;
    let text = DRILL.replace("meanwhile:", "payments_replicas: 2\nmeanwhile:");
    let stop = CancellationToken::new();
    let run = run_text(&text, &lab, (POOR, false), |_| {}, &stop);
    let error = run.await.unwrap_err();
    assert!(error.contains("--payments-replicas 2"), "{error}");
    assert_eq!(lab.heard(), Vec::<String>::new());
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
