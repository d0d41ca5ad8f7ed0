use std::io::Cursor;

use miniz_oxide::deflate::compress_to_vec_zlib;

use super::super::{Format, ImportError, List, read};
use super::*;

const WORKFLOW: &str = r#"{"nodes": [{"id": 1, "type": "VAELoader", "widgets_values": ["é.safetensors"]}]}"#;
const PROMPT: &str =
    r#"{"5": {"class_type": "VAELoader", "inputs": {"vae_name": "p.safetensors", "x": [NaN]}}}"#;

type Chunk = (&'static [u8; 4], Vec<u8>);

fn png(chunks: &[Chunk]) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in chunks {
        png.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        png.extend(*kind);
        png.extend(content);
        png.extend([0; 4]);
    }
    png
}

fn text(key: &str, value: &str) -> Chunk {
    (b"tEXt", [key.as_bytes(), b"\0", value.as_bytes()].concat())
}

fn packed(key: &str, value: &[u8]) -> Chunk {
    (b"zTXt", [key.as_bytes(), b"\0\0", &compress_to_vec_zlib(value, 9)].concat())
}

fn international(key: &str, value: &str, is_packed: bool) -> Chunk {
    let value = if is_packed { compress_to_vec_zlib(value.as_bytes(), 9) } else { value.as_bytes().to_vec() };
    let head = [key.as_bytes(), &[0, u8::from(is_packed), 0], b"de\0Schl\xc3\xbcssel\0"].concat();
    (b"iTXt", [head, value].concat())
}

/// A TIFF directory with texts, and below it a user's comment, which is of bytes in the other byte order.
fn exif(is_little: bool, tags: &[(u16, &str)], comment: &[u8]) -> Vec<u8> {
    let short = |n: u16| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
    let long = |n: usize| {
        let n = u32::try_from(n).unwrap();
        if is_little { n.to_le_bytes() } else { n.to_be_bytes() }
    };
    let below = 8 + 2 + 12 * (tags.len() + 1) + 4;
    let mut at = below + 2 + 12 + 4;
    let mut tiff = [if is_little { b"II" } else { b"MM" }.as_slice(), &short(42), &long(8)].concat();
    tiff.extend(short(u16::try_from(tags.len()).unwrap() + 1));
    let entry =
        |tag, kind, length, value| [&short(tag)[..], &short(kind), &long(length), &long(value)].concat();
    for (tag, text) in tags {
        tiff.extend(entry(*tag, 2, text.len() + 1, at));
        at += text.len() + 1;
    }
    tiff.extend(entry(0x8769, 4, 1, below));
    tiff.extend(long(0));
    tiff.extend(short(1));
    tiff.extend(entry(0x9286, if is_little { 7 } else { 1 }, comment.len(), at));
    tiff.extend(long(0));
    for (_, text) in tags {
        tiff.extend([text.as_bytes(), b"\0"].concat());
    }
    tiff.extend(comment);
    tiff
}

fn webp(exif: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], content: &[u8]| {
        let mut chunk = [&kind[..], &u32::try_from(content.len()).unwrap().to_le_bytes(), content].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    };
    let chunks = [b"WEBP".to_vec(), chunk(b"VP8 ", &[0; 33]), chunk(b"EXIF", exif)].concat();
    chunk(b"RIFF", &chunks)
}

fn jpeg(exif: &[u8]) -> Vec<u8> {
    let content = [b"Exif\0\0", exif].concat();
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&[0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 1, 0xff, 0xff, 0xe1][..], &length, &content, &[0xff, 0xda]].concat()
}

fn boxed(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len() + 8).unwrap().to_be_bytes()[..], &kind, content].concat()
}

