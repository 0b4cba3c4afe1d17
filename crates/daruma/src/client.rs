//! How the command line asks the running program: small JSON requests over loopback.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

/// The largest answer taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// For the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why the program could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error(
        "no daruma answers on {server} ({why}); is `daruma run` running? `--server` names another address"
    )]
    Unreachable {
        /// The address asked.
        server: String,
        /// The system's words.
        why: String,
    },
    /// It answered, and refused.
    #[error("daruma refused ({status}): {said}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        said: String,
    },
    /// It answered something else than expected.
    #[error("daruma on {server} answered something unexpected: {why}; is it of another version?")]
    Unexpected {
        /// The address asked.
        server: String,
        /// What was wrong.
        why: String,
    },
}

/// Where the running program is, and the token it may want.
#[derive(Debug, Clone)]
pub struct Client {
    /// `host:port`.
    pub server: String,
    /// From `DARUMA_TOKEN`.
    pub token: Option<String>,
}

impl Client {
    /// Asks for JSON.
    ///
    /// # Errors
    /// It is not reachable, refuses, or answers something else.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask("GET", path, None).await
    }

    /// Sends a command; it is durable when this returns.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn command(
        &self,
        command: &daruma_alert::Command,
    ) -> Result<serde_json::Value, ClientError> {
        let body = serde_json::to_vec(command).map_err(|error| self.unexpected(&error))?;
        self.ask("POST", "/api/command", Some(body)).await
    }

    /// Sends tests to a receiver or a channel, and returns what became of them.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn send_test(&self, to: &str) -> Result<serde_json::Value, ClientError> {
        let body = serde_json::json!({ "to": to }).to_string().into_bytes();
        self.ask("POST", "/api/send-test", Some(body)).await
    }

    fn unexpected(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unexpected { server: self.server.clone(), why: why.to_string() }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let unreachable = |why: &dyn std::fmt::Display| ClientError::Unreachable {
            server: self.server.clone(),
            why: why.to_string(),
        };
        let exchange = async {
            let stream = tokio::net::TcpStream::connect(&self.server)
                .await
                .map_err(|error| unreachable(&error))?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| unreachable(&error))?;
            let driver = tokio::spawn(connection);
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", &self.server)
                .header("accept", "application/json")
                .header("x-daruma-client", whoami());
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if body.is_some() {
                request = request.header("content-type", "application/json");
            }
            let request = request
                .body(Full::new(Bytes::from(body.unwrap_or_default())))
                .map_err(|error| self.unexpected(&error))?;
            let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let status = answer.status().as_u16();
            let bytes = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| self.unexpected(&error))?
                .to_bytes();
            driver.abort();
            if !(200..300).contains(&status) {
                let text = String::from_utf8_lossy(&bytes);
                let said = serde_json::from_slice::<serde_json::Value>(&bytes)
                    .ok()
                    .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()))
                    .unwrap_or_else(|| text.chars().take(300).collect());
                return Err(ClientError::Refused { status, said });
            }
            serde_json::from_slice(&bytes).map_err(|error| self.unexpected(&error))
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(&"no answer within 30 s")),
        }
    }
}

/// The name that stands beside a command in the timeline when no token tells a better one.
fn whoami() -> String {
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    let clean: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(40).collect();
    if clean.is_empty() { "command line".to_owned() } else { clean }
}
