//! The archive format of an initramfs: cpio, "newc" variant
//! (the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`).

use std::io::{self, Write};

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Writes entries one after the other; a folder must come before what lies in it.
#[derive(Debug)]
pub struct Archive<W> {
    output: W,
    /// Also the inode number of the next entry: equal numbers would mean hard links.
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Begins an archive.
    pub fn new(output: W) -> Self {
        Self { output, entries: 0 }
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, FOLDER | 0o755, (0, 0), &[])
    }

    /// Adds a file with its permission bits.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, REGULAR | permissions, (0, 0), content)
    }

    /// Adds a character device by major and minor number.
    pub fn device(&mut self, path: &str, number: (u32, u32)) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE | 0o600, number, &[])
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let path = path.trim_start_matches('/');
        let size = u32::try_from(data.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let links = if mode & FOLDER == 0 { 1 } else { 2 };
        let name_size =
            u32::try_from(path.len() + 1).map_err(|_| io::ErrorKind::InvalidFilename)?;
        // Inode, mode, owner, group, links, time, size, device (2), device number (2), name
        // size, checksum: always zero in this variant.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(path.as_bytes());
        header.push(0);
        self.output.write_all(&header)?;
        self.pad(header.len())?;
        self.output.write_all(data)?;
        self.pad(data.len())
    }

    /// Names and contents end on multiples of four bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.output
            .write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_aligned_and_the_trailer_ends_them() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("/dev").unwrap();
        archive.device("/dev/console", (5, 1)).unwrap();
        archive.file("/init", 0o755, b"#!").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let headers: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(b"070701"))
            .collect();
        assert_eq!(headers.len(), 4);
        assert!(headers.iter().all(|at| at % 4 == 0), "{headers:?}");
        let console = &bytes[headers[1]..headers[2]];
        assert_eq!(&console[14..22], b"00002180");
        assert_eq!(&console[78..94], b"0000000500000001");
        let init = &bytes[headers[2]..headers[3]];
        assert_eq!(&init[54..62], b"00000002");
        assert_eq!(&init[110..116], b"init\0\0");
        assert_eq!(&init[116..120], b"#!\0\0");
        assert!(
            bytes[headers[3]..]
                .windows(10)
                .any(|name| name == b"TRAILER!!!")
        );
    }
}
