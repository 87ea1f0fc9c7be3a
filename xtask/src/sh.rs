//! Running other programs: what they are called on screen, how long they took, and what to do when they fail.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// A step that failed: one sentence, and what to do next where that is known.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) fix: Option<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: None,
        }
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    pub(crate) fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(format!("{what} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(fix) = &self.fix {
            write!(f, "\n next: {fix}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// `12.3 s` below a minute, `3 min 05 s` above.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// Names a step on screen, runs it, and says how long it took.
pub(crate) fn stage<T>(
    name: &str,
    step: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    println!("── {name}");
    let start = Instant::now();
    let result = step();
    let took = clock(start.elapsed());
    match &result {
        Ok(_) => println!("   {name}: done in {took}"),
        Err(_) => println!("   {name}: failed after {took}"),
    }
    result
}

/// The command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs a program whose output belongs on screen.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let line = shown(command);
    println!("   $ {line}");
    let status = command
        .status()
        .map_err(|error| not_started(&line, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{line}` ended with {status}.")))
    }
}

/// Runs a program whose output only matters when it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<String, Failure> {
    let line = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| not_started(&line, &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Failure::new(format!(
            "`{line}` ended with {}.\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        )))
    }
}

/// Whether a program is there and answers `argument` with success.
pub(crate) fn answers(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Lines between a reader thread and the caller of [`tee`]: it prints them at once, so a few suffice.
const TEE_LINES: usize = 64;

/// Runs a program, shows what it prints as it comes, and gives every line to `each` as well.
pub(crate) fn tee(command: &mut Command, mut each: impl FnMut(&str)) -> Result<(), Failure> {
    let line = shown(command);
    println!("   $ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&line, &error))?;
    let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(TEE_LINES);
    let mut readers = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        readers.push(read_lines(stdout, sender.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        readers.push(read_lines(stderr, sender.clone()));
    }
    drop(sender);
    let mut terminal = io::stdout().lock();
    for bytes in receiver {
        let text = String::from_utf8_lossy(&bytes);
        // A closed terminal is no reason to stop counting.
        let _ = writeln!(terminal, "{text}");
        each(&text);
    }
    drop(terminal);
    for reader in readers {
        let _ = reader.join();
    }
    let status = child.wait().map_err(|error| not_started(&line, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(format!("`{line}` ended with {status}.")))
    }
}

fn read_lines(
    from: impl io::Read + Send + 'static,
    to: mpsc::SyncSender<Vec<u8>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            if to.send(line).is_err() {
                break;
            }
        }
    })
}

pub(crate) fn not_started(line: &str, error: &io::Error) -> Failure {
    Failure::new(format!("`{line}` could not be started: {error}."))
}

/// A program that ends with this value: politely where the system can ask, else at once.
#[derive(Debug)]
pub(crate) struct Kept {
    child: Child,
}

/// How long a program may take to end after it was asked to: a serving node tells its peers and frees its model.
const POLITE_END: Duration = Duration::from_secs(5);

impl Kept {
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, Failure> {
        let line = shown(command);
        let child = command
            .spawn()
            .map_err(|error| not_started(&line, &error))?;
        Ok(Self { child })
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether it has already ended.
    pub(crate) fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.ended() {
            return;
        }
        if cfg!(unix) {
            let asked = Command::new("kill")
                .args(["-INT", &self.child.id().to_string()])
                .stderr(Stdio::null())
                .status();
            let start = Instant::now();
            while asked.is_ok() && start.elapsed() < POLITE_END {
                if self.ended() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
