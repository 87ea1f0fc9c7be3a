//! Who is measured: our worker, and programs that are used as llama.cpp's `llama-bench` is.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::{files::File, measured::measured};
use crate::{
    house::House,
    sh::{self, Failure},
};

/// Tokens of the prompt that is read, of the answer, sequences of a batch with their prompts, and a chat with its next turn.
const PREFILL: usize = 512;
const DECODE: usize = 64;
const BATCH: usize = 8;
const BATCH_PROMPT: usize = 128;
const CHAT: usize = 1024;
/// Tokens behind which a long answer is produced: within what the files were trained for.
const DEPTH: usize = 2048;
/// As our worker's bench mode has it.
const TURN: usize = 64;

/// One side's figures of one round; `None` where it was not measured or cannot be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Tokens per second.
    pub(super) prefill: Option<f64>,
    /// Tokens per second.
    pub(super) decode: Option<f64>,
    /// The same behind a long context.
    pub(super) deep: Option<f64>,
    /// Tokens per second, all sequences together.
    pub(super) batch: Option<f64>,
    /// From the start of the program to the end of one token read and one made, in milliseconds.
    pub(super) load_ms: Option<f64>,
    /// The most memory while reading and answering.
    pub(super) rss_bytes: Option<f64>,
    /// To the first token of a turn behind a chat that is known, in milliseconds.
    pub(super) turn_ms: Option<f64>,
}

/// Our worker in its bench mode.
pub(super) fn ours(house: &House, file: &File, threads: usize) -> Result<Figures, Failure> {
    let program = house.shipped("decentralgpt-worker");
    let run = |parts: &[(&str, usize)]| {
        let mut command = Command::new(&program);
        command.arg("--bench").arg(&file.path);
        // What is not named is left out.
        let none = [("--prompt", 0), ("--gen", 0), ("--threads", threads)];
        for (name, value) in none.iter().chain(parts) {
            command.args([(*name).to_owned(), value.to_string()]);
        }
        measured(&mut command)
    };
    let figure = |output: &str, name: &str| -> Result<f64, Failure> {
        let line = output
            .lines()
            .rfind(|line| line.starts_with('{'))
            .unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(line).map_err(|error| {
            Failure::new(format!("The worker's bench line is not JSON: {error}."))
        })?;
        value[name]
            .as_f64()
            .ok_or_else(|| Failure::new(format!("The worker's bench line has no {name}: {line}")))
    };
    let work = run(&[("--prompt", PREFILL), ("--gen", DECODE)])?;
    let mut figures = Figures {
        prefill: Some(figure(&work.output, "prefill_tokens_per_second")?),
        decode: Some(figure(&work.output, "decode_tokens_per_second")?),
        ..Figures::default()
    };
    if file.whole {
        figures.rss_bytes = Some(work.rss_bytes);
        figures.load_ms = Some(run(&[("--prompt", 1), ("--gen", 1)])?.wall.as_secs_f64() * 1e3);
        let many = run(&[
            ("--gen", DECODE),
            ("--batch", BATCH),
            ("--turn", CHAT),
            ("--depth", DEPTH),
        ])?;
        figures.deep = Some(figure(&many.output, "decode_tokens_per_second")?);
        figures.batch = Some(figure(&many.output, "batch_tokens_per_second")?);
        figures.turn_ms = Some(figure(&many.output, "turn_ms")?);
    }
    Ok(figures)
}

/// A `llama-bench`, and the `llama-batched-bench` beside it where there is one.
#[derive(Debug)]
pub(super) struct Llama {
    pub(super) name: String,
    bench: PathBuf,
    batched: Option<PathBuf>,
    /// How it is told to begin cold.
    cold: &'static [&'static str],
    /// Whether it can read a prompt behind others.
    depth: bool,
}

impl Llama {
    /// Looks at what the program can do. Its name, where none is given, is the build it says it is.
    pub(super) fn open(bench: &Path, name: Option<&str>) -> Result<Self, Failure> {
        let help = sh::quiet(Command::new(bench).arg("--help"))?;
        let batched =
            bench.with_file_name(format!("llama-batched-bench{}", env::consts::EXE_SUFFIX));
        Ok(Self {
            name: name.map_or_else(|| folder_of(bench), str::to_owned),
            bench: bench.to_owned(),
            batched: batched.exists().then_some(batched),
            cold: if help.contains("--no-warmup") {
                &["--no-warmup"]
            } else {
                &["--warmup", "0"]
            },
            depth: help.contains("--n-depth"),
        })
    }

