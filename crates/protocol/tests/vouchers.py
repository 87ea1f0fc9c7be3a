"""Signs vouchers and reservations with eth-account, and prints them as JSON.

Run once, with eth-account 0.14 installed: python vouchers.py > vouchers.json
The test reads the JSON; it needs no Python.
"""

import json

from eth_account import Account

SECRET = "0x" + "07" * 32
CHAIN = 31337
VAULT = "0x" + "ee" * 20
PAYER = "0x" + "01" * 20
PAYEE = "0x" + "02" * 20

DOMAIN = {"name": "DGC Pay Vault", "version": "1", "chainId": CHAIN, "verifyingContract": VAULT}
VOUCHER = {
    "Voucher": [
        {"name": "payer", "type": "address"},
        {"name": "payee", "type": "address"},
        {"name": "cumulative", "type": "uint128"},
        {"name": "work", "type": "bytes32"},
    ]
}
RESERVATION = {
    "Reservation": [
        {"name": "payer", "type": "address"},
        {"name": "payee", "type": "address"},
        {"name": "upto", "type": "uint128"},
        {"name": "until", "type": "uint64"},
        {"name": "nonce", "type": "uint64"},
    ]
}


def compact(signed):
    s = signed.s | ((signed.v - 27) << 255)
    return f"{signed.r:064x}{s:064x}"


account = Account.from_key(SECRET)
vouchers = []
for cumulative in [0, 1, 10**18, 2**128 - 1]:
    work = (cumulative % 251).to_bytes(1, "big") * 32
    message = {"payer": PAYER, "payee": PAYEE, "cumulative": cumulative, "work": work}
    signed = account.sign_typed_data(DOMAIN, VOUCHER, message)
    vouchers.append({"cumulative": str(cumulative), "work": work.hex(), "signature": compact(signed)})
reservations = []
for upto, until, nonce in [(1, 1_800_000_060, 1), (10**18, 1_800_086_400, 1)]:
    message = {"payer": PAYER, "payee": PAYEE, "upto": upto, "until": until, "nonce": nonce}
    signed = account.sign_typed_data(DOMAIN, RESERVATION, message)
    reservations.append(
        {"upto": str(upto), "until": until, "nonce": nonce, "signature": compact(signed)}
    )
print(json.dumps({"signer": account.address, "vouchers": vouchers, "reservations": reservations}, indent=2))
