//! Chunks: up to 120 samples of one series, compressed.
//!
//! The encoding is that of Facebook's Gorilla paper: a timestamp is the change of its distance to the one before,
//! which is near zero for a regular scrape; a value is the XOR with the one before, of which only the bits that differ
//! are kept. Without it a sample would take 16 bytes and a lab of 3 000 series would need 200 MB an hour.

use std::sync::Arc;

use super::bits::{BitReader, BitWriter};
use crate::value::Sample;

/// How many samples a chunk holds before it is sealed.
pub(crate) const SAMPLES_PER_CHUNK: u16 = 120;

/// What counts the owners of something shared takes.
pub(crate) const COUNTERS_BYTES: usize = 2 * size_of::<usize>();

/// The change of a distance fits one of these widths, told apart by the number of ones before it.
const WIDTHS: [u32; 4] = [0, 7, 14, 20];

/// A sealed chunk. Copies share its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    bytes: Arc<[u8]>,
    first: i64,
    last: i64,
    count: u16,
}

impl Chunk {
    pub(crate) fn last_timestamp(&self) -> i64 {
        self.last
    }

    /// Whether a sample may lie in `from..=to`.
    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.first <= to && self.last >= from
    }

    pub(crate) fn samples(&self) -> Samples<'_> {
        Samples::new(&self.bytes, self.count)
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// The memory that it takes besides its own struct.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.bytes.len() + COUNTERS_BYTES
    }
}

/// The chunk that a series appends to.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenChunk {
    bits: BitWriter,
    first: i64,
    last: Sample,
    distance: i64,
    window: Window,
    count: u16,
}

/// Which bits of a value differ from the one before: how many lead and trail that do not.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    leading: u32,
    trailing: u32,
    used: bool,
}

impl OpenChunk {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count >= SAMPLES_PER_CHUNK
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.bits.capacity()
    }

    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.count > 0 && self.first <= to && self.last.timestamp >= from
    }

    pub(crate) fn samples(&self) -> Samples<'_> {
        Samples::new(self.bits.bytes(), self.count)
    }

    /// Appends a sample. The caller keeps timestamps in order; the encoding would bear any.
    pub(crate) fn push(&mut self, sample: Sample) {
        if self.count == 0 {
            self.first = sample.timestamp;
            self.bits.write(sample.timestamp.cast_unsigned(), 64);
            self.bits.write(sample.value.to_bits(), 64);
        } else {
            let distance = sample.timestamp.wrapping_sub(self.last.timestamp);
            write_change(&mut self.bits, distance.wrapping_sub(self.distance));
            self.distance = distance;
            let xor = sample.value.to_bits() ^ self.last.value.to_bits();
            write_xor(&mut self.bits, &mut self.window, xor);
        }
        self.last = sample;
        self.count += 1;
    }

    /// Turns what was appended into a chunk and begins a new one.
    pub(crate) fn seal(&mut self) -> Chunk {
        let chunk = Chunk {
            bytes: self.bits.take(),
            first: self.first,
            last: self.last.timestamp,
            count: self.count,
        };
        *self = Self {
            bits: std::mem::take(&mut self.bits),
            ..Self::default()
        };
        chunk
    }
}

fn write_change(bits: &mut BitWriter, change: i64) {
    for (ones, width) in (0_u32..).zip(WIDTHS) {
        if change == sign_extend(change.cast_unsigned(), width) {
            // `ones` ones and a zero, then the change.
            bits.write((1 << (ones + 1)) - 2, ones + 1);
            bits.write(change.cast_unsigned() & low_bits(width), width);
            return;
        }
    }
    bits.write(0b1111, 4);
    bits.write(change.cast_unsigned(), 64);
}

fn read_change(bits: &mut BitReader<'_>) -> i64 {
    for width in WIDTHS {
        if !bits.bit() {
            return sign_extend(bits.read(width), width);
        }
    }
    bits.read(64).cast_signed()
}

fn write_xor(bits: &mut BitWriter, window: &mut Window, xor: u64) {
    if xor == 0 {
        bits.write(0, 1);
        return;
    }
    let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
    if window.used && leading >= window.leading && trailing >= window.trailing {
        bits.write(0b10, 2);
    } else {
        *window = Window {
            leading,
            trailing,
            used: true,
        };
        bits.write(0b11, 2);
        bits.write(u64::from(leading), 5);
        // One to 64 bits differ; one less fits in six bits.
        bits.write(u64::from(64 - leading - trailing - 1), 6);
    }
    let width = 64 - window.leading - window.trailing;
    bits.write(xor >> window.trailing, width);
}

