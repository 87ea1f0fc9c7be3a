//! `cargo xtask test`: everything that CI runs, in the same order, up to the first failure; then a table that says what ran,
//! what did not, and why.

mod rust;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    bindings, build, contracts, fuzz,
    house::House,
    lab, peers,
    sh::{self, Failure, clock},
    starter, system,
};

/// What a stage that did not fail has to say.
#[derive(Debug, Default)]
struct Report {
    /// Tests that passed; a stage without tests of its own counts as one.
    passed: usize,
    /// What was not tried, by name, with the reason.
    skipped: Vec<String>,
    /// Tests that failed first and passed then, by name.
    unsteady: Vec<String>,
}

impl Report {
    fn one() -> Self {
        Self::of(1)
    }

    fn of(passed: usize) -> Self {
        Self {
            passed,
            ..Self::default()
        }
    }

    fn skip(what: impl Into<String>) -> Self {
        Self {
            skipped: vec![what.into()],
            ..Self::default()
        }
    }
}

struct Stage {
    name: &'static str,
    what: &'static str,
    /// Belongs to `--quick`: neither models, other processes nor a display.
    quick: bool,
    run: fn(&House) -> Result<Report, Failure>,
}

/// In this order: what fails fast comes early, what the next ones need before them.
const STAGES: &[Stage] = &[
    Stage {
        name: "system",
        what: "system packages",
        quick: false,
        run: packages,
    },
    Stage {
        name: "format",
        what: "cargo fmt",
        quick: true,
        run: format,
    },
    Stage {
        name: "window",
        what: "types, unit tests and build of the page",
        quick: true,
        run: window,
    },
    Stage {
        name: "lints",
        what: "clippy, every warning an error",
        quick: true,
        run: lints,
    },
    Stage {
        name: "programs",
        what: "every program and test, compiled",
        quick: false,
        run: programs,
    },
    Stage {
        name: "bindings",
        what: "generated TypeScript unchanged",
        quick: true,
        run: unchanged_bindings,
    },
    Stage {
        name: "contracts",
        what: "contracts compiled, compared with contracts/abi, and tested",
        quick: false,
        run: contracts_hold,
    },
    Stage {
        name: "starter",
        what: "the model that tests answer with",
        quick: false,
        run: fetch_starter,
    },
    Stage {
        name: "reference",
        what: "vocabularies and templates to compare with",
        quick: false,
        run: fetch_reference,
    },
    Stage {
        name: "rust",
        what: "tests of the crates, rules of the house",
        quick: true,
        run: rust::crates,
    },
    Stage {
        name: "examples",
        what: "examples in the documentation",
        quick: true,
        run: rust::examples,
    },
    Stage {
        name: "licences",
        what: "licences, bans and sources of dependencies",
        quick: true,
        run: licences,
    },
    Stage {
        name: "fuzz",
        what: "parsers of foreign bytes, briefly",
        quick: false,
        run: fuzz_briefly,
    },
    Stage {
        name: "headless",
        what: "the loop that a machine without a display shows",
        quick: false,
        run: headless_loop,
    },
    Stage {
        name: "demo",
        what: "a network with money, from the wallets to an open vote",
        quick: false,
        run: demo_once,
    },
    Stage {
        name: "journeys",
        what: "several processes of the real programs",
        quick: false,
        run: rust::journeys,
    },
    Stage {
        name: "lab",
        what: "thirty real programs, some broken in the middle of an answer",
        quick: false,
        run: lab_briefly,
    },
    Stage {
        name: "desktop",
        what: "the real window, driven",
        quick: false,
        run: desktop,
    },
];

enum Outcome {
    Passed(Report),
    Failed,
    NotRun,
}

