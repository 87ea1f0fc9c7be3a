//! What can go wrong, with the facts a person needs to act on it. The same enum travels over the worker's pipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A failed call of the engine. Serialisable because most of them are born in the worker process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum EngineError {
    /// The prompt (with what is resumed) leaves no room for a single token of output.
    #[error("the prompt has {prompt} tokens and {model} holds {limit}")]
    ContextTooLong {
        /// Tokens of prompt and resumed output together.
        prompt: u32,
        /// Context of the loaded model in tokens.
        limit: u32,
        /// The model's own name, or its file name.
        model: String,
    },
    /// Weights, cache and scratch together are more than this machine, or its owner's cap, has left.
    #[error("the model needs {need} bytes of memory and {have} are free for it")]
    NotEnoughMemory {
        /// Bytes needed.
        need: u64,
        /// Bytes that may be used.
        have: u64,
    },
    /// The file is of a model family that this engine has no code for.
    #[error("{model} is of the family {architecture}, which this engine does not run")]
    UnsupportedArchitecture {
        /// `general.architecture` of the file.
        architecture: String,
        /// The model's own name, or its file name.
        model: String,
    },
    /// The model turns texts into vectors; it was asked to answer, or to judge an answer.
    #[error("{model} turns texts into vectors, and cannot answer")]
    OnlyEmbeds {
        /// The model's own name, or its file name.
        model: String,
    },
    /// A tensor is stored in a format without a kernel here.
    #[error("tensor {name} is stored as {kind}, which this engine cannot compute with")]
    UnsupportedTensor {
        /// Name in the file.
        name: String,
        /// The storage format, by name or number.
        kind: String,
    },
    /// The file asks for something of its family that this engine does not do (a rope scaling, a tokenizer).
    #[error("the file asks for {what} = {value}, which this engine does not do")]
    UnsupportedFeature {
        /// The metadata key.
        what: String,
        /// Its value.
        value: String,
    },
    /// The file cannot be read, is cut short, or contradicts itself.
    #[error("{}: {problem}", file.display())]
    BadFile {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// The file is a head (everything but the weights): it can tokenize, not compute.
    #[error("{} holds no weights", file.display())]
    NoWeights {
        /// Which file.
        file: PathBuf,
    },
    /// The file lies outside the folders that the worker may read, or its permissions say no.
    #[error("{} may not be read by the engine", file.display())]
    NotReadable {
        /// Which file.
        file: PathBuf,
    },
    /// The chat template of the file does not parse, refused the messages, or used up its fuel.
    #[error("the model's chat template failed: {detail}")]
    Template {
        /// The template engine's message, or the template's own.
        detail: String,
    },
    /// The file carries no chat template, so messages cannot be turned into a prompt.
    #[error("{} has no chat template", file.display())]
    NoTemplate {
        /// Which file.
        file: PathBuf,
    },
    /// A token id is not in the model's vocabulary.
    #[error("token {id} is outside the vocabulary of {vocabulary}")]
    TokenOutside {
        /// The offending id.
        id: u32,
        /// Size of the vocabulary.
        vocabulary: u32,
    },
    /// A parameter of the request makes no sense (NaN temperature, empty prompt, too many stop strings …).
    #[error("bad request: {what}")]
    BadRequest {
        /// Which parameter, and its bound.
        what: String,
    },
    /// The form that the answer shall have cannot be met or costs too much.
    #[error("the form asked for was refused: {problem}")]
    BadConstraint {
        /// What is wrong with it.
        problem: ConstraintProblem,
    },
    /// The sequence was ended because the owner's own work needs another model.
    #[error("the owner's own work needed the engine for another model")]
    Displaced,
    /// As many calls as the engine keeps at once are running or waiting.
    #[error("{limit} calls are running or waiting already")]
    TooManyCalls {
        /// The bound.
        limit: u32,
    },
    /// The model's numbers went bad (NaN logits): the file is damaged or not what it says.
    #[error("the model computed no usable numbers at output token {index}")]
    BadNumbers {
        /// Output index of the token that could not be chosen.
        index: u32,
    },
    /// The call was cancelled before it had an answer.
    #[error("cancelled")]
    Cancelled,
    /// The worker process ended in the middle of the call. The next call starts another.
    #[error("the engine's process ended ({}){}", how_it_ended(*signal, *code), tail(detail))]
    WorkerDied {
        /// The signal that ended it, where there are signals.
        signal: Option<i32>,
        /// Its exit code, when it ended by itself.
        code: Option<i32>,
        /// The last lines it wrote to its error stream.
        detail: String,
    },
    /// A step took far longer than it should, and the worker was ended for it. The next call starts another.
    #[error("the engine hung for {after_s} seconds in {step} and was ended")]
    WorkerHung {
        /// What it was doing: its size, never its content.
        step: String,
        /// How long it was let go on, in seconds.
        after_s: u64,
    },
    /// The worker needed memory that the system, or the owner's cap, no longer gave.
    #[error("the engine ran out of memory (it asked for {bytes} bytes more)")]
    OutOfMemory {
        /// What it asked for last.
        bytes: u64,
    },
    /// The worker program was made from other sources than this app: it would not understand what it is asked.
    #[error("{} is of build {worker}, and this program of {app}", program.display())]
    WorkerOtherBuild {
        /// Which program.
        program: PathBuf,
        /// Its build; empty for one that does not tell.
        worker: String,
        /// The app's.
        app: String,
    },
    /// The worker was to end and has not.
    #[error("the engine's process {pid} did not end within {after_ms} ms")]
    WorkerStays {
        /// Its process id.
        pid: u32,
        /// How long it was waited for, in milliseconds.
        after_ms: u64,
    },
    /// The worker answered something that is no frame of this protocol; it was ended.
    #[error("the engine's process sent nonsense: {detail}")]
    WorkerSpokeWrong {
        /// What was wrong.
        detail: String,
    },
    /// No worker program was found.
    #[error("the engine's program was not found; looked at {}", list(looked_at))]
    WorkerMissing {
        /// Every path that was tried.
        looked_at: Vec<PathBuf>,
    },
    /// The worker program exists and could not be started.
    #[error("{} could not be started: {cause}", program.display())]
    WorkerNotStarted {
        /// Which program.
        program: PathBuf,
        /// The system's reason.
        cause: String,
    },
    /// A calculation failed inside the worker; the facts are the tensor library's.
    #[error("the calculation failed: {detail}")]
    Compute {
        /// The library's message.
        detail: String,
    },
    /// The engine was shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

/// What is wrong with a model file. Offsets and sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum FileProblem {
    /// The system refused to open, map or read it.
    #[error("{cause}")]
    Io {
        /// The system's reason.
        cause: String,
    },
    /// It is not a GGUF file at all.
    #[error("not a GGUF file")]
    NotGguf,
    /// A GGUF version this reader does not know.
    #[error("GGUF version {version} (known: 2 and 3)")]
    Version {
        /// The version in the file.
        version: u32,
    },
    /// The file ends inside something.
    #[error("cut short: {what} at byte {at} needs {need} bytes more than the file has")]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it begins.
        at: u64,
        /// How many bytes are missing (saturated).
        need: u64,
    },
    /// A count or length is over the reader's cap.
    #[error("{what} is {value}, more than the {cap} accepted")]
    TooLarge {
        /// Which count or length.
        what: String,
        /// Its value in the file.
        value: u64,
        /// The reader's cap.
        cap: u64,
    },
    /// Metadata that the reader needs is absent.
    #[error("the metadata key {key} is missing")]
    MissingKey {
        /// Which key.
        key: String,
    },
    /// Metadata has another type or an impossible value.
    #[error("{key} is {value}")]
    BadValue {
        /// Which key, tensor or field.
        key: String,
        /// What stands there.
        value: String,
    },
    /// A tensor that the family needs is absent.
    #[error("the tensor {name} is missing")]
    MissingTensor {
        /// Which tensor.
        name: String,
    },
    /// A tensor has another shape than the metadata implies (outermost dimension first).
    #[error("tensor {name} has the shape {found:?} where {expected:?} is due")]
    WrongShape {
        /// Which tensor.
        name: String,
        /// Shape in the file.
        found: Vec<u64>,
        /// Shape that follows from the metadata.
        expected: Vec<u64>,
    },
}

