//! A file read or written from front to back, as `std::io` wants it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::File;

/// A file with a position.
#[derive(Debug)]
pub struct FileStream {
    file: Box<dyn File>,
    position_bytes: u64,
}

impl FileStream {
    /// A stream that begins at the file's beginning.
    #[must_use]
    pub fn new(file: Box<dyn File>) -> Self {
        Self {
            file,
            position_bytes: 0,
        }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &dyn File {
        self.file.as_ref()
    }

    /// The next bytes, at most so many; none at the end.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn next_chunk(&mut self, maximum_bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; maximum_bytes];
        let count = self.read(&mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    }
}

impl Read for FileStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position_bytes)?;
        self.position_bytes += count as u64;
        Ok(count)
    }
}

impl Write for FileStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write_at(buffer, self.position_bytes)?;
        self.position_bytes += buffer.len() as u64;
        Ok(buffer.len())
    }

    /// Does not sync: see [`File::sync`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for FileStream {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let from = |base: u64, offset: i64| base.checked_add_signed(offset);
        let position = match target {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => from(self.position_bytes, offset),
            SeekFrom::End(offset) => from(self.file.length_bytes()?, offset),
        };
        self.position_bytes = position.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a position before the beginning",
            )
        })?;
        Ok(self.position_bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::super::simulated::SimulatedDisk;
    use super::super::{FileSystem as _, OpenMode};
    use super::*;

    #[test]
    fn what_is_written_in_parts_is_read_in_others() {
        let disk = SimulatedDisk::new();
        let file = disk.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        let mut stream = FileStream::new(file);
        for part in [&b"some "[..], b"thing ", b"written"] {
            stream.write_all(part).unwrap();
        }
        stream.rewind().unwrap();
        assert_eq!(stream.next_chunk(7).unwrap(), b"some th");
        assert_eq!(stream.next_chunk(100).unwrap(), b"ing written");
        assert_eq!(stream.next_chunk(100).unwrap(), b"");
        stream.seek(SeekFrom::End(-7)).unwrap();
        assert_eq!(stream.next_chunk(100).unwrap(), b"written");
        assert!(stream.seek(SeekFrom::Current(-100)).is_err());
    }
}