/// A video whose metadata lies behind its frames. MOV has no `udta` and no version.
fn mp4(items: &[(&str, &str)], is_mov: bool) -> Vec<u8> {
    let mut keys = [[0; 4], u32::try_from(items.len()).unwrap().to_be_bytes()].concat();
    let mut list = Vec::new();
    for (at, (key, text)) in items.iter().enumerate() {
        keys.extend(boxed(*b"mdta", key.as_bytes()));
        let data = boxed(*b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0], text.as_bytes()].concat());
        list.extend(boxed(u32::try_from(at + 1).unwrap().to_be_bytes(), &data));
    }
    let version = if is_mov { vec![] } else { vec![0; 4] };
    let content =
        [version, boxed(*b"hdlr", &[0; 25]), boxed(*b"keys", &keys), boxed(*b"ilst", &list)].concat();
    let meta = boxed(*b"meta", &content);
    let meta = if is_mov { meta } else { boxed(*b"udta", &meta) };
    let frames = [&[0, 0, 0, 1][..], b"mdat", &116_u64.to_be_bytes(), &[7; 100]].concat();
    [boxed(*b"ftyp", b"isom"), frames, boxed(*b"moov", &[boxed(*b"mvhd", &[0; 100]), meta].concat())].concat()
}

fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let length = (u32::try_from(content.len()).unwrap() | 0x1000_0000).to_be_bytes();
    [id, &length, content].concat()
}

fn webm(tags: &[(&str, &str)]) -> Vec<u8> {
    let simple = |(name, text): &(&str, &str)| {
        let content =
            [element(&[0x45, 0xa3], name.as_bytes()), element(&[0x44, 0x87], text.as_bytes())].concat();
        element(&[0x67, 0xc8], &content)
    };
    let tag = element(&[0x73, 0x73], &tags.iter().flat_map(simple).collect::<Vec<u8>>());
    let tags = element(&[0x12, 0x54, 0xc3, 0x67], &tag);
    // The segment and the cluster have no length, as in a stream.
    let cluster = [&[0x1f, 0x43, 0xb6, 0x75, 0xff][..], &[0; 9]].concat();
    let head = element(&[0x1a, 0x45, 0xdf, 0xa3], b"\x42\x82\x84webm");
    [head, vec![0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255], tags, cluster].concat()
}

fn avif(exif: &[u8]) -> Vec<u8> {
    let info =
        |id: u8, kind: &[u8; 4]| boxed(*b"infe", &[&[2, 0, 0, 0, 0, id, 0, 0], &kind[..], b"\0"].concat());
    let items = [&[0, 0, 0, 0, 0, 2][..], &info(1, b"av01"), &info(2, b"Exif")].concat();
    let place = |id: u8, at: u32, length: usize| {
        let length = u32::try_from(length).unwrap().to_be_bytes();
        [&[0, id, 0, 0, 0, 1], &at.to_be_bytes()[..], &length].concat()
    };
    let file = |at: u32| {
        let places =
            [&[0, 0, 0, 0, 0x44, 0, 0, 2][..], &place(1, 0, 1), &place(2, at, exif.len() + 4)].concat();
        let meta = [vec![0; 4], boxed(*b"iinf", &items), boxed(*b"iloc", &places)].concat();
        let data = boxed(*b"mdat", &[&[0; 4], exif].concat());
        [boxed(*b"ftyp", b"avif\0\0\0\0"), boxed(*b"meta", &meta), data].concat()
    };
    let length = file(0).len() - exif.len() - 4;
    file(u32::try_from(length).unwrap())
}

fn names(list: &List) -> Vec<&str> {
    list.unused.iter().map(|unused| &*unused.what).collect()
}

fn both() -> [(u16, String); 2] {
    [(0x0110, format!("prompt:{PROMPT}")), (0x010f, format!("workflow:{WORKFLOW}"))]
}

