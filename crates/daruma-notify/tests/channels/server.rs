//! A far side on this host: reads one request per connection and answers as it is told.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn get(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn change(&mut self, change: impl Fn(&mut Value)) {
        let mut json = self.json();
        change(&mut json);
        self.body = json.to_string().into_bytes();
    }

    pub fn query_fields(&self) -> Vec<(String, String)> {
        fields(&self.query)
    }

    pub fn all(&self) -> String {
        let headers: String = self.headers.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {}?{}\n{headers}\n{body}", self.method, self.path, self.query)
    }
}

pub fn fields(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

pub fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, more)) = rest.split_first() {
        rest = more;
        if byte == b'%' {
            let hex = std::str::from_utf8(&more[..2]).unwrap();
            out.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &more[2..];
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}

/// Status, further headers, body.
#[derive(Debug, Clone)]
pub struct Reply(pub u16, pub String, pub String);

impl Reply {
    pub fn json(status: u16, body: Value) -> Reply {
        Reply(status, String::new(), body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Reply {
        Reply(status, String::new(), body.to_owned())
    }
}

type Log = Arc<Mutex<Vec<Seen>>>;

pub async fn far_side(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (u16, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, answer) = (Log::default(), Arc::new(answer));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let request = read(&mut stream).await;
                let Reply(status, headers, body) = answer(&request);
                log.lock().unwrap().push(request);
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
                );
                // The client may have gone; what it saw is what is asserted.
                drop(stream.into_inner().write_all(text.as_bytes()).await);
            });
        }
    });
    (port, seen)
}

async fn read(stream: &mut BufReader<TcpStream>) -> Seen {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut seen = Seen { method, path: path.into(), query: query.into(), ..Seen::default() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        seen.headers.push((name.to_lowercase(), value.to_owned()));
    }
    seen.body = vec![0; seen.get("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut seen.body).await.unwrap();
    seen
}
