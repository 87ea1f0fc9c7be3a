"""Model files to measure with: the starter requantised, and random weights of other shapes and formats.

Usage: models.py STARTER FOLDER NAME...

NAME is `starter-q8_0`, `1b-q4_k_m`, or a GGUF format in lower case (`q4_0`, `q3_k`, `bf16` ...). Speed does not depend on
what the weights say, so random blocks stand for real ones; they are scaled so that every number stays finite. The
tokenizer of all of them is the starter's.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFValueType, GGUFWriter, quants

# Where the 16-bit factors of a block lie, and what they are so that weights come out near 0.02.
# (bytes of a block, {offset: factor}, (begin, end) of signed 8-bit scales or None)
BLOCKS = {
    Kind.Q4_0: (18, {0: 4e-3}, None),
    Kind.Q4_1: (20, {0: 4e-3, 2: -3e-2}, None),
    Kind.Q5_0: (22, {0: 2e-3}, None),
    Kind.Q5_1: (24, {0: 2e-3, 2: -3e-2}, None),
    Kind.Q8_0: (34, {0: 3e-4}, None),
    Kind.Q2_K: (84, {80: 2e-3, 82: 3e-3}, None),
    Kind.Q3_K: (110, {108: 5e-4}, None),
    Kind.Q4_K: (144, {0: 1e-4, 2: 7.5e-4}, None),
    Kind.Q5_K: (176, {0: 7e-5, 2: 1.1e-3}, None),
    Kind.Q6_K: (210, {208: 1e-4}, (192, 208)),
}
# Largest 8-bit scale of Q6_K here: full-range ones would need a factor below what 16-bit floats hold well.
LARGEST_SCALE = 15


def random_tensor(random, kind, rows, width):
    """Rows of random weights, as the bytes of the format."""
    if kind in (Kind.F32, Kind.F16, Kind.BF16):
        values = random.standard_normal((rows, width), dtype=np.float32) * 0.02
        return quants.quantize(values, kind)
    bytes_of_block, factors, scales = BLOCKS[kind]
    per_block = 32 if bytes_of_block < 40 else 256
    blocks = random.integers(0, 256, (rows * width // per_block, bytes_of_block), dtype=np.uint8)
    for offset, factor in factors.items():
        blocks[:, offset : offset + 2] = np.frombuffer(np.float16(factor).tobytes(), np.uint8)
    if scales:
        begin, end = scales
        signed = random.integers(-LARGEST_SCALE, LARGEST_SCALE + 1, (len(blocks), end - begin), dtype=np.int8)
        blocks[:, begin:end] = signed.view(np.uint8)
    return blocks.reshape(rows, -1)


def copy_fields(writer, starter, wanted):
    for name, field in starter.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or not wanted(name):
            continue
        kind = field.types[0]
        value = field.contents()
        if kind == GGUFValueType.ARRAY:
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, kind)


def finish(writer, path):
    part = path.with_suffix(".part")
    writer.write_header_to_file(part)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def requantised(starter, path, kind):
    """The starter with every matrix in another format."""
    writer = GGUFWriter(None, "llama")
    copy_fields(writer, starter, lambda name: name != "general.file_type")
    for tensor in starter.tensors:
        if len(tensor.shape) == 1 or tensor.tensor_type == kind:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            values = quants.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, quants.quantize(values, kind), raw_dtype=kind)
    finish(writer, path)


def made_up(starter, path, *, layers, hidden, heads, kv_heads, feed_forward, kind_of):
    """A model of the llama family with random weights. `kind_of` maps (part, layer) to a format."""
    writer = GGUFWriter(None, "llama")
    copy_fields(writer, starter, lambda name: name.startswith("tokenizer."))
    writer.add_name(path.stem)
    writer.add_block_count(layers)
    writer.add_context_length(8192)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    pieces = len(starter.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(pieces)
    random = np.random.default_rng(1)

    def matrix(name, part, layer, rows, width):
        kind = kind_of(part, layer)
        writer.add_tensor(name, random_tensor(random, kind, rows, width), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name, np.ones(hidden, dtype=np.float32))

    keys = hidden // heads * kv_heads
    matrix("token_embd.weight", "token_embd", 0, pieces, hidden)
    norm("output_norm.weight")
    for layer in range(layers):
        parts = {
            "attn_q": (hidden, hidden),
            "attn_k": (keys, hidden),
            "attn_v": (keys, hidden),
            "attn_output": (hidden, hidden),
            "ffn_gate": (feed_forward, hidden),
            "ffn_up": (feed_forward, hidden),
            "ffn_down": (hidden, feed_forward),
        }
        norm(f"blk.{layer}.attn_norm.weight")
        norm(f"blk.{layer}.ffn_norm.weight")
        for part, (rows, width) in parts.items():
            matrix(f"blk.{layer}.{part}.weight", part, layer, rows, width)
    finish(writer, path)


def q4_k_m(layers):
    """The mixture that files called Q4_K_M have: the head, and values and the way down in half of the layers, finer."""

    def kind_of(part, layer):
        more_bits = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
        if part == "token_embd" or (part in ("attn_v", "ffn_down") and more_bits):
            return Kind.Q6_K
        return Kind.Q4_K

    return kind_of


def main():
    starter, folder, names = GGUFReader(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / f"{name}.gguf"
        if path.exists():
            continue
        if name == "starter-q8_0":
            requantised(starter, path, Kind.Q8_0)
        elif name == "1b-q4_k_m":
            # The shape of Llama 3.2 1B but for its vocabulary.
            made_up(starter, path, layers=16, hidden=2048, heads=32, kv_heads=8, feed_forward=8192, kind_of=q4_k_m(16))
        else:
            kind = Kind[name.upper()]
            made_up(
                starter, path, layers=12, hidden=768, heads=12, kv_heads=4, feed_forward=3072, kind_of=lambda *_: kind
            )


main()
