//! Entrances for the fuzzer to what reads the answers of endpoints. Not part of the product.

use alloy::{primitives::Address, sol_types::SolEventInterface};

use crate::{
    abi::PayVault::PayVaultEvents,
    events::VaultEvent,
    reason,
    rpc::{
        endpoint::{self, Refused},
        wire,
    },
};

/// The body of an answer: whatever it is, it is read as what was asked for or refused.
///
/// # Panics
/// When what was read is not within what was asked for.
pub fn answer(data: &[u8]) {
    let _ = reason::read(data);
    let Ok(value) = endpoint::result_of(data, 1) else {
        return;
    };
    let _ = wire::quantity(&value);
    let _ = wire::wide(&value);
    let _ = wire::bytes(&value);
    let _ = wire::block(&value);
    let _ = wire::receipt(&value);
    let (at, from, to) = (Address::repeat_byte(1), 5, 9);
    if let Ok(events) = wire::events(&value, at, from, to) {
        let places: Vec<_> = events
            .iter()
            .map(|event| (event.block, event.index))
            .collect();
        assert!(places.is_sorted_by(|one, next| one < next), "{places:?}");
        for event in &events {
            assert!(event.log.address == at && (from..=to).contains(&event.block));
            if let Ok(decoded) = PayVaultEvents::decode_log(&event.log) {
                let _ = VaultEvent::from(decoded.data);
            }
        }
    }
    let _ = wire::reverted(&Refused {
        code: 3,
        message: String::new(),
        data: Some(value),
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..400)) {
            answer(&data);
        }
    }
}
