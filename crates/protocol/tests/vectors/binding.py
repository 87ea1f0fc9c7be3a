"""Prints the known answers of `binding.txt`, with nothing of this project: `pip install eth-account cryptography`."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data

NETWORK, CHAIN, SERIAL = "decentralgpt/1", 8453, 7
NOT_BEFORE, NOT_AFTER = 1_789_999_999_000, 1_790_086_400_000
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

node = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
key = node.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
peer = bytes.fromhex("002408011220") + key
operator = Account.from_key(bytes([2] * 32))


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(tag, value):
    return varint(tag << 3) + varint(value)


def blob(tag, value):
    return varint(tag << 3 | 2) + varint(len(value)) + value


FIELDS = [
    ("v", "uint32", 1),
    ("networkId", "string", NETWORK),
    ("peerId", "bytes", peer),
    ("chainId", "uint64", CHAIN),
    ("operator", "address", operator.address),
    ("notBefore", "uint64", NOT_BEFORE),
    ("notAfter", "uint64", NOT_AFTER),
    ("serial", "uint64", SERIAL),
]
payload = (
    number(1, 1)
    + blob(2, NETWORK.encode())
    + blob(3, peer)
    + number(4, CHAIN)
    + blob(5, bytes.fromhex(operator.address[2:]))
    + number(6, NOT_BEFORE)
    + number(7, NOT_AFTER)
    + number(8, SERIAL)
)
sig_node = node.sign(b"decentralgpt/binding/1\0" + payload)
message = encode_typed_data(
    {"name": "decentralgpt", "version": "1", "chainId": CHAIN},
    {"Binding": [{"name": name, "type": kind} for name, kind, _ in FIELDS]},
    {name: value for name, _, value in FIELDS},
)
sig_operator = bytes(operator.sign_message(message).signature)
high_s = (
    sig_operator[:32]
    + (ORDER - int.from_bytes(sig_operator[32:64], "big")).to_bytes(32, "big")
    + bytes([55 - sig_operator[64]])
)
for name, value in {
    "operator": bytes.fromhex(operator.address[2:]),
    "digest": bytes(_hash_eip191_message(message)),
    "payload": payload,
    "sig_node": sig_node,
    "sig_operator": sig_operator,
    "sig_operator_high_s": high_s,
    "message": blob(1, payload) + blob(2, sig_node) + blob(3, sig_operator),
}.items():
    print(name, value.hex())
