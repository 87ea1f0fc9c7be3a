//! The link: an invite that a browser or a mail program hands to the app that is registered for it.
//!
//! `decentralgpt://invite/1/` and the base32 of an [`InviteText`]: letters and digits alone, so that nothing on the way has a
//! reason to encode any of it. A link is a stranger's text, followed with one click, so an invite is all that one can say, and
//! reading it dials nobody: who reads it shows it, and asks.

use super::invite::{InviteError, InviteText, MAX_TEXT_BYTES, PREFIX};

/// What the app is registered for with the system (`plugins.deep-link` in src-tauri/tauri.conf.json).
pub const LINK_SCHEME: &str = "decentralgpt";

/// What a link asks for; there is no other thing.
const INVITE: &str = "invite";

/// The form of the invite, as in `dgpt1:`.
const FORM: &str = "1";

impl InviteText {
    /// The invite as a link.
    #[must_use]
    pub fn link(&self) -> String {
        let text = self.encode();
        let body = text.strip_prefix(PREFIX).unwrap_or(&text);
        format!("{LINK_SCHEME}://{INVITE}/{FORM}/{body}")
    }
}

/// Whether a text is meant as a link to this app, whatever it asks for.
#[must_use]
pub fn is_link(text: &str) -> bool {
    after_scheme(text).is_some()
}

/// Reads a link. Nothing is decoded, left out or repaired: a link is as [`InviteText::link`] writes it, in any case, or refused.
///
/// # Errors
/// [`InviteError::NoInvite`] for whatever else it asks for, [`InviteError::Newer`] for a form of later versions; else why its
/// invite is none.
pub fn read_link(text: &str) -> Result<InviteText, InviteError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(InviteError::TooLong);
    }
    let asked = after_scheme(text)
        .and_then(|rest| rest.strip_prefix("//"))
        .ok_or(InviteError::NoInvite)?;
    let mut parts = asked.splitn(3, '/');
    let (what, form, body) = (parts.next(), parts.next(), parts.next());
    if !what.is_some_and(|what| what.eq_ignore_ascii_case(INVITE)) {
        return Err(InviteError::NoInvite);
    }
    match form {
        Some(FORM) => InviteText::decode(body.unwrap_or_default()),
        Some(form) if !form.is_empty() && form.bytes().all(|digit| digit.is_ascii_digit()) => {
            Err(InviteError::Newer)
        }
        Some(_) | None => Err(InviteError::NoInvite),
    }
}

fn after_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once(':')?;
    scheme.eq_ignore_ascii_case(LINK_SCHEME).then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::PeerId;

    use super::*;

    fn invite(key: [u8; 32], addresses: Vec<String>) -> InviteText {
        InviteText {
            peer: PeerId::from_public_key(&key),
            addresses,
        }
    }

    fn link() -> String {
        invite(
            [7; 32],
            vec!["/ip4/203.0.113.7/udp/4001/quic-v1".to_owned()],
        )
        .link()
    }

    #[test]
    fn a_link_is_letters_and_digits_behind_its_name() {
        let link = link();
        let body = link.strip_prefix("decentralgpt://invite/1/").unwrap();
        assert!(body.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(read_link(&link.to_uppercase()).is_ok());
    }

    #[test]
    fn what_a_link_must_not_say_is_refused_by_name() {
        let body = link().rsplit('/').next().unwrap().to_owned();
        for (text, why) in [
            ("decentralgpt:", InviteError::NoInvite),
            ("decentralgpt://", InviteError::NoInvite),
            ("decentralgpt://invite", InviteError::NoInvite),
            ("decentralgpt://pay/1/0x00?amount=1", InviteError::NoInvite),
            (
                "decentralgpt://invite@evil.example/1/a",
                InviteError::NoInvite,
            ),
            ("decentralgpt://invite:80/1/a", InviteError::NoInvite),
            ("decentralgpt://settings/money", InviteError::NoInvite),
            ("https://invite/1/aaaa", InviteError::NoInvite),
            ("", InviteError::NoInvite),
            ("decentralgpt://invite/2/aaaa", InviteError::Newer),
            ("decentralgpt://invite/1", InviteError::CutShort),
            ("decentralgpt://invite/1/", InviteError::CutShort),
            ("decentralgpt://invite/1/%61%61aa", InviteError::Alphabet),
        ] {
            assert_eq!(read_link(text), Err(why), "{text}");
        }
        for tail in [
            "?",
            "#",
            "/",
            " --data /tmp",
            "\" --data /tmp",
            "\n",
            "\0",
            "=",
            "é",
        ] {
            let text = format!("decentralgpt://invite/1/{body}{tail}");
            assert!(read_link(&text).is_err(), "{text:?}");
        }
        let long = format!("decentralgpt://invite/1/{}", "a".repeat(MAX_TEXT_BYTES));
        assert_eq!(read_link(&long), Err(InviteError::TooLong));
    }

    proptest! {
        /// Whatever a link says, an invite is all that comes of it, and it is the one that its own text says.
        #[test]
        fn a_link_proposes_an_invite_or_nothing(text in prop_oneof![
            any::<String>(),
            "decentralgpt:(//)?(invite|Invite|pay|\\PC{0,8})/?[0-9a-z]{0,3}/?\\PC{0,200}",
            "decentralgpt://invite/1/[a-z2-7]{0,200}",
        ]) {
            if let Ok(invite) = read_link(&text) {
                prop_assert!(is_link(&text));
                prop_assert_eq!(read_link(&invite.link()), Ok(invite));
            }
        }

        #[test]
        fn a_changed_link_is_noticed(key in any::<[u8; 32]>(), at in any::<prop::sample::Index>(), other in any::<char>()) {
            let link = invite(key, vec!["/ip4/198.51.100.2/tcp/4001".to_owned()]).link();
            let mut letters: Vec<char> = link.chars().collect();
            let at = at.index(letters.len());
            prop_assume!(!letters[at].eq_ignore_ascii_case(&other));
            letters[at] = other;
            prop_assert!(read_link(&letters.iter().collect::<String>()).is_err());
        }

        #[test]
        fn any_invite_survives_as_a_link(key in any::<[u8; 32]>(), addresses in proptest::collection::vec("/ip4/[0-9.]{1,20}/tcp/[0-9]{1,5}", 0..6)) {
            let invite = invite(key, addresses);
            prop_assert_eq!(read_link(&invite.link()), Ok(invite));
        }
    }
}
