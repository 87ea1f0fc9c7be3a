//! The invite: one line that a person can send, read out or show as a QR code, and that says who to dial and where.
//!
//! `dgpt1:` and base32 (RFC 4648, any case, no padding) of: the peer's 32 key bytes, one byte with the number of
//! addresses, each address as one length byte and its multiaddr text without `/p2p/…`, and the first four bytes of the
//! BLAKE3 of all that. Base32 because a person may type it, and because QR codes hold capitals and digits densest.

use data_encoding::BASE32_NOPAD;
use protocol::PeerId;

use super::link;

pub(super) const PREFIX: &str = "dgpt1:";

/// An invite is shown as one QR code: more addresses than this make it unreadable for a camera.
pub const MAX_ADDRESSES: usize = 6;

/// Longest text of one address; a host name of 253 characters with its port and transport.
const MAX_ADDRESS_BYTES: usize = 255;

/// What a person may paste: the longest invite, with the line breaks a mail program adds.
pub(super) const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Four bytes: a mistyped invite is noticed but for one in four thousand million.
const CHECKSUM_BYTES: usize = 4;

/// Who to dial, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteText {
    /// Who answers there.
    pub peer: PeerId,
    /// Multiaddrs without `/p2p/…`, best first.
    pub addresses: Vec<String>,
}

/// What a person pasted into "connect to a peer".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pasted {
    /// An invite.
    Invite(InviteText),
    /// A multiaddr, or the id of a peer whose address may be known.
    Address(String),
}

/// Why a pasted text is no invite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Nothing was pasted.
    #[error("there is no invite or address in the field")]
    Empty,
    /// Longer than any invite.
    #[error("this is longer than any invite")]
    TooLong,
    /// It begins like an invite, and a character in it cannot be part of one.
    #[error("the invite has a character that does not belong into it")]
    Alphabet,
    /// A part of it is missing.
    #[error("the invite is cut short")]
    CutShort,
    /// It was mistyped or altered.
    #[error("the invite was mistyped: its check does not match")]
    Checksum,
    /// Its content is not that of an invite.
    #[error("the invite is damaged")]
    Damaged,
    /// It is of a form that this version does not know.
    #[error("this invite is of a newer form")]
    Newer,
    /// A link to this app that asks for something else.
    #[error("this link is no invite, and nothing else can be opened by a link")]
    NoInvite,
}

impl InviteError {
    /// What a shell branches on.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "nothing_to_connect",
            Self::Newer => "invite_newer",
            Self::NoInvite => "link_refused",
            Self::TooLong | Self::Alphabet | Self::CutShort | Self::Checksum | Self::Damaged => {
                "invite_damaged"
            }
        }
    }
}

impl InviteText {
    /// The invite as one line.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = self.peer.public_key().to_vec();
        let addresses: Vec<&String> = self
            .addresses
            .iter()
            .filter(|address| address.len() <= MAX_ADDRESS_BYTES)
            .take(MAX_ADDRESSES)
            .collect();
        bytes.push(addresses.len() as u8);
        for address in addresses {
            bytes.push(address.len() as u8);
            bytes.extend_from_slice(address.as_bytes());
        }
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
    }

    pub(super) fn decode(body: &str) -> Result<Self, InviteError> {
        let bytes = BASE32_NOPAD
            .decode(body.to_ascii_uppercase().as_bytes())
            .map_err(|error| match error.kind {
                data_encoding::DecodeKind::Length => InviteError::CutShort,
                data_encoding::DecodeKind::Symbol
                | data_encoding::DecodeKind::Trailing
                | data_encoding::DecodeKind::Padding => InviteError::Alphabet,
            })?;
        let (content, check) = bytes
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or(InviteError::CutShort)?;
        if checksum(content) != *check {
            return Err(InviteError::Checksum);
        }
        let (key, rest) = content
            .split_first_chunk::<32>()
            .ok_or(InviteError::Damaged)?;
        let (&count, mut rest) = rest.split_first().ok_or(InviteError::Damaged)?;
        if usize::from(count) > MAX_ADDRESSES {
            return Err(InviteError::Damaged);
        }
        let mut addresses = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (&len, tail) = rest.split_first().ok_or(InviteError::Damaged)?;
            let (text, tail) = tail
                .split_at_checked(usize::from(len))
                .ok_or(InviteError::Damaged)?;
            let text = std::str::from_utf8(text).map_err(|_| InviteError::Damaged)?;
            // An address is shown before it is dialled: no letter in it may look like another, or turn the text around.
            if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(InviteError::Damaged);
            }
            addresses.push(text.to_owned());
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(InviteError::Damaged);
        }
        Ok(Self {
            peer: PeerId::from_public_key(key),
            addresses,
        })
    }
}

