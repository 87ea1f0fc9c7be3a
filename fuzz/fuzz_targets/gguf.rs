#![no_main]
//! The header of a model file: metadata, tensor table, and the tokenizer built from it.

use engine::text::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = engine::file::parse(bytes) else {
        return;
    };
    assert!(header.head_len as usize <= bytes.len());
    let file_len = bytes.len() as u64;
    if header.check_extents(file_len).is_ok() {
        for tensor in &header.tensors {
            let end = header.data_offset + tensor.offset + tensor.bytes().unwrap_or(0);
            assert!(end <= file_len);
        }
    }
    // What the decoder would be told of it.
    if let Ok(shape) = engine::families::Shape::from_metadata(&header.metadata, "fuzzed") {
        assert!(shape.heads.is_multiple_of(shape.kv_heads) && shape.kv_bytes_per_token() > 0);
    }
    if let Ok(tokenizer) = Tokenizer::from_metadata(&header.metadata) {
        let vocabulary = tokenizer.vocabulary().len();
        for text in ["hello world 123", "é😀\n\n  <|im_end|>"] {
            assert!(tokenizer.encode_typed(text).iter().all(|&id| id < vocabulary));
            assert!(tokenizer.encode_rendered(text, &[3]).iter().all(|&id| id < vocabulary));
        }
    }
});
