//! Writes JPEG files of every structure that is read: any sampling, identifiers, scans, tables,
//! restarts, and bytes between segments. No cosine transform: what is coded are coefficients.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::Code;
use crate::random::Random;

pub struct Component {
    pub id: u8,
    pub x_sampling: usize,
    pub y_sampling: usize,
    /// Of its quantisation table.
    pub table: u8,
    /// In zigzag order, whole MCUs, row by row.
    pub blocks: Vec<[i16; 64]>,
}

#[derive(Clone, Debug)]
pub struct Scan {
    pub components: Vec<usize>,
    pub first: usize,
    pub last: usize,
    pub high: u32,
    pub low: u32,
    /// MCUs between restarts, 0 for none.
    pub restart_interval: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// Made for each scan.
    Random,
    /// The standard's.
    Standard,
    /// The standard's, left out.
    Absent,
}

pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub is_progressive: bool,
    pub components: Vec<Component>,
    pub scans: Vec<Scan>,
    pub quantisations: Vec<[u16; 64]>,
    pub tables: Tables,
    pub has_jfif: bool,
    pub adobe_transform: Option<u8>,
    /// Comments between all segments, fill bytes, and bytes that belong to none.
    pub has_junk: bool,
}

/// What is coded, before there are codes for it.
enum Piece {
    Symbol { class: u8, table: u8, symbol: u8 },
    Bits { value: u32, len: u32 },
    Restart,
}

impl Picture {
    fn sampling_max(&self) -> (usize, usize) {
        let x_max = self.components.iter().map(|component| component.x_sampling).max().unwrap();
        let y_max = self.components.iter().map(|component| component.y_sampling).max().unwrap();
        (x_max, y_max)
    }

    /// MCUs beside and on top of each other.
    pub fn mcus(&self) -> (usize, usize) {
        let (x_max, y_max) = self.sampling_max();
        (self.width.div_ceil(8 * x_max), self.height.div_ceil(8 * y_max))
    }

