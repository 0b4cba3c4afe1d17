//! This host by `/proc`, `/sys` and `statvfs`.
//!
//! Files are kept open and read again from their start: the kernel writes them anew each time, and
//! opening them costs more than reading them.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::space::{Asker, NoSpace};
use super::{HostSource, Troubles};
use crate::series::SeriesBook;

/// The most devices of one kind that are told of: a host with more is told so.
const DEVICES_MAX: usize = 512;
/// The most bytes of one file.
const FILE_BYTES_MAX: usize = 4 << 20;
/// How long all file systems together may take in one reading; the others wait for the next one.
const SPACE_WITHIN: Duration = Duration::from_secs(2);
/// Clock ticks of `/proc/stat` in a second: the same on every machine this is built for.
const TICKS: f64 = 100.0;
/// Bytes in a sector of `/proc/diskstats`, whatever the disk has.
const SECTOR: f64 = 512.0;

pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub(super) struct Reader {
    exclude: Vec<super::PathGlob>,
    paths: Vec<PathBuf>,
    files: [Kept; 11],
    text: Vec<u8>,
    names: String,
    asker: Asker,
}

/// A file that is kept open.
struct Kept {
    path: &'static str,
    file: Option<File>,
    /// Kernels without it are whole without it.
    optional: bool,
}

type Part = fn(&mut Reader, &[u8], &mut SeriesBook, &mut Troubles);

/// In the order of [`PARTS`].
const FILES: [(&str, bool); 11] = [
    ("/proc/stat", false),
    ("/proc/loadavg", false),
    ("/proc/meminfo", false),
    ("/proc/vmstat", true),
    ("/proc/diskstats", true),
    ("/proc/net/dev", false),
    ("/proc/sys/fs/file-nr", true),
    ("/proc/pressure/cpu", true),
    ("/proc/pressure/io", true),
    ("/proc/pressure/memory", true),
    ("/proc/self/mountinfo", false),
];

const PARTS: [Part; 11] = [
    |reader, text, book, _| reader.stat(text, book),
    |_, text, book, _| load(text, book),
    |reader, text, book, _| reader.memory(text, book),
    |reader, text, book, _| reader.vmstat(text, book),
    |_, text, book, troubles| disks(text, book, troubles),
    |_, text, book, troubles| networks(text, book, troubles),
    |_, text, book, _| descriptors(text, book),
    |_, text, book, _| pressure(text, "node_pressure_cpu_waiting_seconds_total", None, book),
    |_, text, book, _| {
        let stalled = Some("node_pressure_io_stalled_seconds_total");
        pressure(text, "node_pressure_io_waiting_seconds_total", stalled, book);
    },
    |_, text, book, _| {
        let stalled = Some("node_pressure_memory_stalled_seconds_total");
        pressure(text, "node_pressure_memory_waiting_seconds_total", stalled, book);
    },
    |reader, text, book, troubles| reader.filesystems(text, book, troubles),
];

impl Reader {
    pub(super) fn new(source: &HostSource) -> Reader {
        Reader {
            exclude: source.filesystems.exclude.clone(),
            paths: source.paths.clone(),
            files: FILES.map(|(path, optional)| Kept { path, file: None, optional }),
            text: Vec::new(),
            names: String::new(),
            asker: Asker::new(),
        }
    }

    pub(super) fn read(&mut self, book: &mut SeriesBook, troubles: &mut Troubles) {
        let name = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let pairs = [
            ("sysname", text(name.sysname())),
            ("nodename", text(name.nodename())),
            ("release", text(name.release())),
            ("version", text(name.version())),
            ("machine", text(name.machine())),
            ("domainname", text(name.domainname())),
        ];
        let pairs = pairs.each_ref().map(|(name, value)| (*name, value.as_str()));
        book.add("node_uname_info", &pairs, 1.0);
        let mut text = std::mem::take(&mut self.text);
        for (i, part) in PARTS.into_iter().enumerate() {
            match self.files[i].read(&mut text) {
                Ok(true) => part(self, &text, book, troubles),
                Ok(false) => {}
                Err(error) => troubles.push(format!("cannot read {}: {error}", self.files[i].path)),
            }
        }
        self.text = text;
    }

