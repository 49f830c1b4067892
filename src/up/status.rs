//! The status on a terminal: how the users fare, who runs where, and where to look next.
//!
//! Twelve lines of 80 columns at most, so that it fits the smallest usual window. In a narrower one lines are
//! wrapped rather than cut: an address that is cut is of no use.

use std::path::Path;
use std::time::Duration;

use super::figures::Figures;
use crate::control::lab::{Lab, Member};

/// What the status shows.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// Since `up` began.
    pub(super) uptime: Duration,
    /// Whether the lab was told to stop.
    pub(super) stopping: bool,
    /// How the users fare; none while `traffic` does not say.
    pub(super) figures: Option<&'a Figures>,
    /// Who runs where.
    pub(super) lab: &'a Lab,
    /// Where the logs are.
    pub(super) logs_dir: &'a Path,
}

/// By when there are figures: traffic has started, and its first seconds are settled.
const FIRST_FIGURES: Duration = Duration::from_secs(15);

/// Between two cells, in columns.
const GAP: usize = 2;

const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// A piece of text that is not wrapped if it fits into a line. Only what is bad has a colour.
#[derive(Debug)]
struct Cell {
    text: String,
    is_bad: bool,
}

fn cell(text: impl Into<String>) -> Cell {
    bad_if(false, text)
}

fn bad_if(is_bad: bool, text: impl Into<String>) -> Cell {
    // A directory may be named with anything; an escape sequence in it must not reach the terminal.
    let text = text.into().replace(char::is_control, "?");
    Cell { text, is_bad }
}

/// The status as text, no line wider than `width` columns.
pub(super) fn render(view: &View, width: usize) -> String {
    let mut lines = vec![load(view)];
    lines.extend(view.figures.filter(|_| !view.stopping).map(errors));
    lines.extend(table(view));
    if !view.stopping {
        lines.push(addresses(view.lab));
        lines.push(vec![cell(format!("logs {}", view.logs_dir.display()))]);
        lines.push(next(view.lab));
    }
    let mut text = String::new();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        flow(line, width.max(1), &mut text);
    }
    text
}

fn load(view: &View) -> Vec<Cell> {
    let seconds = view.uptime.as_secs();
    let is_gone = view.lab.members.iter().all(|member| member.pid == 0);
    let state = match (view.stopping, is_gone) {
        (false, _) => "up",
        (true, false) => "stopping",
        (true, true) => "stopped",
    };
    let clock = format!("{state} {}:{:02}", seconds / 60, seconds % 60);
    if view.stopping {
        return vec![cell(clock)];
    }
    let settled = view.figures.filter(|figures| figures.p50_s.is_some());
    let Some(figures) = settled.or(view.figures.filter(|_| view.uptime > FIRST_FIGURES)) else {
        let why = if view.uptime > FIRST_FIGURES {
            "traffic does not report"
        } else {
            "the first users are on their way"
        };
        return vec![cell(clock), cell(why)];
    };
    let (offered, good) = (figures.offered_per_s, figures.good_per_s);
    vec![
        cell(clock),
        cell(format!("offered {offered:.1}/s")),
        // Under the objective of 99 %.
        bad_if(good < 0.99 * offered, format!("good {good:.1}/s")),
        cell(format!("client p50 {}", latency(figures.p50_s))),
        cell(format!("p99 {}", latency(figures.p99_s))),
    ]
}

fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => "none".into(),
        Some(seconds) if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

fn errors(figures: &Figures) -> Vec<Cell> {
    let kinds = figures.errors.iter().filter(|(_, count)| **count > 0);
    let mut cells: Vec<_> = kinds
        .map(|(kind, count)| bad_if(true, format!("{kind} {count}")))
        .collect();
    if cells.is_empty() {
        cells.push(cell("none"));
    }
    cells.insert(0, cell("errors in 10 s:"));
    cells
}

/// One line a process, in columns.
fn table(view: &View) -> Vec<Vec<Cell>> {
    let title = [
        "role",
        "pid",
        "address",
        "control, /metrics",
        "state",
        "restarts",
    ];
    let mut rows = vec![title.map(cell)];
    rows.extend(
        view.lab
            .members
            .iter()
            .map(|member| row(member, view.stopping)),
    );
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = visible_width(&cell.text).max(*width);
        }
    }
    let pad = |row: [Cell; 6]| {
        let padded = row.into_iter().zip(widths).map(|(mut cell, width)| {
            let missing = width - visible_width(&cell.text);
            cell.text.push_str(&" ".repeat(missing));
            cell
        });
        padded.collect()
    };
    rows.into_iter().map(pad).collect()
}

fn row(member: &Member, stopping: bool) -> [Cell; 6] {
    let is_down = member.pid == 0;
    let (pid, state) = match (is_down, stopping) {
        (false, _) => (member.pid.to_string(), "ready"),
        (true, false) => ("-".into(), "restarting"),
        (true, true) => ("-".into(), "stopped"),
    };
    let data = member
        .data
        .map_or_else(|| "-".into(), |data| data.to_string());
    [
        cell(&member.name),
        cell(pid),
        cell(data),
        cell(member.control.to_string()),
        bad_if(is_down && !stopping, state),
        cell(member.restarts.to_string()),
    ]
}

fn addresses(lab: &Lab) -> Vec<Cell> {
    let url = |role: &str| lab.member(role).and_then(|member| member.data);
    let page = url("console").map(|page| cell(format!("page http://{page}")));
    let shop = url("shop").map(|shop| cell(format!("shop http://{shop}")));
    page.into_iter().chain(shop).collect()
}

