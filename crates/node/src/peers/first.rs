//! The list of first peers: that of the program, or the one in the data folder that takes its place.
//!
//! The file begins with whose signature counts, and goes on with signed lists as [`network::PeerList`] has them:
//!
//! ```text
//! maker 12D3KooW…
//! decentralgpt/peers/1
//! …
//! ```
//!
//! So a fork replaces one file, and a person who trusts somebody else's list puts it into the data folder, or an empty file to use
//! none. The program's own file is empty until there are people who run such nodes.

use std::{fs::File, io::Read as _, path::Path};

use bytes::Bytes;
use network::BuiltIn;
use protocol::PeerId;

/// The program's own.
const OURS: &[u8] = include_bytes!("../../../../networks/first-peers.list");

/// The word before the maker's name.
const MAKER: &str = "maker ";

/// More than the longest list there can be is no list, and is not read into memory.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file gives no list.
#[derive(Debug, thiserror::Error)]
pub(super) enum FirstPeersError {
    /// The system does not give it.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// It does not begin with whose signature counts.
    #[error("it does not begin with a line like \"maker 12D3KooW…\"")]
    NoMaker,
    /// It is no list.
    #[error("it has more than {MAX_BYTES} bytes")]
    TooLong,
}

/// The list that counts; `None`: none. A file that gives none is said in the log, and the program's own is not used in its place:
/// whoever put it there did not want that one.
pub(super) fn built_in(path: &Path) -> Option<BuiltIn> {
    let read = match read(path) {
        Ok(Some(bytes)) => parse(&bytes),
        Ok(None) => parse(OURS),
        Err(error) => Err(error),
    };
    read.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the list of first peers is not used");
        None
    })
}

/// `None`: there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, FirstPeersError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if read as u64 > MAX_BYTES {
        return Err(FirstPeersError::TooLong);
    }
    Ok(Some(bytes))
}

/// `None`: the file is empty. The lists in it are judged by who uses them.
fn parse(bytes: &[u8]) -> Result<Option<BuiltIn>, FirstPeersError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (first, list) = bytes.split_at(end.ok_or(FirstPeersError::NoMaker)? + 1);
    let maker: PeerId = std::str::from_utf8(first)
        .ok()
        .and_then(|line| line.trim_end().strip_prefix(MAKER)?.parse().ok())
        .ok_or(FirstPeersError::NoMaker)?;
    Ok(Some(BuiltIn {
        list: Bytes::copy_from_slice(list),
        maker,
    }))
}

#[cfg(test)]
mod tests {
    use network::PeerList;
    use protocol::{NetworkId, Signer};

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn list(serial: u64, next: Option<PeerId>) -> PeerList {
        PeerList {
            network: NetworkId::MAIN,
            serial,
            issued_unix_s: NOW,
            expires_unix_s: NOW + 60,
            next,
            peers: Vec::new(),
        }
    }

    #[test]
    fn the_program_comes_with_none_yet() {
        let folder = tempfile::tempdir().unwrap();
        assert!(built_in(&folder.path().join("first-peers.list")).is_none());
    }

    #[test]
    fn a_file_takes_the_place_of_the_program_s_with_the_key_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("first-peers.list");
        let (first, second) = (Signer::from_seed([1; 32]), Signer::from_seed([2; 32]));
        let lists = [
            list(1, Some(second.peer_id())).sign(&first),
            list(2, None).sign(&second),
        ];
        std::fs::write(
            &path,
            format!("maker {}\n{}", first.peer_id(), lists.concat()),
        )
        .unwrap();
        let read = built_in(&path).unwrap();
        assert_eq!(read.maker, first.peer_id());
        let counts = PeerList::verify(&read.list, read.maker, &NetworkId::MAIN, NOW);
        assert_eq!(counts, Ok(list(2, None)), "the key was handed over");
    }

    #[test]
    fn a_file_without_a_maker_gives_no_list() {
        for bytes in [
            &b"maker"[..],
            b"maker nobody\n",
            b"decentralgpt/peers/1\n",
            b"\xff\xfe\n",
        ] {
            assert!(matches!(parse(bytes), Err(FirstPeersError::NoMaker)));
        }
    }
}
