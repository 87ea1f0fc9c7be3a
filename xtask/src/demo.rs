//! A whole network on this machine. Three nodes serve on loopback; the window, or a chat in the terminal, asks them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    headless::{self, Serving},
    house::House,
    run,
    sh::{self, Failure, Kept, stage},
};

const NODES: usize = 3;
/// How often the programs are looked at: a person notices no more.
const LOOK: Duration = Duration::from_millis(200);
/// The window answers its control socket well before this.
const WINDOW_WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn demo(house: &House) -> Result<(), Failure> {
    run::prepare(house)?;
    if !run::has_display() {
        println!("   No display here, so no window: the loop in this terminal.");
        return headless::show(house, !house.ci);
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    // The programs hear Ctrl-C as well; this one stays to see them end and to clear the folders.
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Failure::new(format!("Ctrl-C cannot be caught: {error}.")))?;
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("No temporary folder: {error}.")))?;
    let mut nodes = Vec::new();
    for number in 1..=NODES {
        let node = stage(&format!("node {number} of {NODES}"), || {
            Serving::start(house, &folder.path().join(format!("node-{number}")))
        })?;
        println!("   it listens on {}", node.address);
        nodes.push(node);
        if stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    let asker = folder.path().join("window");
    headless::prepare_folder(&asker)?;
    let mut window = Kept::spawn(run::window(house).arg("--data").arg(&asker))?;
    stage("the window meets the nodes", || {
        introduce(house, &asker, &nodes)
    })?;
    println!(
        "   In the window: new chat, place \"A peer\". Kill a node while it answers, and another one goes on.\n   \
         Close the window, or press Ctrl-C here, to end everything."
    );
    while !stopped.load(Ordering::Relaxed) && !window.ended() {
        let before = nodes.len();
        nodes.retain_mut(|node| !node.ended());
        if nodes.len() < before {
            println!("   {} of {NODES} nodes are left", nodes.len());
        }
        std::thread::sleep(LOOK);
    }
    println!("── ending");
    Ok(())
}

/// Through the window's control socket, as a second terminal would.
fn introduce(house: &House, asker: &Path, nodes: &[Serving]) -> Result<(), Failure> {
    let socket = asker.join("control.sock");
    let start = std::time::Instant::now();
    while !socket.exists() {
        if start.elapsed() > WINDOW_WITHIN {
            return Err(Failure::new("The window does not answer.")
                .fix("cargo xtask run, to see what it says"));
        }
        std::thread::sleep(LOOK);
    }
    for node in nodes {
        sh::quiet(
            house
                .decentralgpt(asker)
                .args(["peers", "connect", &node.address]),
        )?;
    }
    Ok(())
}
