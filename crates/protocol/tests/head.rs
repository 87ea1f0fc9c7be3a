//! A model file's head, fetched piece by piece from peers that may lie about it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use prost::Message as _;
use protocol::{
    HeadDigest, ModelDigest, ModelRef,
    head::{HeadError, HeadFetch, HeadRequest, HeadResponse, HeadStatus, MAX_CHUNK, MAX_HEAD},
};
use sha2::{Digest as _, Sha256};

fn head() -> (Bytes, ModelRef) {
    let bytes: Vec<u8> = (0..MAX_CHUNK * 2 + 1_000)
        .map(|at| (at * 7 % 251) as u8)
        .collect();
    let head_sha256 = HeadDigest::new(Sha256::digest(&bytes).into());
    let model = ModelRef {
        digest: ModelDigest::new([1; 32]),
        head_len: bytes.len() as u32,
        head_sha256,
    };
    (Bytes::from(bytes), model)
}

#[test]
fn a_head_comes_in_pieces_and_goes_on_after_a_cut() {
    let (head, model) = head();
    let mut fetch = HeadFetch::new(model).unwrap();
    for piece in 0..3u32 {
        let request = HeadRequest {
            model_digest: Bytes::copy_from_slice(model.digest.as_bytes()),
            offset: piece * MAX_CHUNK as u32,
        };
        let (request, digest) =
            HeadRequest::from_bytes(&Bytes::from(request.encode_to_vec())).unwrap();
        assert_eq!(digest, model.digest);
        // The connection breaks here: nothing but the next request is needed to go on.
        let mut resumed = fetch.clone();
        let answer = HeadResponse::piece(&head, request.offset);
        let answer = HeadResponse::from_bytes(&Bytes::from(answer.encode_to_vec())).unwrap();
        let whole = resumed.take(&answer).unwrap();
        assert_eq!(whole.is_some(), piece == 2);
        if let Some(whole) = whole {
            assert_eq!(whole, head);
        }
        fetch = resumed;
    }
}

#[test]
fn a_lie_about_a_head_is_told_by_its_kind() {
    let (head, model) = head();
    let taken = |answer: HeadResponse| HeadFetch::new(model).unwrap().take(&answer).unwrap_err();
    let piece = HeadResponse::piece(&head, 0);
    assert_eq!(
        taken(HeadResponse::without(HeadStatus::Unknown)),
        HeadError::Status(HeadStatus::Unknown)
    );
    assert_eq!(
        taken(HeadResponse {
            status: 77,
            ..piece.clone()
        }),
        HeadError::Status(HeadStatus::Unspecified)
    );
    let longer = HeadResponse {
        total_len: 9,
        ..piece.clone()
    };
    assert_eq!(
        taken(longer),
        HeadError::WrongLength {
            expected: model.head_len,
            got: 9
        }
    );
    assert_eq!(
        taken(HeadResponse {
            offset: 1,
            ..piece.clone()
        }),
        HeadError::WrongPiece { expected: 0 }
    );
    assert_eq!(
        taken(HeadResponse {
            chunk: Bytes::new(),
            ..piece.clone()
        }),
        HeadError::WrongPiece { expected: 0 }
    );
    let past = HeadResponse::piece(&head, model.head_len);
    assert_eq!(taken(past), HeadError::Status(HeadStatus::OutOfRange));

    let mut changed = head.to_vec();
    changed[5] ^= 1;
    let changed = Bytes::from(changed);
    let mut fetch = HeadFetch::new(model).unwrap();
    for piece in 0..2 {
        assert_eq!(
            fetch.take(&HeadResponse::piece(&changed, piece * MAX_CHUNK as u32)),
            Ok(None)
        );
    }
    let last = fetch.take(&HeadResponse::piece(&changed, 2 * MAX_CHUNK as u32));
    assert_eq!(last, Err(HeadError::WrongDigest));
    assert_eq!(fetch.progress(), (0, model.head_len));
}

#[test]
fn no_head_is_larger_than_may_be() {
    let (_, model) = head();
    for head_len in [0, MAX_HEAD as u32 + 1, u32::MAX] {
        let refused = HeadFetch::new(ModelRef { head_len, ..model }).map(|_| ());
        assert_eq!(refused, Err(HeadError::TooLarge { len: head_len }));
    }
    assert_eq!(
        HeadRequest::from_bytes(&Bytes::from(vec![0; 129])).map(|_| ()),
        Err(HeadError::Undecodable)
    );
    let huge = Bytes::from(vec![0; MAX_CHUNK + 200]);
    assert_eq!(
        HeadResponse::from_bytes(&huge).map(|_| ()),
        Err(HeadError::Undecodable)
    );
}