fn read_xor(bits: &mut BitReader<'_>, window: &mut Window) -> u64 {
    if !bits.bit() {
        return 0;
    }
    if bits.bit() {
        window.leading = u32::from(bits.read_byte(5));
        let width = u32::from(bits.read_byte(6)) + 1;
        window.trailing = 64_u32.saturating_sub(window.leading + width);
    }
    let width = 64 - window.leading - window.trailing;
    bits.read(width) << window.trailing
}

fn low_bits(width: u32) -> u64 {
    if width == 0 {
        0
    } else {
        u64::MAX >> (64 - width)
    }
}

fn sign_extend(value: u64, width: u32) -> i64 {
    if width == 0 {
        return 0;
    }
    (value << (64 - width)).cast_signed() >> (64 - width)
}

/// The samples of a chunk, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Samples<'a> {
    bits: BitReader<'a>,
    left: u16,
    started: bool,
    distance: i64,
    window: Window,
    last: Sample,
}

impl<'a> Samples<'a> {
    fn new(bytes: &'a [u8], count: u16) -> Self {
        Self {
            bits: BitReader::new(bytes),
            left: count,
            started: false,
            distance: 0,
            window: Window::default(),
            last: Sample::default(),
        }
    }
}

impl Iterator for Samples<'_> {
    type Item = Sample;

    #[inline]
    fn next(&mut self) -> Option<Sample> {
        self.left = self.left.checked_sub(1)?;
        if self.started {
            self.distance = self.distance.wrapping_add(read_change(&mut self.bits));
            self.last.timestamp = self.last.timestamp.wrapping_add(self.distance);
            let xor = read_xor(&mut self.bits, &mut self.window);
            self.last.value = f64::from_bits(self.last.value.to_bits() ^ xor);
        } else {
            self.started = true;
            self.last.timestamp = self.bits.read(64).cast_signed();
            self.last.value = f64::from_bits(self.bits.read(64));
        }
        Some(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::STALE_MARKER;

    fn round_trip(samples: &[Sample]) {
        let mut open = OpenChunk::default();
        for sample in samples {
            open.push(*sample);
        }
        let same = |read: Samples<'_>| {
            let bits = |s: Sample| (s.timestamp, s.value.to_bits());
            assert!(read.map(bits).eq(samples.iter().copied().map(bits)));
        };
        same(open.samples());
        same(open.seal().samples());
        assert!(open.is_empty());
        // The next chunk must not remember this one.
        for sample in samples {
            open.push(*sample);
        }
        same(open.seal().samples());
    }

    fn awkward_value(random: &mut fastrand::Rng) -> f64 {
        match random.u8(0..9) {
            0 => f64::from_bits(STALE_MARKER),
            1 => f64::NAN,
            2 => f64::from_bits(0xfff8_0000_dead_beef),
            3 => f64::INFINITY,
            4 => f64::NEG_INFINITY,
            5 => -0.0,
            6 => f64::from_bits(random.u64(..)),
            7 => f64::MIN_POSITIVE / 4.0,
            _ => f64::from(random.i32(-5..5)),
        }
    }

    #[test]
    fn any_values_at_any_times_come_back_bit_by_bit() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..2_000 {
            let samples: Vec<Sample> = (0..random.u16(0..=SAMPLES_PER_CHUNK))
                .map(|_| Sample::new(random.i64(..), awkward_value(&mut random)))
                .collect();
            round_trip(&samples);
        }
    }

    #[test]
    fn regular_scrapes_with_jitter_come_back() {
        let mut random = fastrand::Rng::with_seed(3);
        for jitter in [1, 5, 100, 9_000, 600_000, 5_000_000] {
            let mut time = 1_700_000_000_000;
            let mut value = 0.0;
            let samples: Vec<Sample> = (0..SAMPLES_PER_CHUNK)
                .map(|_| {
                    time += 1_000 + random.i64(0..jitter);
                    value += f64::from(random.u8(0..3));
                    Sample::new(time, value)
                })
                .collect();
            round_trip(&samples);
        }
    }

    #[test]
    fn the_ends_of_time_come_back() {
        let times = [i64::MIN, i64::MAX, 0, i64::MIN, i64::MIN + 1, i64::MAX];
        round_trip(&times.map(|time| Sample::new(time, 1.0)));
    }
}
