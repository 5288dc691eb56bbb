//! The simulator: one seed brings about one world, in which the four workers run as they are while everything around
//! them fails, and afterwards every promise must hold. Time is simulated, and one thread does it all.

mod accounts;
mod backlog;
mod lake;
mod lake_rows;
mod learned;
mod plan;
mod process;
mod progress;
mod sabotage;
mod store;
mod world;

use worker::{Dice, Story};

pub use plan::Plan;
pub use sabotage::Sabotage;
use world::World;

/// A promise that was broken, and the story of how.
#[derive(Debug)]
pub struct Broken {
    pub what: String,
}

/// Lets the world of a seed happen.
///
/// # Errors
/// What broke.
pub fn run(
    seed: u64,
    sabotage: Sabotage,
    plan: impl FnOnce(&Dice) -> Plan,
    story: impl FnOnce() -> Story,
) -> (Result<(), Broken>, Story) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // One, so that what comes last is done last: see `lake::Still`.
        .max_blocking_threads(1)
        .build()
        .expect("a runtime needs nothing");
    runtime.block_on(async {
        let story = story();
        let dice = Dice::new(seed);
        let plan = plan(&dice);
        let world = World::new(dice, plan, sabotage, story.clone());
        let lived = world.live().await;
        (lived.map_err(|what| Broken { what }), story)
    })
}
