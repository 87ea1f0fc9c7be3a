//! What an undisturbed provider says to each question of the lab, by its token ids.
//!
//! Answers are greedy, and a row's numbers do not depend on what else is computed: every provider of the same model must give
//! these ids, whatever happens to it and around it.

use std::path::Path;

use decentralgpt_tests::{
    SYSTEM, Serving,
    wire::{self, Text},
};

use crate::error::LabError;

/// Questions with long answers.
pub const QUESTIONS: [&str; 4] = [
    "Write a long story about a ship and its crew.",
    "Tell me everything about the history of bread.",
    "Describe a walk through an old city at night.",
    "Explain at length how rain is made.",
];

/// One answer that nobody disturbed.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The question.
    pub question: &'static str,
    /// The ids of its answer.
    pub ids: Vec<u32>,
    /// What they say.
    pub text: String,
}

/// Asks a provider, whose disk and network are as they should be, for `tokens` tokens of each answer.
///
/// # Errors
/// [`LabError::Wrong`] when it cannot be reached.
pub fn references(
    starter: &Path,
    provider: &Serving,
    tokens: u32,
) -> Result<Vec<Reference>, LabError> {
    // The file itself: the worker of `Text` may read its folder alone, and a link leads out of that.
    let file = starter
        .canonicalize()
        .map_err(LabError::system("the starter cannot be found"))?;
    wire::block_on(async {
        let text = Text::new(&file);
        let network = wire::dialler().await;
        let model = text.reference().await.digest;
        let peer = network
            .connect(&provider.address)
            .await
            .map_err(|error| LabError::Wrong(format!("{}: {error}", provider.address)))?;
        let mut references = Vec::new();
        for question in QUESTIONS {
            let prompt = text.prompt(SYSTEM, question).await;
            let ids = wire::ask(&network, peer, model, &prompt, &[], tokens).await;
            let text = text.say(&ids).await;
            references.push(Reference {
                question,
                ids,
                text,
            });
        }
        network.shutdown().await;
        text.end().await;
        Ok(references)
    })
}
