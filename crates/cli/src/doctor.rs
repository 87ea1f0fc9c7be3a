//! `status` and `doctor`: what is, and whether it is in order.

use node::CheckState;

use crate::{
    arguments::{Doctor, Listing},
    core::Core,
    failure::Failure,
    listing,
    money::asked,
    output::Output,
};

pub(crate) async fn status(core: &Core, how: Listing, output: &mut Output) -> Result<(), Failure> {
    let status = core.client.node_status().await?;
    if how.json {
        return output.json(&status);
    }
    listing::status(&status)
        .iter()
        .try_for_each(|line| output.line(line))
}

pub(crate) async fn doctor(core: &Core, how: Doctor, output: &mut Output) -> Result<(), Failure> {
    if how.forget_clock {
        forget_clock(core, how.yes, output).await?;
    }
    let how = how.listing;
    output.progress("checking");
    let checks = core.client.doctor().await?;
    if how.json {
        output.json(&checks)?;
    } else {
        listing::checks(&checks)
            .iter()
            .try_for_each(|line| output.line(line))?;
    }
    if checks.iter().any(|check| check.state == CheckState::Fail) {
        Err(Failure::Told)
    } else {
        Ok(())
    }
}

async fn forget_clock(core: &Core, yes: bool, output: &mut Output) -> Result<(), Failure> {
    output.news(
        "Forget that this computer's clock was once ahead only if it is right now. For ten minutes a job that was answered before could \
         be asked again: none is taken for money until then, and one that costs nothing may be computed twice.",
    );
    if !yes && !asked("Forget it? [y/N] ")? {
        return Err(Failure::new(
            "not_forgotten",
            "Nothing was changed.",
            "Run it again and answer y, or give --yes.",
        ));
    }
    core.client.forget_clock().await?;
    output.news("Forgotten.");
    Ok(())
}
