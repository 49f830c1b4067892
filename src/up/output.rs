//! What `up` itself writes: ready lines and log lines for a program, a living status for a person.
//!
//! Written by a plain thread from a bounded queue: a terminal that is stopped with Ctrl-S, or a pipe that
//! nobody reads, must not stop the supervisor. What does not fit into the queue is lost.

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::logs::{Destination, Writer};

/// Messages that wait to be written.
const QUEUE_MAX: usize = 64;

/// How long the end waits for what is still to be written.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How grave an event is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    /// As it should be.
    Info,
    /// Mended without help.
    Warn,
    /// Needs a person.
    Error,
}

#[derive(Debug)]
enum Message {
    Line(String),
    Event(String),
    Frame {
        text: String,
        columns: usize,
        rows: usize,
    },
}

/// Where `up` writes.
#[derive(Debug)]
pub(super) struct Output {
    is_terminal: bool,
    queue: Mutex<Option<SyncSender<Message>>>,
    written: Mutex<Receiver<()>>,
}

impl Output {
    /// Draws on standard output, and keeps events in a file.
    pub(super) fn terminal(logs_dir: &Path) -> Result<Self, String> {
        let events = Destination::File(logs_dir.join("up.log"));
        Self::spawn(true, std::io::stdout(), events)
    }

    /// Writes ready lines on standard output and events on standard error, both as JSON.
    pub(super) fn pipes() -> Result<Self, String> {
        Self::spawn(false, std::io::stdout(), Destination::StandardError)
    }

    /// Like the other two, with any standard output.
    pub(super) fn spawn(
        is_terminal: bool,
        mut out: impl Write + Send + 'static,
        events: Destination,
    ) -> Result<Self, String> {
        let (queue, messages) = sync_channel(QUEUE_MAX);
        let (done, written) = sync_channel(1);
        std::thread::Builder::new()
            .name("output".into())
            .spawn(move || {
                let mut screen = Screen::default();
                let mut events = Writer::new(events);
                for message in messages {
                    // Nobody is left to tell when an output is gone.
                    match message {
                        Message::Line(text) => drop(out.write_all(text.as_bytes())),
                        Message::Event(text) => events.write(text.as_bytes()),
                        Message::Frame {
                            text,
                            columns,
                            rows,
                        } => {
                            let text = screen.draw(&text, columns, rows);
                            drop(out.write_all(text.as_bytes()));
                        }
                    }
                    drop(out.flush());
                }
                drop(done);
            })
            .map_err(|error| format!("the output cannot start: {error}"))?;
        Ok(Self {
            is_terminal,
            queue: Mutex::new(Some(queue)),
            written: Mutex::new(written),
        })
    }

    /// Passes on the ready line of a role; on a terminal the status tells it better.
    pub(super) fn ready(&self, line: &str) {
        if !self.is_terminal {
            self.send(Message::Line(format!("{line}\n")));
        }
    }

    /// Writes a log line like those of the roles.
    pub(super) fn event(&self, level: Level, message: &str, fields: &Value) {
        self.send(Message::Event(log_line(level, message, fields)));
    }

    /// Draws the status over the one before, in a window of this size.
    pub(super) fn frame(&self, text: String, columns: usize, rows: usize) {
        self.send(Message::Frame {
            text,
            columns,
            rows,
        });
    }

    fn send(&self, message: Message) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_ref() {
            // Full: see above.
            drop(queue.try_send(message));
        }
    }

    /// Writes what is still queued, in bounded time.
    pub(super) fn close(&self) {
        drop(
            self.queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        // Either answer ends the wait: the thread is done, or its reader is stalled.
        written.recv_timeout(CLOSE_WAIT).ok();
    }
}

fn log_line(level: Level, message: &str, fields: &Value) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let mut line = json!({
        "time_unix_s": (now.as_secs_f64() * 1e6).round() / 1e6,
        "level": level,
        "role": "up",
        "target": "up",
        "message": message,
    });
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields.clone());
    }
    format!("{line}\n")
}

/// Draws each frame over the one before. The cursor is only moved, never hidden, and no mode is set: however the
/// process ends, there is nothing that would have to be restored.
#[derive(Debug, Default)]
struct Screen {
    /// How wide each line of the last frame is.
    drawn: Vec<usize>,
}

impl Screen {
    fn draw(&mut self, frame: &str, columns: usize, rows: usize) -> String {
        let columns = columns.max(1);
        // A window that became narrower has wrapped what was drawn.
        let up: usize = self
            .drawn
            .iter()
            .map(|width| width.div_ceil(columns).max(1))
            .sum();
        let up = up.min(rows.saturating_sub(1));
        // "0 lines up" would be read as one.
        let mut text = match up {
            0 => "\r\x1b[J".to_owned(),
            up => format!("\r\x1b[{up}A\x1b[J"),
        };
        self.drawn.clear();
        // More lines than rows would scroll.
        for line in frame.lines().take(rows.saturating_sub(1)) {
            text.push_str(line);
            text.push('\n');
            self.drawn.push(super::status::visible_width(line));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_drawn_over_the_one_before() {
        let mut screen = Screen::default();
        assert_eq!(screen.draw("one\ntwo\n", 80, 24), "\r\x1b[Jone\ntwo\n");
        assert_eq!(screen.draw("three\n", 80, 24), "\r\x1b[2A\x1b[Jthree\n");
        assert_eq!(screen.draw("four\n", 80, 24), "\r\x1b[1A\x1b[Jfour\n");
    }

    #[test]
    fn a_window_that_became_narrower_has_wrapped_the_last_frame() {
        let mut screen = Screen::default();
        screen.draw(&"x".repeat(80), 80, 24);
        assert!(screen.draw("y", 40, 24).starts_with("\r\x1b[2A"));
    }

    #[test]
    fn a_frame_never_scrolls_a_low_window() {
        let mut screen = Screen::default();
        let text = screen.draw("1\n2\n3\n4\n5\n", 80, 4);
        assert_eq!(text, "\r\x1b[J1\n2\n3\n");
        assert!(screen.draw("6\n", 80, 4).starts_with("\r\x1b[3A"));
    }

    #[test]
    fn a_log_line_is_one_object_with_its_fields() {
        let line = log_line(Level::Warn, "shop ended.", &json!({ "restarts": 2 }));
        assert!(line.ends_with("}\n"));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["message"], "shop ended.");
        assert_eq!(value["restarts"], 2);
    }

    /// Takes nothing, like a terminal that was stopped.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.recv().ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_terminal_stops_nobody() {
        let (release, stalled) = sync_channel(0);
        let output = Output::spawn(false, Stalled(stalled), Destination::StandardError).unwrap();
        for _ in 0..10 * QUEUE_MAX {
            output.ready("{}");
        }
        output.close();
        drop(release);
    }
}
