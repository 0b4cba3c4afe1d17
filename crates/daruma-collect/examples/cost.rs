//! What looking costs: the host source at ten readings a second, watching processes, and the
//! reading of a large exposition. `cargo run --release -p daruma-collect --example cost`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daruma_collect::exposition::{Format, Parser, Rigour};
use daruma_collect::{Config, Context, Delivery, start};
use daruma_model::{Clock, Labels, Signal, Time};

fn clock() -> Clock {
    let began = Instant::now();
    Arc::new(move || Time(1_767_225_600_000 + began.elapsed().as_millis() as i64))
}

/// User and system time of this process, in seconds.
fn spent() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks = |field: usize| fields.get(field).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

async fn cost(title: &str, yaml: &str, seconds: u64) {
    let config: Config = match serde_saphyr::from_str(yaml) {
        Ok(config) => config,
        Err(error) => return println!("{title}: {error}"),
    };
    let (deliveries, mut inbox) = tokio::sync::mpsc::channel(1000);
    let context = Context { clock: clock(), deliveries, positions: BTreeMap::new() };
    let handle = start(config, context);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, began) = (spent(), Instant::now());
    let (mut commits, mut samples) = (0, 0);
    while let Ok(Some(delivery)) =
        tokio::time::timeout_at((began + Duration::from_secs(seconds)).into(), inbox.recv()).await
    {
        if let Delivery::Signal(Signal::Samples(commit)) = delivery {
            commits += 1;
            samples += commit.samples.len();
        }
    }
    let (spent, took) = (spent() - before, began.elapsed().as_secs_f64());
    let each = 1e6 * spent / f64::from(commits.max(1));
    println!(
        "{title}: {:.2} % of a core, {commits} commits in {took:.1} s, {} samples and {each:.0} µs each",
        100.0 * spent / took,
        samples / commits.max(1) as usize,
    );
    handle.shutdown().await;
}

/// How long after a kill its commit is there, and after a new pid file the successor's.
async fn exits() -> std::io::Result<()> {
    let file = std::env::temp_dir().join(format!("daruma-exits-{}.pid", std::process::id()));
    let mut victim = std::process::Command::new("sleep").arg("1000").spawn()?;
    std::fs::write(&file, victim.id().to_string())?;
    let yaml =
        format!("{{ processes: [ {{ name: a, pid_file: {}, every: 24h }} ] }}", file.display());
    let config = serde_saphyr::from_str(&yaml).map_err(std::io::Error::other)?;
    let (deliveries, mut inbox) = tokio::sync::mpsc::channel(1000);
    let context = Context { clock: clock(), deliveries, positions: BTreeMap::new() };
    let handle = start(config, context);
    let (mut down, mut up) = (Vec::new(), Vec::new());
    until(&mut inbox, 1.0).await;
    for _ in 0..100 {
        let began = Instant::now();
        victim.kill()?;
        until(&mut inbox, 0.0).await;
        down.push(began.elapsed());
        victim.wait()?;
        victim = std::process::Command::new("sleep").arg("1000").spawn()?;
        let began = Instant::now();
        std::fs::write(&file, victim.id().to_string())?;
        until(&mut inbox, 1.0).await;
        up.push(began.elapsed());
    }
    victim.kill()?;
    victim.wait()?;
    std::fs::remove_file(&file)?;
    for (what, mut times) in [("killed", down), ("restarted", up)] {
        times.sort();
        println!("{what} → commit: p50 {:?}, p99 {:?}", times[50], times[98]);
    }
    handle.shutdown().await;
    Ok(())
}

async fn until(inbox: &mut tokio::sync::mpsc::Receiver<Delivery>, want: f64) {
    while let Some(delivery) = inbox.recv().await {
        let Delivery::Signal(Signal::Samples(commit)) = delivery else { continue };
        let up = commit.samples.iter().find(|s| s.labels.get(Labels::NAME) == "daruma_process_up");
        if up.is_some_and(|sample| sample.value == want) {
            return;
        }
    }
}

fn exposition(format: Format) -> String {
    let mut text = String::new();
    for family in 0..1000 {
        text += &format!("# HELP http_requests_{family}_total Requests, by code and path.\n");
        text += &format!("# TYPE http_requests_{family}_total counter\n");
        for series in 0..100 {
            text += &format!(
                "http_requests_{family}_total{{code=\"200\",handler=\"/api/v1/items/{series}\",method=\"get\"}} {}\n",
                f64::from(family * series) * 1.25
            );
        }
    }
    if format == Format::OpenMetrics {
        text += "# EOF\n";
    }
    text
}

/// Serves `body` to whoever asks, from a thread.
fn serve(body: String) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let mut request = [0; 4096];
            let sent = stream
                .read(&mut request)
                .and_then(|_| stream.write_all(head.as_bytes()))
                .and_then(|()| stream.write_all(body.as_bytes()));
            if let Err(error) = sent {
                println!("serving: {error}");
            }
        }
    });
    Ok(address)
}

fn main() {
    for format in [Format::Text, Format::OpenMetrics] {
        let text = exposition(format);
        let target = Labels::from([("job", "web"), ("instance", "web:8080")]);
        for named in [false, true] {
            let (mut best, mut count) = (f64::INFINITY, 0);
            for _ in 0..10 {
                let began = Instant::now();
                count = 0;
                for entry in Parser::new(text.as_bytes(), format, Rigour::Scrape) {
                    match entry {
                        Ok(entry) if named => {
                            count += usize::from(entry.labels(&target, false).is_ok())
                        }
                        Ok(_) => count += 1,
                        Err(error) => return println!("{error}"),
                    }
                }
                best = best.min(began.elapsed().as_secs_f64());
            }
            println!(
                "{format:?}, {}: {count} samples, {:.0} MB/s, {:.2} million samples/s",
                if named { "naming every series" } else { "reading alone" },
                text.len() as f64 / best / 1e6,
                count as f64 / best / 1e6
            );
        }
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let Ok(runtime) = runtime else { return println!("no runtime") };
    runtime.block_on(async {
        if let Err(error) = exits().await {
            println!("exits: {error}");
        }
        cost("nothing", "{}", 5).await;
        cost("host every 100ms", "{ host: { every: 100ms } }", 20).await;
        cost("host every 1s", "{ host: { every: 1s } }", 20).await;
        match serve(exposition(Format::Text)) {
            Ok(address) => {
                let yaml =
                    format!("{{ scrape: [ {{ job: web, targets: ['{address}'], every: 1s }} ] }}");
                cost("a scrape of 100,000 samples every 1s, serving included", &yaml, 10).await;
            }
            Err(error) => println!("cannot serve: {error}"),
        }
        let pattern = "{ processes: [ { name: a, pattern: 'no such process', every: 100ms } ] }";
        cost("a pattern nobody fits, every 100ms", pattern, 10).await;
        let own = std::process::id();
        let file = std::env::temp_dir().join(format!("daruma-cost-{own}.pid"));
        if std::fs::write(&file, own.to_string()).is_ok() {
            let yaml = format!(
                "{{ processes: [ {{ name: a, pid_file: {}, every: 100ms }} ] }}",
                file.display()
            );
            cost("a pid file, every 100ms", &yaml, 10).await;
            if let Err(error) = std::fs::remove_file(&file) {
                println!("{}: {error}", file.display());
            }
        }
    });
}
