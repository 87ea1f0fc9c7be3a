//! `status` and `doctor`: what is, and whether it is in order.

use node::CheckState;

use crate::{arguments::Listing, core::Core, failure::Failure, listing, output::Output};

pub(crate) async fn status(core: &Core, how: Listing, output: &mut Output) -> Result<(), Failure> {
    let status = core.client.node_status().await?;
    if how.json {
        return output.json(&status);
    }
    listing::status(&status)
        .iter()
        .try_for_each(|line| output.line(line))
}

pub(crate) async fn doctor(core: &Core, how: Listing, output: &mut Output) -> Result<(), Failure> {
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
