//! Chat templates: Jinja programs that come with model files, so programs of strangers. They run with counted
//! instructions, capped output and no access to anything but the messages.
//!
//! They are written for `transformers`, which sets up Python's Jinja with its own filters, functions and a `generation`
//! block; here the same source renders to the same text.

pub(super) mod chat;
mod clock;
mod json;
mod python;

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};
use regex::Regex;

use super::vocabulary::Vocabulary;
use crate::file::Metadata;
use crate::{ChatPrompt, EngineError};

/// What one rendering may take, in units of the engine: an instruction, or 64 bytes of text made. A chat of a thousand
/// messages takes some 50,000.
const FUEL: u64 = 2_000_000;

/// Bytes that one rendering may produce: more than fills the longest context.
const MAX_RENDERED: usize = 8 << 20;

/// Length of a template's source in bytes; the longest real ones are near 20,000.
const MAX_SOURCE: usize = 512 << 10;

/// The name the one template goes by in error messages.
const NAME: &str = "chat_template";

/// Marks what the model is trained to write itself, and has the scope of `with`.
const GENERATION: &str = r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}";

/// Where marks of typed text are taken from: Unicode's private use area.
const MARKERS: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{f8ff}';

/// Whether a character may be a mark of typed text.
pub(super) fn is_marker(character: char) -> bool {
    MARKERS.contains(&character)
}

/// The first mark that does not occur in any of `texts`.
pub(super) fn free_marker<'t>(texts: impl Iterator<Item = &'t str>) -> Option<char> {
    let characters = texts.flat_map(str::chars);
    let used: std::collections::BTreeSet<char> = characters.filter(|c| is_marker(*c)).collect();
    MARKERS.into_iter().find(|marker| !used.contains(marker))
}

/// The chat template of a model file.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl Template {
    /// Parses the template of a file; `None` where it has none.
    pub fn from_metadata(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
    ) -> Result<Option<Self>, EngineError> {
        let Some(source) = metadata.text("tokenizer.chat_template") else {
            return Ok(None);
        };
        let spelling = |id: Option<u32>| {
            let piece = id.and_then(|id| vocabulary.piece(id));
            piece.map(|(piece, _)| piece.to_owned()).unwrap_or_default()
        };
        Self::new(source, spelling(vocabulary.bos), spelling(vocabulary.eos)).map(Some)
    }

    /// Parses a template; `bos` and `eos` are the spellings it sees as `bos_token` and `eos_token`.
    pub fn new(source: &str, bos: String, eos: String) -> Result<Self, EngineError> {
        if source.len() > MAX_SOURCE {
            return Err(EngineError::Template {
                detail: format!(
                    "its source has {} bytes (at most {MAX_SOURCE})",
                    source.len()
                ),
            });
        }
        let mut environment = Environment::new();
        // What transformers sets, and so what every template is written for.
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().map_err(failed)?);
        environment.set_fuel(Some(FUEL));
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(python::method);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", json::tojson);
        environment.add_filter("join", python::join);
        environment.add_filter("string", python::string);
        environment.add_test("iterable", python::is_iterable);
        environment.add_test("sequence", python::is_sequence);
        environment
            .add_template_owned(NAME, without_generation(source)?)
            .map_err(failed)?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// Renders a chat up to where the model's message begins.
    ///
    /// # Errors
    /// When the template refuses the chat in every variant, or takes more than its share.
    pub fn render(&self, prompt: &ChatPrompt) -> Result<String, EngineError> {
        let mut first = None;
        for form in chat::forms(prompt) {
            let rendered = self.render_with(chat::values(prompt, form)?);
            // A template that looks for calls elsewhere passes over them in silence.
            let whole = |text: &String| chat::calls(prompt).all(|call| text.contains(&call.name));
            if rendered.as_ref().is_ok_and(whole) {
                return rendered;
            }
            if first
                .as_ref()
                .is_none_or(|first: &Result<_, _>| first.is_err() && rendered.is_ok())
            {
                first = Some(rendered);
            }
        }
        first.unwrap_or_else(|| {
            Err(EngineError::Template {
                detail: "no messages".to_owned(),
            })
        })
    }

    /// Renders with the variables of a JSON object, besides `bos_token` and `eos_token`: what a template does with a chat
    /// given exactly so.
    ///
    /// # Errors
    /// When it is no JSON, or the template refuses it.
    pub fn render_json(&self, variables: &str) -> Result<String, EngineError> {
        self.render_with(chat::parse(variables)?)
    }

    fn render_with(&self, given: Value) -> Result<String, EngineError> {
        let values = context! {
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            ..given
        };
        let mut out = Capped(Vec::new());
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template
            .render_captured_to(values, &mut out)
            .map_err(failed)?;
        String::from_utf8(out.0).map_err(|error| EngineError::Template {
            detail: error.to_string(),
        })
    }
}

