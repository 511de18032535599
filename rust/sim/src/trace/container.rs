//! From the bytes of a file to its text: compression by magic bytes, and files that are something else.

use std::borrow::Cow;
use std::io::Read;

use crate::error::{Error, Result};

/// What the bytes hold.
pub(super) enum Content<'a> {
    /// Text, without byte-order mark.
    Text(Cow<'a, [u8]>),
    /// Columns in Apache Parquet.
    Parquet(Cow<'a, [u8]>),
    /// Columns in Arrow's IPC file format.
    Arrow,
}

/// Unpacks gzip and zstd (all members and frames) and names what is no trace at all.
///
/// # Errors
/// A stream that ends early or fails its checksum, and files that are empty, UTF-16, HTML, a Git LFS pointer or binary.
pub(super) fn open<'a>(origin: &str, bytes: &'a [u8]) -> Result<(Content<'a>, Vec<String>)> {
    let mut information = Vec::new();
    let named = |suffix: &str| origin.ends_with(suffix);
    let unpacked = match bytes {
        [0x1f, 0x8b, ..] => Cow::Owned(gunzip(origin, bytes)?),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Cow::Owned(unzstd(origin, bytes)?),
        _ => {
            if let Some(suffix) = [".gz", ".zst"].into_iter().find(|suffix| named(suffix)) {
                information.push(format!("named {suffix} but not compressed: read as it is"));
            }
            Cow::Borrowed(bytes)
        }
    };
    if unpacked.starts_with(b"PAR1") {
        return Ok((Content::Parquet(unpacked), information));
    }
    if unpacked.starts_with(b"ARROW1") {
        return Ok((Content::Arrow, information));
    }
    refuse_what_is_no_trace(origin, &unpacked)?;
    Ok((Content::Text(without_mark(unpacked)), information))
}

/// Text without the UTF-8 byte-order mark.
fn without_mark(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    match text {
        Cow::Borrowed(bytes) => Cow::Borrowed(bytes.strip_prefix(MARK).unwrap_or(bytes)),
        Cow::Owned(mut bytes) => {
            if bytes.starts_with(MARK) {
                bytes.drain(..MARK.len());
            }
            Cow::Owned(bytes)
        }
    }
}

fn gunzip(origin: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len().saturating_mul(6));
    match flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(cut_off(origin, "gzip", &text))
        }
        Err(error) => Err(corrupt(origin, "gzip", &error)),
    }
}

fn unzstd(origin: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len().saturating_mul(8));
    let read = zstd::stream::read::Decoder::with_buffer(bytes)
        .and_then(|mut decoder| decoder.window_log_max(31).map(|()| decoder))
        .and_then(|mut decoder| decoder.read_to_end(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(cut_off(origin, "zstd", &text))
        }
        Err(error) => Err(corrupt(origin, "zstd", &error)),
    }
}

fn cut_off(origin: &str, kind: &str, text: &[u8]) -> Error {
    let lines = memchr::memchr_iter(b'\n', text).count();
    let must = format!("the {kind} stream must be complete");
    Error::trace(origin, 0, "", must, format!("it ends early, after {lines} lines"))
        .hinted("the download or the writer was probably interrupted; get the file again")
}

fn corrupt(origin: &str, kind: &str, error: &std::io::Error) -> Error {
    let text = error.to_string();
    let value = if text.contains("checksum") { "checksum mismatch".to_string() } else { text };
    Error::trace(origin, 0, "", format!("the {kind} stream must be intact"), value)
        .hinted("the file was damaged after it was written; get it again")
}

fn refuse_what_is_no_trace(origin: &str, text: &[u8]) -> Result<()> {
    let must = "the file must be text (JSON Lines, JSON or CSV), gzip, zstd or Parquet";
    let refuse = |value: &str, hint: &str| Err(Error::trace(origin, 0, "", must, value).hinted(hint));
    if text.is_empty() {
        return Err(Error::trace(origin, 0, "", "the file must hold requests", "it is empty (0 bytes)"));
    }
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return refuse("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE");
    }
    // The magic of POSIX archives stands behind the first name.
    if text.get(257..262) == Some(b"ustar") {
        return refuse(
            "an archive (tar)",
            "unpack it: `tar -xf FILE`; a folder of ServeGen's clients is for `--servegen FOLDER`",
        );
    }
    let start = text[..text.len().min(256)].trim_ascii_start().to_ascii_lowercase();
    if start.starts_with(b"<!doctype") || start.starts_with(b"<html") {
        return refuse(
            "an HTML page",
            "the download failed, or used a page that shows the file instead of the file itself (`raw`)",
        );
    }
    if start.starts_with(b"version https://git-lfs") {
        return refuse("a Git LFS pointer", "the file itself was not downloaded: run `git lfs pull`");
    }
    let first_line = &text[..memchr::memchr(b'\n', text).unwrap_or(text.len())];
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\r');
    if first_line.iter().any(is_control) {
        return refuse("binary data", "");
    }
    Ok(())
}
