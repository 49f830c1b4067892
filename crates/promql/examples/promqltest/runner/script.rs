//! The lines of a script: `load`, `clear` and `eval`.

use promql::Labels;

use super::notation::{self, Point};

pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Eval),
}

pub(super) struct Load {
    pub(super) line: usize,
    /// Milliseconds between points; the first is at 0.
    pub(super) step: i64,
    /// Whether the series are also to be loaded as native histograms.
    pub(super) with_custom_buckets: bool,
    pub(super) series: Vec<(Labels, Vec<Point>)>,
}

/// When to evaluate, in milliseconds.
#[derive(Clone, Copy)]
pub(super) enum Times {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

pub(super) struct Eval {
    pub(super) line: usize,
    pub(super) query: String,
    pub(super) times: Times,
    pub(super) ordered: bool,
    pub(super) fails: bool,
    /// What the error must contain; only plain text, patterns are not looked at.
    pub(super) message: Option<String>,
    /// Where the points of an expected range vector lie: start and step.
    pub(super) range_vector: Option<(i64, i64)>,
    pub(super) expected: Vec<(Labels, Vec<Point>)>,
    pub(super) expected_number: Option<f64>,
    pub(super) expected_text: Option<String>,
}

impl Eval {
    pub(super) fn expects_histograms(&self) -> bool {
        let mut points = self.expected.iter().flat_map(|(_, points)| points);
        points.any(|point| matches!(point, Point::Histogram))
    }
}

/// Lines with their numbers, from 1; comments are as good as empty.
struct Lines<'a> {
    left: Vec<(usize, &'a str)>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let trimmed = text.lines().map(|line| {
            let line = line.trim();
            if line.starts_with('#') { "" } else { line }
        });
        let mut left: Vec<(usize, &str)> = (1..).zip(trimmed).collect();
        left.reverse();
        Self { left }
    }

    fn next(&mut self) -> Option<(usize, &'a str)> {
        self.left.pop()
    }

    /// The next line of a block, which an empty line ends.
    fn next_of_block(&mut self) -> Option<(usize, &'a str)> {
        self.next().filter(|(_, line)| !line.is_empty())
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Command>, String> {
    let mut lines = Lines::new(text);
    let mut commands = Vec::new();
    while let Some((number, line)) = lines.next() {
        let located = |error| format!("line {number}: {error}");
        let word = line.split_whitespace().next().unwrap_or_default();
        match word.to_ascii_lowercase().as_str() {
            "" => {}
            "clear" => commands.push(Command::Clear),
            word if word.starts_with("load") => {
                let load = load(number, line, &mut lines).map_err(located)?;
                commands.push(Command::Load(load));
            }
            word if word.starts_with("eval") => {
                let eval = eval(number, line, &mut lines).map_err(located)?;
                commands.push(Command::Eval(eval));
            }
            word => return Err(located(format!("unknown command {word:?}"))),
        }
    }
    Ok(commands)
}

fn load(number: usize, line: &str, lines: &mut Lines<'_>) -> Result<Load, String> {
    let (command, step) = line
        .split_once(char::is_whitespace)
        .ok_or("load needs an interval")?;
    let mut series: Vec<(Labels, Vec<Point>)> = Vec::new();
    while let Some((_, line)) = lines.next_of_block() {
        let (labels, points) = notation::series(line)?;
        // A series that is given twice counts as it was given last.
        series.retain(|(have, _)| *have != labels);
        series.push((labels, points));
    }
    Ok(Load {
        line: number,
        step: notation::duration(step.trim())?,
        with_custom_buckets: command == "load_with_nhcb",
        series,
    })
}

fn eval(number: usize, line: &str, lines: &mut Lines<'_>) -> Result<Eval, String> {
    let (command, rest) = word(line);
    let (kind, rest) = word(rest);
    let (times, query) = match kind {
        "instant" => {
            let rest = rest.strip_prefix("at").unwrap_or(rest).trim_start();
            let (time, query) = word(rest);
            (Times::Instant(notation::duration(time)?), query)
        }
        "range" => range_times(rest)?,
        _ => return Err(format!("eval needs instant or range, not {kind:?}")),
    };
    let mut eval = Eval {
        line: number,
        query: query.to_owned(),
        times,
        ordered: command == "eval_ordered",
        fails: command == "eval_fail",
        message: None,
        range_vector: None,
        expected: Vec::new(),
        expected_number: None,
        expected_text: None,
    };
    while let Some((_, line)) = lines.next_of_block() {
        expectation(&mut eval, line)?;
    }
    Ok(eval)
}

/// `from START to END step STEP`, and what follows.
fn range_times(text: &str) -> Result<(Times, &str), String> {
    let mut rest = text;
    let mut values = [0; 3];
    for (value, name) in values.iter_mut().zip(["from", "to", "step"]) {
        let (keyword, after) = word(rest);
        if keyword != name {
            return Err(format!("expected {name:?}, found {keyword:?}"));
        }
        let (duration, after) = word(after);
        *value = notation::duration(duration)?;
        rest = after;
    }
    let [start, end, step] = values;
    Ok((Times::Range { start, end, step }, rest))
}

fn expectation(eval: &mut Eval, line: &str) -> Result<(), String> {
    let (first, rest) = word(line);
    match first {
        "expect" => return expect(eval, rest),
        "expected_fail_message" => {
            eval.message = Some(rest.to_owned());
            return Ok(());
        }
        "expected_fail_regexp" => return Ok(()),
        _ => {}
    }
    if let Some(number) = notation::number(line) {
        eval.expected_number = Some(number);
    } else {
        eval.expected.push(notation::series(line)?);
    }
    Ok(())
}

fn expect(eval: &mut Eval, what: &str) -> Result<(), String> {
    let (kind, rest) = word(what);
    match kind {
        "ordered" => eval.ordered = true,
        "fail" => {
            eval.fails = true;
            if let Some(message) = rest.strip_prefix("msg:") {
                eval.message = Some(message.trim().to_owned());
            }
        }
        "string" => {
            let text = rest.trim().trim_matches(['"', '\'', '`']);
            eval.expected_text = Some(text.to_owned());
        }
        "range" => {
            let rest = rest.strip_prefix("vector").unwrap_or(rest).trim_start();
            if let (Times::Range { start, step, .. }, _) = range_times(rest)? {
                eval.range_vector = Some((start, step));
            }
        }
        // Annotations are not part of this engine.
        "warn" | "info" | "no_warn" | "no_info" => {}
        _ => return Err(format!("unknown expectation {kind:?}")),
    }
    Ok(())
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}
