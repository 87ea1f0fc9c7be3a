#![no_main]
//! Chat templates: programs of strangers, over words of strangers.

use engine::text::Template;
use engine::{ChatMessage, ChatPrompt, Role};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (source, content) = input;
    let Ok(template) = Template::new(source, "<s>".to_owned(), "</s>".to_owned()) else {
        return;
    };
    let message = |role, content: &str| ChatMessage {
        role,
        content: content.to_owned(),
    };
    let prompt = ChatPrompt {
        system: Some("Be brief.".to_owned()),
        messages: vec![
            message(Role::User, content),
            message(Role::Assistant, "<think>a</think>b"),
            message(Role::User, "and?"),
        ],
    };
    // An error is as good as a text, as long as it comes.
    template.render(&prompt).ok();
});