/// A file of each kind with `workflow` and `prompt`.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let both = both();
    let tags: Vec<(u16, &str)> = both.iter().map(|(tag, text)| (*tag, text.as_str())).collect();
    let items = [("encoder", "Lavf"), ("prompt", PROMPT), ("workflow", WORKFLOW)];
    let escaped = WORKFLOW.replace('é', "\\u00e9");
    let latin: Vec<u8> = WORKFLOW.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let object = serde_json::json!({"workflow": WORKFLOW}).to_string();
    let utf16: Vec<u8> = object.encode_utf16().flat_map(u16::to_be_bytes).collect();
    vec![
        (
            "tEXt",
            png(&[
                text("prompt", PROMPT),
                text("workflow", &escaped),
                (b"IDAT", vec![0; 99]),
                (b"IEND", vec![]),
            ]),
        ),
        ("zTXt in Latin-1 behind the data", png(&[(b"IDAT", vec![1; 9]), packed("Workflow", &latin)])),
        ("iTXt", png(&[international("workflow", WORKFLOW, false)])),
        (
            "packed iTXt",
            png(&[international("prompt", PROMPT, true), international("workflow", WORKFLOW, true)]),
        ),
        ("eXIf", png(&[(b"eXIf", exif(true, &tags, b""))])),
        ("WebP", webp(&exif(true, &tags, b""))),
        ("WebP with a header", webp(&[b"Exif\0\0", &exif(false, &tags, b"")[..]].concat())),
        ("JPEG", jpeg(&exif(false, &tags, b""))),
        (
            "JPEG with a comment",
            jpeg(&exif(true, &[], format!("ASCII\0\0\0{{\"workflow\": {WORKFLOW}}}").as_bytes())),
        ),
        ("JPEG with UTF-16", jpeg(&exif(true, &[], &[b"UNICODE\0", &utf16[..]].concat()))),
        ("JPEG with a comment of bytes", jpeg(&exif(false, &[], object.as_bytes()))),
        ("JPEG with a description", jpeg(&exif(true, &[(0x010e, &format!("Workflow:{WORKFLOW}"))], b""))),
        ("AVIF", avif(&exif(true, &tags, b""))),
        ("MP4", mp4(&items, false)),
        ("MOV", mp4(&items, true)),
        ("MP4 with a comment", mp4(&[("comment", &object)], false)),
        ("WebM", webm(&[("ENCODER", "Lavf"), ("PROMPT", PROMPT), ("WORKFLOW", WORKFLOW)])),
        ("WebM with a comment", webm(&[("COMMENT", &object)])),
    ]
}

