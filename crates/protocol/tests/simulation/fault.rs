//! What can go wrong with a simulated provider, and the frames of one that lies.

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{
    JobId, Signer,
    frame::{Done, Frame, Signed},
    job::Finish,
    receipt::{Checkpoint, SignedReceipt},
};

use crate::model::VOCAB;

/// Something that happens to a provider, once.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// No stream can be opened.
    Unreachable { after_ms: u64 },
    /// Nobody answers the dial.
    NeverConnects,
    /// The connection breaks at this time after the stream was opened, and both sides see it.
    Cut { at_ms: u64 },
    /// A relay drops the connection: the client sees it at once, the provider only later.
    RelayCut { at_ms: u64, provider_after_ms: u64 },
    /// Nothing passes any more, and the client is told only later.
    DeadPath { at_ms: u64, client_after_ms: u64 },
    /// The process is killed at this time after the stream was opened, and comes back without its jobs.
    Killed { at_ms: u64 },
    /// The peer cannot be reached from this time of the answer on, for so long.
    Outage { at_ms: u64, for_ms: u64 },
    /// The process is stopped at this time after it was first connected to; nothing is said, nothing is closed.
    Stopped { at_ms: u64, for_ms: u64 },
    /// Its owner works from here to there.
    OwnWork { at_ms: u64, for_ms: u64 },
    /// Its owner switches it off.
    Off { at_ms: u64 },
    /// Its engine dies at this token.
    EngineDies { at_token: u32 },
    /// It has no room the first times.
    Busy { times: u32, retry_after_ms: u32 },
    /// Jobs wait in line: so many are in front, the one that computes among them, and each takes so long.
    Line { in_front: u32, each_ms: u64 },
    /// It was told to forget the job id.
    Replay,
    /// It says other things than its machine does.
    Lies(Lie),
    /// Bytes that are no frame, instead of this one.
    Garbage { at_frame: u32 },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lie {
    /// The `Tokens` frame of this number is sent at an index that is one too high.
    SkipsIndex(u32),
    /// It is sent twice, which is allowed.
    Repeats(u32),
    /// It is sent twice, differently.
    Contradicts(u32),
    /// It is left out.
    Drops(u32),
    /// It is swapped with the frame behind it.
    Swaps(u32),
    /// It holds an id that is none.
    OutsideVocabulary(u32),
    /// One of its tokens is exchanged. The chain tells, later.
    Exchanges(u32),
    /// More tokens are sent before `Done`.
    Stuffs,
    /// The input is counted otherwise.
    MiscountsInput,
    /// A checkpoint with a broken signature.
    ForgesCheckpoint,
    /// A checkpoint of another job.
    MistakesJob,
    /// A receipt with a broken signature.
    ForgesReceipt,
    /// A receipt for one more token.
    Overcounts,
    /// A receipt that asks for money.
    AsksMoney,
    /// A receipt with another finish.
    MistakesFinish,
    /// No receipt in `Done`.
    ForgetsReceipt,
    /// `Done` is swallowed: the job seems to end in nothing.
    SwallowsDone,
}

impl Lie {
    /// Whether wrong tokens may be shown before the lie is found out. Those stuffed in behind an end token are known
    /// for what they are; behind a stop, only the receipt tells.
    pub(crate) fn changes_tokens(&self, stopped: bool) -> bool {
        matches!(self, Lie::Exchanges(_)) || (stopped && *self == Lie::Stuffs)
    }
}

pub(crate) fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![2 => any_break(), 3 => any_failure()]
}

/// Streams that break while the provider lives.
fn any_break() -> impl Strategy<Value = Fault> {
    let ms = || 0u64..9_000;
    prop_oneof![
        ms().prop_map(|at_ms| Fault::Cut { at_ms }),
        (ms(), 0u64..20_000).prop_map(|(at_ms, provider_after_ms)| Fault::RelayCut {
            at_ms,
            provider_after_ms
        }),
        (ms(), 0u64..20_000).prop_map(|(at_ms, client_after_ms)| Fault::DeadPath {
            at_ms,
            client_after_ms
        }),
        (ms(), 0u64..70_000).prop_map(|(at_ms, for_ms)| Fault::Outage { at_ms, for_ms }),
    ]
}

/// Providers that fail, refuse or lie.
fn any_failure() -> impl Strategy<Value = Fault> {
    let ms = || 0u64..9_000;
    prop_oneof![
        (0u64..3_000).prop_map(|after_ms| Fault::Unreachable { after_ms }),
        Just(Fault::NeverConnects),
        ms().prop_map(|at_ms| Fault::Killed { at_ms }),
        (ms(), 100u64..60_000).prop_map(|(at_ms, for_ms)| Fault::Stopped { at_ms, for_ms }),
        (ms(), 100u64..30_000).prop_map(|(at_ms, for_ms)| Fault::OwnWork { at_ms, for_ms }),
        ms().prop_map(|at_ms| Fault::Off { at_ms }),
        (0u32..100).prop_map(|at_token| Fault::EngineDies { at_token }),
        (1u32..6, 0u64..9_000).prop_map(|(in_front, each_ms)| Fault::Line { in_front, each_ms }),
        (1u32..9, 0u32..20_000).prop_map(|(times, retry_after_ms)| Fault::Busy {
            times,
            retry_after_ms
        }),
        Just(Fault::Replay),
        any_lie().prop_map(Fault::Lies),
        (0u32..40).prop_map(|at_frame| Fault::Garbage { at_frame }),
    ]
}

