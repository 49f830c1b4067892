//! Log lines on their way out: a bounded buffer, and one plain thread that writes it.
//!
//! Standard error is a pipe that somebody else reads. While its reader stands still a write to it waits, and a
//! service that writes where it serves waits with it: a full pipe of 64 KiB stops every worker, one log line
//! each. Here a caller only copies its line into a buffer. When the buffer is full the line is dropped and
//! counted, and the log says where lines are missing: a log with a gap is better than a service with one.
//!
//! Why not `tracing-appender`: it bounds lines but not bytes, tells nothing about its queue, makes an allocation
//! for each line, waits for a fixed second at the end, and reports trouble on standard output, which here belongs
//! to the `ready` line. Why no channel: a buffer that callers and writer exchange is bounded in lines and in bytes
//! with one lock, and hands the writer all that waits at once. The lock is held while a line is copied, never
//! while one is written.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Counter;

use super::super::catalog;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(in crate::telemetry) struct Bounds {
    pub(in crate::telemetry) lines: usize,
    /// As much again can be in the writer's hands.
    pub(in crate::telemetry) bytes: usize,
}

/// The bounds of a role: at an ordinary pace hours of log, in the worst of storms some seconds.
pub(in crate::telemetry) const BOUNDS: Bounds = Bounds {
    lines: 4096,
    bytes: 2 * 1024 * 1024,
};

/// What an empty buffer may keep for itself, in bytes: a storm must not be paid for until the end.
const KEPT_BYTES: usize = 64 * 1024;

/// How long the writer pauses where somebody who shares the descriptor has made it non-blocking, and it is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Where lines are put; a clone puts them into the same buffer.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Lines {
    shared: Arc<Shared>,
    bounds: Bounds,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    done: Condvar,
    dropped: Counter,
    bytes_written: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lines: usize,
    /// Lines that were dropped since the writer came last.
    dropped: u64,
    /// Lines that were ever let in, and those of them that the writer is done with.
    let_in: u64,
    done: u64,
}

impl Lines {
    /// Starts the thread that writes to `to`. Where lines were dropped, it writes `gap` of their number.
    pub(in crate::telemetry) fn start(
        bounds: Bounds,
        to: impl Write + Send + 'static,
        gap: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            arrived: Condvar::new(),
            done: Condvar::new(),
            dropped: catalog::firedrill_log_lines_dropped_total(),
            bytes_written: catalog::firedrill_log_bytes_written_total(),
        });
        shared.dropped.absolute(0);
        shared.bytes_written.absolute(0);
        catalog::firedrill_queue_capacity("logs").set(bounds.lines as f64);
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || of_thread.write_for_ever(to, gap))?;
        Ok(Self { shared, bounds })
    }

    /// Puts a whole line in, or drops it. Never waits for the writer.
    pub(in crate::telemetry) fn put(&self, line: &[u8]) {
        let mut waiting = self.shared.waiting();
        if waiting.lines >= self.bounds.lines || waiting.text.len() + line.len() > self.bounds.bytes
        {
            waiting.dropped += 1;
            drop(waiting);
            self.shared.dropped.increment(1);
        } else {
            waiting.text.extend_from_slice(line);
            waiting.lines += 1;
            waiting.let_in += 1;
            drop(waiting);
        }
        self.shared.arrived.notify_one();
    }

    /// Lines that wait.
    pub(in crate::telemetry) fn depth(&self) -> usize {
        self.shared.waiting().lines
    }

    /// Waits until the writer is done with every line that was put in before, for at most `timeout`. Says whether
    /// it is.
    pub(in crate::telemetry) fn flush(&self, timeout: Duration) -> bool {
        let waiting = self.shared.waiting();
        let until = waiting.let_in;
        let (waiting, _) = self
            .shared
            .done
            .wait_timeout_while(waiting, timeout, |waiting| waiting.done < until)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.done >= until
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, mut to: impl Write, gap: impl Fn(u64) -> String) {
        let mut batch = Vec::new();
        loop {
            let (lines, dropped) = self.take(&mut batch);
            if dropped > 0 {
                batch.extend_from_slice(gap(dropped).as_bytes());
            }
            match write_whole(&mut to, &batch) {
                Ok(()) => self.bytes_written.increment(batch.len() as u64),
                // The disk is full, or the reader has gone; some of them may have got through.
                Err(_) => self.dropped.increment(lines),
            }
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
            self.waiting().done += lines;
            self.done.notify_all();
        }
    }

    /// Waits for lines, and exchanges `batch`, which is empty, for them. Returns how many these are and how many
    /// were dropped after them.
    fn take(&self, batch: &mut Vec<u8>) -> (u64, u64) {
        let mut waiting = self
            .arrived
            .wait_while(self.waiting(), |waiting| {
                waiting.lines == 0 && waiting.dropped == 0
            })
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(batch, &mut waiting.text);
        let lines = std::mem::take(&mut waiting.lines);
        (lines as u64, std::mem::take(&mut waiting.dropped))
    }
}