fn next(lab: &Lab) -> Vec<Cell> {
    let drill = cell("try firedrill drill run after-the-spike");
    let shop = lab.member("shop").and_then(|shop| shop.data);
    let curl = shop.map(|shop| cell(format!("curl http://{shop}/items/1")));
    std::iter::once(drill).chain(curl).collect()
}

/// Puts cells next to each other, and on the next line, indented, where the width ends.
fn flow(cells: &[Cell], width: usize, text: &mut String) {
    let mut column = 0;
    for cell in cells {
        // Padding at the end of a line is nothing that could be missed.
        let trimmed = visible_width(cell.text.trim_end());
        if column > 0 && column + GAP + trimmed > width {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push_str(&" ".repeat(GAP));
            column += GAP;
        }
        if cell.is_bad {
            text.push_str(RED);
        }
        for letter in cell.text.chars() {
            let letter_width = columns_of(letter);
            if column + letter_width > width {
                if letter == ' ' {
                    continue;
                }
                text.push('\n');
                column = 0;
            }
            text.push(letter);
            column += letter_width;
        }
        if cell.is_bad {
            text.push_str(PLAIN);
        }
    }
    text.push('\n');
}

/// Whatever is not ASCII may be two columns wide; too narrow is harmless, too wide would break the drawing.
fn columns_of(letter: char) -> usize {
    if letter.is_ascii() { 1 } else { 2 }
}

/// How many columns a line takes at most, its colours left out.
pub(super) fn visible_width(line: &str) -> usize {
    let plain = line.replace(RED, "").replace(PLAIN, "");
    plain.chars().map(columns_of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, role: &str, data: Option<u16>, control: u16) -> Member {
        let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        Member {
            name: name.into(),
            role: role.into(),
            pid: 4_194_304,
            data: data.map(at),
            control: at(control),
            restarts: 0,
        }
    }

    /// The largest lab, with the widest of everything.
    fn lab() -> Lab {
        Lab {
            pid: 1,
            members: vec![
                member("console", "console", Some(48900), 49480),
                member("payments-1", "payments", Some(48081), 49465),
                member("payments-2", "payments", Some(48082), 49466),
                member("payments-3", "payments", Some(48083), 49467),
                member("shop", "shop", Some(48080), 49464),
                member("traffic", "traffic", None, 49470),
            ],
        }
    }

    fn figures() -> Figures {
        let errors = [("503", 12), ("timeout", 345), ("connect", 0)];
        Figures {
            offered_per_s: 1000.0,
            good_per_s: 612.5,
            p50_s: Some(0.0031),
            p99_s: Some(1.987),
            errors: errors.map(|(kind, count)| (kind.into(), count)).into(),
        }
    }

    fn show(lab: &Lab, figures: Option<&Figures>, width: usize) -> String {
        let view = View {
            uptime: Duration::from_secs(59 * 60 + 7),
            stopping: false,
            figures,
            lab,
            logs_dir: Path::new("/home/somebody/projects/firedrill/.firedrill/logs"),
        };
        render(&view, width)
    }

    #[test]
    fn the_largest_lab_fits_in_twelve_lines_of_eighty_columns() {
        let text = show(&lab(), Some(&figures()), 80);
        assert!(text.lines().count() <= 12, "{text}");
        assert!(text.lines().all(|line| visible_width(line) <= 80), "{text}");
        for part in [
            "up 59:07",
            "offered 1000.0/s",
            "client p50 3.1 ms",
            "p99 1.99 s",
            "payments-3  4194304  127.0.0.1:48083  127.0.0.1:49467    ready",
            "page http://127.0.0.1:48900",
            "shop http://127.0.0.1:48080",
            "logs /home/somebody/projects/firedrill/.firedrill/logs",
            "firedrill drill run after-the-spike",
            "curl http://127.0.0.1:48080/items/1",
        ] {
            assert!(text.contains(part), "{part:?} is missing from\n{text}");
        }
        assert!(!text.contains("connect"), "what did not happen is no error");
    }

    #[test]
    fn a_narrow_window_hides_nothing() {
        let letters = |text: &str| {
            let plain = text.replace(RED, "").replace(PLAIN, "");
            plain.split_whitespace().collect::<String>()
        };
        let wide = show(&lab(), Some(&figures()), 200);
        for width in [1, 7, 20, 40, 79] {
            let narrow = show(&lab(), Some(&figures()), width);
            assert!(
                narrow.lines().all(|line| visible_width(line) <= width),
                "{narrow}"
            );
            assert_eq!(letters(&narrow), letters(&wide), "at {width} columns");
        }
    }

    #[test]
    fn only_what_is_bad_has_a_colour() {
        let mut lab = lab();
        let well = Figures {
            good_per_s: 1000.0,
            errors: [].into(),
            ..figures()
        };
        assert!(!show(&lab, Some(&well), 80).contains('\x1b'));
        lab.members[4].pid = 0;
        let text = show(&lab, Some(&figures()), 80);
        for part in ["good 612.5/s", "timeout 345", "restarting"] {
            assert!(
                text.contains(&format!("{RED}{part}")),
                "{part:?} in\n{text:?}"
            );
        }
    }

    #[test]
    fn before_anything_is_known_it_says_so() {
        let text = show(&Lab::default(), None, 80);
        assert!(text.contains("traffic does not report"));
        assert!(!text.contains("errors"), "none would be a claim");
    }

    #[test]
    fn a_name_with_an_escape_sequence_is_harmless() {
        let view = View {
            uptime: Duration::ZERO,
            stopping: true,
            figures: None,
            lab: &Lab::default(),
            logs_dir: Path::new("/tmp/\x1b[2Jlogs"),
        };
        assert!(!render(&view, 80).contains('\x1b'));
    }
}
