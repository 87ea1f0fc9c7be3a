//! `cargo xtask run`: from a fresh machine to a person who chats.

use std::{env, process::Command, time::Instant};

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
        crate::headless::show(house, !house.ci)
    } else if has_display() {
        stage("the window (close it, or Ctrl-C, to end)", || {
            sh::run(&mut window(house))
        })
    } else {
        println!(
            "   No display here (neither DISPLAY nor WAYLAND_DISPLAY is set), so no window: the same programs, in this terminal."
        );
        crate::headless::show(house, !house.ci)
    }
}

/// Everything that must be there before a program of the product can start.
pub(crate) fn prepare(house: &House) -> Result<(), Failure> {
    stage("1/5 system packages", || {
        system::packages(system::Need::Build)
    })?;
    stage("2/5 packages of the window", || {
        build::window_packages(house)
    })?;
    stage("3/5 page of the window", || build::window_page(house))?;
    let starter = stage("4/5 starter model", || starter::fetch(house))?;
    stage("5/5 programs", || {
        build::programs(house, false)?;
        build::starter_beside(house, &starter)
    })
}

/// The desktop program.
pub(crate) fn window(house: &House) -> Command {
    Command::new(house.program("decentralgpt-desktop"))
}

pub(crate) fn has_display() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    !cfg!(target_os = "linux") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}