fn write_whole(to: &mut impl Write, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn gap(lines: u64) -> String {
        format!("gap of {lines}\n")
    }

    /// Lines that go into a pipe which nobody reads yet, and whose writer already waits for its reader.
    fn stalled(bounds: Bounds) -> (Lines, io::PipeReader, usize) {
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(bounds, writer, gap).unwrap();
        // The pipe takes 64 KiB; of a line twice as long the second half waits.
        let first = 128 * 1024;
        let mut line = vec![b'.'; first];
        line[first - 1] = b'\n';
        lines.put(&line);
        let deadline = std::time::Instant::now() + LONG;
        while lines.depth() > 0 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert!(!lines.flush(Duration::from_millis(20)));
        (lines, reader, first)
    }

    /// What comes out after the line that [`stalled`] put in.
    fn rest(lines: &Lines, mut reader: io::PipeReader, first: usize, length: usize) -> String {
        let mut text = vec![0; first + length];
        reader.read_exact(&mut text).unwrap();
        assert!(lines.flush(LONG));
        String::from_utf8(text.split_off(first)).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_the_log_says_where() {
        let (lines, reader, first) = stalled(Bounds {
            lines: 3,
            bytes: 1 << 20,
        });
        for number in 0..10 {
            lines.put(format!("line {number}\n").as_bytes());
        }
        assert_eq!(lines.depth(), 3);
        let expected = "line 0\nline 1\nline 2\ngap of 7\n";
        assert_eq!(rest(&lines, reader, first, expected.len()), expected);
    }

    #[test]
    fn bytes_are_bounded_too_and_a_line_is_kept_whole_or_not_at_all() {
        let (lines, reader, first) = stalled(Bounds {
            lines: 1000,
            bytes: 128 * 1024,
        });
        let long = vec![b'x'; 128 * 1024];
        lines.put(b"short\n");
        lines.put(&long);
        lines.put(b"and short\n");
        let expected = "short\nand short\ngap of 1\n";
        assert_eq!(rest(&lines, reader, first, expected.len()), expected);
    }

    #[test]
    fn callers_on_many_threads_do_not_cut_each_other_s_lines() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(BOUNDS, writer, gap).unwrap();
        let read = std::thread::spawn(move || {
            let mut text = vec![0; 4 * 500 * "0 and 0000\n".len()];
            reader.read_exact(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        });
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let lines = &lines;
                scope.spawn(move || {
                    for number in 0..500 {
                        lines.put(format!("{thread} and {number:04}\n").as_bytes());
                    }
                });
            }
        });
        assert!(lines.flush(LONG));
        let text = read.join().unwrap();
        for thread in 0..4 {
            let of_thread: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&format!("{thread} and ")))
                .collect();
            let in_order: Vec<String> = (0..500).map(|number| format!("{number:04}")).collect();
            assert_eq!(of_thread, in_order, "of thread {thread}");
        }
    }

    /// A disk that is full, then is not.
    struct Refusing(io::PipeWriter, u32);

    impl Write for Refusing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.1 {
                0 => self.0.write(bytes),
                left => {
                    self.1 = left - 1;
                    Err(match left {
                        3 => ErrorKind::StorageFull.into(),
                        2 => ErrorKind::WouldBlock.into(),
                        _ => ErrorKind::Interrupted.into(),
                    })
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_write_that_fails_ends_neither_the_log_nor_a_flush() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(BOUNDS, Refusing(writer, 3), gap).unwrap();
        lines.put(b"lost\n");
        assert!(lines.flush(LONG));
        lines.put(b"kept\n");
        assert!(lines.flush(LONG));
        let mut text = [0; 5];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"kept\n");
    }
}
