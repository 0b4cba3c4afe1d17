use std::sync::{Arc, Mutex};

use daruma_model::AttemptOutcome;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey as Verifier,
};
use ring::{hkdf, rand::SecureRandom};
use serde_json::{Value, json};

use super::server::{Reply, Seen, far_side};
use super::{NOW, message, sender};

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let six = |six: &[u8]| (0..6).fold(0, |sum, i| sum * 2 + six.get(i).copied().unwrap_or(0));
    bits.chunks(6).map(|chunk| char::from(LETTERS[usize::from(six(chunk))])).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'-' => 62,
        _ => 63,
    };
    let bits: Vec<u8> =
        text.bytes().flat_map(|c| (0..6).rev().map(move |i| value(c) >> i & 1)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum * 2 + bit)).collect()
}

/// Our keys, as tools for VAPID print them: the private number and the public point.
fn vapid() -> (String, String) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
    // RFC 5915 within PKCS #8: the number follows 36 bytes of structure.
    (base64url(&document.as_ref()[36..68]), base64url(pair.unwrap().public_key().as_ref()))
}

struct Browser {
    key: Mutex<Option<EphemeralPrivateKey>>,
    public: Vec<u8>,
    auth: [u8; 16],
}

impl Browser {
    fn new() -> Browser {
        let random = SystemRandom::new();
        let key = EphemeralPrivateKey::generate(&ECDH_P256, &random).unwrap();
        let public = key.compute_public_key().unwrap().as_ref().to_vec();
        let mut auth = [0; 16];
        random.fill(&mut auth).unwrap();
        Browser { key: Mutex::new(Some(key)), public, auth }
    }

    /// RFC 8291 from the other side, by another implementation of HKDF. Once: the key is used up.
    fn read(&self, body: &[u8]) -> Value {
        let (salt, rest) = body.split_at(16);
        assert_eq!(rest[..5], [0, 0, 16, 0, 65]);
        let (theirs, record) = rest[5..].split_at(65);
        let peer = UnparsedPublicKey::new(&ECDH_P256, theirs);
        let key = self.key.lock().unwrap().take().unwrap();
        let shared = agree_ephemeral(key, &peer, <[u8]>::to_vec).unwrap();
        let derive = |salt: &[u8], secret: &[u8], info: &[u8], len: usize| {
            struct Len(usize);
            impl hkdf::KeyType for Len {
                fn len(&self) -> usize {
                    self.0
                }
            }
            let mut out = vec![0; len];
            let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
            prk.expand(&[info], Len(len)).unwrap().fill(&mut out).unwrap();
            out
        };
        let info = [b"WebPush: info\0", &*self.public, theirs].concat();
        let secret = derive(&self.auth, &shared, &info, 32);
        let key = derive(salt, &secret, b"Content-Encoding: aes128gcm\0", 16);
        let nonce = derive(salt, &secret, b"Content-Encoding: nonce\0", 12);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
        let mut record = record.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let text = key.open_in_place(nonce, Aad::empty(), &mut record).unwrap();
        let (last, text) = text.split_last().unwrap();
        assert_eq!(*last, 2);
        serde_json::from_slice(text).unwrap()
    }
}

/// A push service: our name must be signed, for it, and not run out; the rest is as RFC 8030 says.
fn push_service(seen: &Seen, public: &str) -> Reply {
    let judge = || -> Option<()> {
        let (token, key) =
            seen.get("authorization").strip_prefix("vapid t=")?.split_once(", k=")?;
        (key == public).then_some(())?;
        let (text, signature) = token.rsplit_once('.')?;
        let verifier = Verifier::new(&ECDSA_P256_SHA256_FIXED, bytes(key));
        verifier.verify(text.as_bytes(), &bytes(signature)).ok()?;
        let (head, claims) = text.split_once('.')?;
        let head: Value = serde_json::from_slice(&bytes(head)).ok()?;
        let claims: Value = serde_json::from_slice(&bytes(claims)).ok()?;
        let until = claims["exp"].as_i64()?;
        let fits = head == json!({"typ": "JWT", "alg": "ES256"})
            && claims["aud"] == format!("http://{}", seen.get("host"))
            && claims["sub"] == "mailto:ops@example.org"
            && (NOW + 1..=NOW + 86_400).contains(&until)
            && seen.get("content-encoding") == "aes128gcm"
            && seen.get("ttl").parse::<u64>().is_ok()
            && ["very-low", "low", "normal", "high"].contains(&seen.get("urgency"))
            && (1..=32).contains(&seen.get("topic").len());
        fits.then_some(())
    };
    if seen.path == "/push/gone-long-ago" {
        return Reply::text(410, "push subscription has unsubscribed or expired");
    }
    if seen.body.len() > 4096 {
        return Reply::text(413, "");
    }
    if judge().is_some() { Reply::text(201, "") } else { Reply::text(403, "bad name") }
}

