#![no_main]
//! Chat templates: programs of strangers, over words of strangers.

use engine::text::Template;
use engine::{ChatMessage, ChatPrompt, Role, ToolCall};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str)| {
    let (source, content, json) = input;
    let Ok(template) = Template::new(source, "<s>".to_owned(), "</s>".to_owned()) else {
        return;
    };
    let mut call = ChatMessage::new(Role::Assistant, "");
    call.tool_calls.push(ToolCall {
        id: Some("1".to_owned()),
        name: "f".to_owned(),
        arguments: json.to_owned(),
    });
    let mut prompt = ChatPrompt {
        system: Some("Be brief.".to_owned()),
        messages: vec![
            ChatMessage::new(Role::User, content),
            ChatMessage::new(Role::Assistant, "<think>a</think>b"),
            ChatMessage::new(Role::User, "and?"),
        ],
        thinking: Some(true),
        ..ChatPrompt::default()
    };
    // An error is as good as a text, as long as it comes.
    template.render(&prompt).ok();
    prompt.messages.extend([call, ChatMessage::new(Role::Tool, content)]);
    prompt.tools.push(json.to_owned());
    template.render(&prompt).ok();
});
