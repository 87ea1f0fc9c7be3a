//! Whatever bytes a stream brings, framing neither panics nor holds more than it may, and what decodes encodes to
//! something that decodes alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{
    frame::{Cap, Frame, FrameBuf},
    tokens,
};

/// Ids of a context that no small input should be able to unfold.
const CONTEXT: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    let [cap, step, stream @ ..] = data else { return };
    let cap = [Cap::Open, Cap::Client, Cap::Provider][usize::from(*cap) % 3];
    let step = usize::from(*step).max(1);
    let mut buffer = FrameBuf::new();
    for chunk in stream.chunks(step) {
        buffer.push(chunk);
        loop {
            match buffer.next_frame(cap) {
                Ok(Some(frame)) => same_again(&frame, cap),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(buffer.next_frame(cap), Err(error));
                    return;
                }
            }
        }
        assert!(buffer.len() <= cap.bytes() + 4 + step);
    }
});

fn same_again(frame: &Frame, cap: Cap) {
    if let Frame::Open(open) = frame
        && let Ok(ids) = tokens::unpack(&open.prompt_tokens, CONTEXT)
    {
        assert!(ids.len() <= CONTEXT as usize);
    }
    let bytes = frame.to_bytes();
    let again = Frame::from_bytes(&bytes, cap);
    // A float that is no number is not equal to itself; its bytes are.
    if let Ok(Some(again)) = again {
        assert_eq!(again.to_bytes(), bytes);
    } else {
        panic!("{frame:?} does not decode again: {again:?}");
    }
}