/// Reads what a person pasted: an invite in any case and with line breaks, an invite's link, an address, or a peer's id.
///
/// # Errors
/// [`InviteError`] when it is empty, or begins like an invite and is none.
pub fn read(text: &str) -> Result<Pasted, InviteError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(InviteError::TooLong);
    }
    let text: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    if text.is_empty() {
        return Err(InviteError::Empty);
    }
    if link::is_link(&text) {
        return link::read_link(&text).map(Pasted::Invite);
    }
    let scheme = text
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    match scheme.strip_prefix("dgpt") {
        Some("1") => InviteText::decode(&text[PREFIX.len()..]).map(Pasted::Invite),
        Some(version)
            if !version.is_empty() && version.chars().all(|digit| digit.is_ascii_digit()) =>
        {
            Err(InviteError::Newer)
        }
        Some(_) | None => Ok(Pasted::Address(text)),
    }
}

/// A text as a QR code, drawn as SVG. `None` only for one longer than a code can hold.
#[must_use]
pub(crate) fn qr_svg(text: &str) -> Option<String> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::M).ok()?;
    Some(
        code.render::<qrcode::render::svg::Color<'_>>()
            .min_dimensions(240, 240)
            .quiet_zone(true)
            .build(),
    )
}

/// The same for a terminal: two rows of the code in each line of text. What is paper there is drawn, since most terminals write in
/// light on dark.
#[must_use]
pub fn qr_text(text: &str) -> Option<String> {
    use qrcode::render::unicode::Dense1x2;
    let code = qrcode::QrCode::with_error_correction_level(text.to_uppercase(), qrcode::EcLevel::M)
        .ok()?;
    Some(
        code.render::<Dense1x2>()
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .quiet_zone(true)
            .build(),
    )
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(bytes);
    let mut check = [0; CHECKSUM_BYTES];
    check.copy_from_slice(&hash.as_bytes()[..CHECKSUM_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn invite() -> InviteText {
        InviteText {
            peer: PeerId::from_public_key(&[7; 32]),
            addresses: vec![
                "/ip4/203.0.113.7/udp/4001/quic-v1".to_owned(),
                "/ip4/203.0.113.7/tcp/4001".to_owned(),
            ],
        }
    }

    #[test]
    fn read_back_in_capitals_and_broken_over_lines() {
        let text = invite().encode();
        assert_eq!(read(&text), Ok(Pasted::Invite(invite())));
        let (front, back) = text.split_at(40);
        assert_eq!(
            read(&format!("  {}\r\n {}\n", front.to_uppercase(), back)),
            Ok(Pasted::Invite(invite()))
        );
        assert!(qr_svg(&text).unwrap().contains("<svg"));
        let drawn = qr_text(&text).unwrap();
        let widths: Vec<usize> = drawn.lines().map(|line| line.chars().count()).collect();
        assert!(
            widths
                .iter()
                .all(|width| *width == widths[0] && *width <= 80)
        );
        assert!(drawn.chars().all(|mark| " ▀▄█\n".contains(mark)));
    }

    /// `docs/protocol.md` shows this one.
    #[test]
    fn the_page_of_the_protocol_shows_an_invite_that_is_one() {
        let shown = InviteText {
            peer: protocol::Signer::from_seed([1; 32]).peer_id(),
            addresses: vec!["/ip4/198.51.100.7/udp/4001/quic-v1".to_owned()],
        };
        let page = include_str!("../../../../docs/protocol.md");
        let text = shown.encode();
        assert!(
            page.contains(&format!("```text invite\n{text}\n```")),
            "{text}"
        );
    }

    #[test]
    fn every_single_typing_error_is_noticed() {
        let text = invite().encode();
        for at in PREFIX.len()..text.len() {
            let other = if &text[at..=at] == "a" { "b" } else { "a" };
            let typo = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(read(&typo).is_err(), "{typo}");
            assert!(read(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_address_that_would_not_look_like_what_it_is_is_none() {
        for address in [
            "/dns4/exa\u{43c}ple.org/tcp/1",
            "/ip4/192.0.2.1\u{202e}/tcp/1",
            "/ip4/192.0.2.1/tcp/1 ",
            "/ip4/192.0.2.1/tcp/1\u{0}",
            "ip4/192.0.2.1/tcp/1",
        ] {
            let invite = InviteText {
                addresses: vec![address.to_owned()],
                ..invite()
            };
            assert_eq!(read(&invite.encode()), Err(InviteError::Damaged));
        }
    }

    #[test]
    fn what_is_no_invite() {
        assert_eq!(read(" \n"), Err(InviteError::Empty));
        assert_eq!(read("dgpt2:aaaa"), Err(InviteError::Newer));
        assert_eq!(read(&"x".repeat(100_000)), Err(InviteError::TooLong));
        assert_eq!(
            read(&invite().link()),
            Ok(Pasted::Invite(invite())),
            "a link may be pasted as well"
        );
        assert_eq!(
            read("/ip4/127.0.0.1/tcp/1"),
            Ok(Pasted::Address("/ip4/127.0.0.1/tcp/1".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "(dgpt1:)?[ -~äß\n]{0,200}") {
            let _ = read(&text);
        }

        #[test]
        fn any_invite_survives(key in any::<[u8; 32]>(), addresses in proptest::collection::vec("/ip4/[0-9.]{1,20}/tcp/[0-9]{1,5}", 0..6)) {
            let invite = InviteText { peer: PeerId::from_public_key(&key), addresses };
            prop_assert_eq!(read(&invite.encode()), Ok(Pasted::Invite(invite)));
        }
    }
}