/// Why an answer cannot have the form (schema, grammar or expression) that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ConstraintProblem {
    /// Too much text.
    #[error("it has {bytes} bytes, more than the {cap} accepted")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The cap.
        cap: u64,
    },
    /// Brackets inside of brackets.
    #[error("its brackets are nested more than {cap} deep")]
    TooDeep {
        /// The cap.
        cap: u32,
    },
    /// The compiler refused it: a mistake in it, something unsupported, nothing that fits it, or a limit reached.
    #[error("{reason}")]
    Refused {
        /// The compiler's words.
        reason: String,
    },
    /// Compiling took too long.
    #[error("it was not compiled within {seconds} seconds; a simpler one may be")]
    TooSlow {
        /// The limit.
        seconds: u32,
    },
    /// As many as are compiled at once are being compiled, overdue ones among them.
    #[error("others are being compiled; try again in a moment")]
    Busy,
    /// The model has no token that ends an answer.
    #[error("the model has no end token, so its answers cannot be held to a form")]
    NoEndToken,
    /// Output that was to be resumed does not fit it.
    #[error("output token {index} does not fit it")]
    Differs {
        /// Output index of the first token that does not fit.
        index: u32,
    },
    /// No token fits any more, or finding those that do reached a limit.
    #[error("at output token {index}: {reason}")]
    Stuck {
        /// Output index.
        index: u32,
        /// The compiler's words.
        reason: String,
    },
}

fn how_it_ended(signal: Option<i32>, code: Option<i32>) -> String {
    match (signal, code) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "its pipe closed".to_owned(),
    }
}

fn tail(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no folder at all".to_owned();
    }
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}
