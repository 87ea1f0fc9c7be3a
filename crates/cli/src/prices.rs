//! `models price`: what this computer asks for each model that it lends.

use node::money::settings::{Mode, ModelPrice};

use crate::{
    arguments::Listing,
    core::Core,
    failure::Failure,
    money::{amount, tokens},
    output::Output,
    words::columns,
};

/// What is to be set for one model; nothing of it only shows.
#[derive(Debug)]
pub(crate) struct Set {
    pub(crate) amount: Option<String>,
    pub(crate) median: bool,
    pub(crate) floor: Option<String>,
    pub(crate) as_all: bool,
}

pub(crate) async fn prices(
    core: &Core,
    id: Option<String>,
    set: Set,
    how: Listing,
    output: &mut Output,
) -> Result<(), Failure> {
    if let Some(id) = &id {
        let models = core.client.models_list().await?;
        if !models.rows.iter().any(|row| row.id == *id) {
            return Err(Failure::new(
                "model_unknown",
                format!("There is no model {id}."),
                "See `decentralgpt models list`.",
            ));
        }
        change(core, id, set).await?;
    }
    let settings = core.client.settings_get().await?;
    let mut prices = core.client.money_prices().await?;
    prices.retain(|price| id.as_ref().is_none_or(|id| price.model == *id));
    if how.json {
        return output.json(&prices);
    }
    if settings.money.mode == Mode::Free {
        output.news("The mode is free: nothing is asked, whatever is set here.");
    }
    if prices.is_empty() {
        return output.line("No model here is lent.");
    }
    let rows: Vec<Vec<String>> = prices
        .iter()
        .map(|price| {
            let from = match &price.own {
                Some(ModelPrice { price: Some(_), .. }) => "your figure for it".to_owned(),
                Some(ModelPrice {
                    floor: Some(floor), ..
                }) => {
                    format!(
                        "the median of {} offers, not below {}",
                        price.offers,
                        tokens(floor)
                    )
                }
                Some(ModelPrice { .. }) => format!("the median of {} offers", price.offers),
                None => "as for all models".to_owned(),
            };
            vec![
                price.model.clone(),
                format!("{} per million tokens written", tokens(&price.output)),
                format!("{} read", tokens(&price.input)),
                from,
            ]
        })
        .collect();
    columns(&rows).iter().try_for_each(|line| output.line(line))
}

async fn change(core: &Core, id: &str, set: Set) -> Result<(), Failure> {
    let units = |text: &Option<String>| {
        text.as_deref()
            .map(|text| amount(text).map(|amount| amount.0.to_string()))
            .transpose()
    };
    let price = units(&set.amount)?;
    let floor = units(&set.floor)?;
    if price.is_none() && !set.median && !set.as_all {
        return Ok(());
    }
    let mut settings = core.client.settings_get().await?;
    if set.as_all {
        settings.money.models.remove(id);
    } else {
        settings
            .money
            .models
            .insert(id.to_owned(), ModelPrice { price, floor });
    }
    core.client.settings_set(settings).await?;
    Ok(())
}