    pub fn encode(&self, random: &mut Random, standard: &[(u8, Code)]) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8];
        if self.has_jfif {
            self.segment(&mut file, 0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0", random);
        }
        if let Some(transform) = self.adobe_transform {
            let segment = [&b"Adobe\0\x64\0\0\0\0"[..], &[transform]].concat();
            self.segment(&mut file, 0xee, &segment, random);
        }
        for (index, table) in self.quantisations.iter().enumerate() {
            let is_wide = table.iter().any(|&value| value > 255) || random.once_in(4);
            let mut segment = vec![u8::from(is_wide) << 4 | index as u8];
            for value in table {
                segment.extend(&value.to_be_bytes()[usize::from(!is_wide)..]);
            }
            self.segment(&mut file, 0xdb, &segment, random);
        }
        let [height, width] = [self.height, self.width].map(|side| (side as u16).to_be_bytes());
        let mut frame = vec![8, height[0], height[1], width[0], width[1]];
        frame.push(self.components.len() as u8);
        for component in &self.components {
            let sampling = component.x_sampling << 4 | component.y_sampling;
            frame.extend([component.id, sampling as u8, component.table]);
        }
        let marker = if self.is_progressive { 0xc2 } else { random.choose(&[0xc0, 0xc1]) };
        self.segment(&mut file, marker, &frame, random);
        let mut restart_interval = 0;
        for scan in &self.scans {
            if scan.restart_interval != restart_interval {
                restart_interval = scan.restart_interval;
                let interval = (restart_interval as u16).to_be_bytes();
                self.segment(&mut file, 0xdd, &interval, random);
            }
            self.write_scan(&mut file, scan, random, standard);
        }
        file.extend([0xff, 0xd9]);
        file
    }

    fn segment(&self, file: &mut Vec<u8>, marker: u8, segment: &[u8], random: &mut Random) {
        // Directly behind the first marker, files are not taken for JPEG.
        if self.has_junk && file.len() > 2 {
            match random.below(4) {
                0 => file.extend([0xff, 0xfe, 0, 4, 0xff, 0xd9]),
                1 => file.extend([0xff, 0xff]),
                2 => file.extend([0, 17, 0xff, 0]),
                _ => {}
            }
        }
        file.extend([0xff, marker]);
        file.extend((segment.len() as u16 + 2).to_be_bytes());
        file.extend(segment);
    }

    fn write_scan(
        &self,
        file: &mut Vec<u8>,
        scan: &Scan,
        random: &mut Random,
        standard: &[(u8, Code)],
    ) {
        let pieces = self.pieces(scan);
        let mut used: BTreeMap<(u8, u8), BTreeSet<u8>> = BTreeMap::new();
        for piece in &pieces {
            if let &Piece::Symbol { class, table, symbol } = piece {
                used.entry((class, table)).or_default().insert(symbol);
            }
        }
        let mut codes = BTreeMap::new();
        for ((class, table), symbols) in used {
            let code = match self.tables {
                Tables::Random => Code::random(symbols.into_iter().collect(), random),
                _ => {
                    let is_it = |(kind, _): &&(u8, Code)| *kind == class << 4 | table;
                    standard.iter().find(is_it).unwrap().1.clone()
                }
            };
            if self.tables != Tables::Absent {
                self.segment(file, 0xc4, &code.segment(class, table), random);
            }
            codes.insert((class, table), code);
        }
        let mut header = vec![scan.components.len() as u8];
        for &index in &scan.components {
            let table = table_of(index);
            header.extend([self.components[index].id, table << 4 | table]);
        }
        header.extend([scan.first as u8, scan.last as u8, (scan.high << 4 | scan.low) as u8]);
        self.segment(file, 0xda, &header, random);
        let mut writer = Writer { file, window: 0, len: 0 };
        let mut restart = 0;
        for piece in pieces {
            match piece {
                Piece::Symbol { class, table, symbol } => {
                    let (code, bits) = codes[&(class, table)].code(symbol);
                    writer.bits(code, bits);
                }
                Piece::Bits { value, len } => writer.bits(value, len),
                Piece::Restart => {
                    writer.pad();
                    if self.has_junk && random.once_in(2) {
                        writer.file.push(0xff);
                    }
                    writer.file.extend([0xff, 0xd0 + restart]);
                    restart = (restart + 1) % 8;
                }
            }
        }
        writer.pad();
    }

    /// The blocks of a scan in order, an MCU each, as part of the scan and block.
    fn mcu_blocks(&self, scan: &Scan) -> Vec<Vec<(usize, &[i16; 64])>> {
        let (x_max, y_max) = self.sampling_max();
        let (mcus_wide, mcus_high) = self.mcus();
        let block = |part: usize, x: usize, y: usize| {
            let component = &self.components[scan.components[part]];
            (part, &component.blocks[y * mcus_wide * component.x_sampling + x])
        };
        if let [index] = scan.components[..] {
            let component = &self.components[index];
            let wide = (self.width * component.x_sampling).div_ceil(x_max).div_ceil(8);
            let high = (self.height * component.y_sampling).div_ceil(y_max).div_ceil(8);
            return (0..wide * high).map(|at| vec![block(0, at % wide, at / wide)]).collect();
        }
        let mcu = |at: usize| {
            let (mcu_x, mcu_y) = (at % mcus_wide, at / mcus_wide);
            let mut blocks = Vec::new();
            for (part, &index) in scan.components.iter().enumerate() {
                let Component { x_sampling, y_sampling, .. } = self.components[index];
                for y in 0..y_sampling {
                    for x in 0..x_sampling {
                        blocks.push(block(part, mcu_x * x_sampling + x, mcu_y * y_sampling + y));
                    }
                }
            }
            blocks
        };
        (0..mcus_wide * mcus_high).map(mcu).collect()
    }

    fn pieces(&self, scan: &Scan) -> Vec<Piece> {
        let mut coder = Coder::default();
        let mut predictions = vec![0; scan.components.len()];
        for (index, mcu) in self.mcu_blocks(scan).into_iter().enumerate() {
            if scan.restart_interval > 0 && index > 0 && index % scan.restart_interval == 0 {
                coder.end_run();
                coder.pieces.push(Piece::Restart);
                predictions.fill(0);
            }
            for (part, block) in mcu {
                coder.table = table_of(scan.components[part]);
                let prediction = &mut predictions[part];
                match (self.is_progressive, scan.first, scan.high) {
                    (false, ..) => {
                        coder.constant(block[0].into(), prediction);
                        coder.band(block, 1, 63, 0, false);
                    }
                    (true, 0, 0) => coder.constant(i32::from(block[0]) >> scan.low, prediction),
                    (true, 0, _) => coder.bits((block[0] >> scan.low & 1) as u32, 1),
                    (true, _, 0) => coder.band(block, scan.first, scan.last, scan.low, true),
                    (true, ..) => coder.refinement(block, scan),
                }
            }
        }
        coder.end_run();
        coder.pieces
    }
}

/// The Huffman tables of a component.
fn table_of(component: usize) -> u8 {
    u8::from(component > 0)
}