pub(crate) fn test(house: &House, quick: bool, names: &[String]) -> Result<(), Failure> {
    if let Some(unknown) = names
        .iter()
        .find(|name| STAGES.iter().all(|stage| stage.name != name.as_str()))
    {
        let all: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        return Err(Failure::new(format!("There is no stage {unknown}."))
            .fix(format!("one of: {}", all.join(" "))));
    }
    let chosen: Vec<&Stage> = STAGES
        .iter()
        .filter(|stage| {
            if names.is_empty() {
                !quick || stage.quick
            } else {
                names.iter().any(|name| name == stage.name)
            }
        })
        .collect();
    if chosen.iter().all(|stage| stage.name != "system") {
        system::packages(system::Need::Build)?;
    }
    let start = Instant::now();
    let mut rows: Vec<(&Stage, Outcome, Duration)> = Vec::new();
    let mut failure: Option<(&str, Failure)> = None;
    for (number, stage) in chosen.iter().enumerate() {
        if failure.is_some() {
            rows.push((stage, Outcome::NotRun, Duration::ZERO));
            continue;
        }
        println!(
            "\n── {}/{} {}: {}",
            number + 1,
            chosen.len(),
            stage.name,
            stage.what
        );
        let began = Instant::now();
        let outcome = match (stage.run)(house) {
            Ok(report) => Outcome::Passed(report),
            Err(error) => {
                failure = Some((stage.name, error));
                Outcome::Failed
            }
        };
        let took = began.elapsed();
        println!(
            "   {}: {} ({} in all)",
            stage.name,
            clock(took),
            clock(start.elapsed())
        );
        rows.push((stage, outcome, took));
    }
    summary(&rows, start.elapsed());
    match failure {
        None => Ok(()),
        Some((name, error)) => Err(Failure::new(format!("stage {name}: {}", error.what)).fix(
            error.fix.unwrap_or_else(|| {
                format!("mend it, then `cargo xtask test {name}` runs this stage alone")
            }),
        )),
    }
}

fn summary(rows: &[(&Stage, Outcome, Duration)], all: Duration) {
    println!("\n{:<10} {:>12}  result", "stage", "time");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (stage, outcome, took) in rows {
        let result = match outcome {
            Outcome::Passed(report) => {
                passed += report.passed;
                skipped += report.skipped.len();
                match (report.passed, report.skipped.len()) {
                    (0, _) => "skipped".to_owned(),
                    (tests, 0) => format!("{tests} passed"),
                    (tests, left) => format!("{tests} passed, {left} skipped"),
                }
            }
            Outcome::Failed => {
                failed += 1;
                "FAILED".to_owned()
            }
            Outcome::NotRun => "not run".to_owned(),
        };
        println!("{:<10} {:>12}  {result}", stage.name, clock(*took));
        if let Outcome::Passed(report) = outcome {
            for reason in &report.skipped {
                println!("{:<10} {:>12}  · skipped: {reason}", "", "");
            }
            for test in &report.unsteady {
                println!("{:<10} {:>12}  · passed at the second try: {test}", "", "");
            }
        }
    }
    println!("{:<10} {:>12}", "all", clock(all));
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
}

fn packages(_: &House) -> Result<Report, Failure> {
    system::packages(system::Need::BuildAndTest)?;
    Ok(Report::one())
}

fn format(house: &House) -> Result<Report, Failure> {
    sh::run(&mut house.cargo(["fmt", "--all", "--check"]))
        .map_err(|failure| failure.fix("cargo fmt --all"))?;
    Ok(Report::one())
}

fn window(house: &House) -> Result<Report, Failure> {
    build::window_packages(house)?;
    sh::run(&mut house.npm(["run", "--silent", "check"]))?;
    let mut tests = 0;
    sh::tee(
        house.npm(["run", "--silent", "test"]).env("NO_COLOR", "1"),
        |line| {
            // vitest's closing line: `      Tests  41 passed (41)`
            if let Some(rest) = line.trim_start().strip_prefix("Tests ") {
                tests = rust::number_before(rest, "passed");
            }
        },
    )?;
    build::window_page(house)?;
    Ok(Report::of(tests.max(1)))
}

