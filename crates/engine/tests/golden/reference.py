"""What llama.cpp makes of the golden files: rendered chats, token ids, greedy tokens, perplexity.

Usage: reference.py JOBS.json, with LLAMA_CPP_LIB_PATH naming the folder of libllama and the Python binding's source on
PYTHONPATH. Writes one JSON object per job to standard output.

A job is {"file", "conversations", "tokens", "context"}: each conversation is rendered by jinja2 with the file's own template,
tokenized, and continued greedily up to `tokens` ids or an end token of the file's (if `stop` is true). With "text" and
"window", the perplexity of a text is added: over windows of so many tokens, the second half of each predicted from all
that precedes it in the window, as llama.cpp's own tool counts.
"""

import ctypes
import json
import math
import sys

import jinja2.ext
import jinja2.sandbox
import llama_cpp as llama
import numpy as np

F32 = 0  # of ggml's types


class Model:
    def __init__(self, path, context):
        parameters = llama.llama_model_default_params()
        self.model = llama.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        self.vocabulary = llama.llama_model_get_vocab(self.model)
        self.pieces = llama.llama_vocab_n_tokens(self.vocabulary)
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
        # More would spin for one another, and stand still on a busy machine.
        parameters.n_threads = parameters.n_threads_batch = 1
        # Keys and values in full, so that what is compared is what both sides compute.
        parameters.type_k = parameters.type_v = F32
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama.llama_init_from_model(self.model, parameters)
        if not self.context:
            raise SystemExit(f"llama.cpp gives no context of {context} for {path}")

    def close(self):
        llama.llama_free(self.context)
        llama.llama_model_free(self.model)

    def piece(self, token):
        buffer = ctypes.create_string_buffer(256)
        length = llama.llama_token_to_piece(self.vocabulary, token, buffer, len(buffer), 0, True)
        return buffer.raw[: max(length, 0)].decode("utf-8", "replace")

    def tokenize(self, text, special):
        data = text.encode()
        ids = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(self.vocabulary, data, len(data), ids, len(ids), False, special)
        if count < 0:
            raise SystemExit("a text made more tokens than it has bytes")
        return ids[:count]

    def forget(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def logits(self, ids, position, every=False):
        """Rows of logits after reading `ids` at `position`: of all of them, or of the last."""
        batch = llama.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at] = token
            batch.pos[at] = position + at
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = 0
            batch.logits[at] = every or at + 1 == len(ids)
        if llama.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")
        llama.llama_batch_free(batch)
        wanted = range(len(ids)) if every else [len(ids) - 1]
        return np.stack(
            [np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, at), (self.pieces,)) for at in wanted]
        ).astype(np.float64)

    def greedy(self, prompt, count, stop):
        """The likeliest ids one after the other, and how far each was ahead of the second."""
        self.forget()
        ids, gaps = [], []
        row = self.logits(prompt, 0)[0]
        while True:
            second, best = np.partition(row, -2)[-2:]
            ids.append(int(row.argmax()))
            gaps.append(round(float(best - second), 4))
            if len(ids) == count or (stop and llama.llama_vocab_is_eog(self.vocabulary, ids[-1])):
                return ids, gaps
            row = self.logits(ids[-1:], len(prompt) + len(ids) - 1)[0]

    def perplexity(self, text, window):
        ids = self.tokenize(text, False)
        total, count = 0.0, 0
        for begin in range(0, len(ids) - window + 1, window):
            part = ids[begin : begin + window]
            self.forget()
            rows = self.logits(part, 0, every=True)
            for at in range(window // 2, window - 1):
                row = rows[at] - rows[at].max()
                total += math.log(np.exp(row).sum()) - row[part[at + 1]]
                count += 1
        return {"window": window, "tokens": count, "value": math.exp(total / count), "ids": ids}


def render(model, messages):
    buffer = ctypes.create_string_buffer(1 << 16)
    llama.llama_model_meta_val_str(model.model, b"tokenizer.chat_template", buffer, len(buffer))
    # As Hugging Face's transformers set jinja2 up.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    template = environment.from_string(buffer.value.decode())
    bos = llama.llama_vocab_bos(model.vocabulary)
    return template.render(
        messages=messages,
        add_generation_prompt=True,
        bos_token=model.piece(bos) if bos >= 0 else "",
    )


def answer(job):
    model = Model(job["file"], job["context"])
    conversations = []
    for messages in job["conversations"]:
        rendered = render(model, messages)
        prompt = model.tokenize(rendered, True)
        ids, gaps = model.greedy(prompt, job["tokens"], job["stop"])
        conversations.append({"rendered": rendered, "prompt": prompt, "greedy": ids, "gaps": gaps})
    said = {"conversations": conversations}
    if "text" in job:
        said["perplexity"] = model.perplexity(job["text"], job["window"])
    model.close()
    return said


def main():
    silent = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(silent, None)
    llama.llama_backend_init()
    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    for job in jobs:
        print(json.dumps(answer(job), ensure_ascii=False), flush=True)


main()
