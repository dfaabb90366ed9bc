//! JPEG against other decoders, value for value.
//!
//! Goal: pixels are libjpeg-turbo's, whatever the structure of the file, and nothing else ever.
//! Method: files whose pixels Pillow gave (`scripts/compare_jpeg.py`); random files from a fixed
//! seed, by an encoder of coefficients, beside another decoder; damaged files; files that ask for
//! more than they are worth.

#![cfg(feature = "image")]

#[path = "../common/mod.rs"]
mod common;

mod code;
mod encoder;
mod pictures;
mod random;

use std::fs;
use std::path::{Path, PathBuf};

use libjpeg_turbo_rs::PixelFormat;
use twinstream::image;

use crate::code::Code;
use crate::pictures::random_picture;
use crate::random::Random;

fn standard_codes() -> Vec<(u8, Code)> {
    Code::all_of(&fs::read(common::repository("tests/data/image/420.jpg")).unwrap())
}

fn jpeg_files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_jpeg = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jpg");
    let mut files: Vec<PathBuf> = files.filter(is_jpeg).collect();
    files.sort();
    files
}

/// What `found` and `expected` have apart, in words.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let pairs = found.iter().zip(expected).enumerate();
    let unequal: Vec<_> = pairs.filter(|(_, (found, expected))| found != expected).collect();
    let worst = unequal.iter().map(|(_, (found, expected))| found.abs_diff(**expected)).max();
    format!(
        "{} of {} values, by up to {worst:?}, first {:?}",
        unequal.len(),
        found.len(),
        unequal.first()
    )
}

/// Compares each JPEG file with the PPM file beside it; how many there were.
fn compare_folder(folder: &Path) -> usize {
    let files = jpeg_files(folder);
    let mut wrong = Vec::new();
    for path in &files {
        let decoded = image::decode_file(path);
        match (decoded, fs::read(path.with_extension("ppm"))) {
            (Ok(image), Ok(ppm)) => {
                let header = format!("P6\n{} {}\n255\n", image.width(), image.height());
                match ppm.strip_prefix(header.as_bytes()) {
                    Some(expected) if expected == image.pixels() => {}
                    Some(expected) => {
                        let difference = difference(image.pixels(), expected);
                        wrong.push(format!("{}: {difference}", path.display()));
                    }
                    None => wrong.push(format!("{}: of another size", path.display())),
                }
            }
            (Err(error), Ok(_)) => wrong.push(format!("refused: {error}")),
            (Ok(_), Err(_)) => println!("{}: read by us alone", path.display()),
            (Err(error), Err(_)) => println!("refused by all: {error}"),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    files.len()
}

/// Writes the random files that `scripts/compare_jpeg.py` brings Pillow's pixels for.
#[test]
fn random_files_are_written_where_they_are_asked_for() {
    let Some(folder) = std::env::var_os("TWINSTREAM_JPEG_WRITE").map(PathBuf::from) else {
        eprintln!("SKIPPED: TWINSTREAM_JPEG_WRITE names no folder");
        return;
    };
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let len = number("TWINSTREAM_JPEG_LEN").unwrap_or(2000);
    let side_max = number("TWINSTREAM_JPEG_SIDE").unwrap_or(64);
    let seed = number("TWINSTREAM_JPEG_SEED").unwrap_or(1) as u64;
    let (mut random, standard) = (Random::new(seed), standard_codes());
    for index in 0..len {
        let picture = random_picture(&mut random, side_max, false);
        let file = picture.encode(&mut random, &standard);
        fs::write(folder.join(format!("{index:04}.jpg")), file).unwrap();
    }
}

#[test]
fn files_of_a_named_folder_equal_pillows_pixels() {
    let Some(folder) = std::env::var_os("TWINSTREAM_JPEG_READ").map(PathBuf::from) else {
        eprintln!("SKIPPED: TWINSTREAM_JPEG_READ names no folder");
        return;
    };
    println!("{} files", compare_folder(&folder));
}

/// Files of public reports, and random ones.
#[test]
fn files_of_the_repository_equal_pillows_pixels() {
    let folder = common::repository("tests/data/jpeg");
    assert_eq!(compare_folder(&folder), 62);
}

/// CMYK as Pillow takes it: inverted, then multiplied out.
fn rgb_of_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let pixel = |&[c, m, y, k]: &[u8; 4]| {
        [c, m, y].map(|ink| {
            let product = u32::from(255 - ink) * u32::from(k) + 128;
            k.saturating_sub(((product + (product >> 8)) >> 8) as u8)
        })
    };
    cmyk.as_chunks::<4>().0.iter().flat_map(pixel).collect()
}

#[test]
fn random_files_equal_another_decoders_pixels() {
    let seed = 0x9e37_79b9_7f4a_7c15;
    println!("seed {seed:#x}");
    let (mut random, standard) = (Random::new(seed), standard_codes());
    for index in 0..1000 {
        let picture = random_picture(&mut random, 64, true);
        let file = picture.encode(&mut random, &standard);
        let is_cmyk = picture.components.len() == 4;
        let format = if is_cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb };
        let peer = libjpeg_turbo_rs::decompress_to(&file, format).unwrap_or_else(|error| {
            panic!("file {index}: {error}, {:?}", picture.scans);
        });
        let expected = if is_cmyk { rgb_of_cmyk(&peer.data) } else { peer.data };
        let found = image::decode(&file).unwrap_or_else(|error| panic!("file {index}: {error}"));
        assert_eq!((found.width(), found.height()), (picture.width, picture.height));
        let difference = || difference(found.pixels(), &expected);
        assert!(found.pixels() == expected, "file {index}: {}", difference());
    }
}

