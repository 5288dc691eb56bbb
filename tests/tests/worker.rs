//! The worker's side of Kafka, on the embedded broker: what it reads, holds back, and hands over in rebalances.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use broker::{Broker, Config, Running};
use schemas::{Offset, Partition};
use tempfile::TempDir;
use tests::groups;
use tokio::time::timeout;
use worker::{
    Assigned, Batch, Broker as _, Event, Kafka, Lane, Order, Outgoing, Start, Subscription,
    TopicPartition, Watermarks,
};

/// How long one event may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The longest that a partition which does not move may be silent under load: a second is what is promised, and the rest
/// is for a machine that is busy with other tests.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// A broker on which asking for a topic makes it, with so many partitions.
async fn start(partitions: i32) -> Result<(Running, Kafka, TempDir)> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::new(folder.path(), SocketAddr::from(([127, 0, 0, 1], 0)));
    config.auto_create_partitions = Some(partitions);
    let broker = Broker::start(config).await?;
    let kafka = Kafka::connect(&broker.address().to_string(), &[])?;
    Ok((broker, kafka, folder))
}

async fn write(kafka: &Kafka, to: &TopicPartition, records: u64) -> Result<()> {
    let lane = kafka.lane(to)?;
    let mut last = 0;
    for number in 0..records {
        let value = number.to_string();
        let outgoing = Outgoing {
            value: value.as_bytes(),
            ..Outgoing::default()
        };
        last = lane.send(outgoing).await?;
    }
    Ok(lane.wait(last).await?)
}

/// A member of a group that notes the offsets that it got.
struct Member {
    subscription: Subscription,
    owned: Vec<TopicPartition>,
    got: Vec<(TopicPartition, Offset)>,
    /// When batches came.
    came: Vec<(TopicPartition, Instant)>,
    revoked: Vec<TopicPartition>,
}

impl Member {
    fn join(kafka: &Kafka, topics: &[&str]) -> Result<Member> {
        Ok(Member {
            subscription: kafka.subscribe("group", topics)?,
            owned: Vec::new(),
            got: Vec::new(),
            came: Vec::new(),
            revoked: Vec::new(),
        })
    }

    /// Takes the next event; a revocation commits all that was got.
    async fn step(&mut self) -> Result<()> {
        let event = timeout(DEADLINE, self.subscription.events.recv()).await;
        match event
            .context("nothing happens")?
            .context("the poll thread is gone")?
        {
            Event::Batch(batch) => {
                let from = batch.from().clone();
                self.came.push((from.clone(), Instant::now()));
                let records = batch.records();
                self.got
                    .extend(records.map(|record| (from.clone(), record.offset())));
            }
            Event::Assigned(partitions, answer) => {
                self.owned.extend(partitions.iter().cloned());
                let assigned = |partition| Assigned {
                    partition,
                    start: Start::Committed,
                };
                let starts = partitions.into_iter().map(assigned).collect();
                ensure!(answer.send(starts).is_ok(), "the poll thread waits");
            }
            Event::Revoked(partitions, answer) => {
                let next = |partition: &TopicPartition| {
                    let last = self.of(partition).last()?;
                    Some((partition.clone(), last.next()))
                };
                let durable = partitions.iter().filter_map(next).collect();
                self.owned.retain(|owned| !partitions.contains(owned));
                self.revoked.extend(partitions);
                ensure!(answer.send(durable).is_ok(), "the poll thread waits");
            }
            Event::High(..) => {}
            Event::Failed(error) => bail!(error),
        }
        Ok(())
    }

    fn of(&self, from: &TopicPartition) -> impl DoubleEndedIterator<Item = Offset> {
        let of = self
            .got
            .iter()
            .filter(move |(partition, _)| partition == from);
        of.map(|(_, offset)| *offset)
    }

    /// Returns the longest time between two batches of a partition.
    fn silence(&self, from: &TopicPartition) -> Duration {
        let of = self.came.iter().filter(|(partition, _)| partition == from);
        let came: Vec<Instant> = of.map(|(_, at)| *at).collect();
        let pauses = came.windows(2).map(|pair| pair[1] - pair[0]);
        pauses.max().unwrap_or_default()
    }

