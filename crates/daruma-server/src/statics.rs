//! The files that pages need, inside the program: no path of the file system is ever asked for.

/// One file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    /// Its name under `/static/`.
    pub(crate) name: &'static str,
    /// Its media type.
    pub(crate) media: &'static str,
    /// What is in it.
    pub(crate) bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $media:literal, $path:literal) => {
        Asset { name: $name, media: $media, bytes: include_bytes!(concat!("../static/", $path)) }
    };
}

/// All of them.
static ALL: [Asset; 12] = [
    asset!("daruma.css", "text/css; charset=utf-8", "daruma.css"),
    asset!("daruma.js", "text/javascript; charset=utf-8", "daruma.js"),
    asset!("chart.js", "text/javascript; charset=utf-8", "chart.js"),
    asset!("explore.css", "text/css; charset=utf-8", "explore.css"),
    asset!("explore.js", "text/javascript; charset=utf-8", "explore.js"),
    asset!("daruma.svg", "image/svg+xml", "daruma.svg"),
    asset!("daruma.webmanifest", "application/manifest+json", "daruma.webmanifest"),
    asset!("htmx.js", "text/javascript; charset=utf-8", "vendor/htmx-4.0.1.min.js"),
    asset!("htmx-LICENSE.txt", "text/plain; charset=utf-8", "vendor/htmx-LICENSE.txt"),
    asset!("uplot.js", "text/javascript; charset=utf-8", "vendor/uplot-1.6.32.iife.min.js"),
    asset!("uplot.css", "text/css; charset=utf-8", "vendor/uplot-1.6.32.min.css"),
    asset!("uplot-LICENSE.txt", "text/plain; charset=utf-8", "vendor/uplot-LICENSE.txt"),
];

/// The file of this name.
pub(crate) fn find(name: &str) -> Option<&'static Asset> {
    ALL.iter().find(|asset| asset.name == name)
}

/// Changes when any file does; pages put it into addresses, so that copies never grow old.
pub(crate) fn edition() -> &'static str {
    use sha2::{Digest, Sha256};
    static EDITION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    EDITION.get_or_init(|| {
        let all = ALL.iter().fold(Sha256::new(), |hash, asset| hash.chain_update(asset.bytes));
        all.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
    })
}
