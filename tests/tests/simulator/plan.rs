//! What happens to a world of one seed: its contract, its events, its labels, and how badly things go.

use std::time::Duration;

use schemas::{Contract, Partition};
use worker::{Dice, Faults, TopicPartition};

/// Raw partitions, and so those of everything made of them.
pub const PARTITIONS: i32 = 2;

/// The stream's name.
pub const STREAM: &str = "s";

const CONTRACT: &str = r#"
[stream]
name = "s"
tenant = "t"
[event]
id = "id"
time = "at"
subject = "who"
duplicates_window = 24
[[fields]]
id = 1
name = "id"
type = "string"
presence = "required"
[[fields]]
id = 2
name = "at"
type = "timestamp"
presence = "required"
[[fields]]
id = 3
name = "who"
type = "string"
privacy = ["seal", "token"]
[[fields]]
id = 4
name = "city"
type = "string"
[[fields]]
id = 5
name = "miles"
type = "float64"
min = 0
max = 5000
outlier = { deviations = 4.0, action = "reject" }
[[features]]
kind = "category"
of = "city"
[[features]]
kind = "number"
of = "miles"
[label]
name = "late"
type = "bool"
event = "id"
time = "known"
wait_max = "48h"
[learner]
update = "ftrl"
bits = 6
[lake]
record_age_max = "1s"
"#;

/// A room in which every event may wait.
const ROOM: usize = 8192;

/// Events happen in these two days.
const FIRST_MS: u64 = 1_700_000_000_000;
const SPAN_MS: u64 = 30 * 3600 * 1000;

/// Worlds in which fewer events may wait than there are, of a thousand.
const CROWDED: u64 = 150;

/// As many events as may wait in them at most: labels are about thirty events late.
const ROOM_SMALL_MAX: u64 = 64;

/// How the world of a seed goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long things go wrong.
    pub rough: Duration,
    /// How often what goes wrong in the broker.
    pub faults: Faults,
    /// Requests to the object store that fail, and calls of the key store, of a thousand.
    pub store: u64,
    /// Lives of a process that end before their time, of a thousand.
    pub deaths: u64,
    /// Deaths in which the process goes on unheard for a while, of a thousand.
    pub zombies: u64,
    /// Milliseconds from one rebalance to the next, at most.
    pub rebalance_ms: u64,
    /// How many events may wait for their label, where that is fewer than there are.
    pub room: Option<usize>,
    /// What is written to the raw topic and to the labels, in order.
    pub records: Vec<(TopicPartition, Vec<u8>)>,
}

/// Returns the contract of a world.
pub fn contract(plan: &Plan) -> Contract {
    let contract = Contract::parse("simulated", CONTRACT);
    let mut contract = contract.expect("the contract of the simulation is right");
    if let Some(label) = &mut contract.label {
        label.pending_max = plan.room.unwrap_or(ROOM);
    }
    contract
}

impl Plan {
    /// Makes the plan of a seed.
    pub fn of(dice: &Dice) -> Plan {
        let room = dice
            .happens(CROWDED)
            .then(|| dice.within(1..=ROOM_SMALL_MAX) as usize);
        let events = match room {
            None => dice.within(40..=200),
            Some(_) => dice.within(100..=400),
        };
        let rough = |most: u64| {
            if dice.happens(700) {
                dice.within(0..=most)
            } else {
                0
            }
        };
        let faults = Faults {
            delay_ms: dice.within(2..=40),
            answers: rough(30),
            deliveries: rough(15),
            stalls: rough(40),
            commits: rough(500),
            reads: rough(5),
        };
        Plan {
            rough: dice.millis(1_500..=4_000),
            faults,
            store: rough(60),
            deaths: rough(1000),
            zombies: rough(600),
            rebalance_ms: dice.within(300..=3_000),
            room,
            records: records(dice, events),
        }
    }

    /// Makes a plan in which events are crowded out, and nothing else goes wrong.
    pub fn crowded(dice: &Dice) -> Plan {
        Plan {
            room: Some(dice.within(4..=ROOM_SMALL_MAX) as usize),
            ..Plan::calm(dice, 200)
        }
    }

    /// Makes a plan in which nothing goes wrong, with so many events.
    pub fn calm(dice: &Dice, events: u64) -> Plan {
        Plan {
            rough: Duration::from_secs(2),
            faults: Faults {
                delay_ms: 3,
                ..Faults::NONE
            },
            store: 0,
            deaths: 0,
            zombies: 0,
            rebalance_ms: u64::MAX,
            room: None,
            records: records(dice, events),
        }
    }
}

/// Makes raw events with duplicates near and far, outliers and garbage among them, and labels, which may come first,
/// twice, in another partition, unreadable, of dead events, or not at all.
fn records(dice: &Dice, events: u64) -> Vec<(TopicPartition, Vec<u8>)> {
    let of = |topic: &str, at: u64| -> TopicPartition { (topic, Partition(at as i32)).into() };
    let partition = || dice.within(0..=PARTITIONS as u64 - 1);
    let mut records: Vec<(u64, TopicPartition, Vec<u8>)> = Vec::new();
    let label = |at: u64, id: &str| {
        let value = match dice.within(0..=29) {
            0 => b"{\"id\":".to_vec(),
            _ => {
                let (late, known) = (dice.happens(400), FIRST_MS + SPAN_MS + at);
                format!(r#"{{"id":"{id}","late":{late},"known":{known}}}"#).into_bytes()
            }
        };
        (at, of("s.labels", partition()), value)
    };
    for at in 0..events {
        let home = partition();
        let near = at.saturating_sub(dice.within(1..=10));
        let of_id = match dice.within(0..=19) {
            0 => near,
            1 => at.saturating_sub(dice.within(40..=90)),
            _ => at,
        };
        let id = format!("e{of_id}-{}", of_id % PARTITIONS as u64);
        let time = FIRST_MS + dice.within(0..=SPAN_MS);
        let (who, city) = (dice.within(0..=9), dice.within(0..=5));
        let miles = match dice.within(0..=39) {
            0 => 4_999,
            1 => 90_000,
            _ => dice.within(100..=140),
        };
        let json = match dice.within(0..=24) {
            0 => "{\"id\":".to_owned(),
            1 => format!(r#"{{"at":{time}}}"#),
            _ => format!(
                r#"{{"id":"{id}","at":{time},"who":"p{who}","city":"c{city}","miles":{miles}}}"#
            ),
        };
        records.push((at * 100, of("s.raw", home), json.into_bytes()));
        if dice.happens(850) {
            let delay = dice.within(0..=3_000);
            let early = (at * 100).saturating_sub(500);
            records.push(label(early + delay, &id));
            if dice.happens(100) {
                records.push(label(early + delay + 100, &id));
            }
        }
    }
    records.sort_by_key(|(at, ..)| *at);
    records
        .into_iter()
        .map(|(_, to, value)| (to, value))
        .collect()
}
