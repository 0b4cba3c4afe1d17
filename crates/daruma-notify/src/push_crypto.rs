//! Web Push on the wire: encryption of a message for one browser (RFC 8291) and our name for its push
//! service (VAPID, RFC 8292).
//!
//! No key or salt is used twice: both are made when a channel is opened, for one attempt.

use daruma_model::Time;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::secret::Secret;
use crate::sign::{base64url, from_base64, hmac_sha256};

/// What a push service takes of a body, less what is around the text.
pub(crate) const TEXT_BYTES_MAX: usize = 4096 - 86 - 17;
/// How long our name is good for; services take at most a day.
const NAME_SECS: i64 = 12 * 3600;

/// What two parties agreed on for one message.
#[derive(Clone)]
pub(crate) struct Agreed {
    theirs: Vec<u8>,
    ours: Vec<u8>,
    shared: Vec<u8>,
    auth: Vec<u8>,
    salt: [u8; 16],
}

impl Agreed {
    /// With a browser, by its `p256dh` and `auth`.
    pub(crate) fn with(p256dh: &str, auth: &str) -> Result<Agreed, String> {
        let error = || "`p256dh` or `auth` of a subscription is not one".to_owned();
        let theirs = from_base64(p256dh).filter(|key| key.len() == 65).ok_or_else(error)?;
        let auth = from_base64(auth).filter(|auth| auth.len() == 16).ok_or_else(error)?;
        let random = SystemRandom::new();
        let none = |_| "the system gives no random numbers".to_owned();
        let mut salt = [0; 16];
        random.fill(&mut salt).map_err(none)?;
        let key = EphemeralPrivateKey::generate(&ECDH_P256, &random).map_err(none)?;
        let ours = key.compute_public_key().map_err(none)?.as_ref().to_vec();
        let peer = UnparsedPublicKey::new(&ECDH_P256, &theirs);
        let shared = agree_ephemeral(key, &peer, <[u8]>::to_vec).map_err(|_| error())?;
        Ok(Agreed { theirs, ours, shared, auth, salt })
    }

    fn key_and_nonce(&self) -> (Vec<u8>, [u8; 12]) {
        let info = [b"WebPush: info\0", &*self.theirs, &*self.ours, &[1]].concat();
        let input = hmac_sha256(&hmac_sha256(&self.auth, &self.shared), &info);
        let key = hmac_sha256(&self.salt, &input);
        let content = hmac_sha256(&key, b"Content-Encoding: aes128gcm\0\x01");
        let nonce = hmac_sha256(&key, b"Content-Encoding: nonce\0\x01");
        let mut twelve = [0; 12];
        twelve.copy_from_slice(&nonce[..12]);
        (content[..16].to_vec(), twelve)
    }

    /// The body for `text`, in one record; `None` if it is too long.
    pub(crate) fn seal(&self, text: &[u8]) -> Option<Vec<u8>> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (key, nonce) = self.key_and_nonce();
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
        let mut record = [text, &[2]].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record).ok()?;
        let head = [&self.salt[..], &4096_u32.to_be_bytes(), &[65], &self.ours].concat();
        Some([head, record].concat())
    }
}

/// Our key pair, by which push services know us.
pub(crate) struct Vapid {
    pair: EcdsaKeyPair,
    public: String,
}

impl Vapid {
    pub(crate) fn of(private: &Secret, public: &str) -> Result<Vapid, String> {
        let error = || "the VAPID keys are not a pair of P-256 in base64url".to_owned();
        let (private, bytes) = (from_base64(private.expose()), from_base64(public));
        let (private, bytes) = private.zip(bytes).ok_or_else(error)?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, &bytes, &random);
        Ok(Vapid { pair: pair.map_err(|_| error())?, public: base64url(&bytes) })
    }

    /// The header `Authorization` for the push service at `origin`.
    pub(crate) fn authorization(
        &self,
        origin: &str,
        subject: &str,
        now: Time,
    ) -> Result<String, String> {
        let until = now.0.div_euclid(1000).saturating_add(NAME_SECS);
        let claims = serde_json::json!({"aud": origin, "exp": until, "sub": subject}).to_string();
        let head = base64url(br#"{"typ":"JWT","alg":"ES256"}"#);
        let text = format!("{head}.{}", base64url(claims.as_bytes()));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), text.as_bytes())
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        Ok(format!("vapid t={text}.{}, k={}", base64url(signature.as_ref()), self.public))
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey as Verifier};

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        from_base64(text).unwrap()
    }

    /// RFC 8291, appendix A.
    #[test]
    fn what_a_browser_gets_is_what_was_published() {
        let agreed = Agreed {
            theirs: bytes(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            ),
            ours: bytes(
                "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
            ),
            shared: bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs"),
            auth: bytes("BTBZMqHH6r4Tts7J_aSIgg"),
            salt: bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap(),
        };
        let (key, nonce) = agreed.key_and_nonce();
        assert_eq!(base64url(&key), "oIhVW04MRdy2XN9CiKLxTg");
        assert_eq!(base64url(&nonce), "4h_95klXJ5E_qnoN");
        let body = agreed.seal(b"When I grow up, I want to be a watermelon").unwrap();
        assert_eq!(
            base64url(&body),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLoc\
             InmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWG\
             NWQexSgSxsj_Qulcy4a-fN"
        );
        assert!(agreed.seal(&[0; TEXT_BYTES_MAX]).is_some_and(|body| body.len() == 4096));
        assert!(agreed.seal(&[0; TEXT_BYTES_MAX + 1]).is_none());
    }

    /// RFC 8292, section 2.4: what we take for a signature is what the RFC takes for one.
    #[test]
    fn a_push_service_reads_the_published_name_as_we_do() {
        let text = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJl\
                    eHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0";
        let signature = bytes(
            "i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA",
        );
        let public = bytes(
            "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs",
        );
        let verifier = Verifier::new(&ECDSA_P256_SHA256_FIXED, public);
        assert!(verifier.verify(text.as_bytes(), &signature).is_ok());
        assert!(verifier.verify(&text.as_bytes()[1..], &signature).is_err());
    }
}