/// Turns coefficients into symbols and bits.
#[derive(Default)]
struct Coder {
    pieces: Vec<Piece>,
    table: u8,
    /// Blocks that hold nothing new, and bits for what they hold already.
    run_len: u32,
    run_bits: Vec<u32>,
}

impl Coder {
    fn symbol(&mut self, class: u8, symbol: u8) {
        self.pieces.push(Piece::Symbol { class, table: self.table, symbol });
    }

    fn bits(&mut self, value: u32, len: u32) {
        self.pieces.push(Piece::Bits { value, len });
    }

    /// A value's bits: for negative ones those of the value less one.
    fn value(&mut self, value: i32, len: u32) {
        let bits = if value < 0 { value - 1 } else { value };
        self.bits(bits as u32 & ((1 << len) - 1), len);
    }

    fn constant(&mut self, value: i32, prediction: &mut i32) {
        let difference = value - std::mem::replace(prediction, value);
        let len = size(difference);
        self.symbol(0, len as u8);
        self.value(difference, len);
    }

    /// Coefficients without their lower bits; `has_runs` if blocks that hold no more are counted.
    fn band(&mut self, block: &[i16; 64], first: usize, last: usize, low: u32, has_runs: bool) {
        let mut zeros_len = 0;
        for &coefficient in &block[first..=last] {
            let value = i32::from(coefficient.abs() >> low) * i32::from(coefficient.signum());
            if value == 0 {
                zeros_len += 1;
                continue;
            }
            self.end_run();
            while zeros_len > 15 {
                self.symbol(1, 0xf0);
                zeros_len -= 16;
            }
            self.symbol(1, zeros_len << 4 | size(value) as u8);
            self.value(value, size(value));
            zeros_len = 0;
        }
        if zeros_len > 0 && has_runs {
            self.lengthen_run(Vec::new());
        } else if zeros_len > 0 {
            self.symbol(1, 0);
        }
    }

    fn refinement(&mut self, block: &[i16; 64], scan: &Scan) {
        let size = |coefficient: &i16| coefficient.unsigned_abs() >> scan.low;
        let is_new = |&index: &usize| size(&block[index]) == 1;
        let last_new = (scan.first..=scan.last).rfind(is_new).unwrap_or(0);
        let (mut zeros_len, mut bits) = (0, Vec::new());
        let band = block.iter().enumerate().take(scan.last + 1).skip(scan.first);
        for (index, coefficient) in band {
            let size = size(coefficient);
            if size == 0 {
                zeros_len += 1;
                continue;
            }
            while zeros_len > 15 && index <= last_new {
                self.end_run();
                self.symbol(1, 0xf0);
                zeros_len -= 16;
                bits.drain(..).for_each(|bit| self.bits(bit, 1));
            }
            if size > 1 {
                bits.push(u32::from(size & 1));
                continue;
            }
            self.end_run();
            self.symbol(1, zeros_len << 4 | 1);
            self.bits(u32::from(*coefficient > 0), 1);
            bits.drain(..).for_each(|bit| self.bits(bit, 1));
            zeros_len = 0;
        }
        if zeros_len > 0 || !bits.is_empty() {
            self.lengthen_run(bits);
        }
    }

    fn lengthen_run(&mut self, bits: Vec<u32>) {
        self.run_len += 1;
        self.run_bits.extend(bits);
        if self.run_len == 0x7fff {
            self.end_run();
        }
    }

    fn end_run(&mut self) {
        if self.run_len > 0 {
            let exponent = self.run_len.ilog2();
            self.symbol(1, (exponent << 4) as u8);
            self.bits(self.run_len - (1 << exponent), exponent);
            self.run_len = 0;
        }
        for bit in std::mem::take(&mut self.run_bits) {
            self.bits(bit, 1);
        }
    }
}

/// Bits of a value without its sign.
fn size(value: i32) -> u32 {
    32 - value.unsigned_abs().leading_zeros()
}

struct Writer<'a> {
    file: &'a mut Vec<u8>,
    window: u64,
    len: u32,
}

impl Writer<'_> {
    fn bits(&mut self, value: u32, len: u32) {
        self.window = self.window << len | u64::from(value);
        self.len += len;
        while self.len >= 8 {
            self.len -= 8;
            let byte = (self.window >> self.len) as u8;
            self.file.push(byte);
            if byte == 0xff {
                self.file.push(0);
            }
        }
    }

    /// Ones up to a whole byte.
    fn pad(&mut self) {
        let len = (8 - self.len) % 8;
        self.bits((1 << len) - 1, len);
    }
}
