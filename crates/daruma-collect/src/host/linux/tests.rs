//! What the kernel writes, and what it never would.

use super::*;
use crate::testing::value;
use daruma_model::{Commit, Labels, Time};
use proptest::prelude::*;

fn read(part: usize, text: &str) -> Commit {
    let mut reader = Reader::new(&HostSource::default());
    let mut book = SeriesBook::new(Labels::default());
    book.begin(Time(1));
    PARTS[part](&mut reader, text.as_bytes(), &mut book, &mut Troubles::new());
    book.finish()
}

fn part(path: &str) -> usize {
    FILES.iter().position(|(file, _)| *file == path).unwrap()
}

#[test]
fn processors_are_counted_in_seconds_by_mode() {
    let text = "cpu  10 0 0 0 0 0 0 0 0 0\ncpu0 6424 1 1666 68159 265 0 27 350 12 3\n\
        intr 616024 0 0 0\nctxt 77\nbtime 1767225600\nprocesses 9\nprocs_running 2\nprocs_blocked 1\n";
    let commit = read(part("/proc/stat"), text);
    let cpu = |mode| value(&commit, "node_cpu_seconds_total", &[("cpu", "0"), ("mode", mode)]);
    assert_eq!((cpu("user"), cpu("idle"), cpu("steal")), (Some(64.24), Some(681.59), Some(3.5)));
    let guest = value(&commit, "node_cpu_guest_seconds_total", &[("cpu", "0"), ("mode", "user")]);
    assert_eq!(guest, Some(0.12));
    assert_eq!(value(&commit, "node_intr_total", &[]), Some(616_024.0));
    assert_eq!(value(&commit, "node_boot_time_seconds", &[]), Some(1_767_225_600.0));
    assert_eq!(commit.samples.len(), 8 + 2 + 6, "the sum over all processors is left out");
}

#[test]
fn memory_is_in_bytes_where_it_has_a_unit() {
    let text = "MemTotal:       24682416 kB\nActive(anon):    10 kB\nHugePages_Total:       3\n";
    let commit = read(part("/proc/meminfo"), text);
    assert_eq!(value(&commit, "node_memory_MemTotal_bytes", &[]), Some(24_682_416.0 * 1024.0));
    assert_eq!(value(&commit, "node_memory_Active_anon_bytes", &[]), Some(10_240.0));
    assert_eq!(value(&commit, "node_memory_HugePages_Total", &[]), Some(3.0));
}

#[test]
fn disks_are_told_whole_and_in_bytes_and_seconds() {
    let text = " 7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n 8 0 sda 100 2 2048 1500 4 5 16 7000 0 3000 9 1 2 3 4 5 6\n\
        8 1 sda1 1 1 1 1 1 1 1 1 1 1 1\n 259 0 nvme0n1 1 1 1 1 1 1 1 1 1 1 1\n\
        259 1 nvme0n1p1 1 1 1 1 1 1 1 1 1 1 1\n 253 0 dm-0 1 1 1 1 1 1 1 1 1 1 1\n";
    let commit = read(part("/proc/diskstats"), text);
    let sda = |name| value(&commit, name, &[("device", "sda")]);
    assert_eq!(sda("node_disk_read_bytes_total"), Some(1_048_576.0));
    assert_eq!(sda("node_disk_read_time_seconds_total"), Some(1.5));
    assert_eq!(sda("node_disk_io_time_seconds_total"), Some(3.0));
    assert_eq!(sda("node_disk_flush_requests_time_seconds_total"), Some(0.006));
    let told: HashSet<&str> = commit.samples.iter().map(|s| s.labels.get("device")).collect();
    assert_eq!(told, HashSet::from(["sda", "nvme0n1", "dm-0"]));
}

