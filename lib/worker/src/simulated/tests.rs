use super::*;
use crate::broker::{Assigned, Lane, Start};

fn partition(at: i32) -> TopicPartition {
    ("t", Partition(at)).into()
}

fn wild(seed: u64) -> Simulated {
    let faults = Faults {
        delay_ms: 20,
        stalls: 50,
        ..Faults::NONE
    };
    let broker = Simulated::new(Dice::new(seed), faults, Story::kept());
    broker.create("t", 2);
    broker
}

fn outgoing(value: &[u8]) -> Outgoing<'_> {
    Outgoing {
        value,
        ..Outgoing::default()
    }
}

/// Answers assignments, and returns what comes next of everything else.
async fn next(subscription: &mut Subscription) -> Event {
    loop {
        match subscription.events.recv().await.unwrap() {
            Event::Assigned(partitions, answer) => {
                let begin = |partition| Assigned {
                    partition,
                    start: Start::Committed,
                };
                answer
                    .send(partitions.into_iter().map(begin).collect())
                    .unwrap();
            }
            Event::High(..) => {}
            other => return other,
        }
    }
}

async fn next_batch(subscription: &mut Subscription) -> Batch {
    match next(subscription).await {
        Event::Batch(batch) => batch,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_keeps_its_order_and_what_is_acknowledged_is_there() {
    let broker = wild(1);
    let lane = broker.connect("w").lane(&partition(0)).unwrap();
    for at in 0..100_u8 {
        lane.send(outgoing(&[at])).await.unwrap();
    }
    lane.wait(100).await.unwrap();
    let batch = broker.records(&partition(0), Offset(0), 1000).unwrap();
    let values: Vec<u8> = batch
        .records()
        .map(|record| record.value().unwrap()[0])
        .collect();
    assert_eq!(values, (0..100).collect::<Vec<u8>>());
}

#[tokio::test(start_paused = true)]
async fn of_what_a_killed_process_sent_the_first_records_arrive_and_late_ones_too() {
    let (mut cut, mut late) = (0, 0);
    for seed in 0..50 {
        let broker = wild(seed);
        let process = broker.connect("w");
        let lane = process.lane(&partition(0)).unwrap();
        for at in 0..8_u8 {
            lane.send(outgoing(&[at])).await.unwrap();
        }
        process.kill();
        assert!(lane.send(outgoing(b"x")).await.is_err());
        let count = |batch: Option<Batch>| batch.map_or(0, |batch| batch.len());
        let now = count(broker.records(&partition(0), Offset(0), 100));
        tokio::time::sleep(Duration::from_secs(30)).await;
        let then = count(broker.records(&partition(0), Offset(0), 100));
        cut += u32::from(then < 8);
        late += u32::from(now < then);
    }
    assert!(0 < cut && 0 < late, "{cut} cut, {late} late");
}

#[tokio::test(start_paused = true)]
async fn members_share_partitions_and_one_that_is_killed_loses_its_own() {
    let broker = wild(3);
    let (one, other) = (broker.connect("one"), broker.connect("other"));
    for at in 0..2 {
        broker.append(&partition(at), outgoing(b"1")).unwrap();
    }
    let mut first = one.subscribe("g", &["t"]).unwrap();
    let batch = next_batch(&mut first).await;
    assert_eq!(batch.len(), 1);
    let commit = vec![(batch.from().clone(), Offset(1))];
    first.orders.send(Order::Commit(commit)).await.unwrap();
    let mut second = other.subscribe("g", &["t"]).unwrap();
    let revoked = async {
        loop {
            if let Event::Revoked(_, answer) = next(&mut first).await {
                return answer.send(Vec::new()).unwrap();
            }
        }
    };
    revoked.await;
    drop(first);
    one.kill();
    // What was committed does not come again; the other partition does.
    let left = next_batch(&mut second).await;
    assert_ne!(left.from(), batch.from());
    assert_eq!(broker.committed("g", batch.from()), Some(Offset(1)));
}

#[tokio::test(start_paused = true)]
async fn what_is_held_does_not_come_until_it_is_let_go() {
    let broker = Simulated::default();
    broker.create("t", 2);
    let mut subscription = broker.subscribe("g", &["t"]).unwrap();
    let hold = Order::Hold(vec![partition(0)]);
    let answer = match subscription.events.recv().await.unwrap() {
        Event::Assigned(partitions, answer) => (partitions, answer),
        other => panic!("{other:?}"),
    };
    let begin = |partition| Assigned {
        partition,
        start: Start::At(Offset(0)),
    };
    let starts = answer.0.into_iter().map(begin).collect();
    answer.1.send(starts).unwrap();
    tokio::task::yield_now().await;
    subscription.orders.send(hold).await.unwrap();
    tokio::task::yield_now().await;
    broker.append(&partition(0), outgoing(b"held")).unwrap();
    broker.append(&partition(1), outgoing(b"flows")).unwrap();
    assert_eq!(next_batch(&mut subscription).await.from(), &partition(1));
    let nothing = Order::Hold(Vec::new());
    subscription.orders.send(nothing).await.unwrap();
    assert_eq!(next_batch(&mut subscription).await.from(), &partition(0));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_heard_reads_on_and_may_not_commit() {
    let broker = wild(5);
    let zombie = broker.connect("zombie");
    let mut subscription = zombie.subscribe("g", &["t"]).unwrap();
    broker.append(&partition(0), outgoing(b"1")).unwrap();
    assert_eq!(next_batch(&mut subscription).await.len(), 1);
    zombie.unhear();
    tokio::time::sleep(SESSION * 2).await;
    broker.append(&partition(0), outgoing(b"2")).unwrap();
    assert_eq!(next_batch(&mut subscription).await.len(), 1);
    let commit = Order::Commit(vec![(partition(0), Offset(2))]);
    subscription.orders.send(commit).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(broker.committed("g", &partition(0)), None);
    zombie.hear();
    assert!(matches!(
        next(&mut subscription).await,
        Event::Revoked(_, _)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_goes_back_is_seen() {
    let broker = wild(6);
    let mut subscription = broker.connect("w").subscribe("g", &["t"]).unwrap();
    broker.append(&partition(0), outgoing(b"1")).unwrap();
    next_batch(&mut subscription).await;
    for offset in [5, 4] {
        let commit = Order::Commit(vec![(partition(0), Offset(offset))]);
        subscription.orders.send(commit).await.unwrap();
    }
    // The other partition is still to be taken on: only then are orders taken.
    let quiet = tokio::time::timeout(Duration::from_secs(1), next(&mut subscription));
    assert!(quiet.await.is_err());
    let broken = broker.broken().unwrap();
    assert!(broken.contains("commits 4 for t/0 after 5"), "{broken}");
}
