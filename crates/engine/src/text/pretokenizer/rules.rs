//! The rule of each `tokenizer.ggml.pre`: facts of the models, taken from the `pre_tokenizer` of their `tokenizer.json`.

use super::Tail::{self, Keeps, Last, LastUnlessLineEnd};

/// English contractions in either case.
macro_rules! contraction {
    () => {
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    };
}

/// Letters, with one leading character that is neither letter, digit nor line end.
macro_rules! word {
    () => {
        r"[^\r\n\p{L}\p{N}]?\p{L}+"
    };
}

/// Words that also end where lower case turns into upper case.
macro_rules! cased_word {
    ($end:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $end
        )
    };
}

/// Marks with the line ends behind them.
macro_rules! marks {
    () => {
        r" ?[^\s\p{L}\p{N}]+[\r\n]*"
    };
}

/// Line ends with the white space before them, then other white space.
macro_rules! space {
    () => {
        r"\s*[\r\n]+|\s+"
    };
}

/// GPT-2's rule.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// Llama 3's rule; numbers in groups of three.
const LLAMA3: &str = concat!(
    contraction!(),
    "|",
    word!(),
    r"|\p{N}{1,3}|",
    marks!(),
    "|",
    space!()
);

/// Qwen 2's rule: Llama 3's with single digits.
const QWEN2: &str = concat!(
    contraction!(),
    "|",
    word!(),
    r"|\p{N}|",
    marks!(),
    "|",
    space!()
);

/// Qwen 3.5's rule: marks that combine with a letter belong to its word.
const QWEN35: &str = concat!(
    contraction!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|",
    space!()
);

/// Mistral's "Tekken" rule.
const TEKKEN: &str = concat!(
    cased_word!(""),
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|",
    space!()
);

/// The rule of o200k, GPT-4o's vocabulary.
const GPT4O: &str = concat!(
    cased_word!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|",
    space!()
);

/// DeepSeek V3's last stage.
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"##,
    space!()
);

/// Chinese and Japanese as DeepSeek V3 cuts them off.
const CJK: &str = r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+";

/// Chinese, Japanese and Korean blocks as DeepSeek's first models cut them.
const DEEPSEEK_CJK: &str = r"[\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+";

/// Bloom's rule: words with their space, sentence marks apart.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// Lines apart from line ends.
const LINES: &str = r"[^\n]+|\n+";

/// What is special about a model's words besides where they are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Each stage cuts the pieces of the one before it.
    pub(super) stages: &'static [(&'static str, Tail)],
    /// A word that is a piece as a whole becomes that piece, merges or not.
    pub(super) whole_words: bool,
    /// Whether a prompt begins with the begin token where the file does not say.
    pub(super) adds_bos: bool,
}

const fn rule(stages: &'static [(&'static str, Tail)]) -> Rule {
    Rule {
        stages,
        whole_words: false,
        adds_bos: false,
    }
}

const fn whole_words(stages: &'static [(&'static str, Tail)]) -> Rule {
    Rule {
        whole_words: true,
        ..rule(stages)
    }
}

const fn begun(stages: &'static [(&'static str, Tail)]) -> Rule {
    Rule {
        adds_bos: true,
        ..whole_words(stages)
    }
}

/// The rule of a name; `None` where its meaning is not known here.
pub(super) fn named(name: &str) -> Option<Rule> {
    let found = RULES.iter().find(|(names, _)| names.contains(&name));
    found.map(|&(_, rule)| rule)
}

