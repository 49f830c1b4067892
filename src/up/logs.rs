//! What the roles say on standard error: into a file each, or on to our own, always in whole lines.
//!
//! The lines of six processes that share one descriptor cut each other in two, and on a terminal they would
//! tear the status apart. A plain thread copies them: when the reader of our standard error stalls, that
//! process waits for its log line, but the supervisor goes on supervising.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// The longest piece that is copied at once, in bytes. A longer line is cut rather than held in memory.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// The largest log file, in bytes. The one before it is kept, so that a lab left running for a week fills
/// twice this a role, not the disk.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long the last lines of a process that has ended are waited for. Something that it started may hold
/// its standard error open for ever.
const LAST_LINES_WAIT: Duration = Duration::from_millis(500);

/// Where the lines of a process go.
#[derive(Debug, Clone)]
pub(super) enum Destination {
    /// To our own standard error.
    StandardError,
    /// To the end of a file.
    File(PathBuf),
}

/// The last line of a process, which says why it ended.
#[derive(Debug)]
pub(super) struct LastWords {
    line: Arc<Mutex<String>>,
    ended: watch::Receiver<()>,
}

impl LastWords {
    /// The last line, once the process has ended; empty if it said nothing.
    pub(super) async fn get(mut self) -> String {
        // An error is what we wait for: the thread has dropped the other side.
        drop(tokio::time::timeout(LAST_LINES_WAIT, self.ended.changed()).await);
        sentence(&self.line.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Copies what comes out of `from`, on a thread of its own, until it ends.
pub(super) fn copy(from: PipeReader, to: Destination) -> std::io::Result<LastWords> {
    let last = Arc::new(Mutex::new(String::new()));
    let (ending, ended) = watch::channel(());
    let line = Arc::clone(&last);
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || {
            let mut writer = Writer::new(to);
            let mut reader = BufReader::new(from);
            let mut bytes = Vec::new();
            while let Ok(1..) = (&mut reader)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut bytes)
            {
                if bytes.last() != Some(&b'\n') {
                    bytes.push(b'\n');
                }
                writer.write(&bytes);
                let text = String::from_utf8_lossy(&bytes);
                if !text.trim().is_empty() {
                    text.trim()
                        .clone_into(&mut line.lock().unwrap_or_else(PoisonError::into_inner));
                }
                bytes.clear();
            }
            drop(ending);
        })?;
    Ok(LastWords { line: last, ended })
}

/// The sentence in a line: the message, where it is a JSON log line, and without the name of the program.
fn sentence(line: &str) -> String {
    if let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(line)
        && let Some(message) = fields.get("message").and_then(|message| message.as_str())
    {
        return message.to_owned();
    }
    let plain = line.strip_prefix("firedrill: ").unwrap_or(line);
    plain.strip_prefix("error: ").unwrap_or(plain).to_owned()
}

/// Writes lines; what cannot be written (a full disk) is lost, because the process must not wait for it.
#[derive(Debug)]
pub(super) struct Writer {
    to: Destination,
    file: Option<(File, u64)>,
    bytes_max: u64,
}

impl Writer {
    pub(super) fn new(to: Destination) -> Self {
        Self {
            to,
            file: None,
            bytes_max: FILE_BYTES_MAX,
        }
    }

    /// Writes one whole line.
    pub(super) fn write(&mut self, line: &[u8]) {
        let Destination::File(path) = &self.to else {
            drop(std::io::stderr().lock().write_all(line));
            return;
        };
        if self
            .file
            .as_ref()
            .is_some_and(|(_, size)| *size > self.bytes_max)
        {
            drop(std::fs::rename(path, path.with_extension("log.1")));
            self.file = None;
        }
        if self.file.is_none() {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            self.file = opened.ok().map(|file| {
                let size = file.metadata().map_or(0, |metadata| metadata.len());
                (file, size)
            });
        }
        if let Some((file, size)) = &mut self.file {
            *size += line.len() as u64;
            drop(file.write_all(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_is_found_in_a_log_line_and_in_plain_text() {
        assert_eq!(
            sentence("firedrill: the port is in use"),
            "the port is in use"
        );
        assert_eq!(
            sentence(r#"{"level":"error","message":"A panic was caught."}"#),
            "A panic was caught."
        );
        assert_eq!(sentence("error: no such flag"), "no such flag");
    }

    #[test]
    fn a_log_file_is_bounded_and_its_lines_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.log");
        let mut writer = Writer::new(Destination::File(path.clone()));
        writer.bytes_max = 100;
        for number in 0..100 {
            writer.write(format!("line {number}\n").as_bytes());
        }
        let now = std::fs::read_to_string(&path).unwrap();
        let before = std::fs::read_to_string(dir.path().join("shop.log.1")).unwrap();
        for text in [&now, &before] {
            assert!(text.len() < 120, "{} bytes", text.len());
            assert!(text.lines().all(|line| line.starts_with("line ")));
        }
        assert!(now.ends_with("line 99\n"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn the_last_words_are_there_when_the_pipe_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.log");
        let (from, mut to) = std::io::pipe().unwrap();
        let words = copy(from, Destination::File(path.clone())).unwrap();
        to.write_all(b"first\n\nfiredrill: the disk is full")
            .unwrap();
        drop(to);
        assert_eq!(words.get().await, "the disk is full");
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "first\n\nfiredrill: the disk is full\n"
        );
    }
}