fn lints(house: &House) -> Result<Report, Failure> {
    // The features of the build, or Tauri is compiled twice.
    sh::run(&mut house.cargo([
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Report::one())
}

fn programs(house: &House) -> Result<Report, Failure> {
    build::programs(house, true)?;
    Ok(Report::one())
}

fn unchanged_bindings(house: &House) -> Result<Report, Failure> {
    bindings::check(house)?;
    Ok(Report::one())
}

fn contracts_hold(house: &House) -> Result<Report, Failure> {
    contracts::build(house, contracts::Abi::Check)?;
    Ok(Report::of(contracts::test(house)?))
}

fn fetch_reference(house: &House) -> Result<Report, Failure> {
    Ok(match peers::fetch_source(house) {
        Ok(()) => Report::one(),
        Err(failure) => Report::skip(format!("{}: {}", peers::NAME, failure.what)),
    })
}

fn fetch_starter(house: &House) -> Result<Report, Failure> {
    match starter::fetch(house) {
        Ok(starter) => {
            build::starter_beside(house, &starter)?;
            Ok(Report::one())
        }
        // A machine without any source still tests the rest: what needs the model says that it skipped.
        Err(failure) if !house.ci => Ok(Report::skip(format!(
            "the starter model ({})",
            failure.what.replace('\n', " ")
        ))),
        Err(failure) => Err(failure),
    }
}

fn licences(house: &House) -> Result<Report, Failure> {
    let advisories = "advisories (they need a public database: the hosted workflow runs them)";
    if !sh::answers("cargo-deny", "--version") {
        if !house.ci {
            let mut report =
                Report::skip("cargo-deny is not installed (cargo install --locked cargo-deny)");
            report.skipped.push(advisories.to_owned());
            return Ok(report);
        }
        println!("   installing cargo-deny (two minutes on two cores)");
        let mut install = Command::new("cargo");
        install.args(["install", "--locked", "--quiet", "cargo-deny"]);
        if let Err(failure) = sh::quiet(&mut install) {
            let mut report = Report::skip(format!(
                "cargo-deny could not be installed ({})",
                last_line(&failure.what)
            ));
            report.skipped.push(advisories.to_owned());
            return Ok(report);
        }
    }
    // Crates of other systems count too, and no build has fetched them here.
    sh::run(&mut house.cargo(["fetch", "--locked"]))?;
    sh::run(&mut house.cargo([
        "deny",
        "--locked",
        "--offline",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))?;
    Ok(Report {
        passed: 1,
        ..Report::skip(advisories)
    })
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

fn fuzz_briefly(house: &House) -> Result<Report, Failure> {
    if !fuzz::available(house)? {
        return Ok(Report::skip(
            "cargo-fuzz is not installed (cargo install --locked cargo-fuzz)",
        ));
    }
    let (long, targets): (Vec<_>, Vec<_>) = fuzz::targets(house)?
        .into_iter()
        .partition(|target| !target.features.is_empty());
    let start = Instant::now();
    fuzz::build(house)?;
    let built = start.elapsed();
    let seconds = fuzz::share(targets.len(), built);
    println!("   built in {}: {seconds} s for each target", clock(built));
    for target in &targets {
        fuzz::one(house, target, seconds)?;
    }
    let skipped = long.into_iter().map(|target| {
        let name = target.name;
        format!("fuzz target {name}: its libraries take too long to build here (cargo xtask fuzz {name})")
    });
    Ok(Report {
        passed: targets.len(),
        skipped: skipped.collect(),
        ..Report::default()
    })
}

fn headless_loop(house: &House) -> Result<Report, Failure> {
    if !house.models().join(starter::FILE).exists() {
        return Ok(Report::skip(
            "the headless loop (the starter model is not here)",
        ));
    }
    crate::headless::show(house, false)?;
    Ok(Report::one())
}

fn demo_once(house: &House) -> Result<Report, Failure> {
    if !house.models().join(starter::FILE).exists() {
        return Ok(Report::skip("the demo (the starter model is not here)"));
    }
    crate::demo::once(house)?;
    Ok(Report::one())
}

fn lab_briefly(house: &House) -> Result<Report, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(Report::skip("the lab (it needs Linux's namespaces)"));
    }
    if !house.models().join(starter::FILE).exists() {
        return Ok(Report::skip("the lab (the starter model is not here)"));
    }
    let mut skipped = Vec::new();
    for form in [lab::Lab::Sim { short: true }, lab::Lab::Short] {
        skipped.extend(lab::lab(house, Some(&form), lab::MATRIX_MINUTES)?.skipped);
    }
    Ok(Report {
        skipped,
        ..Report::of(2)
    })
}

fn desktop(house: &House) -> Result<Report, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(Report::skip(
            "the window is driven on Linux alone so far (WebKitWebDriver)",
        ));
    }
    for (program, argument) in [("xvfb-run", "--help"), ("dbus-run-session", "--version")] {
        if !sh::answers(program, argument) {
            return Ok(Report::skip(format!("{program} is not installed")));
        }
    }
    rust::desktop(house)
}
