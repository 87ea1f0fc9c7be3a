#![no_main]
//! Frames between the app and its worker, both ways.

use engine::wire::{self, FromWorker, ToWorker};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut pipe = bytes;
    while let Ok(Some(message)) = wire::read::<ToWorker>(&mut pipe) {
        // What was read can be written, and reads the same, unless it holds what JSON has no word for.
        if let Ok(frame) = wire::encode(&message) {
            wire::read::<ToWorker>(&mut frame.as_slice()).ok();
        }
    }
    let mut pipe = bytes;
    while let Ok(Some(message)) = wire::read::<FromWorker>(&mut pipe) {
        wire::encode(&message).ok();
    }
});
