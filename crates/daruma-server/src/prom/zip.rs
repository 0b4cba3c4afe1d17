//! Answers in gzip for clients that say they read it, as Grafana and Prometheus' own do: over a network a
//! long answer costs more than its packing. Packed on a thread of its own, in the fastest of ways.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};
use hyper::{HeaderMap, StatusCode};

use crate::answer::{self, Answer};

/// Shorter ones fit into a packet or two as they are.
const BYTES_MIN: usize = 4 << 10;

/// Whether an answer of this length is worth packing.
pub(super) fn pays(length: usize) -> bool {
    length >= BYTES_MIN
}

/// Whether the client reads gzip: it is named, or `*` is, and not with the weight zero.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let (mut named, mut any) = (None, None);
    for coding in codings.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let wanted = weight.is_none_or(|weight| weight.parse().is_ok_and(|q: f32| q > 0.0));
        match name.as_str() {
            "gzip" | "x-gzip" => named = Some(wanted),
            "*" => any = Some(wanted),
            _ => {}
        }
    }
    named.or(any).unwrap_or(false)
}

fn packed(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    packer.write_all(body)?;
    packer.finish()
}

/// The JSON in gzip.
pub(super) async fn answer(body: Vec<u8>) -> Answer {
    match tokio::task::spawn_blocking(move || packed(&body)).await {
        Ok(Ok(packed)) => {
            let mut answer = answer::json_text(StatusCode::OK, packed);
            let headers = answer.headers_mut();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
            answer
        }
        Ok(Err(error)) => answer::refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => answer::refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn gzip_is_sent_to_whom_it_is_welcome() {
        for (said, want) in [
            (&[][..], false),
            (&["gzip"][..], true),
            (&["deflate, GZIP;q=0.5"][..], true),
            (&["br", "gzip"][..], true),
            (&["gzip;q=0"][..], false),
            (&["gzip; q=0.000, *"][..], false),
            (&["*"][..], true),
            (&["*;q=0"][..], false),
            (&["identity"][..], false),
            (&["gzip;q=much"][..], false),
            (&["gzipped"][..], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(accepted(&headers), want, "{said:?}");
        }
    }

    #[test]
    fn what_is_packed_unpacks_to_itself() {
        let body = br#"{"status":"success"}"#.repeat(1000);
        let packed = packed(&body).unwrap();
        assert!(packed.len() < body.len() / 10);
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
        assert_eq!(back, body);
    }
}
