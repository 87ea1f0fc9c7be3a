//! A worker under mixed load for as long as is asked.

use crate::{
    bench::sharing,
    house::House,
    sh::{self, Failure, stage},
    starter,
};

/// By default.
pub(crate) const MINUTES: f64 = 60.0;

pub(crate) fn soak(house: &House, minutes: f64) -> Result<(), Failure> {
    let model = stage("starter model", || starter::fetch(house))?;
    stage("worker", || sharing::build(house, "soak"))?;
    stage(&format!("mixed load for {minutes} minutes"), || {
        let mut command = sharing::example(house, "soak");
        command.arg(model).arg(minutes.to_string());
        sh::run(&mut command)
    })
}
