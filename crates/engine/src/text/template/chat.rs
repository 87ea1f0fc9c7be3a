//! A chat as templates see it: the dictionaries of the OpenAI interface, in the variants that templates disagree about.

use minijinja::{Value, context};

use crate::{ChatMessage, ChatPrompt, EngineError, Role, ToolCall};

/// One variant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// The system prompt stands at the head of the first question, and not in a message of its own.
    system_in_question: bool,
    /// A call's arguments are JSON text, and not a mapping.
    arguments_as_text: bool,
    /// A message of calls without words has no content, and not an empty one.
    no_content: bool,
}

/// The variants to try, the commonest first: most templates take a chat in the first one.
pub(super) fn forms(prompt: &ChatPrompt) -> Vec<Form> {
    let folds = prompt.system.is_some()
        && prompt
            .messages
            .first()
            .is_some_and(|message| message.role == Role::User);
    let calls = calls(prompt).next().is_some();
    let either = |possible: bool| [false, true].into_iter().take(1 + usize::from(possible));
    let mut forms = Vec::new();
    // Some templates refuse system messages; what such models were trained on has it in the first question.
    for system_in_question in either(folds) {
        for arguments_as_text in either(calls) {
            for no_content in either(calls) {
                forms.push(Form {
                    system_in_question,
                    arguments_as_text,
                    no_content,
                });
            }
        }
    }
    forms
}

/// The calls of all messages.
pub(in super::super) fn calls(prompt: &ChatPrompt) -> impl Iterator<Item = &ToolCall> {
    let messages = prompt.messages.iter();
    messages.flat_map(|message| &message.tool_calls)
}

/// What a template is given.
pub(super) fn values(prompt: &ChatPrompt, form: Form) -> Result<Value, EngineError> {
    let system = prompt
        .system
        .as_deref()
        .filter(|_| !form.system_in_question)
        .map(|content| context! { role => "system", content => content });
    let mut messages = Vec::from_iter(system);
    for (at, message) in prompt.messages.iter().enumerate() {
        let system = prompt.system.as_deref();
        let prefix = system.filter(|_| at == 0 && form.system_in_question);
        messages.push(self::message(message, prefix, form)?);
    }
    let tools: Result<Vec<Value>, EngineError> =
        prompt.tools.iter().map(|tool| parse(tool)).collect();
    let tools = tools?;
    let given = context! {
        messages => messages,
        tools => if tools.is_empty() { Value::from(()) } else { Value::from(tools) },
        documents => Value::from(()),
        add_generation_prompt => true,
    };
    Ok(match prompt.thinking {
        // Two names for the same thing.
        Some(thinking) => context! { enable_thinking => thinking, thinking => thinking, ..given },
        None => given,
    })
}

fn message(message: &ChatMessage, prefix: Option<&str>, form: Form) -> Result<Value, EngineError> {
    let content = match prefix {
        Some(prefix) => Value::from(format!("{prefix}\n\n{}", message.content)),
        None if form.no_content && message.content.is_empty() && !message.tool_calls.is_empty() => {
            Value::from(())
        }
        None => Value::from(message.content.as_str()),
    };
    let mut entries = vec![
        ("role", Value::from(message.role.as_str())),
        ("content", content),
    ];
    let optional = [
        ("reasoning_content", &message.reasoning),
        ("tool_call_id", &message.tool_call_id),
        ("name", &message.name),
    ];
    for (key, value) in optional {
        entries.extend(value.as_deref().map(|value| (key, Value::from(value))));
    }
    if !message.tool_calls.is_empty() {
        let calls: Result<Vec<Value>, EngineError> = message
            .tool_calls
            .iter()
            .map(|call| self::call(call, form))
            .collect();
        entries.push(("tool_calls", Value::from(calls?)));
    }
    Ok(Value::from_pairs(entries))
}

fn call(call: &ToolCall, form: Form) -> Result<Value, EngineError> {
    let arguments = if form.arguments_as_text {
        Value::from(call.arguments.as_str())
    } else {
        parse(&call.arguments)?
    };
    let function = context! { name => call.name.as_str(), arguments => arguments };
    let mut entries = vec![("type", Value::from("function")), ("function", function)];
    let id = call.id.as_deref();
    entries.extend(id.map(|id| ("id", Value::from(id))));
    Ok(Value::from_pairs(entries))
}

/// JSON of a person's.
pub(in super::super) fn parse(json: &str) -> Result<Value, EngineError> {
    serde_json::from_str(json).map_err(|error| EngineError::BadRequest {
        what: format!("JSON of a tool: {error}"),
    })
}