/// Rules by the names that share them.
pub(super) const RULES: &[(&[&str], Rule)] = &[
    (
        &[
            "gpt-2",
            "phi-2",
            "olmo",
            "mpt",
            "jais",
            "exaone4",
            "gigachat",
            "trillion",
            "granite-docling",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "roberta-bpe",
            "jina-v1-en",
            "jina-v2-code",
            "jina-v2-de",
            "jina-v2-es",
            "jina-de",
            "jina-es",
        ],
        rule(&[(GPT2, Last)]),
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        rule(&[(r"\p{N}", Keeps), (GPT2, Last)]),
    ),
    (
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        begun(&[(LLAMA3, LastUnlessLineEnd)]),
    ),
    (
        &["glm4", "glm5"],
        whole_words(&[(LLAMA3, LastUnlessLineEnd)]),
    ),
    (
        &["chatglm-bpe", "smaug-bpe", "dbrx"],
        rule(&[(LLAMA3, LastUnlessLineEnd)]),
    ),
    (
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
            "kormo",
            "f2llmv2",
        ],
        rule(&[(QWEN2, LastUnlessLineEnd)]),
    ),
    (&["qwen35"], rule(&[(QWEN35, LastUnlessLineEnd)])),
    (&["tekken"], begun(&[(TEKKEN, LastUnlessLineEnd)])),
    (
        &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        rule(&[(GPT4O, LastUnlessLineEnd)]),
    ),
    (
        &["deepseek-llm"],
        rule(&[
            (r"[\r\n]", Keeps),
            (r"\s?[\p{Lu}\p{Ll}\p{Lt}]+", Keeps),
            (
                r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+",
                Keeps,
            ),
            (r"\s+$", Keeps),
            (DEEPSEEK_CJK, Keeps),
            (r"\p{N}+", Keeps),
        ]),
    ),
    (
        &["deepseek-coder"],
        rule(&[
            (r"[\r\n]", Keeps),
            (r"\s?\p{L}+", Keeps),
            (r"\s?\p{P}+", Keeps),
            (DEEPSEEK_CJK, Keeps),
            (r"\p{N}", Keeps),
        ]),
    ),
    (
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        rule(&[
            (r"\p{N}{1,3}", Keeps),
            (CJK, Keeps),
            (DEEPSEEK3, LastUnlessLineEnd),
        ]),
    ),
    (
        &["falcon"],
        rule(&[
            (r"[\p{P}\$\+<=>\^~\|`]+", Keeps),
            (GPT2, Last),
            (r"[0-9][0-9][0-9]", Keeps),
        ]),
    ),
    (
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        rule(&[(
            concat!(
                contraction!(),
                "|",
                word!(),
                r"|\p{N}|",
                marks!(),
                r"|\s*[\r\n]|\s+"
            ),
            LastUnlessLineEnd,
        )]),
    ),
    (
        &["seed-coder"],
        rule(&[(
            concat!(
                contraction!(),
                "|",
                word!(),
                r"|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|",
                space!()
            ),
            LastUnlessLineEnd,
        )]),
    ),
    (
        &["ufakzeka"],
        rule(&[(
            concat!(word!(), r"|\p{N}|", marks!(), "|", space!()),
            LastUnlessLineEnd,
        )]),
    ),
    (
        &["minicpm5"],
        whole_words(&[
            (r"\p{N}{1,3}", Keeps),
            (
                concat!(
                    contraction!(),
                    "|",
                    word!(),
                    r"|\p{N}+|",
                    marks!(),
                    "|",
                    space!()
                ),
                LastUnlessLineEnd,
            ),
        ]),
    ),
    (
        &["laguna"],
        rule(&[(LINES, Keeps), (QWEN2, LastUnlessLineEnd)]),
    ),
    (
        &["bloom", "gpt3-finnish", "poro-chat"],
        rule(&[(BLOOM, Keeps)]),
    ),
    (&["viking"], rule(&[(BLOOM, Keeps), (r"\p{N}", Keeps)])),
    (
        &["gemma4"],
        Rule {
            adds_bos: true,
            ..rule(&[(LINES, Keeps)])
        },
    ),
    (
        &["default"],
        rule(&[
            (r"[\p{P}\$\+<=>\^~\|]+", Keeps),
            (GPT2, Last),
            (r"\p{N}+", Keeps),
            (r"[0-9][0-9][0-9]", Keeps),
        ]),
    ),
];
