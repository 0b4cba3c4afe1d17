//! The section `server:` of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::prom::QueryLimits;

/// The fewest characters of a token: shorter ones can be guessed.
const TOKEN_CHARS_MIN: usize = 20;
/// The most bytes read from a token file.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Where the pages and the API are served, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port. Any but a loopback address demands `tokens`.
    pub listen: SocketAddr,
    /// Who may ask. Without any, everybody on this machine may, and nobody else can.
    pub tokens: Vec<Token>,
    /// Further names under which browsers reach this server, such as `daruma.example.org`. Loopback
    /// names, addresses written as numbers and this host's name are always known.
    pub hosts: Vec<String>,
    /// Set the session cookie only for https: a TLS proxy stands in front.
    pub secure_cookie: bool,
    /// Take in samples by remote write at `/api/v1/write`.
    pub remote_write: bool,
    /// What bounds the queries that people and programs send.
    pub query: QueryLimits,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7878)),
            tokens: Vec::new(),
            hosts: Vec::new(),
            secure_cookie: false,
            remote_write: true,
            query: QueryLimits::default(),
        }
    }
}

/// Who may ask, and for what.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Stands beside every command given with it.
    pub name: String,
    /// The secret itself, at least 20 characters; or `token_file`.
    #[serde(default)]
    pub token: Option<String>,
    /// The file whose first line is the secret.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// What it allows.
    #[serde(default)]
    pub role: Role,
}

/// A secret must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("token_file", &self.token_file)
            .field("role", &self.role)
            .finish()
    }
}

/// What a token allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To read.
    #[default]
    Viewer,
    /// To read, and to push samples by remote write.
    Writer,
    /// To read, to push samples and to give commands.
    Responder,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Everybody who reaches the address could give commands.
    #[error(
        "server.listen is {listen}, which others can reach, but server.tokens is empty; add a token, or listen on 127.0.0.1"
    )]
    Open {
        /// The address.
        listen: SocketAddr,
    },
    /// A token without a secret, or with two.
    #[error("server.tokens: `{name}` needs exactly one of `token` and `token_file`")]
    Secret {
        /// Whose.
        name: String,
    },
    /// A secret that can be guessed.
    #[error(
        "server.tokens: the secret of `{name}` has {found} characters; it needs at least {TOKEN_CHARS_MIN} visible ASCII characters (`openssl rand -hex 20` makes one)"
    )]
    Weak {
        /// Whose.
        name: String,
        /// How many it has that count.
        found: usize,
    },
    /// A secret's file that cannot be used.
    #[error("server.tokens: the secret of `{name}` cannot be read from {path}: {why}")]
    File {
        /// Whose.
        name: String,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// A name that a timeline or cookie cannot carry.
    #[error(
        "server.tokens: `{name}` is not a name; use 1 to 40 of a-z, A-Z, 0-9, `-` and `_`, each name once"
    )]
    Name {
        /// What was found, cut to 60 characters.
        name: String,
    },
}

/// A token whose secret is known.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) role: Role,
}

/// Whether the section is safe to serve; token files are read.
///
/// # Errors
/// What would let strangers in, or nobody.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    known(config).map(|_| ())
}

/// The tokens with their secrets.
pub(crate) fn known(config: &Config) -> Result<Vec<Known>, ConfigError> {
    if config.tokens.is_empty() && !is_loopback(config.listen) {
        return Err(ConfigError::Open { listen: config.listen });
    }
    let mut all: Vec<Known> = Vec::with_capacity(config.tokens.len());
    for token in &config.tokens {
        let name = token.name.clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=40).contains(&name.len())
            || !name.chars().all(plain)
            || all.iter().any(|other| other.name == name)
        {
            return Err(ConfigError::Name { name: name.chars().take(60).collect() });
        }
        let secret = match (&token.token, &token.token_file) {
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => read_secret(path).map_err(|why| ConfigError::File {
                name: name.clone(),
                path: path.clone(),
                why: why.to_string(),
            })?,
            _ => return Err(ConfigError::Secret { name }),
        };
        let found = secret.chars().filter(char::is_ascii_graphic).count();
        if found < TOKEN_CHARS_MIN || found != secret.len() {
            return Err(ConfigError::Weak { name, found });
        }
        all.push(Known { name, secret, role: token.role });
    }
    Ok(all)
}

pub(crate) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn read_secret(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.lines().next().map_or(String::new(), |line| line.trim().to_owned()))
}