fn without_generation(source: &str) -> Result<String, EngineError> {
    let block = Regex::new(GENERATION).map_err(|error| EngineError::Template {
        detail: error.to_string(),
    })?;
    Ok(block
        .replace_all(source, "{%${1} ${2}with ${3}%}")
        .into_owned())
}

/// Bytes up to a cap.
struct Capped(Vec<u8>);

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_RENDERED {
            return Err(io::Error::other(format!(
                "it wrote more than {MAX_RENDERED} bytes"
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: Error) -> EngineError {
    use std::error::Error as _;
    let mut detail = error.to_string();
    if let Some(cause) = error.source() {
        detail.push_str(": ");
        detail.push_str(&cause.to_string());
    }
    detail.truncate(
        detail
            .char_indices()
            .nth(500)
            .map_or(detail.len(), |(at, _)| at),
    );
    EngineError::Template { detail }
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The current date in UTC, by the letters of `strftime` that templates use.
fn strftime_now(format: String) -> Result<String, Error> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    clock::strftime(since.as_secs(), &format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, prompt: &ChatPrompt) -> Result<String, EngineError> {
        Template::new(source, "<s>".into(), "</s>".into())?.render(prompt)
    }

    #[test]
    fn a_template_that_never_ends_runs_out_of_fuel() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}";
        let Err(EngineError::Template { detail }) = render(source, &ChatPrompt::ask("x")) else {
            panic!("it ended");
        };
        assert!(detail.contains("fuel"), "{detail}");
    }

    #[test]
    fn output_is_capped() {
        let source = "{% for a in range(99999) %}{{ 'x' * 10000 }}{% endfor %}";
        assert!(matches!(
            render(source, &ChatPrompt::ask("x")),
            Err(EngineError::Template { .. })
        ));
    }

    #[test]
    fn recursion_ends() {
        let source = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
        assert!(matches!(
            render(source, &ChatPrompt::ask("x")),
            Err(EngineError::Template { .. })
        ));
        let nested = format!(
            "{}x{}",
            "{% if 1 %}".repeat(5000),
            "{% endif %}".repeat(5000)
        );
        assert!(matches!(
            render(&nested, &ChatPrompt::ask("x")),
            Err(EngineError::Template { .. })
        ));
    }

    #[test]
    fn what_a_template_raises_is_told() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let Err(EngineError::Template { detail }) = render(source, &ChatPrompt::ask("x")) else {
            panic!("it rendered");
        };
        assert!(detail.contains("roles must alternate"));
    }

    #[test]
    fn a_refused_system_prompt_moves_into_the_question() {
        let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                      [INST] {{ m.content | trim }} [/INST]{% endfor %}";
        let mut prompt = ChatPrompt::ask("Why?");
        prompt.system = Some("Be brief.".into());
        assert_eq!(
            render(source, &prompt).unwrap(),
            "[INST] Be brief.\n\nWhy? [/INST]"
        );
    }

    #[test]
    fn methods_of_python_strings_work() {
        let source = "{% set c = messages[0]['content'] %}{{ c.strip() }}|{{ c.split(',')[-1].lstrip() }}|\
                      {{ c.startswith(' A') }}|{{ c.replace('A', 'B').upper() }}|{{ messages[0].get('x', 'none') }}|\
                      {% for k, v in messages[0].items() %}{{ k }};{% endfor %}|{{ {'a': '<b>'} | tojson }}";
        assert_eq!(
            render(source, &ChatPrompt::ask(" A, b ")).unwrap(),
            "A, b|b |True| B, B |none|role;content;|{\"a\": \"<b>\"}"
        );
    }
}