#[test]
fn networks_pressure_and_descriptors_have_their_names() {
    let text = "Inter-|   Receive\n face |bytes\n  eth0: 357 107 1 2 3 4 5 6 691 65 7 8 9 10 11 12\n\
        eth0:1:  1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
    let commit = read(part("/proc/net/dev"), text);
    let eth0 = |name| value(&commit, name, &[("device", "eth0")]);
    assert_eq!(eth0("node_network_receive_bytes_total"), Some(357.0));
    assert_eq!(eth0("node_network_transmit_compressed_total"), Some(12.0));
    let alias = value(&commit, "node_network_receive_bytes_total", &[("device", "eth0:1")]);
    assert_eq!(alias, Some(1.0));

    let text = "some avg10=0.12 avg60=1.06 avg300=0.80 total=20931140\nfull avg10=0 total=500000\n";
    let commit = read(part("/proc/pressure/io"), text);
    assert_eq!(value(&commit, "node_pressure_io_waiting_seconds_total", &[]), Some(20.931_14));
    assert_eq!(value(&commit, "node_pressure_io_stalled_seconds_total", &[]), Some(0.5));
    let commit = read(part("/proc/pressure/cpu"), text);
    assert_eq!(commit.samples.len(), 1, "a processor cannot stall");

    let commit = read(part("/proc/sys/fs/file-nr"), "970\t0\t2465620\n");
    assert_eq!(value(&commit, "node_filefd_allocated", &[]), Some(970.0));
    assert_eq!(value(&commit, "node_filefd_maximum", &[]), Some(2_465_620.0));
    let commit =
        read(part("/proc/vmstat"), "nr_free_pages 1\noom_kill 2\npgfault 3\npgmajfault 4\n");
    assert_eq!(commit.samples.len(), 3);
    assert_eq!(value(&commit, "node_vmstat_oom_kill", &[]), Some(2.0));
}

#[test]
fn of_two_mounts_at_one_place_the_upper_one_counts() {
    let text = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime - overlay overlay rw\n\
        28 27 8:1 / /my\\040disk rw shared:5 master:1 - ext4 /dev/sda1 rw\n\
        29 28 0:9 / /my\\040disk ro,nosuid - nfs4 server:/x rw\nnot a mount\n";
    let mounts = mounts(text.as_bytes());
    let told: Vec<(&str, &str, bool)> =
        mounts.iter().map(|m| (&*m.mountpoint, &*m.device, m.read_only)).collect();
    assert_eq!(
        told,
        [("/proc", "proc", false), ("/", "overlay", false), ("/my disk", "server:/x", true)]
    );
}

#[test]
fn what_node_exporter_leaves_out_is_left_out() {
    for (kind, mountpoint, want) in [
        ("ext4", "/", false),
        ("tmpfs", "/run", false),
        ("nfs4", "/mnt/nas", false),
        ("ext4", "/devices", false),
        ("tmpfs", "/dev/shm", true),
        ("ext4", "/var/lib/docker/x", true),
        ("overlay", "/x", true),
        ("cgroup2", "/x", true),
    ] {
        assert_eq!(is_pseudo(kind, mountpoint), want, "{kind} {mountpoint}");
    }
    for (device, want) in [
        ("sda", false),
        ("sda1", true),
        ("xvda", false),
        ("xvda1", true),
        ("vda2", true),
        ("md0", false),
        ("nvme0n1", false),
        ("nvme0n1p2", true),
        ("zram0", true),
        ("loop7", true),
        ("dm-1", false),
        ("mmcblk0", false),
        ("", false),
        ("fd0", true),
    ] {
        assert_eq!(is_minor_disk(device), want, "{device}");
    }
}

/// Two readings have the same series, so that nothing ends while nothing changes.
#[test]
fn readings_repeat_their_series() {
    let source = HostSource::default();
    let mut reader = Reader::new(&source);
    let mut book = SeriesBook::new(Labels::default());
    let mut names = || {
        book.begin(Time(1));
        reader.read(&mut book, &mut Troubles::new());
        let commit = book.finish();
        commit.samples.into_iter().map(|sample| sample.labels).collect::<Vec<_>>()
    };
    assert_eq!(names(), names());
}

proptest! {
    #[test]
    fn no_text_makes_a_part_panic(
        part in 0..PARTS.len() - 1,
        text in "((cpu0|intr|some total=|full|sda|eth0:|a: )?[0-9 .:=-]{0,12}\\PC{0,6}\n?){0,8}",
    ) {
        read(part, &text);
    }

    #[test]
    fn no_text_makes_the_mounts_panic(text in "([0-9]{0,2} \\PC{0,20}( - )?(/[\\\\0-7]{0,6})? ?\n?){0,6}") {
        mounts(text.as_bytes());
    }
}