    async fn until_got(&mut self, from: &TopicPartition, records: usize) -> Result<()> {
        while self.of(from).count() < records {
            self.step().await?;
        }
        Ok(())
    }
}

fn partition(topic: &str, partition: i32) -> TopicPartition {
    (topic, Partition(partition)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_has_all_of_its_records_and_none_of_the_range_read_before() -> Result<()> {
    const RECORDS: i64 = 2000;
    let (_broker, kafka, _folder) = start(2).await?;
    let partitions = [partition("topic", 0), partition("topic", 1)];
    for to in &partitions {
        write(&kafka, to, RECORDS as u64).await?;
    }
    for turn in 0..200 {
        let from = &partitions[turn as usize / 3 % 2];
        // Forwards and backwards, one by one and many at once.
        let low = turn * 7919 % RECORDS;
        let high = RECORDS.min(low + 1 + turn % 5 * 100);
        let range = Watermarks {
            low: Offset(low),
            high: Offset(high),
        };
        ensure!(kafka.watermarks(from).await?.high == Offset(RECORDS));
        let batches = kafka.read(from, range).await?;
        ensure!(batches.iter().all(|batch| batch.from() == from));
        let records = batches.iter().flat_map(Batch::records);
        let read: Vec<i64> = records.map(|record| record.offset().0).collect();
        ensure!(
            read == (low..high).collect::<Vec<_>>(),
            "{from}, {range:?}: {read:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_comes_later_and_whole() -> Result<()> {
    let (_broker, kafka, _folder) = start(1).await?;
    let (flows, held) = (partition("flows", 0), partition("held", 0));
    write(&kafka, &flows, 1).await?;
    write(&kafka, &held, 1).await?;
    let mut member = Member::join(&kafka, &["flows", "held"])?;
    member.until_got(&flows, 1).await?;
    member.until_got(&held, 1).await?;
    member
        .subscription
        .orders
        .send(Order::Hold(vec![held.clone()]))
        .await?;
    // The poll thread looks at its orders before each round: after two records one round has begun since.
    for records in 2..=3 {
        write(&kafka, &flows, 1).await?;
        member.until_got(&flows, records).await?;
    }
    write(&kafka, &held, 1000).await?;
    write(&kafka, &flows, 1000).await?;
    member.until_got(&flows, 1003).await?;
    ensure!(
        member.of(&held).count() == 1,
        "nothing more of what is held back"
    );
    member
        .subscription
        .orders
        .send(Order::Hold(Vec::new()))
        .await?;
    member.until_got(&held, 1001).await?;
    for from in [&flows, &held] {
        let offsets: Vec<i64> = member.of(from).map(|offset| offset.0).collect();
        let whole: Vec<i64> = (0..offsets.len() as i64).collect();
        ensure!(offsets == whole, "{from} comes in order, each record once");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_neither_loses_nor_doubles_what_was_committed() -> Result<()> {
    let (_broker, kafka, _folder) = start(2).await?;
    let (one, two) = (partition("topic", 0), partition("topic", 1));
    write(&kafka, &one, 500).await?;
    write(&kafka, &two, 500).await?;
    let mut first = Member::join(&kafka, &["topic"])?;
    first.until_got(&one, 500).await?;
    first.until_got(&two, 500).await?;
    let mut second = Member::join(&kafka, &["topic"])?;
    while first.owned.len() != 1 || second.owned.len() != 1 {
        tokio::select! {
            stepped = first.step() => stepped?,
            stepped = second.step() => stepped?,
        }
    }
    let (stays, moved) = (first.owned[0].clone(), second.owned[0].clone());
    ensure!(stays != moved, "each has one");
    write(&kafka, &one, 500).await?;
    write(&kafka, &two, 500).await?;
    first.until_got(&stays, 1000).await?;
    second.until_got(&moved, 500).await?;
    let offsets: Vec<i64> = first
        .of(&moved)
        .chain(second.of(&moved))
        .map(|at| at.0)
        .collect();
    ensure!(
        offsets == (0..1000).collect::<Vec<i64>>(),
        "{moved} goes on where it was"
    );
    let offsets: Vec<i64> = first.of(&stays).map(|at| at.0).collect();
    ensure!(offsets == (0..1000).collect::<Vec<i64>>(), "{stays} too");
    Ok(())
}

/// Writes to all partitions of a topic until it is told to stop.
async fn load(
    kafka: Kafka,
    topic: &'static str,
    partitions: i32,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        for at in 0..partitions {
            write(&kafka, &partition(topic, at), 20).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_do_not_move_flow_on_while_others_join_and_leave() -> Result<()> {
    const PARTITIONS: i32 = 4;
    let (_broker, kafka, _folder) = start(PARTITIONS).await?;
    let all: Vec<_> = (0..PARTITIONS).map(|at| partition("topic", at)).collect();
    for of in &all {
        write(&kafka, of, 1).await?;
    }
    let mut first = Member::join(&kafka, &["topic"])?;
    while first.owned.len() < all.len() {
        first.step().await?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(load(kafka.clone(), "topic", PARTITIONS, stop.clone()));
    let mut second = Member::join(&kafka, &["topic"])?;
    while second.owned.len() < 2 || second.got.is_empty() {
        tokio::select! {
            stepped = first.step() => stepped?,
            stepped = second.step() => stepped?,
        }
    }
    let moved = second.owned.clone();
    let (out, stays) = (first.revoked.clone(), first.owned.clone());
    ensure!(out.len() == 2, "what moves is revoked, each once: {out:?}");
    ensure!(out.iter().all(|of| moved.contains(of)), "{out:?} {moved:?}");
    // Scaling in: the second member leaves, in good order.
    let Member { subscription, .. } = second;
    let mut second = tokio::spawn(leave(subscription));
    let mut left = false;
    while !left || first.owned.len() < all.len() {
        tokio::select! {
            gone = &mut second, if !left => { gone??; left = true; }
            stepped = first.step() => stepped?,
        }
    }
    let already = first.got.len();
    while first.got.len() < already + 1000 {
        first.step().await?;
    }
    stop.store(true, Ordering::Relaxed);
    writer.await??;
    ensure!(
        first.revoked == out,
        "nothing else was: {:?}",
        first.revoked
    );
    for of in &stays {
        let offsets: Vec<i64> = first.of(of).map(|at| at.0).collect();
        ensure!(
            offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{of} came whole, each record once"
        );
        let silence = first.silence(of);
        eprintln!("{of} was silent for {silence:?} at most");
        ensure!(silence < SILENCE_MAX, "{of} was silent for {silence:?}");
    }
    Ok(())
}

/// Leaves a group: all that the member had is revoked.
async fn leave(subscription: Subscription) -> Result<()> {
    let Subscription { mut events, orders } = subscription;
    drop(orders);
    while let Some(event) = timeout(DEADLINE, events.recv()).await? {
        if let Event::Revoked(_, answer) = event {
            ensure!(answer.send(Vec::new()).is_ok(), "the poll thread waits");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_of_a_group_with_a_lock_has_everything_and_another_takes_over() -> Result<()> {
    let (broker, kafka, _folder) = start(1).await?;
    let brokers = broker.address().to_string();
    let inputs = [partition("one", 0), partition("two", 0)];
    for of in &inputs {
        write(&kafka, of, 10).await?;
    }
    write(&kafka, &partition("lock", 0), 1).await?;
    let locked = kafka.clone().all_or_nothing("lock");
    let mut first = Member::join(&locked, &["one", "two"])?;
    while first.owned.len() < inputs.len() {
        first.step().await?;
    }
    let mut second = Member::join(&locked, &["one", "two"])?;
    // The group has two members now, and a record that comes still comes to the first.
    let joined = || tokio::task::block_in_place(|| groups::members(&brokers, "group"));
    while joined()?.len() < 2 {
        tokio::select! {
            stepped = first.step() => stepped?,
            stepped = second.step() => stepped?,
            () = tokio::task::yield_now() => {}
        }
    }
    write(&kafka, &inputs[1], 10).await?;
    first.until_got(&inputs[1], 20).await?;
    ensure!(
        first.revoked.is_empty() && second.owned.is_empty(),
        "who has it keeps it"
    );
    leave(first.subscription).await?;
    for of in &inputs {
        second.until_got(of, 10).await?;
    }
    ensure!(
        second.owned.len() == inputs.len() && second.revoked.is_empty(),
        "{:?}",
        second.owned
    );
    Ok(())
}
