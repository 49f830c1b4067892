//! A stream of bits in a vector of bytes, most significant bit first.
//!
//! Both ends of a chunk's encoding stand on this: values that hardly change take a few bits each, not eight bytes.

use std::sync::Arc;

/// Writes bits to the end of `bytes`.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// How many bits of the last byte are free.
    free: u32,
}

impl BitWriter {
    /// Appends the low `count` bits of `value`, at most 64.
    pub(crate) fn write(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (value >> (left - take)) & ((1 << take) - 1);
            let last = self.bytes.last_mut().expect("pushed above when empty");
            // `part` has `take` bits and `free >= take`, so all is in the lowest byte.
            *last |= (part << (self.free - take)).to_le_bytes()[0];
            self.free -= take;
            left -= take;
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives a copy of the bytes away and begins anew in the same memory. Giving the memory away and growing another
    /// time would leave holes between all chunks, a third of the memory in all.
    pub(crate) fn take(&mut self) -> Arc<[u8]> {
        let bytes = Arc::from(&*self.bytes);
        self.bytes.clear();
        self.free = 0;
        bytes
    }
}

/// Reads bits in the order in which they were written.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next byte to load.
    next: usize,
    /// Loaded bits, in the low end.
    loaded: u64,
    /// How many of them are left.
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            next: 0,
            loaded: 0,
            count: 0,
        }
    }

    /// Loads whole bytes until at least 56 bits are there, or the end is reached.
    fn load(&mut self) {
        while self.count <= 56 {
            let Some(byte) = self.bytes.get(self.next) else {
                return;
            };
            self.loaded = (self.loaded << 8) | u64::from(*byte);
            self.count += 8;
            self.next += 1;
        }
    }

    /// Whether the next bit is set. Past the end there are zeros: the caller counts samples, not bits.
    #[inline]
    pub(crate) fn bit(&mut self) -> bool {
        self.read_short(1) == 1
    }

    /// The next `count` bits, at most 64.
    #[inline]
    pub(crate) fn read(&mut self, count: u32) -> u64 {
        if count <= 32 {
            self.read_short(count)
        } else {
            let high = self.read_short(count - 32);
            (high << 32) | self.read_short(32)
        }
    }

    /// The next `count` bits, at most eight.
    #[inline]
    pub(crate) fn read_byte(&mut self, count: u32) -> u8 {
        self.read_short(count).to_le_bytes()[0]
    }

    #[inline]
    fn read_short(&mut self, count: u32) -> u64 {
        if self.count < count {
            self.load();
            if self.count < count {
                return 0;
            }
        }
        self.count -= count;
        (self.loaded >> self.count) & ((1 << count) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let written: Vec<(u64, u32)> = (0..random.usize(0..200))
                .map(|_| {
                    let count = random.u32(1..=64);
                    (random.u64(..) >> (64 - count), count)
                })
                .collect();
            let mut writer = BitWriter::default();
            for (value, count) in &written {
                writer.write(*value, *count);
            }
            let mut reader = BitReader::new(writer.bytes());
            for (value, count) in &written {
                assert_eq!(reader.read(*count), *value);
            }
        }
    }
}
