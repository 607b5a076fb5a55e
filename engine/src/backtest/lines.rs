//! A file of JSON lines, plain, gzipped or compressed with zstd, told apart by its first bytes; as batches of envelopes numbered by line.

use crate::error::Fault;
use crate::source::{BATCH_MAX, Envelope};
use bytes::Bytes;
use model::Timestamp;
use model::wire::PAYLOAD_MAX_BYTES;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes of one batch, so that long calls do not fill the memory; one call may go beyond.
const BATCH_BYTES: usize = 4 << 20;
/// A longer line is malformed whatever it holds; the rest of it is passed over unread.
const LINE_MAX: u64 = PAYLOAD_MAX_BYTES as u64 + 2;

pub struct Lines {
    path: PathBuf,
    bytes: Box<dyn BufRead + Send>,
    read: Arc<AtomicU64>,
    line: u64,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Lines {
    /// The lines, and the length of the file in bytes.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub fn open(path: &Path) -> Result<(Self, u64), Fault> {
        let cannot =
            |error: io::Error| Fault::new(format!("cannot read {}: {error}", path.display()), "name a file of JSON lines, one call log each");
        let file = File::open(path).map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        if metadata.is_dir() {
            return Err(cannot(io::Error::new(ErrorKind::IsADirectory, "it is a folder")));
        }
        let read = Arc::new(AtomicU64::new(0));
        let mut file = BufReader::with_capacity(1 << 18, Counted { file, read: read.clone() });
        let magic = file.fill_buf().map_err(cannot)?;
        let bytes: Box<dyn BufRead + Send> = if magic.starts_with(&GZIP_MAGIC) {
            Box::new(BufReader::with_capacity(1 << 18, flate2::bufread::MultiGzDecoder::new(file)))
        } else if magic.starts_with(&ZSTD_MAGIC) {
            Box::new(BufReader::with_capacity(1 << 18, Frames { source: file, decoder: FrameDecoder::new(), open: false }))
        } else {
            Box::new(file)
        };
        Ok((Self { path: path.to_owned(), bytes, read, line: 0 }, metadata.len()))
    }

    /// Bytes of the file that are read, as it lies on the disk.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The next lines that are not blank, each as an envelope whose sequence is its line and whose stamp says nothing; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Vec<Envelope>>, Fault> {
        let mut bytes = Vec::with_capacity(BATCH_BYTES / 4);
        let mut spans = Vec::with_capacity(BATCH_MAX);
        while spans.len() < BATCH_MAX && bytes.len() < BATCH_BYTES {
            let start = bytes.len();
            let length = self.line(&mut bytes).map_err(|error| self.fault(&error))?;
            if length == 0 {
                break;
            }
            self.line += 1;
            if bytes[start..].iter().all(u8::is_ascii_whitespace) {
                bytes.truncate(start);
            } else {
                spans.push((self.line, start..bytes.len()));
            }
        }
        let bytes = Bytes::from(bytes);
        let envelope = |(sequence, span)| Envelope { sequence, stamp: Timestamp::EPOCH, payload: bytes.slice(span) };
        let envelopes: Vec<_> = spans.into_iter().map(envelope).collect();
        Ok((!envelopes.is_empty()).then_some(envelopes))
    }

    /// Appends a line without its end; returns how much was read of it.
    fn line(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let length = (&mut self.bytes).take(LINE_MAX).read_until(b'\n', bytes)?;
        if bytes.last() == Some(&b'\n') && length > 0 {
            bytes.pop();
        } else if length as u64 == LINE_MAX {
            loop {
                let rest = self.bytes.fill_buf()?;
                let end = rest.iter().position(|byte| *byte == b'\n');
                let (passed, over) = (end.map_or(rest.len(), |end| end + 1), end.is_some() || rest.is_empty());
                self.bytes.consume(passed);
                if over {
                    break;
                }
            }
        }
        Ok(length)
    }

    fn fault(&self, error: &io::Error) -> Fault {
        Fault::new(
            format!("cannot read {} after line {}: {error}", self.path.display(), self.line),
            "is the file whole? a compressed one that was cut cannot be read",
        )
    }
}

/// A file that counts what is read of it.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// The frames of a zstd file one after the other: compressors with several threads and `cat` write more than one.
struct Frames<R: BufRead> {
    source: R,
    decoder: FrameDecoder,
    /// Within a frame.
    open: bool,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let damaged = |error: FrameDecoderError| io::Error::new(ErrorKind::InvalidData, error.to_string());
        loop {
            if self.open {
                while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                    self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1)).map_err(damaged)?;
                }
                let length = self.decoder.read(buffer)?;
                if length > 0 || buffer.is_empty() {
                    return Ok(length);
                }
                self.open = false;
                if self.decoder.get_checksum_from_data().is_some_and(|written| Some(written) != self.decoder.get_calculated_checksum()) {
                    return Err(io::Error::new(ErrorKind::InvalidData, "its checksum is wrong"));
                }
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => self.open = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(damaged(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &str = "{\"id\":1}\n\n  \n{\"id\":2}\n{\"id\":3}";

    fn lines(content: &[u8]) -> Vec<(u64, String)> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(content).expect("it is written");
        let (mut lines, length) = Lines::open(file.path()).expect("it opens");
        let mut read = Vec::new();
        while let Some(batch) = lines.next().expect("it reads") {
            read.extend(batch.into_iter().map(|e| (e.sequence, String::from_utf8_lossy(&e.payload).into_owned())));
        }
        assert_eq!((lines.read(), length), (content.len() as u64, content.len() as u64));
        read
    }

    fn expected() -> Vec<(u64, String)> {
        [(1, "{\"id\":1}"), (4, "{\"id\":2}"), (5, "{\"id\":3}")].map(|(line, text)| (line, text.to_owned())).into()
    }

    fn zstd(text: &str) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn lines_keep_their_numbers_however_the_file_is_compressed() {
        assert_eq!(lines(TEXT.as_bytes()), expected());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT.as_bytes()).expect("it compresses");
        assert_eq!(lines(&gzip.finish().expect("it compresses")), expected());
        assert_eq!(lines(&zstd(TEXT)), expected());
    }

    #[test]
    fn a_zstd_file_may_have_several_frames_and_some_to_skip() {
        let (first, second) = TEXT.split_at(13);
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        assert_eq!(lines(&[&zstd(first)[..], &skipped, &zstd(second)].concat()), expected());
    }

    #[test]
    fn a_line_without_end_is_cut_and_what_follows_is_read() {
        let long = "x".repeat(PAYLOAD_MAX_BYTES + 100);
        let read = lines(format!("{long}\n{{\"id\":2}}").as_bytes());
        assert_eq!((read.len(), read[0].1.len() as u64, read[1].clone()), (2, LINE_MAX, (2, "{\"id\":2}".to_owned())));
    }
}
