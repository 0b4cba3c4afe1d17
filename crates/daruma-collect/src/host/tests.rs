//! This host, read for real.

use super::*;
use crate::testing::{PATIENCE, run, value};
use daruma_model::{SourceState, Time};

#[tokio::test]
async fn this_host_tells_of_itself_under_the_known_names() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().to_string_lossy().into_owned();
    let source = HostSource {
        every: Every::MIN.try_into().unwrap(),
        instance: Some("here".into()),
        labels: [("zone", "a")].into(),
        paths: vec![dir.path().into(), "/no/such/path".into()],
        ..HostSource::default()
    };
    let mut host = run(source);
    let health = host.health(SourceState::Failing).await;
    assert!(health.said.contains("/no/such/path"), "{}", health.said);
    let commit = tokio::time::timeout(PATIENCE, host.commit()).await.unwrap();
    let own = [("instance", "here"), ("zone", "a")];
    for name in [
        "node_load1",
        "node_load5",
        "node_load15",
        "node_time_seconds",
        "node_boot_time_seconds",
        "node_memory_MemTotal_bytes",
        "node_memory_MemAvailable_bytes",
        "node_memory_SwapTotal_bytes",
        "node_memory_Active_anon_bytes",
        "node_vmstat_oom_kill",
        "node_filefd_allocated",
        "node_filefd_maximum",
        "node_context_switches_total",
        "node_uname_info",
    ] {
        assert!(value(&commit, name, &own).is_some(), "{name} is absent");
    }
    let at = |name: &str, labels: &[(&str, &str)]| value(&commit, name, labels).unwrap();
    assert!(at("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "user")]) > 0.0);
    assert!(at("node_network_receive_bytes_total", &[("device", "lo")]) >= 0.0);
    let available = at("node_memory_MemAvailable_bytes", &[]);
    assert!(available > 1e6 && available < at("node_memory_MemTotal_bytes", &[]));
    for mountpoint in ["/", &*shown] {
        let place = [("mountpoint", mountpoint)];
        assert!(
            at("node_filesystem_avail_bytes", &place) <= at("node_filesystem_size_bytes", &place)
        );
        assert!(at("node_filesystem_files_free", &place) <= at("node_filesystem_files", &place));
        assert_eq!(at("node_filesystem_readonly", &place), 0.0);
    }
    assert_eq!(at("node_filesystem_device_error", &[("mountpoint", "/no/such/path")]), 1.0);
}

#[test]
fn where_there_is_no_proc_the_same_names_are_told() {
    let source = HostSource { paths: vec!["/".into()], ..HostSource::default() };
    let mut reader = portable::Reader::new(&source);
    let mut book = SeriesBook::new([("instance", &*portable::host_name())].into());
    let mut troubles = Troubles::new();
    book.begin(Time(1));
    reader.read(&mut book, &mut troubles);
    let commit = book.finish();
    for name in ["node_load1", "node_boot_time_seconds", "node_memory_MemAvailable_bytes"] {
        assert!(value(&commit, name, &[]).is_some(), "{name}: {troubles:?}");
    }
    let received = [("device", "lo")];
    assert!(value(&commit, "node_network_receive_bytes_total", &received).is_some());
}

#[test]
fn the_host_is_configured_or_refused_with_a_reason() {
    let read = |yaml: &str| serde_saphyr::from_str::<HostSource>(yaml).map_err(|e| e.to_string());
    assert_eq!(read("{}").unwrap(), HostSource::default());
    let source =
        read("{ every: 1s, filesystems: { exclude: ['/mnt/**'] }, paths: [/srv] }").unwrap();
    assert!(source.filesystems.exclude[0].matches("/mnt/a/b"));
    assert!(!source.filesystems.exclude[0].matches("/mn"));
    let again: HostSource = serde_json::from_value(serde_json::to_value(&source).unwrap()).unwrap();
    assert_eq!(again, source);
    for (yaml, words) in [
        ("{ every: 10ms }", "100ms"),
        ("{ filesystems: { exclude: ['['] } }", "no glob"),
        ("{ filesystem: {} }", "filesystem"),
    ] {
        let error = read(yaml).unwrap_err();
        assert!(error.contains(words), "{yaml}: {error}");
    }
}
