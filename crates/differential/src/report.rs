//! What is printed.

use std::collections::HashSet;

use crate::accepted::Accepted;
use crate::expressions::Group;
use crate::receiver::Recording;
use crate::run::Outcome;

/// A line on standard output.
#[expect(clippy::print_stdout, reason = "this is a command")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// What was compared about.
pub(crate) fn recorded(recording: &Recording, (start, end): (i64, i64)) -> String {
    let stats = recording.store.stats();
    format!(
        "{} samples of {} series, {} stale markers among them; asking about {:.1} s of them. \
         They take {:.2} bytes a sample, labels and index included.",
        recording.samples,
        stats.series,
        recording.stale_markers,
        (end - start) as f64 / 1e3,
        stats.bytes as f64 / stats.samples.max(1) as f64,
    )
}

/// Prints the table and the differences; returns whether nothing but what is accepted differs.
pub(crate) fn print(groups: &[Group], outcomes: &[Vec<Outcome>], accepted: &Accepted) -> bool {
    say(&format!(
        "\n{:44} {:>11} {:>8} {:>8} {:>9} {:>8} {:>8}",
        "group", "expressions", "queries", "equal", "different", "empty", "refused"
    ));
    let mut all = Outcome::default();
    let mut expressions = 0;
    for (group, outcomes) in groups.iter().zip(outcomes) {
        let mut total = Outcome::default();
        for outcome in outcomes {
            total.add(outcome);
        }
        say(&row(&group.name, group.questions.len(), &total));
        all.add(&total);
        expressions += group.questions.len();
    }
    say(&row("all", expressions, &all));
    let closeness = all.closeness;
    say(&format!(
        "{} values compared: {} identical to the last bit, the others within {:.1e}. \
         Time for the instant queries: {:.1} s theirs (over HTTP), {:.1} s ours (in process).",
        closeness.values,
        closeness.identical,
        closeness.largest,
        all.their_time.as_secs_f64(),
        all.our_time.as_secs_f64(),
    ));
    differences(groups, outcomes, accepted)
}

fn row(name: &str, expressions: usize, outcome: &Outcome) -> String {
    format!(
        "{name:44} {expressions:>11} {:>8} {:>8} {:>9} {:>8} {:>8}",
        outcome.queries,
        outcome.equal,
        outcome.different(),
        outcome.empty,
        outcome.refused,
    )
}

fn differences(groups: &[Group], outcomes: &[Vec<Outcome>], accepted: &Accepted) -> bool {
    let mut good = true;
    let mut asked = HashSet::new();
    for (group, outcomes) in groups.iter().zip(outcomes) {
        for (question, outcome) in group.questions.iter().zip(outcomes) {
            let text = question.to_string();
            let is_accepted = accepted.contains(&text);
            if is_accepted && outcome.different() == 0 {
                good = false;
                say(&format!("\nAccepted, but nothing differs: {text}"));
            }
            if outcome.different() > 0 {
                good &= is_accepted;
                let mark = if is_accepted { "accepted" } else { "DIFFERENT" };
                let counts = format!("{} of {}", outcome.different(), outcome.queries);
                say(&format!("\n{mark} in {counts}: {text}"));
                outcome
                    .differences
                    .iter()
                    .for_each(|line| say(&format!("  {line}")));
            }
            asked.insert(text);
        }
    }
    for unknown in accepted.not_among(&asked) {
        good = false;
        say(&format!("\nAccepted, but not asked: {unknown}"));
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expressions::Question;

    #[test]
    fn what_differs_is_accepted_and_what_is_accepted_differs() {
        let question = |text: &str| Question::Query {
            text: text.into(),
            lookback: None,
        };
        let groups = [Group {
            name: "group".into(),
            questions: vec![question("a"), question("b")],
        }];
        let outcome = |equal| Outcome {
            queries: 2,
            equal,
            ..Outcome::default()
        };
        let good = |a_equal, b_equal, list: &str| {
            let outcomes = [vec![outcome(a_equal), outcome(b_equal)]];
            differences(&groups, &outcomes, &Accepted::parse(list).unwrap())
        };
        assert!(good(2, 2, ""));
        assert!(good(1, 2, "# why\na"));
        assert!(!good(1, 2, ""));
        assert!(!good(1, 2, "# why\nb"));
        assert!(!good(2, 2, "# why\na"));
        assert!(!good(2, 2, "# why\nc"));
    }
}
