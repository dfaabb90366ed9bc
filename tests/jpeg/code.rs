//! Huffman codes for the encoder: random ones, so that all lengths and shapes come up, or those of
//! a file.

use crate::random::Random;

/// A table: how many codes have 1, 2, ... 16 bits, and their symbols in order.
#[derive(Clone)]
pub struct Code {
    pub counts: [u8; 16],
    pub symbols: Vec<u8>,
}

impl Code {
    /// A code for these symbols, at most 256, that leaves the one of all ones free.
    pub fn random(mut symbols: Vec<u8>, random: &mut Random) -> Self {
        random.shuffle(&mut symbols);
        let mut counts = [0; 16];
        let (mut free, mut left_len) = (1_usize, symbols.len());
        for (bits, count) in (1..=16_u32).zip(&mut counts) {
            free *= 2;
            let below = 1 << (16 - bits);
            // What is left must find room below the free nodes, and one code must stay free.
            let spare = (free * below).saturating_sub(left_len + 1);
            let most = if below == 1 { left_len } else { spare / (below - 1) };
            let most = most.min(left_len).min(free - 1).min(255);
            let len = if below == 1 { most } else { random.below(most + 1) };
            // Long codes come up only where few are short.
            let len = if random.once_in(3) { len.min(1) } else { len };
            let len = if below == 1 { left_len } else { len };
            *count = len as u8;
            free -= len;
            left_len -= len;
        }
        Self { counts, symbols }
    }

    /// Code and number of its bits.
    pub fn code(&self, symbol: u8) -> (u32, u32) {
        let (mut code, mut symbols) = (0, self.symbols.iter());
        for (bits, &count) in (1..).zip(&self.counts) {
            for _ in 0..count {
                if symbols.next() == Some(&symbol) {
                    return (code, bits);
                }
                code += 1;
            }
            code <<= 1;
        }
        panic!("no code for symbol {symbol:#04x}")
    }

    /// The contents of a segment with this table.
    pub fn segment(&self, class: u8, index: u8) -> Vec<u8> {
        [&[class << 4 | index][..], &self.counts, &self.symbols].concat()
    }

    /// The tables of a file, by their first byte: class and index.
    pub fn all_of(file: &[u8]) -> Vec<(u8, Self)> {
        let mut found = Vec::new();
        let mut rest = &file[2..];
        while rest[1] != 0xda {
            let segment_len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            let mut segment = &rest[4..2 + segment_len];
            while rest[1] == 0xc4 && !segment.is_empty() {
                let counts: [u8; 16] = segment[1..17].try_into().unwrap();
                let end = 17 + counts.iter().map(|&count| usize::from(count)).sum::<usize>();
                let code = Self { counts, symbols: segment[17..end].to_vec() };
                found.push((segment[0], code));
                segment = &segment[end..];
            }
            rest = &rest[2 + segment_len..];
        }
        found
    }
}
