//! A run as a page of plain text: the users' view and the servers' view side by side, then the verdict.

use std::fmt::Write;

use super::judge::{Part, Verdict, number};
use super::record::{Record, Row};

/// The columns of a terminal.
const WIDTH: usize = 80;

/// The heads of the table's columns, in three lines each.
const HEADS: [[&str; 3]; 6] = [
    ["orders", "offered", "/s"],
    ["orders", "good", "/s"],
    ["p99", "(users)", "s"],
    ["attempts", "per", "order"],
    ["bank", "served", "/s"],
    ["answers", "unclaimed", "/s"],
];

/// The report of a run, at most 80 columns wide.
#[must_use]
pub fn text(record: &Record) -> String {
    let mut page = format!(
        "{}\n{}, option {}{}, seed {}\n\n",
        record.title,
        record.drill,
        record.option.name(),
        if record.fix { ", with the fix" } else { "" },
        record.seed
    );
    if !record.rows.is_empty() {
        page.push_str(&table(&record.rows));
        page.push('\n');
    }
    paragraph(
        &mut page,
        &format!("Expected: {}", record.expected.join(" ")),
    );
    let measured: Vec<String> = record
        .conditions
        .iter()
        .filter(|judged| judged.part == Part::HarmBounds)
        .map(ToString::to_string)
        .collect();
    if !measured.is_empty() {
        paragraph(&mut page, &format!("Measured: {}.", measured.join("; ")));
    }
    paragraph(&mut page, &verdict(record));
    for failure in &record.left_behind {
        paragraph(&mut page, &format!("Left behind: {failure}"));
    }
    page
}

fn verdict(record: &Record) -> String {
    let reasons = record.reasons.join(" ");
    match record.verdict {
        Verdict::AsExpected => "VERDICT: as expected".into(),
        Verdict::NotAsExpected => format!("VERDICT: not as expected. {reasons}"),
        Verdict::Invalid => {
            format!("VERDICT: INVALID. {reasons} An invalid run says nothing about the option.")
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = String::new();
    for line in 0..3 {
        let heads = HEADS.map(|head| format!("{:>10}", head[line]));
        push_line(&mut table, &format!("{:<16}{}", "", heads.concat()));
    }
    for row in rows {
        let cells = [
            row.offered_per_s,
            row.good_per_s,
            row.p99_s,
            row.attempts_per_order,
            row.bank_served_per_s,
            row.bank_unclaimed_per_s,
        ]
        .map(|value| format!("{:>10}", value.map_or("-".into(), cell)));
        push_line(&mut table, &format!("{:<16}{}", row.name, cells.concat()));
    }
    table
}

/// Zero is the news in this table: it must not look like a small number.
fn cell(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else if value < 10.0 {
        format!("{value:.2}")
    } else {
        number(value)
    }
}

fn push_line(page: &mut String, line: &str) {
    writeln!(page, "{}", line.trim_end()).expect("a string takes any text");
}

/// Adds text in lines of at most [`WIDTH`] columns.
pub(super) fn paragraph(page: &mut String, text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            push_line(page, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push_line(page, &line);
}

#[cfg(test)]
mod tests {
    use super::super::OptionName;
    use super::super::judge::tests::run;
    use super::super::world::World;
    use super::*;

    #[test]
    fn a_report_fits_a_terminal() {
        for (option, fix) in [
            (OptionName::Poor, true),
            (OptionName::Poor, false),
            (OptionName::Sound, false),
        ] {
            for bank in [50.0, 40.0] {
                let world = World {
                    bank,
                    ..World::HEALTHY
                };
                let page = text(&run(world, option, fix));
                for line in page.lines() {
                    assert!(line.chars().count() <= WIDTH, "{line:?} is too long");
                }
            }
        }
    }

    #[test]
    fn both_views_stand_in_one_row() {
        let page = text(&run(World::HEALTHY, OptionName::Poor, true));
        eprintln!("{page}");
        let row = |name: &str| {
            let line = page.lines().find(|line| line.starts_with(name)).unwrap();
            let line = line.strip_prefix(name).unwrap();
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(row("steady"), ["30.0", "30.0", "0.18", "1.00", "30.0", "0"]);
        assert_eq!(
            row("after 45-60 s"),
            ["30.0", "0", "-", "3.00", "50.0", "50.0"]
        );
        assert_eq!(
            row("fixed 15-30 s"),
            ["30.0", "30.0", "-", "1.00", "30.0", "0"]
        );
        assert!(page.ends_with("VERDICT: as expected\n"));
    }

    #[test]
    fn an_invalid_run_says_why() {
        let world = World {
            late: 0.5,
            ..World::HEALTHY
        };
        let page = text(&run(world, OptionName::Sound, false));
        assert!(
            page.contains("VERDICT: INVALID. share of journeys"),
            "{page}"
        );
    }
}