    pub(super) fn figures(&self, file: &File, threads: usize) -> Result<Figures, Failure> {
        let threads = threads.to_string();
        let run = |prompt: usize, output: usize, more: &[&str]| {
            let mut command = Command::new(&self.bench);
            command
                .arg("-m")
                .arg(&file.path)
                .args(["-t", &threads, "-r", "1", "-o", "json"])
                .args(["-p", &prompt.to_string(), "-n", &output.to_string()])
                .args(more);
            measured(&mut command)
        };
        let work = run(PREFILL, DECODE, &[])?;
        let mut figures = Figures {
            prefill: Some(speed(&work.output, "n_prompt")?),
            decode: Some(speed(&work.output, "n_gen")?),
            ..Figures::default()
        };
        if file.whole {
            figures.rss_bytes = Some(work.rss_bytes);
            figures.load_ms = Some(run(1, 1, self.cold)?.wall.as_secs_f64() * 1e3);
            if self.depth {
                // Its own prompt cache would leave the new tokens to be read behind the old ones: that is measured.
                let deep = run(0, DECODE, &["-d", &DEPTH.to_string()])?;
                figures.deep = Some(speed(&deep.output, "n_gen")?);
                let turn = run(TURN, 0, &["-d", &CHAT.to_string()])?;
                figures.turn_ms = Some(TURN as f64 / speed(&turn.output, "n_prompt")? * 1e3);
            }
            if let Some(batched) = &self.batched {
                figures.batch = of_batch(batched, &file.path, &threads)?;
            }
        }
        Ok(figures)
    }
}

/// What a person calls a build: the folder that was built from.
fn folder_of(bench: &Path) -> String {
    let folders = ["bin", "build", "Release"];
    bench
        .ancestors()
        .skip(1)
        .filter_map(|folder| folder.file_name()?.to_str())
        .find(|name| !folders.contains(name))
        .unwrap_or("llama-bench")
        .to_owned()
}

fn speed(output: &str, field: &str) -> Result<f64, Failure> {
    let tests: Vec<serde_json::Value> = serde_json::from_str(output)
        .map_err(|error| Failure::new(format!("llama-bench printed no JSON: {error}.")))?;
    tests
        .iter()
        .find(|test| test[field].as_u64().is_some_and(|count| count > 0))
        .and_then(|test| test["avg_ts"].as_f64())
        .ok_or_else(|| Failure::new(format!("llama-bench measured no {field}.")))
}

/// `None` from a build that prints its table elsewhere than on its standard output.
fn of_batch(program: &Path, model: &Path, threads: &str) -> Result<Option<f64>, Failure> {
    let context = BATCH * (BATCH_PROMPT + DECODE);
    let mut command = Command::new(program);
    command.arg("-m").arg(model).args(["-t", threads]);
    for (name, value) in [
        ("-c", context),
        ("-npp", BATCH_PROMPT),
        ("-ntg", DECODE),
        ("-npl", BATCH),
    ] {
        command.args([name, &value.to_string()]);
    }
    Ok(batch_speed(&measured(&mut command)?.output))
}

/// Tokens per second of all sequences while generating: a column of the one row that the table has.
fn batch_speed(table: &str) -> Option<f64> {
    let rows = || {
        table
            .lines()
            .filter(|line| line.trim_start().starts_with('|'))
    };
    let cells = |row: &str| -> Vec<String> {
        row.trim()
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let column = rows()
        .next()
        .map(cells)?
        .iter()
        .position(|name| name == "S_TG t/s")?;
    cells(rows().next_back()?).get(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_of_a_batch_is_read_from_its_column() {
        let table = "\nmain: n_kv_max = 1536\n\n\
            |    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |\n\
            |-------|--------|------|--------|----------|----------|----------|----------|----------|----------|\n\
            |   128 |     64 |    8 |   1536 |    2.163 |   473.42 |    1.720 |   297.61 |    3.883 |   395.56 |\n\n";
        assert_eq!(batch_speed(table), Some(297.61));
        assert_eq!(batch_speed("llama_model_load: error"), None);
    }

    #[test]
    fn a_build_is_called_by_the_folder_it_is_in() {
        assert_eq!(
            folder_of(Path::new("/x/other.cpp/build/bin/llama-bench")),
            "other.cpp"
        );
        assert_eq!(folder_of(Path::new("llama-bench")), "llama-bench");
    }
}
