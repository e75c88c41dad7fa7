//! Where lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Takes the lines of the access log, on the writer's thread.
pub trait Sink: Write + Send + 'static {
    /// Begins anew after somebody moved the file away (the SIGUSR1 convention of log rotation).
    ///
    /// # Errors
    ///
    /// If it cannot; lines then go where they went before.
    fn reopen(&mut self) -> io::Result<()>;
}

/// The access log's file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {}: {source}; its directory must exist and be writable", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// Appends to a file.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    file: File,
}

impl FileSink {
    /// Opens `path` for appending, or creates it.
    ///
    /// # Errors
    ///
    /// If the file can be neither opened nor created.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let path = path.to_path_buf();
        match append(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(OpenError { path, source }),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl Write for FileSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.file.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for FileSink {
    fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }
}

/// Writes to standard output.
#[derive(Debug, Default)]
pub struct StdoutSink;

impl Write for StdoutSink {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        io::stdout().write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

impl Sink for StdoutSink {
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}
