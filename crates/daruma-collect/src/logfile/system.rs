//! What differs between systems: who a file is, how to open it without waiting, whether a file
//! system tells about changes.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// Who a file is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    /// The device that holds it.
    pub(super) device: u64,
    /// Its number there.
    pub(super) inode: u64,
}

#[cfg(unix)]
mod unix {
    use super::{File, Id, Metadata, Path, io};
    use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, OpenOptionsExt};

    /// Who it is.
    pub(in super::super) fn id(found: &Metadata) -> Id {
        Id { device: found.dev(), inode: found.ino() }
    }

    /// Under how many names it can be found; none: deleted.
    pub(in super::super) fn links(found: &Metadata) -> u64 {
        found.nlink()
    }

    /// Whether a directory entry can be the file with this number.
    pub(in super::super) fn may_be(entry: &std::fs::DirEntry, inode: u64) -> bool {
        entry.ino() == inode
    }

    /// Opens for reading. A pipe that took the place of a file does not hold us up.
    pub(in super::super) fn open(path: &Path) -> io::Result<File> {
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)
    }

    /// Reads at an offset.
    pub(in super::super) fn read_at(
        file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }
}

#[cfg(unix)]
pub(super) use unix::{id, links, may_be, open, read_at};

#[cfg(not(unix))]
mod portable {
    use super::{File, Id, Metadata, Path, io};
    use std::io::{Read, Seek, SeekFrom};
    use std::time::SystemTime;

    /// Who it is, by when it was made: file numbers are not to be had portably.
    pub(in super::super) fn id(found: &Metadata) -> Id {
        let made = found.created().unwrap_or(SystemTime::UNIX_EPOCH);
        let since = made.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Id { device: 0, inode: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// Not to be had portably: a file found missing under its path is as good as renamed.
    pub(in super::super) fn links(_found: &Metadata) -> u64 {
        1
    }

    /// Whether a directory entry can be the file with this number.
    pub(in super::super) fn may_be(entry: &std::fs::DirEntry, inode: u64) -> bool {
        entry.metadata().is_ok_and(|found| id(&found).inode == inode)
    }

    /// Opens for reading.
    pub(in super::super) fn open(path: &Path) -> io::Result<File> {
        File::open(path)
    }

    /// Reads at an offset.
    pub(in super::super) fn read_at(
        mut file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        file.seek(SeekFrom::Start(offset))?;
        file.read(buffer)
    }
}

#[cfg(not(unix))]
pub(super) use portable::{id, links, may_be, open, read_at};

/// Fills as much of `buffer` as the file has at `offset`.
pub(super) fn fill_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Whether changes that other machines make here would go unnoticed by this system's watching.
#[cfg(target_os = "linux")]
pub(super) fn is_network(path: &Path) -> bool {
    // NFS, SMB (1, CIFS, 2), 9P, AFS, Ceph, FUSE (which holds sshfs and most others), Lustre, GPFS.
    const NETWORK: [u32; 11] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x5346_414f,
        0x00c3_6400,
        0x6573_5546,
        0x0bd0_0bd0,
        0x4750_4653,
        0x7375_7245,
    ];
    rustix::fs::statfs(path).is_ok_and(|found| NETWORK.contains(&(found.f_type as u32)))
}

/// Whether changes that other machines make here would go unnoticed by this system's watching.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_network(_path: &Path) -> bool {
    false
}