/// Cut files, such with an end marker, and ones with a bit turned: never a panic, and what is cut
/// is never another picture.
#[test]
fn damaged_files_are_errors_or_pictures() {
    let (mut random, standard) = (Random::new(0x2545_f491_4f6c_dd1d), standard_codes());
    for _ in 0..20 {
        let picture = random_picture(&mut random, 12, false);
        let file = picture.encode(&mut random, &standard);
        let whole = image::decode(&file).unwrap();
        for end in 0..file.len() {
            let cut = &file[..end];
            for cut in [cut.to_vec(), [cut, &[0xff, 0xd9]].concat()] {
                match image::decode(&cut) {
                    Ok(image) => assert!(image == whole, "cut at {end} of {}", file.len()),
                    Err(error) => assert!(error.is_image(), "{error}"),
                }
            }
        }
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Err(error) = image::decode(&damaged) {
                assert!(!error.to_string().contains("panicked"), "bit {bit}: {error}");
            }
        }
    }
}

/// What is not read is called by its name, whatever follows, with the remedy.
#[test]
fn other_kinds_are_refused_by_name() {
    let file = fs::read(common::repository("tests/data/image/420.jpg")).unwrap();
    let frame = file.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    let with = |offset: usize, value: u8| {
        let mut changed = file.clone();
        changed[frame + offset] = value;
        changed
    };
    let mut refused = vec![
        (fs::read(common::repository("tests/data/arithmetic.jpg")).unwrap(), "arithmetic-coded"),
        (with(4, 12), "12-bit"),
        (with(1, 0xf7), "JPEG-LS"),
        (with(1, 0xde), "hierarchical"),
    ];
    for (markers, name) in [
        (&[0xc3][..], "lossless"),
        (&[0xc5, 0xc6, 0xc7], "hierarchical"),
        (&[0xc9, 0xca], "arithmetic-coded"),
        (&[0xcb], "lossless arithmetic-coded"),
        (&[0xcd, 0xce, 0xcf], "hierarchical arithmetic-coded"),
    ] {
        refused.extend(markers.iter().map(|&marker| (with(1, marker), name)));
    }
    for (file, name) in refused {
        let error = image::decode(&file).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains(" JPEG data are not read: "), "{error}");
    }
    // Two components, of which Pillow makes nothing either.
    let mut two = file[..frame + 4 + 6 + 6].to_vec();
    two[frame + 3] = 8 + 6;
    two[frame + 9] = 2;
    two.extend(&file[frame + 4 + 15..]);
    let error = image::decode(&two).map(drop).unwrap_err();
    assert!(error.to_string().contains("2-component JPEG data are not read"), "{error}");
}

/// Header of a progressive picture of one component, 65,000 by 1,300, up to its scans.
fn large_header() -> Vec<u8> {
    let quantisation = [&[0xff, 0xdb, 0, 67, 0][..], &[1; 64]].concat();
    let frame = [0xff, 0xc2, 0, 11, 8, 0x05, 0x14, 0xfd, 0xe8, 1, 1, 0x11, 0];
    // A code of one bit for a difference of nothing, one for a run of 32,767 blocks.
    let dc = [&[0xff, 0xc4, 0, 20, 0, 1][..], &[0; 15], &[0]].concat();
    let ac = [&[0xff, 0xc4, 0, 20, 0x10, 1][..], &[0; 15], &[0xe0]].concat();
    [&[0xff, 0xd8][..], &quantisation, &frame, &dc, &ac].concat()
}

#[test]
fn data_that_are_too_short_for_a_picture_cost_nothing() {
    let scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0];
    let file = [&large_header()[..], &scan, &[0; 1000], &[0xff, 0xd9]].concat();
    let cost = allocation_counter::measure(|| {
        let error = image::decode(&file).map(drop).unwrap_err();
        assert!(error.to_string().contains("truncated JPEG"), "{error}");
    });
    assert!(cost.bytes_max < 1 << 20, "{} bytes", cost.bytes_max);
}

/// Scans that hold nothing take hardly any data, but time: their number has a limit.
#[test]
fn scans_have_a_limit() {
    let blocks_len = 8125 * 163;
    let constants = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0];
    let mut file = [&large_header()[..], &constants, &vec![0; blocks_len / 8 + 1]].concat();
    for _ in 0..50 {
        file.extend([0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0]);
        // 41 runs of 32,767 blocks: a code of one bit, and 14 bits.
        let ones = (0..41 * 15).map(|bit| u8::from(bit % 15 > 0));
        let bits: Vec<u8> = ones.chain([1; 7]).collect();
        for byte in bits.chunks_exact(8) {
            let byte = byte.iter().fold(0, |byte, bit| byte << 1 | bit);
            file.push(byte);
            file.extend((byte == 0xff).then_some(0));
        }
    }
    file.extend([0xff, 0xd9]);
    let error = image::decode(&file).map(drop).unwrap_err();
    assert!(error.to_string().contains("more scans than any encoder"), "{error}");
}
