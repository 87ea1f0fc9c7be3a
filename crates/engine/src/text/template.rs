//! Chat templates: Jinja programs that come with model files, so programs of strangers. They run with counted
//! instructions, capped output and no access to anything but the messages.

mod python;

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context};

use super::vocabulary::Vocabulary;
use crate::file::Metadata;
use crate::{ChatMessage, ChatPrompt, EngineError, Role};

/// Instructions that one rendering may take. A chat of a thousand messages takes some 50,000.
const FUEL: u64 = 2_000_000;

/// Bytes that one rendering may produce: more than fills the longest context.
const MAX_RENDERED: usize = 8 << 20;

/// Length of a template's source in bytes; the longest real ones are near 20,000.
const MAX_SOURCE: usize = 512 << 10;

/// The name the one template goes by in error messages.
const NAME: &str = "chat_template";

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
        environment.add_filter("tojson", python::tojson);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(failed)?;
        Ok(Self {
            environment,
            bos,
            eos,
        })
    }

    /// Renders a chat up to where the model's message begins.
    pub fn render(&self, prompt: &ChatPrompt) -> Result<String, EngineError> {
        match (self.render_as_given(prompt), &prompt.system) {
            // Some templates refuse system messages; what such models were trained on has it in the first question.
            (Err(error), Some(system)) => {
                let folded = fold_system(prompt, system).ok_or(error)?;
                self.render_as_given(&folded)
            }
            (rendered, _) => rendered,
        }
    }

    fn render_as_given(&self, prompt: &ChatPrompt) -> Result<String, EngineError> {
        let message =
            |role: Role, content: &str| context! { role => role.as_str(), content => content };
        let system = prompt
            .system
            .iter()
            .map(|content| message(Role::System, content));
        let rest = prompt
            .messages
            .iter()
            .map(|ChatMessage { role, content }| message(*role, content));
        let messages: Vec<Value> = system.chain(rest).collect();
        let values = context! {
            messages => messages,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            add_generation_prompt => true,
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

/// The same chat with the system prompt at the head of the first question.
fn fold_system(prompt: &ChatPrompt, system: &str) -> Option<ChatPrompt> {
    let mut messages = prompt.messages.clone();
    let first = messages
        .first_mut()
        .filter(|message| message.role == Role::User)?;
    first.content = format!("{system}\n\n{}", first.content);
    Some(ChatPrompt {
        system: None,
        messages,
    })
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
    python::strftime(since.as_secs(), &format)
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
