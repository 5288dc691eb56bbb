//! The worker's side of Kafka, on the embedded broker: what it reads, holds back, and hands over in rebalances.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use broker::{Broker, Config, Running};
use schemas::{Offset, Partition};
use tempfile::TempDir;
use tokio::time::timeout;
use worker::{
    Assigned, Broker as _, Event, Kafka, Lane, Order, Outgoing, Start, Subscription, TopicPartition,
};

/// How long one event may take.
const DEADLINE: Duration = Duration::from_secs(30);

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
}

impl Member {
    fn join(kafka: &Kafka, topics: &[&str]) -> Result<Member> {
        Ok(Member {
            subscription: kafka.subscribe("group", topics)?,
            owned: Vec::new(),
            got: Vec::new(),
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
