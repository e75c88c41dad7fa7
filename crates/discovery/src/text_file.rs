//! Reading files that others write, such as an endpoint list or a configuration: bounded in bytes and in time.
//!
//! A file is read into memory as a whole, so one that is larger than its reader allows is refused, and no more of it is read
//! than it takes to know that. What is no regular file is refused as well: a pipe waits for whoever writes to it, and a device
//! may have no end.

use std::fs::{File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Why a text was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("{0}; check the path and its permissions")]
    System(#[source] io::Error),
    /// It is a directory, pipe or device.
    #[error("it is {kind}; name a regular file")]
    Kind {
        /// What it is, with its article.
        kind: &'static str,
    },
    /// It is larger than it may be.
    #[error("it has more than {max_bytes} bytes, the most that is read; make it smaller")]
    TooLarge {
        /// The bound in bytes.
        max_bytes: usize,
    },
    /// It is no text.
    #[error("{0}; write it in UTF-8")]
    NotUtf8(#[source] std::string::FromUtf8Error),
}

impl ReadError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::System(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a regular file of at most `max_bytes`, or one that a link leads to.
///
/// # Errors
/// [`ReadError`]: what is wrong with it, and what to do.
pub fn read_file(path: &Path, max_bytes: usize) -> Result<String, ReadError> {
    // Without that flag, opening a pipe waits for somebody to open its other end. Reading a regular file does not know it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(ReadError::System)?;
    let kind = file.metadata().map_err(ReadError::System)?.file_type();
    if !kind.is_file() {
        return Err(ReadError::Kind { kind: name_of(kind) });
    }
    read_text(file, max_bytes)
}

/// Reads a source to its end, if that comes within `max_bytes`.
///
/// # Errors
/// [`ReadError`]: what is wrong with it, and what to do.
pub fn read_text(source: impl Read, max_bytes: usize) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    source.take(max_bytes as u64 + 1).read_to_end(&mut bytes).map_err(ReadError::System)?;
    if bytes.len() > max_bytes {
        return Err(ReadError::TooLarge { max_bytes });
    }
    String::from_utf8(bytes).map_err(ReadError::NotUtf8)
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    fn error(path: &Path, max_bytes: usize) -> String {
        read_file(path, max_bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_file_of_the_bound_is_read_and_one_byte_more_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.yaml");
        std::fs::write(&path, "abcd").unwrap();
        assert_eq!(read_file(&path, 4).unwrap(), "abcd");
        assert_eq!(read_file(&path, 5).unwrap(), "abcd");
        assert_eq!(error(&path, 3), "it has more than 3 bytes, the most that is read; make it smaller");
        let link = folder.path().join("link.yaml");
        symlink(&path, &link).unwrap();
        assert_eq!(read_file(&link, 4).unwrap(), "abcd");
    }

    #[test]
    fn a_source_without_end_is_given_up_behind_the_bound() {
        let mut taken = 0;
        let endless = std::iter::repeat_with(|| taken += 1);
        let source = Counted(endless);
        assert!(matches!(read_text(source, 1000), Err(ReadError::TooLarge { max_bytes: 1000 })));
        assert_eq!(taken, 1001);
    }

    /// Gives a byte for each item, one at a time.
    struct Counted<I>(I);

    impl<I: Iterator> Read for Counted<I> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let given = self.0.next().is_some() && !buffer.is_empty();
            if given {
                buffer[0] = b'a';
            }
            Ok(usize::from(given))
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(error(folder.path(), 9), "it is a directory; name a regular file");
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, Kind::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(error(&pipe, 9), "it is a pipe; name a regular file");
        assert_eq!(error(Path::new("/dev/zero"), 9), "it is a device; name a regular file");
    }

    #[test]
    fn a_file_that_is_not_there_is_told_from_one_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.yaml");
        let missing = read_file(&path, 9).unwrap_err();
        assert!(
            missing.is_not_found() && missing.to_string().ends_with("check the path and its permissions")
        );
        std::fs::write(&path, b"# \xff").unwrap();
        let binary = read_file(&path, 9).unwrap_err();
        assert!(!binary.is_not_found() && binary.to_string().ends_with("write it in UTF-8"), "{binary}");
    }
}
