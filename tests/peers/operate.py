"""Does with confluent-kafka what an operator and a group do: configs, partitions, records, groups.

Usage: operate.py BROKERS; prints what it saw as JSON, and fails where a broker refuses what it should do.
"""

import json
import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

TOPIC, GROUP = "operated", "operators"
MESSAGES = 10_000
WAIT = 30


def results(futures):
    return {key: future.result(WAIT) for key, future in futures.items()}


def refused(futures):
    """The code of the error that the only future ends with."""
    try:
        results(futures)
    except KafkaException as error:
        return error.args[0].name()
    return None


def change(name, value):
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    return [ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])]


def configure(admin):
    results(admin.create_topics([NewTopic(TOPIC, 2, 1, config={"retention.ms": "100000000"})]))
    results(admin.incremental_alter_configs(change("max.message.bytes", "300000")))
    resource = ConfigResource(ResourceType.TOPIC, TOPIC)
    deadline = time.monotonic() + WAIT
    configs = {}
    # A real broker follows its controller.
    while not configs or configs["max.message.bytes"].value != "300000":
        assert time.monotonic() < deadline, configs
        configs = results(admin.describe_configs([resource]))[resource]
    unknown = refused(admin.incremental_alter_configs(change("no.such.config", "1")))
    results(admin.create_partitions([NewPartitions(TOPIC, 4)]))
    return {
        "retention": configs["retention.ms"].value,
        "message_bytes": configs["max.message.bytes"].value,
        "unknown": unknown,
    }


def produce(brokers):
    lost = []
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "compression.type": "zstd"})
    for n in range(MESSAGES):
        producer.produce(TOPIC, key=str(n), value=b"x" * 100, on_delivery=lambda error, _: error and lost.append(error))
        producer.poll(0)
    assert producer.flush(WAIT) == 0 and not lost, lost


def consume(brokers, admin):
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": GROUP,
            "group.instance.id": "place",
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([TOPIC])
    for n in range(MESSAGES):
        message = consumer.poll(WAIT)
        assert message is not None and not message.error(), (n, message and message.error())
    consumer.commit(asynchronous=False)
    group = results(admin.describe_consumer_groups([GROUP]))[GROUP]
    offsets = results(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP)]))[GROUP]
    seen = {
        "state": group.state.name,
        "assignor": group.partition_assignor,
        "place": group.members[0].group_instance_id,
        "partitions": len(group.members[0].assignment.topic_partitions),
        "committed": sum(partition.offset for partition in offsets.topic_partitions),
        "in_use": refused(admin.delete_consumer_groups([GROUP])),
        "listed": any(listed.group_id == GROUP for listed in admin.list_consumer_groups().result(WAIT).valid),
    }
    consumer.close()
    return seen


def cut(admin):
    partition = TopicPartition(TOPIC, 0, 5)
    (deleted,) = results(admin.delete_records([partition])).values()
    (earliest,) = results(admin.list_offsets({TopicPartition(TOPIC, 0): OffsetSpec.earliest()})).values()
    return {"low": deleted.low_watermark, "earliest": earliest.offset}


def main(brokers):
    admin = AdminClient({"bootstrap.servers": brokers})
    seen = configure(admin)
    produce(brokers)
    seen.update(consume(brokers, admin))
    seen.update(cut(admin))
    print(json.dumps(seen, sort_keys=True))


main(sys.argv[1])
