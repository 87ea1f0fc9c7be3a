#!/usr/bin/env python3
"""Known answers of SSR-GM1, made without the sampler: `python3 ssr_gm1.py > ssr_gm1.json`.

The definition, line by line, in Python's floats (IEEE doubles), rounded to f32 where the definition says f32. A case
is `choose(logits, before, index, sampling, mask) -> id, gap, logprob`, and `margin` for a claimed token (null: not
allowed). `mask` is a list of 32-bit words, the lowest bit of the first for id 0. Other implementations may use the file
as it is; `gap` and `margin` are given to 9 digits.
"""

import json
import math
import random
import struct

MINUS_INFINITY = float("-inf")


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [
            (b >> 32) ^ c[1] ^ k[0],
            b & 0xFFFFFFFF,
            (a >> 32) ^ c[3] ^ k[1],
            a & 0xFFFFFFFF,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def gumbel(seed, index, v):
    key = [seed & 0xFFFFFFFF, seed >> 32]
    r = philox([index, v >> 2, 0x44494652, 0], key)[v & 3]
    return -math.log(-math.log((r + 0.5) / 2**32))


def adjust(logits, before, sampling, mask):
    l = [f32(x) for x in logits]
    for v, bias in sampling["logit_bias"]:
        l[v] = f32(l[v] + f32(bias))
    window = before[-256:]
    for v in sorted(set(window)):
        if v >= len(l):
            continue
        repeat = f32(sampling["repeat_penalty"])
        l[v] = f32(l[v] / repeat if l[v] > 0 else l[v] * repeat)
        l[v] = f32(l[v] - f32(sampling["presence_penalty"]))
        l[v] = f32(l[v] - f32(f32(sampling["frequency_penalty"]) * window.count(v)))
    if mask is not None:
        for v in range(len(l)):
            if not mask[v // 32] >> (v % 32) & 1:
                l[v] = MINUS_INFINITY
    return l


def allowed_set(l, sampling):
    ids = sorted((v for v in range(len(l)) if l[v] > MINUS_INFINITY), key=lambda v: (-l[v], v))
    t = f32(sampling["temperature"])
    if t == 0:
        return ids
    best = l[ids[0]]
    weight = {v: math.exp((l[v] - best) / t) for v in ids}
    if sampling["top_k"]:
        ids = ids[: sampling["top_k"]]
    if sampling["top_p"] < 1:
        wanted = f32(sampling["top_p"]) * math.fsum(weight[v] for v in ids)
        total, kept = 0.0, []
        for v in ids:
            kept.append(v)
            total += weight[v]
            if total >= wanted:
                break
        ids = kept
    return [v for v in ids if weight[v] >= f32(sampling["min_p"])]


def case(logits, before, index, sampling, mask, claimed, tolerance):
    l = adjust(logits, before, sampling, mask)
    allowed = allowed_set(l, sampling)
    t = f32(sampling["temperature"])
    y = [x + (t * gumbel(sampling["seed"], index, v) if t else 0.0) for v, x in enumerate(l)]
    order = sorted(allowed, key=lambda v: (-y[v], v))
    gap = min(y[order[0]] - y[order[1]], 65504.0) if len(order) > 1 else 65504.0
    top = max(logits)
    total = math.fsum(math.exp((f32(x)) - top) for x in logits)
    lowest = min(l[v] for v in allowed)
    fits = l[claimed] > MINUS_INFINITY and l[claimed] >= f32(lowest - tolerance)
    margin = max(0.0, y[order[0]] - y[claimed]) if fits else None
    return {
        "logits": logits,
        "before": before,
        "index": index,
        "sampling": sampling,
        "mask": mask,
        "id": order[0],
        "gap": float(f"{gap:.9g}"),
        "logprob": float(f"{logits[order[0]] - top - math.log(total):.9g}"),
        "claimed": claimed,
        "tolerance": tolerance,
        "margin": None if margin is None else float(f"{margin:.9g}"),
    }


def main():
    rng = random.Random(1)
    cases = []
    for number in range(120):
        size = rng.choice([1, 5, 16, 33, 70])
        # Eighths, so that equal logits occur and decimal digits are exact.
        logits = [rng.randrange(-60, 60) / 8 for _ in range(size)]
        penalised = number % 3 == 0
        sampling = {
            "temperature": rng.choice([0.0, 0.5, 0.75, 1.0, 2.0]),
            "top_k": rng.choice([0, 0, 1, 4, 20]),
            "top_p": rng.choice([1.0, 1.0, 0.9375, 0.5]),
            "min_p": rng.choice([0.0, 0.0, 0.0625]),
            "seed": rng.choice([0, 1, 2**64 - 1, rng.randrange(2**64)]),
            "repeat_penalty": 1.25 if penalised else 1.0,
            "presence_penalty": 0.5 if penalised else 0.0,
            "frequency_penalty": 0.125 if penalised else 0.0,
            "logit_bias": [[rng.randrange(size), rng.choice([-4.0, 3.5])]] if number % 5 == 0 else [],
        }
        # Longer than the window, whose border must be exact.
        before = [rng.randrange(80) for _ in range(300)] if penalised and number % 2 else []
        before = [rng.randrange(size) for _ in range(6)] if penalised and not before else before
        mask = None
        if number % 4 == 1:
            mask = [rng.getrandbits(32) | 1 for _ in range((size + 31) // 32)]
        index = rng.choice([0, 1, 63, 4096, 2**32 - 1])
        claimed = rng.randrange(size)
        cases.append(case(logits, before, index, sampling, mask, claimed, rng.choice([0.0, 0.25])))
    print("[")
    print(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
    print("]")


main()