#[test]
fn each_kind_of_picture_and_video_has_its_workflow() {
    for (what, bytes) in files() {
        let list = read("file", &bytes, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((list.format, names(&list)), (Format::Workflow, vec!["é.safetensors"]), "{what}");
        assert_eq!(read("file", &bytes, Some(Format::Workflow)).as_ref(), Ok(&list), "{what}");
        assert!(matches!(read("file", &bytes, Some(Format::Urls)), Err(ImportError::Shape { .. })));
    }
}

#[test]
fn without_a_workflow_the_prompt_counts() {
    let both = png(&[text("prompt", PROMPT), text("workflow", WORKFLOW)]);
    let list = read("p.png", &both, Some(Format::Api)).unwrap();
    assert_eq!((list.format, names(&list)), (Format::Api, vec!["p.safetensors"]));
    let list = read("p.png", &png(&[text("prompt", PROMPT)]), None).unwrap();
    assert_eq!(names(&list), ["p.safetensors"]);
    for bytes in [
        // Cut off in the workflow, as a download that broke.
        both[..both.len() - 20].to_vec(),
        png(&[text("prompt", PROMPT), text("workflow", &WORKFLOW[..40])]),
        png(&[text("prompt", PROMPT), (b"zTXt", b"workflow\0\0broken".to_vec())]),
    ] {
        let list = read("p.png", &bytes, None).unwrap();
        assert_eq!(names(&list), ["p.safetensors", "the workflow"]);
        let said = list.unused[1].to_string();
        assert!(said.contains("p.png, its workflow") && said.contains("PNG picture is cut off"), "{said}");
    }
}

#[test]
fn a_picture_without_a_workflow_is_one_line_with_the_way_out() {
    for (bytes, kind) in [
        (png(&[text("parameters", "a cat"), (b"IEND", vec![])]), "PNG picture"),
        (webp(&exif(true, &[(0x010f, "Camera: 5")], b"\0\0\0\0\0\0\0\0{\"a\": 1}")), "WebP picture"),
        (jpeg(&exif(false, &[], b"a cat")), "JPEG picture"),
        (avif(b""), "AVIF picture"),
        (mp4(&[("encoder", "Lavf")], false), "MP4 video"),
        (webm(&[]), "WebM video"),
    ] {
        let said = read("cat\u{1b}.x", &bytes, None).unwrap_err().to_string();
        let expected = format!("cat·.x is a {kind} without a workflow; ");
        assert!(said.starts_with(&expected) && said.contains("export the workflow from ComfyUI"), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[test]
fn every_beginning_of_a_file_is_read_or_refused() {
    for (what, bytes) in files() {
        for end in 0..bytes.len() {
            let Err(error) = read("file", &bytes[..end], None) else { continue };
            let said = error.to_string();
            assert!(said.starts_with("file ") || said.contains(" in file "), "{what} {end}: {said}");
        }
        // Each byte in turn as the largest and the smallest: lengths, counts, offsets.
        for at in 0..bytes.len() {
            for byte in [0, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] = byte;
                let _ = read("file", &bytes, None);
            }
        }
    }
}

#[test]
fn hostile_pictures_are_bounded() {
    // A few kilobytes that unpack to more than the limit.
    let bomb = packed("workflow", &vec![b' '; MAX_TEXT as usize + 1]);
    assert!(bomb.1.len() < 100_000);
    let error = read("file", &png(&[bomb]), None).unwrap_err();
    assert!(matches!(error, ImportError::DamagedPicture { .. }), "{error}");
    // Each of many unpacks to more than the limit.
    let begun = std::time::Instant::now();
    let bombs = vec![packed("workflow", &vec![b' '; MAX_TEXT as usize + 1]); 500];
    assert!(matches!(read("file", &png(&bombs), None), Err(ImportError::DamagedPicture { .. })));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    // More parts than any picture has.
    let many = vec![text("a", ""); 1 << 18];
    assert!(matches!(read("file", &png(&many), None), Err(ImportError::DamagedPicture { .. })));
    // Tags that all have one text: it is read once.
    let object = format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20));
    let mut tiff = exif(true, &vec![(0x010e, ""); 1000], object.as_bytes());
    let comment = tiff.len() - object.len();
    for entry in (0..1000).map(|at| 10 + 12 * at) {
        tiff[entry + 4..entry + 8].copy_from_slice(&u32::try_from(object.len()).unwrap().to_le_bytes());
        tiff[entry + 8..entry + 12].copy_from_slice(&u32::try_from(comment).unwrap().to_le_bytes());
    }
    let begun = std::time::Instant::now();
    assert!(matches!(read("file", &webp(&tiff), None), Err(ImportError::NoWorkflow { .. })));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    // Deeper than the parser goes.
    let deep = format!("{{\"nodes\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(read("file", deep.as_bytes(), None), Err(ImportError::Json { .. })));
    let in_picture = read("file", &png(&[text("workflow", &deep)]), None);
    assert!(matches!(in_picture, Err(ImportError::DamagedPicture { .. })), "{in_picture:?}");
}

/// A file of which most bytes must not be read.
struct Sparse {
    content: Cursor<Vec<u8>>,
    end: Vec<u8>,
    length: u64,
    at: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tail = self.length - self.end.len() as u64;
        let count = if self.at >= tail {
            (&self.end[(self.at - tail) as usize..]).read(buffer)?
        } else {
            self.content.set_position(self.at);
            self.content.read(buffer)?
        };
        assert!(
            count > 0 || buffer.is_empty() || self.at >= self.length,
            "the middle was read at {}",
            self.at
        );
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.length.saturating_add_signed(by),
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
        };
        Ok(self.at)
    }
}

#[test]
fn the_size_of_a_video_does_not_matter() {
    let length: u64 = 9 << 30;
    let start =
        [boxed(*b"ftyp", b"isom"), [&[0, 0, 0, 1][..], b"mdat", &length.to_be_bytes()].concat()].concat();
    let items = mp4(&[("workflow", WORKFLOW)], false);
    let end = items[items.windows(4).position(|kind| kind == b"moov").unwrap() - 4..].to_vec();
    let length = 12 + length + end.len() as u64;
    let mut file = Sparse { content: Cursor::new(start), end, length, at: 0 };
    let (kind, texts) = texts(&mut file).unwrap().unwrap();
    assert_eq!((kind, texts.workflow.as_deref()), (Kind::Mp4, Some(WORKFLOW)));
}
