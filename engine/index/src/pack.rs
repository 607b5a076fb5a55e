//! Whole numbers in as few bits as the largest needs, and bytes read without trust.
//!
//! Everything here is total: what cannot be read is `None`, and whoever knows the file says so.

use std::ops::Range;

/// Numbers take up to 56 bits or all 64, so that each can be had from the eight bytes in which it begins.
fn width(largest: u64) -> u8 {
    match 64 - largest.leading_zeros() {
        wide @ 57.. => wide.max(64) as u8,
        narrow => narrow as u8,
    }
}

/// One byte for the width, the numbers, and seven bytes more, so that the last can be read like the first.
pub(crate) fn pack(numbers: &[u64], to: &mut Vec<u8>) {
    let width = width(numbers.iter().copied().fold(0, |all, number| all | number));
    to.push(width);
    if width == 0 {
        return;
    }
    let start = to.len();
    to.resize(start + bytes(width, numbers.len()), 0);
    let bits = &mut to[start..];
    for (i, number) in numbers.iter().enumerate() {
        let at = i * usize::from(width);
        let eight: &mut [u8; 8] = (&mut bits[at / 8..at / 8 + 8]).try_into().expect("the slice is eight bytes long");
        *eight = (u64::from_le_bytes(*eight) | number << (at % 8)).to_le_bytes();
    }
}

fn bytes(width: u8, count: usize) -> usize {
    (usize::from(width) * count).div_ceil(8) + 7
}

/// Numbers as they are packed, each of which is had without the others.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    bits: Vec<u8>,
    width: u8,
}

impl Packed {
    /// `i` is below the count that it was read with.
    pub fn get(&self, i: usize) -> u64 {
        if self.width == 0 {
            return 0;
        }
        let at = i * usize::from(self.width);
        let eight = self.bits[at / 8..at / 8 + 8].try_into().expect("the slice is eight bytes long");
        (u64::from_le_bytes(eight) >> (at % 8)) & (u64::MAX >> (64 - self.width))
    }
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'b>(pub &'b [u8]);

impl<'b> Bytes<'b> {
    pub fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    pub fn count(&mut self) -> Option<usize> {
        let mut number = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(number).ok();
            }
        }
        None
    }

    pub fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// `count` numbers, as [`pack`] wrote them.
    pub fn packed(&mut self, count: usize) -> Option<Packed> {
        let width = self.byte().filter(|width| *width <= 56 || *width == 64)?;
        let bits = if width == 0 { Vec::new() } else { self.take(bytes(width, count))?.to_vec() };
        Some(Packed { bits, width })
    }
}

/// Seven bits a byte, at most 2^35.
pub(crate) fn push_count(count: usize, to: &mut Vec<u8>) {
    let mut rest = count;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// 64 bits of `bytes`, by folded multiplication: for tables, filters and checks of what a disk did. Not against someone who wants two texts to agree.
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xe703_7ed1_a0b4_28db;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = fold(seed ^ A, (bytes.len() as u64) ^ B);
    let mut pairs = bytes.chunks_exact(16);
    for pair in &mut pairs {
        let (left, right) = pair.split_at(8);
        let left = u64::from_le_bytes(left.try_into().expect("half of sixteen bytes"));
        let right = u64::from_le_bytes(right.try_into().expect("half of sixteen bytes"));
        state = fold(left ^ A ^ state, right ^ B);
    }
    let mut last = [0; 16];
    last[..pairs.remainder().len()].copy_from_slice(pairs.remainder());
    let (left, right) = last.split_at(8);
    let left = u64::from_le_bytes(left.try_into().expect("half of sixteen bytes"));
    let right = u64::from_le_bytes(right.try_into().expect("half of sixteen bytes"));
    fold(fold(left ^ A ^ state, right ^ B), A)
}

/// What a stretch of a file must hash to.
pub(crate) fn check(bytes: &[u8]) -> u32 {
    hash(0, bytes) as u32
}

/// For hash tables whose keys are strings of one group or already hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fast(u64);

impl std::hash::Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(self.0, bytes);
    }
    fn write_u8(&mut self, _: u8) {
        // Ends a string; its length is hashed already.
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        self.0 ^= self.0 >> 31;
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

pub(crate) type BuildFast = std::hash::BuildHasherDefault<Fast>;
pub(crate) type FastMap<K, V> = std::collections::HashMap<K, V, BuildFast>;
pub(crate) type FastSet<K> = std::collections::HashSet<K, BuildFast>;

/// A set of the rows of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len }
    }

    pub fn all(len: usize) -> Self {
        Self::where_(len, |_| true)
    }

    pub fn where_(len: usize, holds: impl Fn(usize) -> bool) -> Self {
        let words = (0..len.div_ceil(64)).map(|word| {
            let rows: Range<usize> = word * 64..(word * 64 + 64).min(len);
            rows.fold(0, |bits, row| bits | u64::from(holds(row)) << (row % 64))
        });
        Self { words: words.collect(), len }
    }

    /// Those of `self` for which `holds`, which is asked of no others where they are few.
    pub fn among(&self, holds: impl Fn(usize) -> bool) -> Self {
        if self.count() * 8 > self.len {
            let mut all = Self::where_(self.len, holds);
            all.and(self);
            return all;
        }
        let mut some = Self::none(self.len);
        self.rows().filter(|row| holds(*row)).for_each(|row| some.set(row));
        some
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn set(&mut self, row: usize) {
        self.words[row / 64] |= 1 << (row % 64);
    }

    pub fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= other);
    }

    pub fn and_not(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word &= !other);
    }

    pub fn or(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// In ascending order.
    pub fn rows(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_width_are_read_back() {
        for wide in 0..=64u32 {
            let largest = if wide == 0 { 0 } else { u64::MAX >> (64 - wide) };
            let numbers: Vec<u64> = (0..100).map(|i| hash(i, b"n") & largest).chain([largest]).collect();
            let mut bytes = Vec::new();
            pack(&numbers, &mut bytes);
            let mut from = Bytes(&bytes);
            let packed = from.packed(numbers.len()).expect("it was packed");
            assert!(from.0.is_empty());
            assert_eq!((0..numbers.len()).map(|i| packed.get(i)).collect::<Vec<_>>(), numbers, "{wide} bits");
            assert!(wide == 0 || Bytes(&bytes[..bytes.len() - 1]).packed(numbers.len()).is_none(), "cut short");
        }
    }

    #[test]
    fn sets_of_rows_are_sets() {
        let thirds = Bits::where_(200, |row| row % 3 == 0);
        let mut both = Bits::where_(200, |row| row % 2 == 0);
        both.and(&thirds);
        assert_eq!(both.rows().collect::<Vec<_>>(), (0..200).step_by(6).collect::<Vec<_>>());
        let mut rest = Bits::all(200);
        rest.and_not(&thirds);
        assert_eq!((rest.count(), rest.len), (133, 200));
        rest.or(&thirds);
        assert_eq!(rest, Bits::all(200));
    }

    #[test]
    fn counts_are_read_back() {
        for count in [0, 1, 127, 128, 16_383, 16_384, (1 << 32) + 5] {
            let mut bytes = Vec::new();
            push_count(count, &mut bytes);
            assert_eq!(Bytes(&bytes).count(), Some(count));
        }
        assert_eq!(Bytes(&[0x80; 10]).count(), None);
    }
}
