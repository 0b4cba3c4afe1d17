//! This host where there is no `/proc`: what `sysinfo` knows, under the same names.

use sysinfo::{Disks, Networks, System};

use super::{HostSource, Troubles};
use crate::series::SeriesBook;

pub(super) fn host_name() -> String {
    System::host_name().unwrap_or_else(|| "localhost".into())
}

pub(super) struct Reader {
    source: HostSource,
    system: System,
    disks: Disks,
    networks: Networks,
}

impl Reader {
    pub(super) fn new(source: &HostSource) -> Reader {
        Reader {
            source: source.clone(),
            system: System::new(),
            disks: Disks::new(),
            networks: Networks::new(),
        }
    }

    pub(super) fn read(&mut self, book: &mut SeriesBook, troubles: &mut Troubles) {
        self.system.refresh_memory();
        self.system.refresh_cpu_usage();
        self.disks.refresh(true);
        self.networks.refresh(true);
        let load = System::load_average();
        book.add("node_load1", &[], load.one);
        book.add("node_load5", &[], load.five);
        book.add("node_load15", &[], load.fifteen);
        book.add("node_boot_time_seconds", &[], System::boot_time() as f64);
        // There are no counters of processor time here, only shares between two readings.
        for (i, cpu) in self.system.cpus().iter().enumerate() {
            let cpu_name = i.to_string();
            let busy = f64::from(cpu.cpu_usage()) / 100.0;
            book.add("node_cpu_busy_ratio", &[("cpu", &cpu_name)], busy);
        }
        for (name, bytes) in [
            ("node_memory_MemTotal_bytes", self.system.total_memory()),
            ("node_memory_MemFree_bytes", self.system.free_memory()),
            ("node_memory_MemAvailable_bytes", self.system.available_memory()),
            ("node_memory_SwapTotal_bytes", self.system.total_swap()),
            ("node_memory_SwapFree_bytes", self.system.free_swap()),
        ] {
            book.add(name, &[], bytes as f64);
        }
        for disk in &self.disks {
            let mountpoint = disk.mount_point().to_string_lossy();
            if self.source.filesystems.exclude.iter().any(|glob| glob.matches(&mountpoint)) {
                continue;
            }
            let device = disk.name().to_string_lossy();
            let kind = disk.file_system().to_string_lossy();
            let pairs = [("device", &*device), ("fstype", &*kind), ("mountpoint", &*mountpoint)];
            book.add("node_filesystem_size_bytes", &pairs, disk.total_space() as f64);
            book.add("node_filesystem_avail_bytes", &pairs, disk.available_space() as f64);
            let read_only = f64::from(u8::from(disk.is_read_only()));
            book.add("node_filesystem_readonly", &pairs, read_only);
        }
        for path in &self.source.paths {
            let on = self.disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
            match on.max_by_key(|disk| disk.mount_point().as_os_str().len()) {
                Some(disk) => {
                    let path = path.to_string_lossy();
                    let pairs = [("device", ""), ("fstype", ""), ("mountpoint", &*path)];
                    book.add("node_filesystem_size_bytes", &pairs, disk.total_space() as f64);
                    book.add("node_filesystem_avail_bytes", &pairs, disk.available_space() as f64);
                }
                None => troubles.push(format!("{} is on no known disk", path.display())),
            }
        }
        for (device, network) in &self.networks {
            let pairs = [("device", device.as_str())];
            for (name, count) in [
                ("node_network_receive_bytes_total", network.total_received()),
                ("node_network_receive_packets_total", network.total_packets_received()),
                ("node_network_receive_errs_total", network.total_errors_on_received()),
                ("node_network_transmit_bytes_total", network.total_transmitted()),
                ("node_network_transmit_packets_total", network.total_packets_transmitted()),
                ("node_network_transmit_errs_total", network.total_errors_on_transmitted()),
            ] {
                book.add(name, &pairs, count as f64);
            }
        }
    }
}
