//! Time to decode JPEG data, beside two crates: the one that was used before, and the one that is
//! as exact.
//!
//! `cargo bench --bench jpeg`. The picture is made here, like a photograph in how its detail is
//! spread over scales; a thread decodes it again and again.

use std::fmt;

use divan::{Bencher, black_box};
use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
use twinstream::image;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;

fn main() {
    for case in CASES {
        println!("{case}: {} bytes", case.encode().len());
    }
    divan::main();
}

#[derive(Clone, Copy)]
struct Case {
    width: usize,
    height: usize,
    quality: u8,
    subsampling: Subsampling,
    is_progressive: bool,
}

const SMALL: Case = Case {
    width: 500,
    height: 375,
    quality: 90,
    subsampling: Subsampling::S420,
    is_progressive: false,
};

/// The first is the size and kind of most photographs in data sets.
const CASES: &[Case] = &[
    SMALL,
    Case { quality: 75, ..SMALL },
    Case { subsampling: Subsampling::S444, ..SMALL },
    Case { is_progressive: true, ..SMALL },
    Case { width: 1920, height: 1080, ..SMALL },
];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height, quality, subsampling, is_progressive } = self;
        let kind = if *is_progressive { " progressive" } else { "" };
        write!(f, "{width}x{height} q{quality} {subsampling:?}{kind}")
    }
}

impl Case {
    fn encode(&self) -> Vec<u8> {
        let pixels = picture(self.width, self.height);
        Encoder::new(&pixels, self.width, self.height, PixelFormat::Rgb)
            .quality(self.quality)
            .subsampling(self.subsampling)
            .progressive(self.is_progressive)
            .encode()
            .expect("a picture of ordinary size")
    }
}

/// Noise whose octaves are the stronger the wider they are.
fn picture(width: usize, height: usize) -> Vec<u8> {
    const OCTAVES: u32 = 8;
    // Luma varies more than colour, as in photographs.
    let noise = |x: usize, y: usize, channel: usize| {
        let octave = |octave| {
            let side = 1_usize << octave;
            (side as f32).sqrt() * smooth_noise(x, y, side, channel)
        };
        (0..OCTAVES).map(octave).sum::<f32>()
    };
    let pixel = |index: usize| {
        let (x, y) = (index % width, index / width);
        let luma = 128.0 + 13.0 * noise(x, y, 3);
        [0, 1, 2].map(|channel| (luma + 3.0 * noise(x, y, channel)).clamp(0.0, 255.0) as u8)
    };
    (0..width * height).flat_map(pixel).collect()
}

/// From -1 to 1, between random values at the corners of squares of this side.
fn smooth_noise(x: usize, y: usize, side: usize, channel: usize) -> f32 {
    let corner = |x: usize, y: usize| {
        let seed = [x, y, side, channel].iter().fold(0_u64, |seed, &part| {
            (seed ^ part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        });
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let [left, top] = [x / side, y / side];
    let [u, v] = [x % side, y % side].map(|offset| offset as f32 / side as f32);
    let between = |a: f32, b: f32, weight: f32| a + (b - a) * weight;
    let upper = between(corner(left, top), corner(left + 1, top), u);
    let lower = between(corner(left, top + 1), corner(left + 1, top + 1), u);
    between(upper, lower, v)
}

#[divan::bench(args = CASES)]
fn ours(bencher: Bencher, case: &Case) {
    let bytes = case.encode();
    bencher.bench_local(|| image::decode(black_box(&bytes)).unwrap());
}

#[divan::bench(args = CASES)]
fn zune_jpeg(bencher: Bencher, case: &Case) {
    let bytes = case.encode();
    bencher.bench_local(|| JpegDecoder::new(ZCursor::new(black_box(&bytes))).decode().unwrap());
}

#[divan::bench(args = CASES)]
fn libjpeg_turbo_rs(bencher: Bencher, case: &Case) {
    let bytes = case.encode();
    bencher.bench_local(|| {
        libjpeg_turbo_rs::decompress_to(black_box(&bytes), PixelFormat::Rgb).unwrap()
    });
}