fn any_lie() -> impl Strategy<Value = Lie> {
    let at = 0u32..12;
    prop_oneof![
        at.clone().prop_map(Lie::SkipsIndex),
        at.clone().prop_map(Lie::Repeats),
        at.clone().prop_map(Lie::Contradicts),
        at.clone().prop_map(Lie::Drops),
        at.clone().prop_map(Lie::Swaps),
        at.clone().prop_map(Lie::OutsideVocabulary),
        at.prop_map(Lie::Exchanges),
        Just(Lie::Stuffs),
        Just(Lie::MiscountsInput),
        Just(Lie::ForgesCheckpoint),
        Just(Lie::MistakesJob),
        Just(Lie::ForgesReceipt),
        Just(Lie::Overcounts),
        Just(Lie::AsksMoney),
        Just(Lie::MistakesFinish),
        Just(Lie::ForgetsReceipt),
        Just(Lie::SwallowsDone),
    ]
}

/// What a lying provider sends instead of the frames its machine gave.
#[derive(Debug, Default)]
pub(crate) struct Tongue {
    tokens: u32,
    held: Option<Frame>,
}

impl Tongue {
    pub(crate) fn twist(&mut self, lie: &Lie, frame: Frame, signer: &Signer) -> Vec<Frame> {
        match frame {
            Frame::Tokens(tokens) => {
                let number = self.tokens;
                self.tokens += 1;
                let mut changed = tokens.clone();
                let this = Frame::Tokens(tokens);
                match *lie {
                    Lie::SkipsIndex(at) if at == number => changed.first_index += 1,
                    Lie::Repeats(at) if at == number => return vec![this.clone(), this],
                    Lie::Contradicts(at) if at == number => {
                        changed.ids[0] = (changed.ids[0] + 1) % VOCAB;
                        return vec![this, Frame::Tokens(changed)];
                    }
                    Lie::Drops(at) if at == number => return Vec::new(),
                    Lie::Swaps(at) if at == number => {
                        self.held = Some(this);
                        return Vec::new();
                    }
                    Lie::OutsideVocabulary(at) if at == number => changed.ids[0] = VOCAB + 7,
                    Lie::Exchanges(at) if at == number => {
                        changed.ids[0] = 3 + (changed.ids[0] + 1) % (VOCAB - 3)
                    }
                    _ => {}
                }
                std::iter::once(Frame::Tokens(changed))
                    .chain(self.held.take())
                    .collect()
            }
            Frame::Accept(mut accept) if *lie == Lie::MiscountsInput => {
                accept.n_in += 1;
                vec![Frame::Accept(accept)]
            }
            Frame::Checkpoint(signed) => vec![Frame::Checkpoint(checkpoint(lie, signed, signer))],
            Frame::Done(done) => done_instead(lie, done, signer),
            other => vec![other],
        }
    }
}

fn checkpoint(lie: &Lie, mut signed: Signed, signer: &Signer) -> Signed {
    if *lie == Lie::ForgesCheckpoint {
        signed.sig = flipped(&signed.sig);
    }
    if *lie == Lie::MistakesJob {
        let mut checkpoint = Checkpoint::verify_then_decode(&signed, &signer.peer_id()).unwrap();
        checkpoint.job = JobId::new([9; 32]);
        signed = checkpoint.sign(signer);
    }
    signed
}

fn done_instead(lie: &Lie, mut done: Done, signer: &Signer) -> Vec<Frame> {
    let signed = done.receipt.clone().unwrap();
    let mut receipt = SignedReceipt::verify_then_decode(&signed, &signer.peer_id())
        .unwrap()
        .receipt;
    match lie {
        Lie::ForgesReceipt => {
            done.receipt = Some(Signed {
                sig: flipped(&signed.sig),
                ..signed
            });
            return vec![Frame::Done(done)];
        }
        Lie::ForgetsReceipt => return vec![Frame::Done(Done { receipt: None })],
        Lie::SwallowsDone => return Vec::new(),
        Lie::Stuffs => {
            let first_index = receipt.first_index + receipt.totals.output as u32;
            let tokens = protocol::frame::Tokens::padded(first_index, &[5; 40]);
            return vec![Frame::Tokens(tokens), Frame::Done(done)];
        }
        Lie::Overcounts => receipt.totals.output += 1,
        Lie::AsksMoney => receipt.due = 1,
        Lie::MistakesFinish => {
            receipt.finish = if receipt.finish == Finish::Length {
                Finish::Stop
            } else {
                Finish::StopString
            };
        }
        _ => {}
    }
    done.receipt = Some(receipt.sign(signer).to_signed());
    vec![Frame::Done(done)]
}

fn flipped(sig: &Bytes) -> Bytes {
    let mut sig = sig.to_vec();
    sig[10] ^= 1;
    Bytes::from(sig)
}
