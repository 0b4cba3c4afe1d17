//! The files beside the database: the lock, the reserve, the witness. Every call that differs
//! between platforms is here.
//!
//! - `journal.lock` is held exclusively by the one daruma that writes, and names its process.
//! - `journal.reserve` is room kept for a full disk: it is released when a commit finds none, so that
//!   a running incident can still be recorded to its end, and made again when space is back.
//! - `journal.witness` notes after every commit, outside of the database, how far it was durable. It
//!   is written after the database's own sync and before the acknowledgement: it is never ahead of
//!   what was durable, so a database that ends before its witness has lost acknowledged events.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::JournalError;
use crate::chain::Witness;

/// Held until dropped.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(path: PathBuf) -> Result<Lock, JournalError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|error| JournalError::from_io(&path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Where locks also hinder reading, the holder stays unnamed.
                let read = (&file).take(32).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(JournalError::Locked { path, pid });
            }
            Err(TryLockError::Error(error)) => return Err(JournalError::from_io(&path, &error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        match written {
            Ok(()) => {}
            // The lock holds without its note: a full disk must not keep the monitor from starting.
            Err(error)
                if matches!(JournalError::from_io(&path, &error), JournalError::Full { .. }) => {}
            Err(error) => return Err(JournalError::from_io(&path, &error)),
        }
        Ok(Lock { _file: file })
    }
}

/// Makes a rename or a new file in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    // Elsewhere directories cannot be opened as files; the file system orders renames itself.
    if cfg!(unix) {
        File::open(directory)
            .and_then(|file| file.sync_all())
            .map_err(|error| JournalError::from_io(directory, &error))?;
    }
    Ok(())
}

/// What the file system says about itself.
pub(crate) struct Space {
    /// Bytes this process may still write.
    pub(crate) free: u64,
    pub(crate) read_only: bool,
}

#[cfg(unix)]
pub(crate) fn space(path: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(path).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let read_only = found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    Some(Space { free, read_only })
}

#[cfg(not(unix))]
pub(crate) fn space(_path: &Path) -> Option<Space> {
    None
}

/// Room kept for a full disk.
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    pub(crate) there: bool,
}

impl Reserve {
    /// `bytes` 0 keeps no reserve.
    pub(crate) fn new(path: PathBuf, bytes: u64) -> Reserve {
        let there = bytes == 0 || path.metadata().is_ok_and(|found| found.len() == bytes);
        Reserve { path, bytes, there }
    }

    /// Whether there was room to release.
    pub(crate) fn release(&mut self) -> bool {
        if self.bytes == 0 || !self.there {
            return false;
        }
        match std::fs::remove_file(&self.path) {
            Ok(()) => {
                self.there = false;
                true
            }
            Err(_) => false,
        }
    }

    /// Makes it again. Asks for three times its size to be free, so that the reserve itself never
    /// fills the disk again.
    pub(crate) fn make(&mut self) -> Result<(), JournalError> {
        if self.there {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        if let Some(space) = space(directory)
            && space.free < self.bytes.saturating_mul(3)
        {
            let found = format!("{} bytes free, {} wanted", space.free, self.bytes * 3);
            return Err(JournalError::Full { path: self.path.clone(), found });
        }
        let path = self.path.with_extension("reserve.new");
        let made = File::create(&path).and_then(|mut file| {
            // Not zeros: a file system that compresses would keep no room for them.
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            let mut left = self.bytes;
            while left > 0 {
                let mut block = [0_u8; 65536];
                for word in block.chunks_exact_mut(8) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    word.copy_from_slice(&state.to_le_bytes());
                }
                let size = left.min(block.len() as u64);
                file.write_all(&block[..usize::try_from(size).unwrap_or(block.len())])?;
                left -= size;
            }
            file.sync_all()?;
            std::fs::rename(&path, &self.path)
        });
        match made {
            Ok(()) => {
                self.there = true;
                Ok(())
            }
            Err(error) => {
                // Half a reserve is only in the way; if it cannot be removed, the next try does it.
                drop(std::fs::remove_file(&path));
                Err(JournalError::from_io(&self.path, &error))
            }
        }
    }
}

/// Bytes of one slot: commits, tail, hash, check; two slots, so that a torn write spoils one.
const SLOT: usize = 64;

/// The writing end of `journal.witness`.
pub(crate) struct WitnessFile {
    file: File,
}

impl WitnessFile {
    pub(crate) fn open(path: &Path) -> Result<WitnessFile, JournalError> {
        let named = |error: std::io::Error| JournalError::from_io(path, &error);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(named)?;
        let length = file.metadata().map_err(named)?.len();
        if length < 2 * SLOT as u64 {
            // Written once in full, so that later notes need no new room on a full disk.
            file.seek(SeekFrom::Start(length)).map_err(named)?;
            let missing = 2 * SLOT - usize::try_from(length).unwrap_or(0);
            file.write_all(&[0; 2 * SLOT][..missing]).map_err(named)?;
            file.sync_all().map_err(named)?;
        }
        Ok(WitnessFile { file })
    }

    pub(crate) fn note(&mut self, witness: Witness) -> std::io::Result<()> {
        let slot = (witness.commits % 2) * SLOT as u64;
        self.file.seek(SeekFrom::Start(slot))?;
        self.file.write_all(&encode(witness))
    }
}

fn encode(witness: Witness) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(&witness.commits.to_be_bytes());
    slot[8..16].copy_from_slice(&witness.tail.to_be_bytes());
    slot[16..48].copy_from_slice(&witness.hash);
    let check = Sha256::digest(&slot[..48]);
    slot[48..].copy_from_slice(&check[..16]);
    slot
}

fn decode(slot: &[u8]) -> Option<Witness> {
    let check = Sha256::digest(slot.get(..48)?);
    if slot.get(48..SLOT)? != &check[..16] {
        return None;
    }
    let commits = u64::from_be_bytes(slot[..8].try_into().ok()?);
    let tail = u64::from_be_bytes(slot[8..16].try_into().ok()?);
    Some(Witness { commits, tail, hash: slot[16..48].try_into().ok()? })
}

/// The latest note; `None` if there is none that can be read (as after a power cut before the first
/// one reached the disk).
pub(crate) fn witness(path: &Path) -> Result<Option<Witness>, JournalError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(2 * SLOT as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| JournalError::from_io(path, &error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::from_io(path, &error)),
    };
    Ok(bytes.chunks(SLOT).filter_map(decode).max_by_key(|witness| witness.commits))
}
