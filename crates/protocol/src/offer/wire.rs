//! Field numbers of an offer's signed payload. Number 3 is not used: an offer's id is computed, never told.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Offer {
    #[prost(uint32, tag = "1")]
    pub(super) v: u32,
    #[prost(string, tag = "2")]
    pub(super) network_id: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) peer_id: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) binding: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(super) addrs: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "7")]
    pub(super) model_digest: Bytes,
    #[prost(string, tag = "8")]
    pub(super) quant: String,
    #[prost(uint32, tag = "9")]
    pub(super) ctx_max: u32,
    #[prost(uint32, tag = "10")]
    pub(super) out_max: u32,
    #[prost(uint32, tag = "11")]
    pub(super) parallel_slots: u32,
    #[prost(string, repeated, tag = "12")]
    pub(super) features: Vec<String>,
    #[prost(bytes = "bytes", tag = "13")]
    pub(super) price_in: Bytes,
    #[prost(bytes = "bytes", tag = "14")]
    pub(super) price_out: Bytes,
    #[prost(bytes = "bytes", tag = "15")]
    pub(super) price_cached: Bytes,
    #[prost(bytes = "bytes", tag = "16")]
    pub(super) asset: Bytes,
    #[prost(bytes = "bytes", tag = "17")]
    pub(super) vault: Bytes,
    #[prost(uint32, tag = "18")]
    pub(super) prefill_tps: u32,
    #[prost(uint32, tag = "19")]
    pub(super) decode_tps: u32,
    #[prost(uint32, tag = "20")]
    pub(super) queue_depth: u32,
    #[prost(uint32, tag = "21")]
    pub(super) queue_max: u32,
    #[prost(string, tag = "22")]
    pub(super) region: String,
    #[prost(string, tag = "23")]
    pub(super) sw: String,
    #[prost(uint32, tag = "24")]
    pub(super) proto_min: u32,
    #[prost(uint32, tag = "25")]
    pub(super) proto_max: u32,
    #[prost(uint64, tag = "26")]
    pub(super) issued_at: u64,
    #[prost(uint64, tag = "27")]
    pub(super) expires_at: u64,
    #[prost(uint64, tag = "28")]
    pub(super) seq: u64,
    #[prost(string, tag = "29")]
    pub(super) engine_class: String,
    #[prost(uint32, tag = "30")]
    pub(super) free_tokens: u32,
    #[prost(uint32, tag = "31")]
    pub(super) head_len: u32,
    #[prost(bytes = "bytes", tag = "32")]
    pub(super) head_sha256: Bytes,
    #[prost(uint64, tag = "33")]
    pub(super) chain_id: u64,
    #[prost(uint32, tag = "34")]
    pub(super) stream_window: u32,
    #[prost(bytes = "bytes", tag = "35")]
    pub(super) vrf_key: Bytes,
}