    fn stat(&mut self, text: &[u8], book: &mut SeriesBook) {
        const MODES: [&str; 8] =
            ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
        for line in lines(text) {
            let mut words = words(line);
            let Some(name) = words.next() else { continue };
            let cpu = name.strip_prefix("cpu").filter(|cpu| !cpu.is_empty());
            if let Some(cpu) = cpu {
                for (mode, ticks) in MODES.iter().zip(words.by_ref()) {
                    if let Some(ticks) = number(ticks) {
                        let pairs = [("cpu", cpu), ("mode", *mode)];
                        book.add("node_cpu_seconds_total", &pairs, ticks / TICKS);
                    }
                }
                for (mode, ticks) in ["user", "nice"].iter().zip(words) {
                    if let Some(ticks) = number(ticks) {
                        let pairs = [("cpu", cpu), ("mode", *mode)];
                        book.add("node_cpu_guest_seconds_total", &pairs, ticks / TICKS);
                    }
                }
                continue;
            }
            let name = match name {
                "intr" => "node_intr_total",
                "ctxt" => "node_context_switches_total",
                "btime" => "node_boot_time_seconds",
                "processes" => "node_forks_total",
                "procs_running" => "node_procs_running",
                "procs_blocked" => "node_procs_blocked",
                _ => continue,
            };
            if let Some(value) = words.next().and_then(number) {
                book.add(name, &[], value);
            }
        }
    }

    fn memory(&mut self, text: &[u8], book: &mut SeriesBook) {
        for line in lines(text) {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let mut words = words(rest);
            let Some(value) = words.next().and_then(number) else { continue };
            self.names.clear();
            self.names.push_str("node_memory_");
            // `Active(anon)` is `Active_anon`.
            for c in name.chars().filter(|c| *c != ')') {
                self.names.push(if c.is_ascii_alphanumeric() { c } else { '_' });
            }
            let kilobytes = words.next() == Some("kB");
            if kilobytes {
                self.names.push_str("_bytes");
            }
            book.add(&self.names, &[], if kilobytes { value * 1024.0 } else { value });
        }
    }

    fn vmstat(&mut self, text: &[u8], book: &mut SeriesBook) {
        for line in lines(text) {
            let mut words = words(line);
            let Some(name) = words.next() else { continue };
            let told = name.starts_with("oom_kill")
                || name.starts_with("pgpg")
                || name.starts_with("pswp")
                || (name.starts_with("pg") && name.contains("fault"));
            if let (true, Some(value)) = (told, words.next().and_then(number)) {
                self.names.clear();
                self.names.push_str("node_vmstat_");
                self.names.push_str(name);
                book.add(&self.names, &[], value);
            }
        }
    }

    fn filesystems(&mut self, text: &[u8], book: &mut SeriesBook, troubles: &mut Troubles) {
        let deadline = Instant::now() + SPACE_WITHIN;
        let mut mounts = mounts(text);
        mounts.retain(|mount| {
            let listed = mount.mountpoint == "/" || !is_pseudo(&mount.kind, &mount.mountpoint);
            listed && !self.exclude.iter().any(|glob| glob.matches(&mount.mountpoint))
        });
        for path in &self.paths {
            let path = path.to_string_lossy().into_owned();
            if !mounts.iter().any(|mount| mount.mountpoint == path) {
                let none = String::new;
                mounts.push(Mount {
                    device: none(),
                    mountpoint: path,
                    kind: none(),
                    read_only: false,
                });
            }
        }
        if mounts.len() > DEVICES_MAX {
            let left_out = mounts.len() - DEVICES_MAX;
            troubles.push(format!("{left_out} file systems are left out, beyond {DEVICES_MAX}"));
            mounts.truncate(DEVICES_MAX);
        }
        for mount in &mounts {
            let pairs = [
                ("device", mount.device.as_str()),
                ("fstype", &mount.kind),
                ("mountpoint", &mount.mountpoint),
            ];
            let answer = if Instant::now() < deadline {
                self.asker.ask(Path::new(&mount.mountpoint))
            } else {
                Err(NoSpace::Hangs)
            };
            let space = match answer {
                Ok(space) => space,
                // A mount of another user, such as a FUSE one, is not this program's trouble.
                Err(NoSpace::Failed(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                    book.add("node_filesystem_device_error", &pairs, 1.0);
                    continue;
                }
                Err(why) => {
                    book.add("node_filesystem_device_error", &pairs, 1.0);
                    troubles.push(format!("the file system at {}: {why}", mount.mountpoint));
                    continue;
                }
            };
            for (name, value) in [
                ("node_filesystem_size_bytes", space.bytes as f64),
                ("node_filesystem_free_bytes", space.bytes_free as f64),
                ("node_filesystem_avail_bytes", space.bytes_available as f64),
                ("node_filesystem_files", space.files as f64),
                ("node_filesystem_files_free", space.files_free as f64),
                (
                    "node_filesystem_readonly",
                    f64::from(u8::from(space.read_only || mount.read_only)),
                ),
                ("node_filesystem_device_error", 0.0),
            ] {
                book.add(name, &pairs, value);
            }
        }
    }
}

impl Kept {
    /// Reads all of it; `false`: this kernel has no such file.
    fn read(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        let read = self.read_again(text);
        if read.is_err() {
            self.file = None;
        }
        match read {
            // Pressure may be compiled in and switched off, which reads as "not supported".
            Err(_) if self.optional => Ok(false),
            read => read.map(|()| true),
        }
    }

