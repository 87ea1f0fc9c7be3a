//! `cargo xtask run`: from a fresh machine to a person who chats.

use std::{env, time::Instant};

use crate::{
    build,
    house::House,
    sh::{self, Failure, clock, stage},
    starter, system,
};

pub(crate) fn run(house: &House, headless: bool) -> Result<(), Failure> {
    let start = Instant::now();
    prepare(house)?;
    println!("── ready after {}", clock(start.elapsed()));
    if headless {
        crate::headless::show(house)
    } else if has_display() {
        stage("the window (close it, or Ctrl-C, to end)", || {
            let mut window = house_window(house);
            sh::run(&mut window)
        })
    } else {
        println!(
            "   No display here (neither DISPLAY nor WAYLAND_DISPLAY is set), so no window: the same programs, in this terminal."
        );
        crate::headless::show(house)
    }
}

/// Everything that must be there before a program of the product can start.
pub(crate) fn prepare(house: &House) -> Result<(), Failure> {
    stage("1/6 system packages", || {
        system::packages(system::Need::Build)
    })?;
    stage("2/6 packages of the window", || {
        build::window_packages(house)
    })?;
    stage("3/6 page of the window", || build::window_page(house))?;
    stage("4/6 starter model", || starter::fetch(house).map(|_| ()))?;
    stage("5/6 programs", || build::programs(house, false))?;
    stage("6/6 worker for AVX2", || build::fast_worker(house))
}

/// The desktop program, looking for models in this repository's folder as well.
pub(crate) fn house_window(house: &House) -> std::process::Command {
    let mut window = std::process::Command::new(house.program("decentralgpt-desktop"));
    window.env("DECENTRALGPT_MODELS", house.models());
    window
}

pub(crate) fn has_display() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}