struct World {
    sender: daruma_notify::Sender,
    seen: Arc<Mutex<Vec<Seen>>>,
    public: String,
    _file: tempfile::NamedTempFile,
}

async fn world(browsers: &[(&str, &Browser)]) -> World {
    let (private, public) = vapid();
    let key = public.clone();
    let (port, seen) = far_side(move |seen| push_service(seen, &key)).await;
    let all: Vec<Value> = browsers
        .iter()
        .map(|(path, browser)| {
            json!({
                "endpoint": format!("http://127.0.0.1:{port}/push/{path}"),
                "expirationTime": null,
                "keys": {"p256dh": base64url(&browser.public), "auth": base64url(&browser.auth)},
            })
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), Value::from(all).to_string()).unwrap();
    let sender = sender(&format!(
        "web_push_configs: [{{vapid_private_key: '{private}', vapid_public_key: '{public}', \
         subject: 'mailto:ops@example.org', subscriptions_file: {}}}]",
        file.path().display()
    ));
    World { sender, seen, public, _file: file }
}

#[tokio::test]
async fn only_the_browser_can_read_what_its_push_service_carries() {
    let (one, two) = (Browser::new(), Browser::new());
    let world = world(&[("hush-hush-one", &one), ("hush-hush-two", &two)]).await;
    let long = "😀\"\\\n".repeat(3000);
    let attempt = world.sender.send(&message("ops/web_push[0]", "web is down", &long), 1).await;
    assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}", attempt.said);
    let seen = world.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    for (seen, browser) in seen.iter().zip([&one, &two]) {
        let text = browser.read(&seen.body);
        assert_eq!(text["title"], "web is down");
        assert_eq!(text["url"], "https://daruma.example.org/incident/4");
        assert!(text["body"].as_str().unwrap().ends_with('…'));
        assert_eq!(seen.get("urgency"), "high");
    }
    // And the service refuses what it should.
    let breaks: [super::vendors::Break; 5] = [
        ("another service's name", |seen| seen.set("host", "push.example.org")),
        ("a changed signature", |seen| {
            let name = seen.get("authorization").replace(", k=", "A, k=").replacen(".", ".A", 1);
            seen.set("authorization", &name);
        }),
        ("no name", |seen| seen.set("authorization", "")),
        ("too long", |seen| seen.body = vec![0; 4097]),
        ("no urgency", |seen| seen.set("urgency", "now")),
    ];
    for (what, breaks) in breaks {
        let mut broken = seen[0].clone();
        breaks(&mut broken);
        assert_ne!(push_service(&broken, &world.public).0, 201, "{what}");
    }
    assert_eq!(push_service(&seen[0], &world.public).0, 201);
}

#[tokio::test]
async fn a_browser_that_left_does_not_keep_the_others_from_hearing() {
    let (here, left) = (Browser::new(), Browser::new());
    let world_of_two = world(&[("gone-long-ago", &left), ("hush-hush-one", &here)]).await;
    let attempt = world_of_two.sender.send(&message("ops/web_push[0]", "x", "x"), 1).await;
    assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}", attempt.said);
    assert!(attempt.said.contains("410 Gone; the browser has unsubscribed"), "{}", attempt.said);
    assert!(!attempt.said.contains("long-ago") && !attempt.said.contains("hush"));
    let alone = world(&[("gone-long-ago", &left)]).await;
    let attempt = alone.sender.send(&message("ops/web_push[0]", "x", "x"), 1).await;
    assert_eq!(attempt.outcome, AttemptOutcome::Rejected, "{}", attempt.said);
}

#[tokio::test]
async fn subscriptions_that_are_none_are_named_without_being_shown() {
    let (private, public) = vapid();
    for (text, words) in [
        ("hush-hush", "no list of subscriptions"),
        ("[]", "0 subscriptions"),
        (r#"[{"endpoint":"http://10.0.0.1/hush-hush","keys":{"p256dh":"x","auth":"y"}}]"#, "https"),
        (
            r#"[{"endpoint":"https://a.example/hush-hush","keys":{"p256dh":"hush","auth":"y"}}]"#,
            "p256dh",
        ),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let sender = sender(&format!(
            "web_push_configs: [{{vapid_private_key: '{private}', vapid_public_key: '{public}', \
             subject: 'mailto:ops@example.org', subscriptions_file: {}}}]",
            file.path().display()
        ));
        let attempt = sender.send(&message("ops/web_push[0]", "x", "x"), 1).await;
        assert_eq!(attempt.outcome, AttemptOutcome::Retry);
        assert!(attempt.said.contains(words) && !attempt.said.contains("hush"), "{}", attempt.said);
    }
}
