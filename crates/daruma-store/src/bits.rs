//! Single bits in a byte string: the ground under the chunk codecs.
//!
//! Apart from [`crate::chunk`] so that the codecs read as formats. Reading past the end gives `None`;
//! nothing here panics on any input.

/// Appends bits, most significant first.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits still free in the last byte.
    free: u32,
}

impl BitWriter {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends the low `width` bits of `value`; `width` is at most 64.
    pub(crate) fn push(&mut self, value: u64, width: u32) {
        let mut left = width;
        while left > 0 {
            if self.free == 0 {
                // Doubling from the standard growth would waste up to half of every open chunk.
                if self.bytes.len() == self.bytes.capacity() {
                    self.bytes.reserve_exact(64);
                }
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (value >> (left - take)) & ((1 << take) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part as u8) << (self.free - take);
            }
            self.free -= take;
            left -= take;
        }
    }

    /// Appends `count` ones and a zero.
    pub(crate) fn unary(&mut self, count: u32) {
        for _ in 0..count / 32 {
            self.push(u64::from(u32::MAX), 32);
        }
        let rest = count % 32;
        self.push(((1 << rest) - 1) << 1, rest + 1);
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, left-aligned, `held` of them valid.
    word: u64,
    held: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0, word: 0, held: 0 }
    }

    #[inline]
    fn fill(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or(&[]);
        if let Some(next) = rest.first_chunk::<8>() {
            // Bits beyond those counted as held come again with the next filling, and are the same.
            self.word |= u64::from_be_bytes(*next) >> self.held;
            self.at += (63 - self.held as usize) >> 3;
            self.held |= 56;
            return;
        }
        while self.held <= 56 {
            let Some(&byte) = self.bytes.get(self.at) else { return };
            self.word |= u64::from(byte) << (56 - self.held);
            self.held += 8;
            self.at += 1;
        }
    }

    /// The next `width` bits (at most 64).
    #[inline]
    pub(crate) fn pull(&mut self, width: u32) -> Option<u64> {
        if width > 32 {
            let high = self.pull(width - 32)?;
            return Some(high << 32 | self.pull(32)?);
        }
        if width == 0 {
            return Some(0);
        }
        if self.held < width {
            self.fill();
            if self.held < width {
                return None;
            }
        }
        let value = self.word >> (64 - width);
        self.word <<= width;
        self.held -= width;
        Some(value)
    }

    /// A number written as [`BitWriter::unary`] of its high bits, fewer than `escape`, and `k` low bits
    /// (at most 47); or, after `escape` ones and a zero, whole.
    #[inline]
    pub(crate) fn rice(&mut self, k: u32, escape: u32) -> Option<u64> {
        if self.held < 32 {
            self.fill();
        }
        let ones = self.word.leading_ones();
        let used = ones + 1 + k;
        if ones < escape && used <= self.held {
            // In two steps, because of no low bits there is nothing.
            let low = (self.word << (ones + 1)) >> 1 >> (63 - k);
            self.word = if used == 64 { 0 } else { self.word << used };
            self.held -= used;
            return Some(u64::from(ones) << k | low);
        }
        let ones = self.unary(escape)?;
        if ones == escape { self.pull(64) } else { Some(u64::from(ones) << k | self.pull(k)?) }
    }

    /// How many ones stand before the next zero, which is consumed too; `None` above `max`.
    #[inline]
    pub(crate) fn unary(&mut self, max: u32) -> Option<u32> {
        let mut count = 0;
        loop {
            if self.held == 0 {
                self.fill();
                if self.held == 0 {
                    return None;
                }
            }
            let ones = self.word.leading_ones().min(self.held);
            count += ones;
            if count > max {
                return None;
            }
            let whole = ones == self.held;
            let used = if whole { ones } else { ones + 1 };
            self.word = if used == 64 { 0 } else { self.word << used };
            self.held -= used;
            if !whole {
                return Some(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_come_back_as_written(
            fields in prop::collection::vec((any::<u64>(), 0_u32..=64, 0_u32..200), 0..80)
        ) {
            let mut writer = BitWriter::default();
            for &(value, width, ones) in &fields {
                writer.push(value, width);
                writer.unary(ones);
            }
            let mut reader = BitReader::new(writer.bytes());
            for &(value, width, ones) in &fields {
                let masked = if width == 64 { value } else { value & ((1 << width) - 1) };
                prop_assert_eq!(reader.pull(width), Some(masked));
                prop_assert_eq!(reader.unary(200), Some(ones));
            }
        }
    }
}