    fn read_again(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(self.path)?),
        };
        if text.len() < 16 << 10 {
            text.resize(16 << 10, 0);
        } else {
            let room = text.capacity();
            text.resize(room, 0);
        }
        let mut length = 0;
        loop {
            if length == text.len() {
                if length >= FILE_BYTES_MAX {
                    return Err(io::Error::other("it is larger than 4 MiB"));
                }
                text.resize(length * 2, 0);
            }
            let read = file.read_at(&mut text[length..], length as u64)?;
            if read == 0 {
                text.truncate(length);
                return Ok(());
            }
            length += read;
        }
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

fn words(line: &str) -> std::str::SplitAsciiWhitespace<'_> {
    line.split_ascii_whitespace()
}

fn number(word: &str) -> Option<f64> {
    // Whole numbers of 64 bits, by far most of them.
    match word.parse::<u64>() {
        Ok(whole) => Some(whole as f64),
        Err(_) => word.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}

fn load(text: &[u8], book: &mut SeriesBook) {
    let Some(line) = lines(text).next() else { return };
    for (name, word) in ["node_load1", "node_load5", "node_load15"].iter().zip(words(line)) {
        if let Some(value) = number(word) {
            book.add(name, &[], value);
        }
    }
}

/// node_exporter's default: memory disks, loops and the partitions of disks that are told whole.
fn is_minor_disk(device: &str) -> bool {
    let base = device.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = base.len() < device.len();
    let disk_letters = |prefix: &str| {
        base.strip_prefix(prefix).is_some_and(|letters| {
            !letters.is_empty() && letters.bytes().all(|byte| byte.is_ascii_lowercase())
        })
    };
    let nvme_partition = base.strip_prefix("nvme").and_then(|rest| rest.strip_suffix('p'));
    numbered
        && (matches!(base, "ram" | "zram" | "loop" | "fd")
            || ["hd", "sd", "vd", "xvd"].into_iter().any(disk_letters)
            || nvme_partition.is_some_and(|rest| {
                rest.split_once('n').is_some_and(|(controller, name)| {
                    !controller.is_empty()
                        && !name.is_empty()
                        && rest.bytes().all(|b| b.is_ascii_digit() || b == b'n')
                })
            }))
}

fn disks(text: &[u8], book: &mut SeriesBook, troubles: &mut Troubles) {
    const FIELDS: [(&str, f64); 17] = [
        ("node_disk_reads_completed_total", 1.0),
        ("node_disk_reads_merged_total", 1.0),
        ("node_disk_read_bytes_total", SECTOR),
        ("node_disk_read_time_seconds_total", 0.001),
        ("node_disk_writes_completed_total", 1.0),
        ("node_disk_writes_merged_total", 1.0),
        ("node_disk_written_bytes_total", SECTOR),
        ("node_disk_write_time_seconds_total", 0.001),
        ("node_disk_io_now", 1.0),
        ("node_disk_io_time_seconds_total", 0.001),
        ("node_disk_io_time_weighted_seconds_total", 0.001),
        ("node_disk_discards_completed_total", 1.0),
        ("node_disk_discards_merged_total", 1.0),
        ("node_disk_discarded_sectors_total", 1.0),
        ("node_disk_discard_time_seconds_total", 0.001),
        ("node_disk_flush_requests_total", 1.0),
        ("node_disk_flush_requests_time_seconds_total", 0.001),
    ];
    let mut told = 0;
    for line in lines(text) {
        let mut words = words(line).skip(2);
        let Some(device) = words.next().filter(|device| !is_minor_disk(device)) else { continue };
        told += 1;
        if told > DEVICES_MAX {
            return troubles.push(format!("disks beyond {DEVICES_MAX} are left out"));
        }
        for ((name, unit), word) in FIELDS.iter().zip(words) {
            if let Some(value) = number(word) {
                book.add(name, &[("device", device)], value * unit);
            }
        }
    }
}

fn networks(text: &[u8], book: &mut SeriesBook, troubles: &mut Troubles) {
    const FIELDS: [&str; 16] = [
        "node_network_receive_bytes_total",
        "node_network_receive_packets_total",
        "node_network_receive_errs_total",
        "node_network_receive_drop_total",
        "node_network_receive_fifo_total",
        "node_network_receive_frame_total",
        "node_network_receive_compressed_total",
        "node_network_receive_multicast_total",
        "node_network_transmit_bytes_total",
        "node_network_transmit_packets_total",
        "node_network_transmit_errs_total",
        "node_network_transmit_drop_total",
        "node_network_transmit_fifo_total",
        "node_network_transmit_colls_total",
        "node_network_transmit_carrier_total",
        "node_network_transmit_compressed_total",
    ];
    let mut told = 0;
    for line in lines(text).skip(2) {
        // A name may hold a colon itself (an alias), the counters do not.
        let Some((device, counters)) = line.rsplit_once(':') else { continue };
        let device = device.trim();
        told += 1;
        if told > DEVICES_MAX {
            return troubles.push(format!("network devices beyond {DEVICES_MAX} are left out"));
        }
        for (name, word) in FIELDS.iter().zip(words(counters)) {
            if let Some(value) = number(word) {
                book.add(name, &[("device", device)], value);
            }
        }
    }
}

fn descriptors(text: &[u8], book: &mut SeriesBook) {
    let Some(line) = lines(text).next() else { return };
    let mut words = words(line);
    if let Some(allocated) = words.next().and_then(number) {
        book.add("node_filefd_allocated", &[], allocated);
    }
    if let Some(maximum) = words.nth(1).and_then(number) {
        book.add("node_filefd_maximum", &[], maximum);
    }
}

fn pressure(text: &[u8], waiting: &str, stalled: Option<&str>, book: &mut SeriesBook) {
    for line in lines(text) {
        let name = match words(line).next() {
            Some("some") => Some(waiting),
            Some("full") => stalled,
            _ => None,
        };
        let total = words(line).find_map(|word| word.strip_prefix("total=")).and_then(number);
        if let (Some(name), Some(microseconds)) = (name, total) {
            book.add(name, &[], microseconds / 1e6);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    device: String,
    mountpoint: String,
    kind: String,
    read_only: bool,
}

/// What is mounted, the upper one where two are mounted at one place.
fn mounts(text: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = lines(text)
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut before = before.split(' ').skip(4);
            let (mountpoint, options) = (before.next()?, before.next()?);
            let mut after = after.split(' ');
            let (kind, device) = (after.next()?, after.next()?);
            Some(Mount {
                device: unescaped(device),
                mountpoint: unescaped(mountpoint),
                kind: kind.to_owned(),
                read_only: options.split(',').any(|option| option == "ro"),
            })
        })
        .collect();
    mounts.reverse();
    let mut seen = HashSet::new();
    mounts.retain(|mount| seen.insert(mount.mountpoint.clone()));
    mounts.reverse();
    mounts
}

/// `\040` is a blank, and so on.
fn unescaped(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// node_exporter's defaults.
fn is_pseudo(kind: &str, mountpoint: &str) -> bool {
    const KINDS: [&str; 31] = [
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "erofs",
        "fusectl",
        "fuse.lxcfs",
        "hugetlbfs",
        "iso9660",
        "mqueue",
        "nsfs",
        "overlay",
        "proc",
        "procfs",
        "pstore",
        "ramfs",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "sysfs",
        "tracefs",
        "fuse.portal",
        "fuse.gvfsd-fuse",
        "nullfs",
    ];
    let below = |folder: &str| {
        mountpoint.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let inside =
        |folder: &str| mountpoint.strip_prefix(folder).is_some_and(|rest| !rest.is_empty());
    KINDS.contains(&kind)
        || ["/dev", "/proc", "/sys"].into_iter().any(below)
        || ["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"]
            .into_iter()
            .any(inside)
}

#[cfg(test)]
mod tests;
