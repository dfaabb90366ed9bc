//! Decoding, resizing and cropping against Pillow and torchvision.
//!
//! Goal: the pixels that the network sees are those that it would see in PyTorch. Method: files in
//! every format and mode with Pillow's result, made by `scripts/golden_image.py`; beside a
//! developer's checkout also sixteen photographs. Damaged files: none may decode to anything but
//! its true pixels.

#![cfg(feature = "image")]

mod common;

use std::path::PathBuf;

use safetensors::SafeTensors;
use twinstream::image::{self, DecodeOptions, Preprocess, Rgb8};
use twinstream::model::Interpolation;

fn data(file: &str) -> PathBuf {
    common::repository("tests/data/image").join(file)
}

fn interpolation(name: &str) -> Interpolation {
    match name {
        "bilinear" => Interpolation::Bilinear,
        "bicubic" => Interpolation::Bicubic,
        _ => panic!("unknown filter {name}"),
    }
}

/// How far two images are apart.
#[derive(Debug, Default)]
struct Difference {
    values_len: usize,
    unequal_len: usize,
    worst: u8,
}

impl Difference {
    fn add(&mut self, found: &[u8], expected: &[u8]) {
        assert_eq!(found.len(), expected.len());
        self.values_len += found.len();
        for (found, expected) in found.iter().zip(expected) {
            let difference = found.abs_diff(*expected);
            self.unequal_len += usize::from(difference != 0);
            self.worst = self.worst.max(difference);
        }
    }

    fn equal_share(&self) -> f64 {
        1.0 - self.unequal_len as f64 / self.values_len as f64
    }
}

