//! This host where there is no `/proc`: what `sysinfo` knows, under the same names.

use sysinfo::{Disks, Networks, System};

use super::{HostSource, Troubles};
use crate::series::SeriesBook;

pub(super) fn host_name() -> String {
    System::host_name().unwrap_or_else(|_| "localhost".into())
}

pub(super) struct Reader {
    source: HostSource,
    system: Result<System, sysinfo::Error>,
    disks: Result<Disks, sysinfo::Error>,
    networks: Result<Networks, sysinfo::Error>,
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
        match System::load_average() {
            Ok(load) => {
                book.add("node_load1", &[], load.one);
                book.add("node_load5", &[], load.five);
                book.add("node_load15", &[], load.fifteen);
            }
            Err(error) => troubles.push(format!("load: {error}")),
        }
        match System::boot_time() {
            Ok(seconds) => book.add("node_boot_time_seconds", &[], seconds as f64),
            Err(error) => troubles.push(format!("boot time: {error}")),
        }
        match &mut self.system {
            Ok(system) => processors_and_memory(system, book),
            Err(error) => troubles.push(format!("processors and memory: {error}")),
        }
        match &mut self.disks {
            Ok(disks) => space(disks, &self.source, book, troubles),
            Err(error) => troubles.push(format!("disks: {error}")),
        }
        match &mut self.networks {
            Ok(networks) => traffic(networks, book),
            Err(error) => troubles.push(format!("networks: {error}")),
        }
    }
}

fn processors_and_memory(system: &mut System, book: &mut SeriesBook) {
    system.refresh_memory();
    system.refresh_cpu_usage();
    // There are no counters of processor time here, only shares between two readings.
    for (i, cpu) in system.cpus().iter().enumerate() {
        let name = i.to_string();
        book.add("node_cpu_busy_ratio", &[("cpu", &name)], f64::from(cpu.usage()) / 100.0);
    }
    for (name, bytes) in [
        ("node_memory_MemTotal_bytes", system.total_memory()),
        ("node_memory_MemFree_bytes", system.free_memory()),
        ("node_memory_MemAvailable_bytes", system.available_memory()),
        ("node_memory_SwapTotal_bytes", system.total_swap()),
        ("node_memory_SwapFree_bytes", system.free_swap()),
    ] {
        book.add(name, &[], bytes as f64);
    }
}

fn space(disks: &mut Disks, source: &HostSource, book: &mut SeriesBook, troubles: &mut Troubles) {
    disks.refresh(true);
    for disk in disks.iter() {
        let mountpoint = disk.mount_point().to_string_lossy();
        if source.filesystems.exclude.iter().any(|glob| glob.matches(&mountpoint)) {
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
    for path in &source.paths {
        let on = disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
        match on.max_by_key(|disk| disk.mount_point().as_os_str().len()) {
            Some(disk) => {
                let path = path.to_string_lossy();
                let pairs = [("mountpoint", &*path)];
                book.add("node_filesystem_size_bytes", &pairs, disk.total_space() as f64);
                book.add("node_filesystem_avail_bytes", &pairs, disk.available_space() as f64);
            }
            None => troubles.push(format!("{} is on no known disk", path.display())),
        }
    }
}

fn traffic(networks: &mut Networks, book: &mut SeriesBook) {
    networks.refresh(true);
    for (device, network) in networks.iter() {
        let device = device.to_string_lossy();
        let pairs = [("device", &*device)];
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
