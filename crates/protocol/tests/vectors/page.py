"""Checks the examples of docs/protocol.md against its words, with nothing of this project:
`pip install blake3 cryptography`, then `python page.py PATH_OF_THE_PAGE`."""

import re
import struct
import sys

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

page = open(sys.argv[1], encoding="utf-8").read()
example = {
    name: bytes.fromhex("".join(text.split()))
    for name, text in re.findall(r"```hex (\w+)\n([0-9a-f\n]*)```", page)
}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    out, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = {1: 8, 5: 4}[key & 7]
            value, at = data[at : at + size], at + size
        out.setdefault(key >> 3, []).append(value)
    return {number: values[0] if len(values) == 1 else values for number, values in out.items()}


def derive(context, data):
    return blake3(data, derive_key_context=context).digest()


def ids(*numbers):
    return b"".join(struct.pack("<I", number) for number in numbers)


def signed(secret, domain, payload, sig):
    key = Ed25519PrivateKey.from_private_bytes(bytes([secret] * 32))
    assert key.sign(domain.encode() + b"\0" + payload) == sig, domain
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return bytes.fromhex("002408011220") + public


envelope, offer = fields(example["SignedEnvelope"]), fields(example["Offer"])
assert envelope[1] == example["Offer"]
provider = signed(1, "decentralgpt/offer/1", envelope[1], envelope[3])
assert envelope[2] == offer[4] == provider and offer[2] == b"decentralgpt/1"
binding = fields(example["SignedBinding"])
assert binding[1] == example["Binding"] and offer[5] == example["SignedBinding"]
signed(1, "decentralgpt/binding/1", binding[1], binding[2])

offer_id = derive("decentralgpt/offer-id/1", provider + offer[7] + struct.pack("<Q", offer[28]))
bloom = fields(example["Bloom"])
positions = struct.unpack("<5H", derive("decentralgpt/known-offers/1", bloom[1] + offer_id)[:10])
bits = bytearray(512)
for position in positions:
    bits[position % 4096 // 8] |= 1 << position % 8
assert bytes(bits) == bloom[2]

quote, request = fields(example["Quote"]), fields(example["QuoteRequest"])
sealed = fields(example["SignedQuote"])
assert sealed[1] == example["Quote"]
signed(1, "decentralgpt/quote/1", sealed[1], sealed[2])
assert quote[2] == derive("decentralgpt/quote-request/1", example["QuoteRequest"])
prefixes = [derive("decentralgpt/quote-prefix/1", ids(*[11, 12, 13][:n])) for n in (3, 2, 1)]
assert request[5] == prefixes

frame = example["OpenFrame"]
size, at = varint(frame, 0)
assert size == len(frame) - at and fields(frame[at:])[1] == example["Open"]
assert example["job"] == blake3(frame[at:]).digest()
start, end = example["chain"][:32], example["chain"][32:]
assert start == derive("decentralgpt/out/1", example["job"])
h = start
for token in (7, 8, 9):
    h = blake3(h + ids(token)).digest()
assert h == end

checkpoint, receipt = fields(example["Checkpoint"]), fields(example["Receipt"])
assert checkpoint[2] == receipt[2] == example["job"] and checkpoint[6] == receipt[6] == end
done = fields(fields(example["Done"])[1])
assert done[1] == example["Receipt"]
signed(1, "decentralgpt/receipt/1", done[1], done[2])
client = signed(2, "decentralgpt/receipt-client/1", done[1], fields(example["Ack"])[1])
assert (receipt[11], receipt[12]) == (provider, client)
assert receipt[23] == derive("decentralgpt/ssr/v1/seed", example["job"])[:8]
assert receipt[15] == derive("decentralgpt/ssr/v1/prompt", fields(example["Open"])[2] + ids(11, 12, 13, 5, 6))
due = -(-(receipt[3] * 50_000 + receipt[4] * 5_000 + receipt[5] * 200_000) // 10**6)
assert receipt[7] == due.to_bytes(16, "big")

tokens = fields(example["Tokens"])
assert tokens[1] == 2 and tokens[2] == bytes([7, 8, 9]) and len(tokens[3]) == 3
assert example["packed"][:4] == bytes.fromhex("28b52ffd") and ids(11, 12, 13) in example["packed"]
print(len(example), "examples hold")
