//! The form that a browser shows: the wider a frame, the more of the time it was on the stack.

use std::collections::BTreeMap;
use std::fmt::Write;

use inferno::flamegraph::{Direction, Options, TextTruncateDirection, from_lines};

use super::Profile;

impl Profile {
    /// The profile as an SVG page called `title`, with the threads side by side: those of one name are one.
    pub fn flamegraph(&self, title: &str) -> std::io::Result<Vec<u8>> {
        let folded = self.folded();
        let lines: Vec<String> = folded
            .into_iter()
            .map(|(stack, count)| format!("{stack} {count}"))
            .collect();
        let mut options = Options::default();
        title.clone_into(&mut options.title);
        options.subtitle = Some(self.remarks.join("; ")).filter(|text| !text.is_empty());
        options.deterministic = true;
        // Outermost on top: stacks are deep, and from the other end a page would open on their tips.
        options.direction = Direction::Inverted;
        // The end of a Rust name says more than its beginning, but which crate it is of says most.
        options.text_truncate_direction = TextTruncateDirection::Right;
        options.no_sort = true;
        let mut svg = Vec::new();
        if lines.is_empty() {
            // An error otherwise, but an idle process is none.
            from_lines(&mut options, ["no thread used the processor 1"], &mut svg)?;
        } else {
            from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
        }
        Ok(svg)
    }

    /// Samples by stack, written outermost first with `;` between the frames.
    fn folded(&self) -> BTreeMap<String, i64> {
        let names = self.names();
        let mut folded = BTreeMap::new();
        for (stack, values) in &self.stacks {
            let mut line = one_frame(&stack.thread);
            let calls = stack.addresses.iter().rev();
            let functions = calls.filter_map(|address| names.get(address));
            for function in functions.flat_map(|functions| functions.iter().rev()) {
                write!(line, ";{}", one_frame(&function.name))
                    .expect("writing to a string cannot fail");
            }
            *folded.entry(line).or_insert(0) += values.first().copied().unwrap_or_default();
        }
        folded
    }
}

/// A name without the sign that stands between frames: it occurs in types, as `[u8; 32]`.
fn one_frame(name: &str) -> String {
    name.replace(';', ",")
}
