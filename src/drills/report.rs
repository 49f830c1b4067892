//! A run as a page of plain text: what was measured leg by leg, then the verdict.

use std::fmt::Write;

use super::condition::Journey;
use super::format::Experiment;
use super::judge::{Check, Part, Verdict, number};
use super::record::{LegRecord, Record};
use super::signals::Signal;

/// The columns of a terminal.
const WIDTH: usize = 80;

/// The width of the first column of a leg's table, and of the others.
const NAME: usize = 16;
const CELL: usize = 12;

/// The most columns of a table that fit.
const COLUMNS_MAX: usize = 5;

/// What a column of a leg's table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub(super) signal: Signal<'a>,
    pub(super) journey: Option<Journey>,
}

impl Experiment {
    /// What a leg's table shows: what was asked for, the headline, and what the bounds are about.
    pub(super) fn columns(&self) -> impl Iterator<Item = Column<'_>> {
        let headline = self.headline.iter();
        let journey = headline.clone().find_map(|one| one.journey);
        let offered = journey.map(|journey| ("offered_per_s", Some(journey)));
        let headline = headline.map(|one| (one.signal.as_str(), one.journey));
        let legs = [
            self.harm_bounds.poor.as_ref(),
            Some(&self.harm_bounds.sound),
        ];
        let bounds = legs.into_iter().flatten().flat_map(|leg| &leg.must);
        let bounds = bounds.map(|one| (one.signal.as_str(), one.journey));
        let mut columns: Vec<Column<'_>> = Vec::new();
        for (signal, journey) in offered.into_iter().chain(headline).chain(bounds) {
            let column = self.signal(signal).map(|signal| Column { signal, journey });
            columns.extend(column.filter(|column| !columns.contains(column)));
        }
        columns.into_iter().take(COLUMNS_MAX)
    }
}

/// The report of a run, at most 80 columns wide.
#[must_use]
pub fn text(record: &Record) -> String {
    let seed = record.seed.map(|seed| format!(", seed {seed}"));
    let mut page = format!(
        "{}\n{}{}, {:.0} s\n",
        record.title,
        record.drill,
        seed.unwrap_or_default(),
        record.took_s
    );
    for (name, value) in &record.calibrated {
        push_line(
            &mut page,
            &format!("measured here: {name} = {}", number(*value)),
        );
    }
    for leg in &record.legs {
        page.push('\n');
        page.push_str(&leg_text(record, leg));
    }
    page.push('\n');
    paragraph(
        &mut page,
        &format!("Expected: {}", record.expected.join(" ")),
    );
    paragraph(&mut page, &verdict(record));
    for failure in &record.left_behind {
        paragraph(&mut page, &format!("Left behind: {failure}"));
    }
    page
}

fn leg_text(record: &Record, leg: &LegRecord) -> String {
    let mut page = String::new();
    let action = if leg.action.is_empty() {
        String::new()
    } else {
        format!(": {}", leg.action)
    };
    paragraph(&mut page, &format!("{}{action}", leg.name.to_uppercase()));
    if !leg.rows.is_empty() {
        page.push_str(&table(&record.columns, leg));
    }
    for check in &leg.checks {
        if matches!(check.part, Part::Steady | Part::Prove) && check.held {
            continue;
        }
        paragraph(&mut page, &line_of(check));
    }
    page
}

fn line_of(check: &Check) -> String {
    let sign = if check.held { "+" } else { "- NOT HELD:" };
    format!("{sign} {check}")
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

fn table(columns: &[String], leg: &LegRecord) -> String {
    let heads: Vec<Vec<String>> = columns.iter().map(|head| wrapped(head, CELL - 1)).collect();
    let height = heads.iter().map(Vec::len).max().unwrap_or_default();
    let mut table = String::new();
    for line in 0..height {
        let cells = heads.iter().map(|head| {
            // Short heads stand on the line above the numbers.
            let word = (line + head.len()).checked_sub(height);
            word.map_or("", |at| head[at].as_str())
        });
        push_row(&mut table, "", cells);
    }
    for row in &leg.rows {
        let cells: Vec<_> = row
            .values
            .iter()
            .map(|value| value.map_or("-".into(), cell))
            .collect();
        push_row(&mut table, &row.name, cells.iter().map(String::as_str));
    }
    table
}

fn push_row<'a>(table: &mut String, name: &str, cells: impl Iterator<Item = &'a str>) {
    let mut line = format!("{name:<NAME$}");
    for cell in cells {
        write!(line, "{cell:>CELL$}").expect("a string takes any text");
    }
    push_line(table, &line);
}

/// Zero is the news in this table: it must not look like a small number.
fn cell(value: f64) -> String {
    if value == 0.0 {
        "0".into()
    } else {
        number(value)
    }
}

fn push_line(page: &mut String, line: &str) {
    writeln!(page, "{}", line.trim_end()).expect("a string takes any text");
}

/// Adds text in lines of at most [`WIDTH`] columns.
pub(super) fn paragraph(page: &mut String, text: &str) {
    for line in wrapped(text, WIDTH) {
        push_line(page, &line);
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::super::campaign::Request;
    use super::super::clock::Clock;
    use super::super::plan::Legs;
    use super::super::{all, record::Row};
    use super::*;

    fn record() -> Record {
        let drill = &all().unwrap()[0];
        let request = Request {
            drill,
            legs: Legs::All,
            seed: Some(7),
            fresh: true,
            sabotage: false,
            clock: Clock::wall(),
        };
        let mut record = Record::begin(request.drill, request.seed, 0.0);
        let bounds = (Some(0.95), None);
        let check = Check::of(
            Part::HarmBounds,
            "a share".into(),
            bounds,
            Some(0.5),
            "Why.",
        );
        let values = record.columns.iter().map(|_| Some(123.456)).collect();
        record.legs.push(LegRecord {
            name: "sound".into(),
            action: String::new(),
            from_s: 0.0,
            to_s: 1.0,
            marks: None,
            checks: vec![check],
            alerts: Vec::new(),
            rows: vec![Row {
                name: "after 45-60 s".into(),
                values,
            }],
            headline: Vec::new(),
        });
        record
    }

    #[test]
    fn a_report_fits_a_terminal() {
        let mut record = record();
        record.finish(60.0, Vec::new());
        let page = text(&record);
        for line in page.lines() {
            assert!(line.chars().count() <= WIDTH, "{line:?} is too long");
        }
        assert!(page.contains("- NOT HELD: a share: 0.5"), "{page}");
        assert!(page.contains("VERDICT: not as expected. a share"), "{page}");
        assert!(
            page.contains("after 45-60 s            123         123"),
            "{page}"
        );
    }
}
