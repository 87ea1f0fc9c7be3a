//! `decentralgpt-worker`: the engine's child process. The app starts it and speaks with it over its pipes; a person can
//! measure with it.

use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use engine::adapters::Source;
use engine::worker;
use serde::Serialize;

const USAGE: &str = "decentralgpt-worker: the engine of DecentralGPT, started by the app.

  decentralgpt-worker [--threads N]
        speaks the engine's frames on its standard input and output
  decentralgpt-worker --greet
        opens its device, checks that it computes right, and prints a line of JSON
  decentralgpt-worker --inventory SOURCE
        prints the graphics adapters that a source (nvml, kernel, dxgi, metal, vulkan) knows as a line of JSON
  decentralgpt-worker --meter
        prints, for each line of its input, what NVIDIA's cards count of their energy as a line of JSON
  decentralgpt-worker --bench FILE [--threads N] [--prompt 512] [--gen 64] [--depth 0] [--batch 0] [--turn 0]
                      [--repeat 1]
        measures a model file and prints a line of JSON per run: reading a prompt, producing tokens behind so many others,
        doing so in a batch of sequences, the first token of a turn behind a chat of so many tokens; 0 leaves a part out";

struct Arguments {
    task: Option<Task>,
    threads: NonZeroUsize,
    work: worker::bench::Work,
    repeat: usize,
}

/// What is answered with lines of JSON; nothing: the app's calls are served.
enum Task {
    Greet,
    Inventory(Source),
    Meter,
    Bench(PathBuf),
}

fn main() -> ExitCode {
    match arguments().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    #[cfg(feature = "candle")]
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: no other thread was started yet.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(name, arguments.threads.to_string());
        }
    }
    let Some(task) = arguments.task else {
        if std::io::stdin().is_terminal() {
            return Err(USAGE.to_owned());
        }
        return worker::run(arguments.threads).map_err(|error| error.to_string());
    };
    match task {
        Task::Greet => print(&engine::greet().map_err(|error| error.to_string())?),
        Task::Inventory(source) => print(&engine::adapters::look(source)),
        Task::Meter => engine::adapters::serve_readings().map_err(|error| error.to_string()),
        Task::Bench(file) => {
            let bench = worker::bench::Bench::confine(&file, arguments.threads);
            let bench = bench.map_err(|error| error.to_string())?;
            for _ in 0..arguments.repeat {
                let figures = bench.run(arguments.work);
                print(&figures.map_err(|error| error.to_string())?)?;
            }
            Ok(())
        }
    }
}

fn print(answer: &impl Serialize) -> Result<(), String> {
    let line = serde_json::to_string(answer).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string())
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        task: None,
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        work: worker::bench::Work {
            prompt: 512,
            output: 64,
            depth: 0,
            batch: 0,
            turn: 0,
        },
        repeat: 1,
    };
    let mut given = std::env::args_os().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or_else(|| USAGE.to_owned());
        let count =
            |value: std::ffi::OsString| value.to_str().and_then(|text| text.parse::<usize>().ok());
        match name.to_str() {
            Some("--greet") => arguments.task = Some(Task::Greet),
            Some("--meter") => arguments.task = Some(Task::Meter),
            Some("--inventory") => {
                let source = value()?.to_str().and_then(Source::of_argument);
                arguments.task = Some(Task::Inventory(source.ok_or_else(|| USAGE.to_owned())?));
            }
            Some("--bench") => arguments.task = Some(Task::Bench(value()?.into())),
            Some("--threads") => {
                arguments.threads = count(value()?)
                    .and_then(NonZeroUsize::new)
                    .ok_or_else(|| USAGE.to_owned())?;
            }
            Some("--prompt") => {
                arguments.work.prompt = count(value()?).ok_or_else(|| USAGE.to_owned())?
            }
            Some("--gen") => {
                arguments.work.output = count(value()?).ok_or_else(|| USAGE.to_owned())?
            }
            Some("--depth") => {
                arguments.work.depth = count(value()?).ok_or_else(|| USAGE.to_owned())?
            }
            Some("--batch") => {
                arguments.work.batch = count(value()?).ok_or_else(|| USAGE.to_owned())?
            }
            Some("--turn") => {
                arguments.work.turn = count(value()?).ok_or_else(|| USAGE.to_owned())?
            }
            Some("--repeat") => {
                arguments.repeat = count(value()?).ok_or_else(|| USAGE.to_owned())?
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(arguments)
}
