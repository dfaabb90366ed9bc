//! What a file is that is not what was asked for, told by its content, and what to do about it.
//!
//! Asked only after a reader has found that a file is none of its own: the first answer that fits
//! is given, and none where nothing does. Looks at a few kilobytes at either end, whatever the
//! file's length. Knows nothing of readers and of file names.

/// Bytes at either end of a file that are looked at.
const LOOK_LEN: usize = 64 << 10;

/// What is to be done with a file of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// An image: to be converted, where a program is named, with this one.
    Convert(&'static str),
    /// Weights of PyTorch: these Python expressions read their tensors from `FILE`.
    ExportTorch(&'static str),
    /// Weights or a network of another library: the network is to be exported from PyTorch.
    ExportAnew,
    /// A stand-in for the file, or what a failed download left: this brings the file itself.
    Fetch(&'static str),
    /// Something with files in it, or a list of files.
    Open(&'static str),
    /// Nothing that could become what was asked for.
    NameAnother,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// With its article: "a GIF image".
    pub(crate) name: &'static str,
    pub(crate) remedy: Remedy,
}

const CONVERT: Remedy = Remedy::Convert("magick FILE out.png");
const FETCH: Remedy = Remedy::Fetch("download it again");
const UNPACK: Remedy = Remedy::Open("unpack it and name the file in it");
const LOAD_PICKLE: Remedy =
    Remedy::ExportTorch(r#"torch.load("FILE", map_location="cpu", weights_only=True)"#);
const LOAD_SCRIPT: Remedy = Remedy::ExportTorch(r#"torch.jit.load("FILE", "cpu").state_dict()"#);

/// Kinds with a fixed beginning: where it stands, its bytes, name, remedy. Earlier rows win.
const BEGINNINGS: &[(usize, &[u8], &str, Remedy)] = &[
    (0, b"\xff\xd8\xff", "a JPEG image", CONVERT),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image", CONVERT),
    (0, b"GIF87a", "a GIF image", CONVERT),
    (0, b"GIF89a", "a GIF image", CONVERT),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image", CONVERT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", CONVERT),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", Remedy::Convert("djxl FILE out.png")),
    (0, b"\xff\x0a", "a JPEG XL image", Remedy::Convert("djxl FILE out.png")),
    (0, b"II\xbc", "a JPEG XR image", Remedy::Convert("JxrDecApp -i FILE -o out.bmp")),
    (8, b"CR\x02\0", "a camera's RAW image (CR2)", CONVERT),
    (0, b"II*\0", "a TIFF image (or a camera's RAW image)", CONVERT),
    (0, b"MM\0*", "a TIFF image (or a camera's RAW image)", CONVERT),
    (0, b"II+\0", "a BigTIFF image", CONVERT),
    (0, b"MM\0+", "a BigTIFF image", CONVERT),
    (0, b"IIU\0", "a camera's RAW image (RW2)", CONVERT),
    (0, b"IIRO", "a camera's RAW image (ORF)", CONVERT),
    (0, b"IIRS", "a camera's RAW image (ORF)", CONVERT),
    (0, b"MMOR", "a camera's RAW image (ORF)", CONVERT),
    (0, b"FUJIFILMCCD-RAW", "a camera's RAW image (RAF)", CONVERT),
    (0, b"FOVb", "a camera's RAW image (X3F)", CONVERT),
    (0, b"8BPS", "a Photoshop document", CONVERT),
    (0, b"icns", "an Apple icon", CONVERT),
    (0, b"%PDF-", "a PDF document", CONVERT),
    (0, b"%!PS", "a PostScript document", CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS document", CONVERT),
    (0, b"DDS ", "a DDS texture", CONVERT),
    (0, b"\xabKTX ", "a KTX texture", CONVERT),
    (0, b"qoif", "a QOI image", CONVERT),
    (0, b"farbfeld", "a farbfeld image", CONVERT),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR image", CONVERT),
    (0, b"#?RGBE", "a Radiance HDR image", CONVERT),
    (0, b"FLIF", "a FLIF image", CONVERT),
    (0, b"BPG\xfb", "a BPG image", CONVERT),
    (0, b"SIMPLE  =", "a FITS image", CONVERT),
    (128, b"DICM", "a DICOM image", CONVERT),
    (8, b"WEBP", "a WebP image", CONVERT),
    (8, b"AVI ", "an AVI video", Remedy::NameAnother),
    (8, b"WAVE", "a WAV sound", Remedy::NameAnother),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM video", Remedy::NameAnother),
    (0, b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20", "a PyTorch checkpoint (pickle)", LOAD_PICKLE),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", Remedy::ExportAnew),
    (0, b"GGUF", "a GGUF file", Remedy::ExportAnew),
    (0, b"lmgg", "a GGML file", Remedy::ExportAnew),
    (0, b"fmgg", "a GGML file", Remedy::ExportAnew),
    (0, b"tjgg", "a GGML file", Remedy::ExportAnew),
    (0, b"\x93NUMPY", "a NumPy array", Remedy::ExportAnew),
    (4, b"TFL3", "a TensorFlow Lite model", Remedy::ExportAnew),
    (0, b"ftrt", "a TensorRT engine", Remedy::ExportAnew),
    (0, b"ptrt", "a TensorRT engine", Remedy::ExportAnew),
    (0, b"MATLAB 5.0", "a MATLAB file", Remedy::ExportAnew),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (0, b"\x7fELF", "a program or library", Remedy::NameAnother),
    (0, b"version https://git-lfs", "a Git LFS pointer", Remedy::Fetch("run `git lfs pull`")),
    (0, b"version https://hawser", "a Git LFS pointer", Remedy::Fetch("run `git lfs pull`")),
];

/// Kinds of ISO media files by their brands, as in [`BEGINNINGS`]; the first brand that is here
/// counts where the file names several, AVIF's before those that it shares with HEIC.
const BRANDS: &[(&[&[u8]], &str, Remedy)] = &[
    (&[b"avif", b"avis"], "an AVIF image", Remedy::Convert("avifdec FILE out.png")),
    (
        &[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"],
        "a HEIC image",
        Remedy::Convert("heif-convert FILE out.jpg"),
    ),
    (&[b"crx "], "a camera's RAW image (CR3)", CONVERT),
    (&[b"jxl "], "a JPEG XL image", Remedy::Convert("djxl FILE out.png")),
    (&[b"jp2 ", b"jpx "], "a JPEG 2000 image", CONVERT),
];

/// What zip archives hold that tell their kind, in order.
const ZIP_MEMBERS: &[(&[u8], &str, Remedy)] = &[
    (b"/constants.pkl", "a TorchScript model", LOAD_SCRIPT),
    (b"/data.pkl", "a PyTorch checkpoint (zip)", LOAD_PICKLE),
    (b".weights.h5", "a Keras model", Remedy::ExportAnew),
    (b"saved_model.pb", "a TensorFlow SavedModel in a zip archive", Remedy::ExportAnew),
    (b".npy", "a NumPy archive (npz)", Remedy::ExportAnew),
    (b"", "a zip archive", UNPACK),
];

/// What `bytes`, a whole file, are.
pub(crate) fn tell(bytes: &[u8]) -> Option<Foreign> {
    if bytes.is_empty() {
        return foreign("an empty file", FETCH);
    }
    let start = &bytes[..bytes.len().min(LOOK_LEN)];
    let end = &bytes[bytes.len() - start.len()..];
    let begins = |&&(at, magic, ..): &&(usize, &[u8], _, _)| {
        start.get(at..).is_some_and(|rest| rest.starts_with(magic))
    };
    if let Some(&(_, _, name, remedy)) = BEGINNINGS.iter().find(begins) {
        return foreign(name, remedy);
    }
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        let holds = |part: &[u8]| part.is_empty() || has(start, part) || has(end, part);
        let member = ZIP_MEMBERS.iter().find(|(part, ..)| holds(part))?;
        return foreign(member.1, member.2);
    }
    tell_media(start)
        .or_else(|| tell_binary(start, end))
        .or_else(|| tell_text(start))
        .or_else(|| all_zero(start).then(|| foreign("a file of zero bytes", FETCH)).flatten())
}

fn foreign(name: &'static str, remedy: Remedy) -> Option<Foreign> {
    Some(Foreign { name, remedy })
}

/// ISO media files: HEIC, AVIF, videos.
fn tell_media(start: &[u8]) -> Option<Foreign> {
    let (size, rest) = start.split_first_chunk::<4>()?;
    let brands = rest.strip_prefix(b"ftyp")?;
    let brands_len = (u32::from_be_bytes(*size) as usize).saturating_sub(8).min(brands.len());
    let brands = &brands[..brands_len];
    let is_named = |brand: &&[u8]| brands.chunks_exact(4).any(|named| named == *brand);
    match BRANDS.iter().find(|(kinds, ..)| kinds.iter().any(&is_named)) {
        Some(&(_, name, remedy)) => foreign(name, remedy),
        None => foreign("an MP4 or QuickTime video", Remedy::NameAnother),
    }
}

/// Kinds whose beginning is no fixed string.
fn tell_binary(start: &[u8], end: &[u8]) -> Option<Foreign> {
    /// The last bytes of a LevelDB table, as which TensorFlow stores a checkpoint's index.
    const TABLE_END: &[u8] = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb";

    match *start {
        // A pickle's protocol, then an opcode: frame, dictionary, tuple, global, mark or number.
        [0x80, 2..=5, b'\x95' | b'}' | b']' | b'(' | b'c' | b'K' | b'M' | b'X' | b'\x8a', ..] => {
            return foreign("a Python pickle", LOAD_PICKLE);
        }
        // A map of few entries whose first key is a short text.
        [0x81..=0x8f, text @ 0xa1..=0xbf, ref key @ ..]
            if key.get(..usize::from(text - 0xa0)).is_some_and(is_text) =>
        {
            return foreign("a MessagePack file (Flax)", Remedy::ExportAnew);
        }
        // How many pictures there are follows; in a TGA these bytes are zero.
        [0, 0, 1, 0, 1..=255, 0, ..] => return foreign("a Windows icon", CONVERT),
        [0, 0, 2, 0, 1..=255, 0, ..] => return foreign("a Windows cursor", CONVERT),
        // Kind of map and pixels, then the map's place; behind the sides, bits of a pixel.
        [_, 0, 2 | 3 | 10 | 11, 0, 0, 0, 0, 0, _, _, _, _, _, _, _, _, bits, ..]
        | [_, 1, 1 | 9, _, _, _, _, 15 | 16 | 24 | 32, _, _, _, _, _, _, _, _, bits, ..]
            if [8, 15, 16, 24, 32].contains(&bits) =>
        {
            return foreign("a TGA image", CONVERT);
        }
        // Protocol buffers: a version number, then the next field.
        [8, 1, 0x12, ..] => return foreign("a TensorFlow SavedModel", Remedy::ExportAnew),
        [8, 2..=30, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => {
            return foreign("an ONNX model", Remedy::ExportAnew);
        }
        [0x0a, _, 0x0a, ..] if has(start, b"Placeholder") || has(start, b"Const") => {
            return foreign("a TensorFlow graph", Remedy::ExportAnew);
        }
        [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() => {
            return foreign("a PNM image", CONVERT);
        }
        // The length of a header, then the header's opening brace.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => {
            return foreign("a safetensors file (weights)", Remedy::NameAnother);
        }
        _ => {}
    }
    let is_text_pickle = |begin: &&[u8]| start.starts_with(begin) && end.ends_with(b".");
    if [&b"(dp"[..], b"(lp", b"ccollections\n"].iter().any(is_text_pickle) {
        return foreign("a Python pickle", LOAD_PICKLE);
    }
    if end.ends_with(TABLE_END) {
        return foreign("a TensorFlow checkpoint", Remedy::ExportAnew);
    }
    end.ends_with(b"TRUEVISION-XFILE.\0")
        .then_some(Foreign { name: "a TGA image", remedy: CONVERT })
}

/// Kinds of text: pages, lists and configurations that stand where a file was expected.
fn tell_text(start: &[u8]) -> Option<Foreign> {
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return foreign("a text file", Remedy::NameAnother);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let text = text.trim_ascii_start().to_ascii_lowercase();
    let is_page = has(&text, b"<html") || has(&text, b"<!doctype html");
    match text.first() {
        Some(b'<') if has(&text, b"<svg") && !is_page => foreign("an SVG drawing", CONVERT),
        Some(b'<') if is_page => foreign("an HTML page, as a failed download leaves it", FETCH),
        Some(b'<') if is_text(&text) => {
            foreign("an XML file, as a failed download leaves it", FETCH)
        }
        Some(b'{' | b'[') if has(&text, b"\"weight_map\"") => {
            foreign("a list of shards (JSON)", Remedy::Open("join the shards it names"))
        }
        Some(b'{' | b'[')
            if [&b"\"architecture"[..], b"\"pretrained_cfg\"", b"\"model_type\"", b"\"mean\""]
                .iter()
                .any(|key| has(&text, key)) =>
        {
            foreign("a configuration (JSON)", Remedy::NameAnother)
        }
        Some(b'{' | b'[') if is_text(&text) => {
            foreign("a JSON file, as a failed download leaves it", FETCH)
        }
        _ => is_text(&text).then_some(Foreign { name: "a text file", remedy: Remedy::NameAnother }),
    }
}

/// Whether `text` is UTF-8 without control characters; it may end within a character.
pub(crate) fn is_text(text: &[u8]) -> bool {
    let is_whole = match std::str::from_utf8(text) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    is_whole && !text.is_empty() && !text.iter().any(is_control)
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> Option<&'static str> {
        tell(bytes).map(|foreign| foreign.name)
    }

    #[test]
    fn media_files_are_told_by_all_their_brands() {
        for (brands, expected) in [
            (&b"heic\0\0\0\0mif1heic"[..], "a HEIC image"),
            (b"mif1\0\0\0\0mif1heic", "a HEIC image"),
            (b"mif1\0\0\0\0mif1avif", "an AVIF image"),
            (b"avis\0\0\0\0", "an AVIF image"),
            (b"crx \0\0\0\x01crx isom", "a camera's RAW image (CR3)"),
            (b"isom\0\0\x02\0isomavc1", "an MP4 or QuickTime video"),
            (b"qt  ", "an MP4 or QuickTime video"),
        ] {
            let size = (brands.len() as u32 + 8).to_be_bytes();
            // What follows the box does not count.
            let file = [&size, &b"ftyp"[..], brands, b"avif"].concat();
            assert_eq!(name(&file), Some(expected), "{brands:?}");
        }
    }

    #[test]
    fn files_without_a_fixed_beginning_are_told() {
        let tga = |start: [u8; 8], bits| [&start[..], &[0, 0, 0, 0, 4, 0, 4, 0, bits, 0]].concat();
        for (bytes, expected) in [
            (tga([0, 0, 2, 0, 0, 0, 0, 0], 24), Some("a TGA image")),
            (tga([0, 0, 10, 0, 0, 0, 0, 0], 32), Some("a TGA image")),
            (tga([0, 1, 1, 0, 0, 0, 1, 24], 8), Some("a TGA image")),
            (tga([0, 0, 2, 0, 0, 0, 0, 0], 7), None),
            (tga([0, 0, 1, 0, 3, 0, 16, 16], 0), Some("a Windows icon")),
            (tga([0, 0, 2, 0, 1, 0, 32, 32], 0), Some("a Windows cursor")),
            (b"(dp0\nVfc.weight\np1\nF0.5\ns.".to_vec(), Some("a Python pickle")),
            (b"(dp is text)".to_vec(), Some("a text file")),
            (b"\x81\xa6params\x82\xa2fc\x80".to_vec(), Some("a MessagePack file (Flax)")),
        ] {
            assert_eq!(name(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn archives_are_told_by_what_they_hold_at_either_end() {
        let padding = vec![7; 3 * LOOK_LEN];
        let zip = |first: &[u8], last: &[u8]| [b"PK\x03\x04", first, &padding, last].concat();
        for (first, last, expected) in [
            (&b"archive/data.pkl"[..], &b"archive/data.pkl"[..], "a PyTorch checkpoint (zip)"),
            (b"m/data.pkl", b"m/constants.pkl", "a TorchScript model"),
            (b"fc.weight.npy", b"", "a NumPy archive (npz)"),
            (b"config.json", b"model.weights.h5", "a Keras model"),
            (b"photo.jpg", b"", "a zip archive"),
        ] {
            assert_eq!(name(&zip(first, last)), Some(expected));
        }
    }

    #[test]
    fn texts_are_told_apart() {
        for (text, expected) in [
            ("\u{feff}<!DOCTYPE html><p>", "an HTML page, as a failed download leaves it"),
            ("\n<HTML><svg/>", "an HTML page, as a failed download leaves it"),
            ("<?xml version='1.0'?><svg xmlns='s'/>", "an SVG drawing"),
            ("<?xml version='1.0'?><Error/>", "an XML file, as a failed download leaves it"),
            (r#"{"error": "not found"}"#, "a JSON file, as a failed download leaves it"),
            (r#"{"metadata": {}, "weight_map": {}}"#, "a list of shards (JSON)"),
            (r#"{"architecture": "resnet50"}"#, "a configuration (JSON)"),
            ("version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
            ("Grüße", "a text file"),
        ] {
            assert_eq!(name(text.as_bytes()), Some(expected), "{text}");
        }
        assert_eq!(name(b"\x01\x02\x03"), None);
        assert_eq!(name(&[0; 99]), Some("a file of zero bytes"));
    }
}
