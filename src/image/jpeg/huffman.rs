//! Huffman codes and the bits that they are read from.
//!
//! Invariant: a code that the table does not hold is an error, and so are bits behind the end of
//! the entropy-coded data as soon as someone asks [`Bits::is_overdrawn`]; until then they are
//! zeros. Knows nothing of blocks and scans.

/// What is wrong with entropy-coded data.
pub(super) type Damage = &'static str;

/// What was decoded, or what is wrong.
pub(super) type Decoded<T> = Result<T, Damage>;

/// A table as its segment gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Code {
    /// How many codes have 1, 2, ... 16 bits.
    pub(super) counts: [u8; 16],
    /// The symbols in the order of their codes.
    pub(super) symbols: Vec<u8>,
}

/// Bits that are looked up at once: nearly all codes are this short, and two tables fit the cache.
const LOOKUP_BITS: u32 = 10;
const CODE_BITS_MAX: usize = 16;

/// What the next [`LOOKUP_BITS`] bits begin with. All 0: a longer code, or none.
#[derive(Clone, Copy, Default)]
pub(super) struct Entry {
    /// The coefficient, if code and value are within these bits, else 0.
    pub(super) value: i16,
    pub(super) symbol: u8,
    /// Bits of the code, and of the value if it is here.
    pub(super) bits: u8,
}

/// A table made ready for decoding.
pub(super) struct Table {
    lookup: [Entry; 1 << LOOKUP_BITS],
    /// For each number of bits: the first code, aligned to 16 bits, that is longer than that.
    limits: [u32; CODE_BITS_MAX + 1],
    /// For each number of bits: what leads from a code to its symbol's index, wrapping.
    offsets: [u32; CODE_BITS_MAX + 1],
    symbols: [u8; 256],
}

impl Table {
    /// None if the counts make no prefix code. As libjpeg does, takes no code that is all ones.
    pub(super) fn new(code: &Code) -> Option<Self> {
        let mut table = Self {
            lookup: [Entry::default(); 1 << LOOKUP_BITS],
            limits: [0; CODE_BITS_MAX + 1],
            offsets: [0; CODE_BITS_MAX + 1],
            symbols: [0; 256],
        };
        table.symbols.get_mut(..code.symbols.len())?.copy_from_slice(&code.symbols);
        let (mut next, mut index) = (0_u32, 0_u32);
        for (bits, &count) in (1..).zip(&code.counts) {
            table.offsets[bits as usize] = index.wrapping_sub(next);
            for _ in 0..count {
                table.enter(next, bits, code.symbols[index as usize]);
                next += 1;
                index += 1;
            }
            if count > 0 && next >= 1 << bits {
                return None;
            }
            table.limits[bits as usize] = next << (16 - bits);
            next <<= 1;
        }
        Some(table)
    }

    /// Fills in the lookup for one code, where it is short enough.
    fn enter(&mut self, code: u32, bits: u32, symbol: u8) {
        let Some(free) = LOOKUP_BITS.checked_sub(bits) else { return };
        let first = (code << free) as usize;
        let value_bits = u32::from(symbol & 15);
        // Counts that make no prefix code lead beyond the end; they are refused by the caller.
        let entries = self.lookup.iter_mut().skip(first).take(1 << free);
        for (rest, entry) in (0_u32..).zip(entries) {
            *entry = Entry { value: 0, symbol, bits: bits as u8 };
            if (1..=free).contains(&value_bits) {
                entry.value = extend((rest >> (free - value_bits)) as i32, value_bits) as i16;
                entry.bits += value_bits as u8;
            }
        }
    }

    /// The symbol that the window begins with, and its code's bits, where the lookup has none.
    #[inline(never)]
    fn long_symbol(&self, window: u64) -> Decoded<(u8, u32)> {
        let next = (window >> 48) as u32;
        let is_longer = |&bits: &usize| next < self.limits[bits];
        let bits = (LOOKUP_BITS as usize + 1..=CODE_BITS_MAX).find(is_longer);
        let bits = bits.ok_or("a Huffman code that the table does not hold")?;
        let index = (next >> (CODE_BITS_MAX - bits)).wrapping_add(self.offsets[bits]);
        Ok((self.symbols[index as usize & 255], bits as u32))
    }
}

