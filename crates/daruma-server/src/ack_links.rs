//! Links in messages by which whoever reads one says that they look after the incident: no login, once,
//! and only for a day.
//!
//! A link holds the incident, when it runs out, the receiver it was sent to, and a mark over the three
//! that only this installation can make. Its use is remembered by the journal, as a digest.
//!
//! Never in here: an ack. A link is only read; [`crate::Shared::commands`] decides and keeps.

use std::io::Write;
use std::path::Path;

use daruma_model::{Message, MessageStatus, Span, Time};
use subtle::ConstantTimeEq;

use crate::guard::mac;

/// How long a link serves, from the making of its message.
pub const SERVES: Span = Span::hours(24);
/// The file in the data folder that holds the secret of the marks.
const FILE: &str = "ack-links.key";
/// Hex digits of a mark: 128 bits.
const MARK: usize = 32;
/// The longest link that is looked at.
const BYTES_MAX: usize = 500;

/// Makes links and knows them again.
#[derive(Clone)]
pub struct AckLinks {
    secret: [u8; 32],
}

/// What a link says, once its mark is found to be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AckLink {
    pub(crate) incident: u64,
    pub(crate) receiver: String,
    pub(crate) expires: Time,
    /// By what its use is remembered.
    pub(crate) digest: String,
}

impl std::fmt::Debug for AckLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AckLinks")
    }
}

impl AckLinks {
    /// With a secret that is known.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> AckLinks {
        AckLinks { secret }
    }

    /// With the secret of a data folder, which is made if there is none: readable by its owner alone,
    /// and the same after a restart, so that links that were sent go on to serve.
    ///
    /// # Errors
    /// It can neither be read nor made; the text says what to do.
    pub fn open(data: &Path) -> Result<AckLinks, String> {
        let file = data.join(FILE);
        let said = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
        match std::fs::read(&file) {
            Ok(bytes) => {
                let secret = <[u8; 32]>::try_from(bytes.as_slice());
                let secret = secret.map_err(|_| {
                    said(&"this is no key of 32 bytes; remove it, and links that were sent serve no more")
                })?;
                Ok(AckLinks { secret })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut secret = [0_u8; 32];
                getrandom::fill(&mut secret).map_err(|error| said(&error))?;
                // Under another name first: after a power cut there is a whole key or none.
                let fresh = data.join(format!("{FILE}.new"));
                let mut options = std::fs::OpenOptions::new();
                options.write(true).create(true).truncate(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let made = options.open(&fresh).and_then(|mut made| {
                    made.write_all(&secret)?;
                    made.sync_all()
                });
                made.and_then(|()| std::fs::rename(&fresh, &file)).map_err(|error| said(&error))?;
                Ok(AckLinks { secret })
            }
            Err(error) => Err(said(&error)),
        }
    }

    /// The last part of the address of a message's link: the same for every attempt at it. `None` where
    /// there is nothing to look after.
    #[must_use]
    pub fn token(&self, message: &Message) -> Option<String> {
        if message.incident == 0 || message.status != MessageStatus::Firing {
            return None;
        }
        let expires = (message.created + SERVES).0.max(0).cast_unsigned();
        let receiver: String = message.receiver.bytes().map(|b| format!("{b:02x}")).collect();
        let said = format!("{}.{expires:x}.{receiver}", message.incident);
        // A name so long that its link would not be looked at gets none.
        (said.len() + MARK < BYTES_MAX).then(|| format!("{said}.{}", self.mark(&said)))
    }

    /// What a link says; `None` if it is not one of ours.
    pub(crate) fn read(&self, token: &str) -> Option<AckLink> {
        if token.len() > BYTES_MAX {
            return None;
        }
        let (said, mark) = token.rsplit_once('.')?;
        if !bool::from(self.mark(said).as_bytes().ct_eq(mark.as_bytes())) {
            return None;
        }
        let mut parts = said.split('.');
        let (incident, expires) = (parts.next()?.parse().ok()?, parts.next()?);
        let receiver = unhex(parts.next()?)?;
        let expires = Time(i64::from_str_radix(expires, 16).ok()?);
        let digest = mac(&self.secret, &["used", token]);
        Some(AckLink { incident, receiver, expires, digest: digest[..MARK].to_owned() })
    }

    fn mark(&self, said: &str) -> String {
        let mut mark = mac(&self.secret, &["ack", said]);
        mark.truncate(MARK);
        mark
    }
}

/// The text that stands as pairs of hex digits; `None` if it is none.
pub(crate) fn unhex(text: &str) -> Option<String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    String::from_utf8(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(incident: u64, receiver: &str) -> Message {
        let mut message = Message::test(1, "x/webhook[0]", MessageStatus::Firing, Time(5_000));
        (message.incident, message.receiver) = (incident, receiver.to_owned());
        message
    }

    #[test]
    fn a_link_says_what_it_was_made_for_and_no_other_can_be_made_of_it() {
        let links = AckLinks::new([7; 32]);
        let token = links.token(&message(12, "ops: night")).unwrap();
        let read = links.read(&token).unwrap();
        assert_eq!((read.incident, &*read.receiver), (12, "ops: night"));
        assert_eq!(read.expires, Time(5_000) + SERVES);
        assert!(!token.contains(&read.digest), "what is kept does not open the door");
        assert_eq!(AckLinks::new([8; 32]).read(&token), None);
        assert_eq!(links.read(&token.replacen("12.", "13.", 1)), None);
        assert_eq!(links.read(&token[1..]), None);
        assert_eq!(links.read(""), None);
    }

    #[test]
    fn what_is_over_and_what_is_about_nothing_has_no_link() {
        let links = AckLinks::new([7; 32]);
        assert_eq!(links.token(&message(0, "ops")), None);
        let over = Message { status: MessageStatus::Resolved, ..message(3, "ops") };
        assert_eq!(links.token(&over), None);
        assert_eq!(links.token(&message(3, &"x".repeat(600))), None);
    }

    #[test]
    fn the_secret_is_its_owners_and_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let token = AckLinks::open(dir.path()).unwrap().token(&message(3, "ops")).unwrap();
        assert!(AckLinks::open(dir.path()).unwrap().read(&token).is_some());
        let file = dir.path().join(FILE);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(&file, "short").unwrap();
        assert!(AckLinks::open(dir.path()).unwrap_err().contains("remove it"));
    }

    proptest! {
        #[test]
        fn every_receiver_reads_back_and_no_change_goes_unseen(
            incident in 1_u64.., receiver in "\\PC{0,40}", at in 0_usize..60, with in "[0-9a-f.]",
        ) {
            let links = AckLinks::new([1; 32]);
            let token = links.token(&message(incident, &receiver)).unwrap();
            prop_assert_eq!(&links.read(&token).unwrap().receiver, &receiver);
            let mut other = token.clone();
            let at = at % token.len();
            other.replace_range(at..=at, &with);
            prop_assert!(other == token || links.read(&other).is_none());
        }

        #[test]
        fn no_text_is_taken_for_a_link(text in "\\PC{0,80}") {
            prop_assert!(AckLinks::new([1; 32]).read(&text).is_none());
        }
    }
}
