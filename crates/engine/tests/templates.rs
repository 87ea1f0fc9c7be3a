//! Rendered chat templates against Python's Jinja, for real templates.
//!
//! llama.cpp's source tree carries templates of models in use (`models/templates`). Where it is at hand, and Python 3 with
//! its package index, each is rendered for each of `templates/conversations.json` by both; without them this says so and
//! passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod reference;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use engine::text::Template;
use minijinja::Value;

/// The version that the references are made with.
const JINJA: &str = "jinja2==3.1.6";

/// By template and conversation: the text, or why there is none.
type Rendered = BTreeMap<String, BTreeMap<String, Result<String, String>>>;

/// What stops Python and not us: a loop over none is no loop here, and a list that `map` made can be written as JSON.
const PASSED_OVER: [&str; 2] = [
    "TypeError: 'NoneType' object is not iterable",
    "TypeError: Object of type generator is not JSON serializable",
];

/// Where Python replaces `<`, `&` and quotes in tools' descriptions by HTML's names for them: it does so to texts that
/// are added to one marked as `safe`, which here is a text like any other.
const NOT_ESCAPED: &str = "meetkai-functionary-medium-v3.1";

#[test]
fn real_templates_render_as_in_python() {
    let (Some(source), Some(python)) = (reference::llama_cpp("templates"), python()) else {
        return;
    };
    let templates = source.join("models").join("templates");
    let conversations =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates/conversations.json");
    let (ours, reference) = on_one_day(|| {
        (
            by_us(&templates, &conversations),
            by_python(&python, &templates, &conversations),
        )
    });
    assert!(reference.len() >= 70, "only {} templates", reference.len());
    let (mut equal, mut refused, mut passed_over, mut escaped) = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    for (template, conversations) in &reference {
        for (conversation, expected) in conversations {
            let found = &ours[template][conversation];
            match (expected, found) {
                (Ok(expected), Ok(found)) if expected == found => equal += 1,
                (Err(_), Err(_)) => refused += 1,
                (Err(reason), Ok(_)) if PASSED_OVER.contains(&reason.as_str()) => passed_over += 1,
                (Ok(expected), Ok(found))
                    if template == NOT_ESCAPED && unescaped(expected) == *found =>
                {
                    escaped += 1;
                }
                _ => wrong.push(difference(template, conversation, expected, found)),
            }
        }
    }
    println!(
        "{} templates: {equal} texts equal, {escaped} equal but for HTML escapes, {refused} refused by both, \
         {passed_over} refused by Python's types alone",
        reference.len()
    );
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn unescaped(text: &str) -> String {
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&#34;", "\"");
    text.replace("&#39;", "'").replace("&amp;", "&")
}

/// Both read the clock: done again when midnight came between.
fn on_one_day<T>(mut render: impl FnMut() -> T) -> T {
    const DAY: Duration = Duration::from_secs(86_400);
    let today = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / DAY.as_secs();
    loop {
        let before = today();
        let rendered = render();
        if today() == before {
            return rendered;
        }
    }
}

fn by_us(templates: &Path, conversations: &Path) -> Rendered {
    let text = std::fs::read_to_string(conversations).unwrap();
    let conversations: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let conversations: BTreeMap<String, String> = conversations
        .into_iter()
        .map(|(name, variables)| (name, serde_json::to_string(&variables).unwrap()))
        .collect();
    let mut rendered = BTreeMap::new();
    for entry in std::fs::read_dir(templates).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "jinja")
        {
            continue;
        }
        let source = std::fs::read_to_string(&path)
            .unwrap()
            .replace("\r\n", "\n");
        let template = Template::new(&source, "<s>".into(), "</s>".into());
        let render = |variables: &String| match &template {
            Ok(template) => template
                .render_json(variables)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let texts = conversations
            .iter()
            .map(|(name, variables)| (name.clone(), render(variables)));
        rendered.insert(
            path.file_stem().unwrap().to_str().unwrap().to_owned(),
            texts.collect(),
        );
    }
    rendered
}

fn by_python(python: &Path, templates: &Path, conversations: &Path) -> Rendered {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates/reference.py");
    let output = Command::new(python)
        .arg(script)
        .arg(templates)
        .arg(conversations)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn difference(
    template: &str,
    conversation: &str,
    expected: &Result<String, String>,
    found: &Result<String, String>,
) -> String {
    let told = match (expected, found) {
        (Ok(expected), Ok(found)) => {
            let same = |(a, b): &(char, char)| a == b;
            let at = expected.chars().zip(found.chars()).take_while(same).count();
            let around = |text: &str| -> String {
                text.chars().skip(at.saturating_sub(40)).take(90).collect()
            };
            format!("at {at}: {:?} for {:?}", around(found), around(expected))
        }
        (Ok(_), Err(error)) => format!("refused: {error}"),
        (Err(reason), _) => format!("rendered, where Python refuses: {reason}"),
    };
    format!("{template} / {conversation}: {told}")
}

/// A Python with Jinja, made once.
fn python() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(JINJA.replace("==", "-"));
    let program = |name: &str| {
        let programs = if cfg!(windows) { "Scripts" } else { "bin" };
        folder
            .join(programs)
            .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    };
    let has_jinja = || {
        let mut import = Command::new(program("python"));
        import
            .args(["-c", "import jinja2"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !has_jinja() {
        let system = if cfg!(windows) { "python" } else { "python3" };
        let made = Command::new(system)
            .args(["-m", "venv"])
            .arg(&folder)
            .output();
        let _ = made.and_then(|_| {
            Command::new(program("pip"))
                .args(["install", "--quiet", JINJA])
                .output()
        });
    }
    let found = has_jinja();
    if !found {
        println!("skipped: the reference renderings: no Python with {JINJA} could be made");
    }
    found.then(|| program("python"))
}
