//! `models price`: what this computer asks for each model that it lends. `models cap`: the most that it pays for one.

use node::money::settings::{Mode, ModelPrice};
use serde_json::json;

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
    /// For all models: percent of what reading costs.
    pub(crate) cached: Option<u32>,
}

pub(crate) async fn prices(
    core: &Core,
    id: Option<String>,
    set: Set,
    how: Listing,
    output: &mut Output,
) -> Result<(), Failure> {
    if let Some(id) = &id {
        known(core, id).await?;
    }
    change(core, id.as_deref(), set).await?;
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
                format!("{} from the cache", tokens(&price.cached)),
                from,
            ]
        })
        .collect();
    columns(&rows).iter().try_for_each(|line| output.line(line))
}

/// The most that is paid for single models and for all: `amount` is set for the model of this id, or with `as_all` its own is forgotten.
pub(crate) async fn caps(
    core: &Core,
    id: Option<String>,
    (amount, as_all): (Option<String>, bool),
    how: Listing,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut settings = core.client.settings_get().await?;
    if let Some(id) = id {
        known(core, &id).await?;
        let caps = &mut settings.money.caps;
        match amount {
            Some(text) => caps.insert(id, units(&text)?),
            None if as_all => caps.remove(&id),
            None => None,
        };
        core.client.settings_set(settings.clone()).await?;
    }
    let (all, caps) = (settings.price_cap, settings.money.caps);
    if how.json {
        return output.json(&json!({ "all": all, "models": caps }));
    }
    let told = |cap: &str| format!("{} per million tokens", tokens(cap));
    let all = all.map_or_else(|| "any price".to_owned(), |cap| told(&cap));
    let own = caps.iter().map(|(id, cap)| vec![id.clone(), told(cap)]);
    let rows: Vec<Vec<String>> = own
        .chain([vec!["every other model".to_owned(), all]])
        .collect();
    columns(&rows).iter().try_for_each(|line| output.line(line))
}

async fn known(core: &Core, id: &str) -> Result<(), Failure> {
    let models = core.client.models_list().await?;
    match models.rows.iter().any(|row| row.id == id) {
        true => Ok(()),
        false => Err(Failure::new(
            "model_unknown",
            format!("There is no model {id}."),
            "See `decentralgpt models list`.",
        )),
    }
}

fn units(text: &str) -> Result<String, Failure> {
    Ok(amount(text)?.0.to_string())
}

/// Changes all that is set at once, or nothing where any of it is wrong.
async fn change(core: &Core, id: Option<&str>, set: Set) -> Result<(), Failure> {
    let price = set.amount.as_deref().map(units).transpose()?;
    let floor = set.floor.as_deref().map(units).transpose()?;
    let own = id.filter(|_| price.is_some() || set.median || set.as_all);
    if own.is_none() && set.cached.is_none() {
        return Ok(());
    }
    let mut settings = core.client.settings_get().await?;
    let money = &mut settings.money;
    if set.cached.is_some() {
        money.cached = set.cached;
    }
    match own {
        Some(id) if set.as_all => drop(money.models.remove(id)),
        Some(id) => drop(
            money
                .models
                .insert(id.to_owned(), ModelPrice { price, floor }),
        ),
        None => {}
    }
    core.client.settings_set(settings).await?;
    Ok(())
}