#[test]
fn every_format_decodes_as_in_pillow() {
    let expected = std::fs::read(data("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let mut files_len = 0;
    for (key, tensor) in expected.tensors() {
        let Some(file) = key.strip_prefix("decoded/") else { continue };
        let image = image::decode_file(data(file)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(tensor.shape(), [image.height(), image.width(), 3], "{file}");
        assert!(image.pixels() == tensor.data(), "{file}");
        let told = image::dimensions(&std::fs::read(data(file)).unwrap());
        assert_eq!(told, Some((image.width(), image.height())), "{file}");
        files_len += 1;
    }
    assert_eq!(files_len, 33);
}

/// BMP with every header, layout and run length, PNG of every colour type, WebP that promises
/// alpha or moves.
#[test]
fn unusual_files_decode_as_in_pillow_and_cut_ones_never_otherwise() {
    let unusual = std::fs::read(data("variants.safetensors")).unwrap();
    let unusual = SafeTensors::deserialize(&unusual).unwrap();
    let mut wrong = Vec::new();
    let mut files_len = 0;
    for (key, file) in unusual.tensors() {
        let Some(name) = key.strip_prefix("file/") else { continue };
        files_len += 1;
        let expected = unusual.tensor(&format!("decoded/{name}")).unwrap();
        match image::decode(file.data()) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(image) if [image.height(), image.width(), 3] != *expected.shape() => {
                wrong.push(format!("{name}: {}x{}", image.height(), image.width()));
            }
            Ok(image) if image.pixels() != expected.data() => {
                wrong.push(format!("{name}: other pixels"));
            }
            Ok(image) => {
                let told = image::dimensions(file.data());
                if told != Some((image.width(), image.height())) {
                    wrong.push(format!("{name}: its header tells {told:?}"));
                }
            }
        }
        if !name.ends_with(".webp") {
            // The pixels' end; `a_truncated_file_is_an_error_or_whole` has all other cuts.
            for end in file.data().len().saturating_sub(50)..file.data().len() {
                match image::decode(&file.data()[..end]) {
                    Ok(image) if image.pixels() != expected.data() => {
                        wrong.push(format!("{name} cut at {end}: other pixels"));
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(files_len, 269);
}

/// Pillow misreads jumps, and drops the last pixel of a literal of odd length: see `image/bmp.rs`.
#[test]
fn rle4_literals_of_odd_length_are_whole_and_jumps_are_refused() {
    let bmp = |runs: &[u8]| {
        let mut file = b"BM\0\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0".to_vec();
        file.extend([3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 4, 0, 2, 0, 0, 0]);
        file.extend([0; 20]);
        // Sixteen colours, red by index.
        file.extend((0..16).flat_map(|index| [0, 0, index, 0]));
        file.extend(runs);
        file
    };
    let image = image::decode(&bmp(&[0, 3, 0x12, 0x30, 0, 1])).unwrap();
    assert_eq!(image.pixels(), [1, 0, 0, 2, 0, 0, 3, 0, 0]);
    for (runs, reason) in [
        (&[0, 2, 1, 0, 2, 0x22][..], "skip pixels"),
        (&[0, 4, 0x12, 0x34, 0, 1], "longer than its row"),
        (&[2, 0x11, 0, 1], "truncated"),
        (&[2, 0x11], "truncated"),
    ] {
        let error = image::decode(&bmp(runs)).unwrap_err();
        assert!(error.is_image() && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn crops_equal_pillows_exactly() {
    let expected = std::fs::read(data("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let mut cases_len = 0;
    for (key, tensor) in expected.tensors() {
        let Some(case) = key.strip_prefix("cropped/") else { continue };
        let [file, filter, size, crop_pct] = case.split('/').collect::<Vec<_>>()[..] else {
            panic!("{key}")
        };
        let (height, width) = size.split_once('x').unwrap();
        let preprocess = Preprocess {
            height: height.parse().unwrap(),
            width: width.parse().unwrap(),
            crop_pct: crop_pct.parse().unwrap(),
            interpolation: interpolation(filter),
        };
        let cropped = preprocess.apply(&image::decode_file(data(file)).unwrap()).unwrap();
        assert_eq!(tensor.shape(), [cropped.height(), cropped.width(), 3], "{key}");
        assert!(cropped.pixels() == tensor.data(), "{key}");
        cases_len += 1;
    }
    assert_eq!(cases_len, 18);
}

#[test]
fn photographs_decode_and_crop_as_in_pillow() {
    let Some(folder) = common::shared_data("photographs") else { return };
    let reference = std::fs::read(folder.join("reference.safetensors")).unwrap();
    let reference = SafeTensors::deserialize(&reference).unwrap();
    let mut photos: Vec<PathBuf> = std::fs::read_dir(folder.join("photos"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "png"))
        .collect();
    photos.sort();
    assert_eq!(photos.len(), 16);

    for filter in ["bilinear", "bicubic"] {
        let expected = reference.tensor(&format!("photo_pixels_{filter}")).unwrap();
        let (height, width, crop_pct) = (224, 224, 0.875);
        let preprocess =
            Preprocess { height, width, crop_pct, interpolation: interpolation(filter) };
        let mut difference = Difference::default();
        for (photo, expected) in photos.iter().zip(expected.data().chunks_exact(224 * 224 * 3)) {
            let cropped = preprocess.apply(&image::decode_file(photo).unwrap()).unwrap();
            difference.add(cropped.pixels(), expected);
        }
        let share = difference.equal_share();
        println!("{filter}: equal {:.4} %, worst {}", 100.0 * share, difference.worst);
        assert!(share >= 0.999 && difference.worst <= 1, "{filter}: {difference:?}");
    }
    for photo in &photos {
        let png = image::decode_file(photo).unwrap();
        let jpeg = image::decode_file(photo.with_extension("JPEG")).unwrap();
        assert!(jpeg == png, "{}", photo.display());
    }
}

#[test]
fn a_truncated_file_is_an_error_or_whole() {
    for entry in std::fs::read_dir(data("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let whole = image::decode(&bytes).unwrap();
        let mut whole_len = 0;
        for end in 0..bytes.len() {
            // What follows the pixels (a PNG's IEND, a second frame) may be missing.
            match image::decode(&bytes[..end]) {
                Ok(image) => {
                    assert!(image == whole, "{} cut at {end} is a picture", path.display());
                    whole_len += 1;
                }
                Err(error) => assert!(error.is_image(), "{error}"),
            }
        }
        println!("{}: {whole_len} of {} cuts are whole", path.display(), bytes.len());
        let whole_len_max = if path.ends_with("animated.webp") { bytes.len() / 2 } else { 12 };
        assert!(whole_len <= whole_len_max, "{}: {whole_len} are whole", path.display());
    }
}

/// The marker at the end of a cut file makes a lenient decoder take what is missing for zeros, and
/// a progressive file that ends between two scans for a coarser picture.
#[test]
fn a_cut_jpeg_with_an_end_marker_is_an_error_or_whole() {
    const END: [u8; 2] = [0xff, 0xd9];
    for entry in std::fs::read_dir(data("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jpg") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let whole = image::decode(&bytes).unwrap();
        // What stands behind the marker is not looked at.
        for rest in [&[0; 100][..], &END, &bytes] {
            assert!(image::decode(&[&bytes, rest].concat()).unwrap() == whole);
        }
        let is_scan = |marker: &[u8]| marker == [0xff, 0xda];
        let first_scan = bytes.windows(2).position(is_scan).unwrap();
        for end in first_scan..bytes.len() - 2 {
            match image::decode(&[&bytes[..end], &END].concat()) {
                Ok(image) => assert!(image == whole, "{} cut at {end}", path.display()),
                Err(error) => assert!(error.is_image(), "{error}"),
            }
        }
    }
}

/// Files with a scan for each component, made with `jpegtran -scans` of 444.jpg and 420.jpg.
#[test]
fn scans_of_single_components_make_the_same_image() {
    for (scans, whole) in [("image/scans.jpg", "444.jpg"), ("scans-420.jpg", "420.jpg")] {
        let scans = image::decode_file(common::repository("tests/data").join(scans)).unwrap();
        assert!(scans == image::decode_file(data(whole)).unwrap(), "{whole}");
    }
    // Restarts are declared before the first scan, but are not there.
    let mut scans = std::fs::read(data("scans.jpg")).unwrap();
    let frame = scans.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    scans.splice(frame..frame, [0xff, 0xdd, 0, 4, 0, 5]);
    let error = image::decode(&scans).map(|_| ()).unwrap_err();
    assert!(error.is_image() && error.to_string().contains("restart"), "{error}");
}

#[test]
fn other_files_are_named_for_what_they_are() {
    for (bytes, reason) in [
        (&b""[..], "empty"),
        (b"hello, I am a text file", "not an image"),
        (b"BMW makes cars, this is a text", "a text file"),
        (b"GIF89a\x01\0\x01\0\0\0\0", "a GIF image, which is not read: convert it"),
        (b"II*\0\x08\0\0\0", "a TIFF image"),
        (b"MM\0+", "a BigTIFF image"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "an AVIF image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\xff\x4f\xff\x51\0\x2f", "a JPEG 2000 image"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL image"),
        (b"P6\n1 1\n255\nabc", "a PNM image"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<?xml version=\"1.0\"?><svg></svg>", "an SVG drawing"),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull`"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x10\0\0\0\0\0\0\0{\"a\":{}}", "a safetensors file"),
        (b"\xff\xd8\xff", "truncated JPEG"),
        (b"\xff\xd8\xff\xe0\x00\x0bnot a jpeg\xff\xd9", "malformed JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"BM", "BMP"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP"),
    ] {
        let error = image::decode(bytes).unwrap_err();
        assert!(error.is_image(), "{error}");
        assert!(error.to_string().contains(reason), "{error}, expected {reason}");
    }
}

#[test]
fn files_that_were_reported_are_refused_with_the_remedy() {
    for (file, reasons) in [
        ("heic_named.jpg", ["a HEIC image", "heif-convert"]),
        ("a.jxl", ["a JPEG XL image", "convert it to JPEG or PNG"]),
        ("lfs_pointer.safetensors", ["a Git LFS pointer", "git lfs pull"]),
        ("cgbi.png", ["CgBI", "pngcrush"]),
        ("idat_crc.png", ["wrong checksum", "download it again"]),
        ("no_iend.png", ["no IEND chunk", "download it again"]),
    ] {
        let path = common::repository("tests/data/foreign").join(file);
        let error = image::decode_file(path).unwrap_err();
        assert!(error.is_image(), "{error}");
        for reason in reasons.iter().chain(&[file]) {
            assert!(error.to_string().contains(reason), "{error}, expected {reason}");
        }
    }
}

#[test]
fn damage_is_told_in_plain_words() {
    let png = std::fs::read(data("rgb.png")).unwrap();
    let pixels = png.windows(4).position(|kind| kind == b"IDAT").unwrap() - 4;
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let checked = [kind, data].concat();
        [&(data.len() as u32).to_be_bytes()[..], &checked, &png_crc(&checked).to_be_bytes()]
            .concat()
    };
    let with = |more: &[u8]| [&png[..pixels], more, &png[pixels..]].concat();
    let short = chunk(b"IDAT", &png[pixels + 8..pixels + 200]);
    // A whole stream of ten zeros.
    let few = [&[0x78, 1, 1, 10, 0, 0xf5, 0xff][..], &[0; 10], &[0, 10, 0, 1]].concat();
    let few = chunk(b"IDAT", &few);
    let mut webp = std::fs::read(data("lossless.webp")).unwrap();
    webp[25..60].fill(0xff);
    for (bytes, reason) in [
        (with(&chunk(b"QQQQ", b"")), "chunk QQQQ is not known"),
        (with(&png[8..33]), "chunk IHDR"),
        ([&png[..pixels], &short, &chunk(b"IEND", b"")].concat(), "truncated PNG data"),
        ([&png[..pixels], &few, &chunk(b"IEND", b"")].concat(), "truncated PNG data"),
        ([&png[..pixels], &chunk(b"IEND", b"")].concat(), "no chunk with pixels"),
        (with(&chunk(b"IDAT", &[7; 99])), "the compressed pixels are wrong"),
        (webp, "malformed WebP data"),
    ] {
        let error = image::decode(&bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("download it again"), "{error}");
        assert!(!error.contains("Format error") && !error.contains("ChunkType"), "{error}");
    }
}

#[test]
fn the_largest_size_is_an_option_for_every_format() {
    for file in ["rgb.png", "420.jpg", "lossless.webp", "rgb.bmp"] {
        let options = |pixels_max| DecodeOptions::default().pixels_max(pixels_max);
        assert!(image::decode_file_with(data(file), &options(45 * 34)).is_ok(), "{file}");
        let error = image::decode_file_with(data(file), &options(45 * 34 - 1)).unwrap_err();
        assert!(error.to_string().contains("--pixels-max"), "{file}: {error}");
    }
}

#[test]
fn bombs_are_refused_by_their_header() {
    let mut png = std::fs::read(data("rgb.png")).unwrap();
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let crc = png_crc(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&crc);
    let mut bmp = std::fs::read(data("rgb.bmp")).unwrap();
    bmp[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
    let mut jpeg = std::fs::read(data("420.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    for bytes in [png, bmp, jpeg] {
        let error = image::decode(&bytes).unwrap_err();
        assert!(error.to_string().contains("65535x65535 is too large"), "{error}");
    }
}

#[test]
fn a_palette_that_ends_within_a_colour_is_refused() {
    let png = std::fs::read(data("palette.png")).unwrap();
    let start = png.windows(4).position(|kind| kind == b"PLTE").unwrap() - 4;
    let data_len = u32::from_be_bytes(png[start..start + 4].try_into().unwrap()) as usize;
    for missing in [1, 2] {
        let mut chunk = (data_len as u32 - missing).to_be_bytes().to_vec();
        chunk.extend(&png[start + 4..start + 8 + data_len - missing as usize]);
        chunk.extend(png_crc(&chunk[4..]).to_be_bytes());
        let cut = [&png[..start], &chunk, &png[start + 12 + data_len..]].concat();
        let error = image::decode(&cut).unwrap_err();
        assert!(error.is_image() && error.to_string().contains("palette"), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    for path in [data("absent.png"), data("")] {
        let error = image::decode_file(&path).unwrap_err();
        assert!(error.is_io(), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    let path = std::env::temp_dir().join(format!("twinstream-{}-fake.jpg", std::process::id()));
    std::fs::write(&path, "fake").unwrap();
    let error = image::decode_file(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(error.is_image() && error.to_string().contains("fake.jpg"), "{error}");
}

#[test]
fn damaged_files_never_panic() {
    let seed = 0x2545_f491_4f6c_dd1d_u64;
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let preprocess =
        Preprocess { height: 32, width: 32, crop_pct: 0.95, interpolation: Interpolation::Bicubic };
    for entry in std::fs::read_dir(data("")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            continue;
        }
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random() % 4 {
                let position = random() % damaged.len();
                damaged[position] = random() as u8;
            }
            if let Ok(image) = image::decode(&damaged) {
                let input: Rgb8 = preprocess.apply(&image).unwrap();
                assert_eq!(input.pixels().len(), 32 * 32 * 3);
            }
        }
    }
}

/// CRC-32 as PNG chunks carry it.
fn png_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