/// The value that `bits` bits stand for: those with a leading 0 are negative.
#[inline(always)]
fn extend(value: i32, bits: u32) -> i32 {
    let is_negative = (value >> (bits - 1)) & 1 ^ 1;
    value + is_negative * ((-1 << bits) + 1)
}

/// A reader of entropy-coded bits, up to the next marker. What is rarely needed takes it by value,
/// so that it stays in registers otherwise.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Of the first byte that is not yet in the window; never behind a marker.
    position: usize,
    /// The next bits, from the highest on. Below `len` there are zeros or the bits that come next.
    window: u64,
    /// Bits of the window that count.
    len: u32,
    /// Zeros that were put into the window behind the end of the data.
    padding_len: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position, window: 0, len: 0, padding_len: 0 }
    }

    /// Where the data were read to: there is no marker before it.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Whether bits were taken that the data do not hold.
    #[inline(always)]
    pub(super) fn is_overdrawn(&self) -> bool {
        self.len < self.padding_len
    }

    /// Goes on behind the marker that `skip` moves the position behind, if it does.
    pub(super) fn skip_marker(self, skip: impl Fn(&[u8], &mut usize) -> bool) -> Option<Self> {
        let mut position = self.position;
        let is_skipped = skip(self.bytes, &mut position);
        is_skipped.then(|| Self::new(self.bytes, position))
    }

    /// Sees to it that there are 32 bits: a code of 16 and a value of 15, or half of each again.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.len >= 32 {
            return;
        }
        if let Some(next) = self.bytes.get(self.position..).and_then(|rest| rest.first_chunk()) {
            let next = u64::from_be_bytes(*next);
            if !holds_marker_byte(next) {
                self.window |= next >> self.len;
                let taken_len = (63 - self.len) / 8;
                self.position += taken_len as usize;
                self.len += taken_len * 8;
                return;
            }
        }
        *self = self.refilled_bytewise();
    }

    #[cold]
    #[inline(never)]
    fn refilled_bytewise(mut self) -> Self {
        while self.len <= 56 {
            match self.next_byte() {
                Some(byte) => self.window |= u64::from(byte) << (56 - self.len),
                None => self.padding_len += 8,
            }
            self.len += 8;
        }
        self
    }

    /// The next byte of data; none at a marker.
    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        let mut end = self.position + 1;
        if byte == 0xff {
            // Fill bytes may stand before the second byte, as before a marker's.
            end += self.bytes[end..].iter().position(|&byte| byte != 0xff)?;
            if self.bytes[end] != 0 {
                return None;
            }
            end += 1;
        }
        self.position = end;
        Some(byte)
    }

    /// What the next bits begin with; they are still to be dropped.
    #[inline(always)]
    pub(super) fn peek(&self, table: &Table) -> Entry {
        table.lookup[(self.window >> (64 - LOOKUP_BITS)) as usize]
    }

    #[inline(always)]
    pub(super) fn drop(&mut self, len: u32) {
        self.window <<= len;
        // Wraps where nobody looks whether bits were left: `refill` comes first.
        self.len = self.len.wrapping_sub(len);
    }

    /// The next symbol, after [`Self::refill`]. Its value, if any, comes next.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Table) -> Decoded<u8> {
        let entry = self.peek(table);
        if entry.bits == 0 {
            let (symbol, bits) = table.long_symbol(self.window)?;
            self.drop(bits);
            return Ok(symbol);
        }
        let is_whole = entry.value != 0;
        let value_bits = if is_whole { u32::from(entry.symbol & 15) } else { 0 };
        self.drop(u32::from(entry.bits) - value_bits);
        Ok(entry.symbol)
    }

    /// The next `len` bits, at most 16, as a number.
    #[inline(always)]
    pub(super) fn take(&mut self, len: u32) -> u32 {
        // In two shifts, for none of them.
        let value = (self.window >> 1 >> (63 - len)) as u32;
        self.drop(len);
        value
    }

    /// The next `len` bits, at most 15, as a coefficient.
    #[inline(always)]
    pub(super) fn value(&mut self, len: u32) -> i32 {
        if len == 0 { 0 } else { extend(self.take(len) as i32, len) }
    }
}

/// Whether one of the bytes is ff, which starts a marker or is followed by a stuffed 0.
#[inline(always)]
fn holds_marker_byte(bytes: u64) -> bool {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    (!bytes).wrapping_sub(LOW) & bytes & HIGH != 0
}
