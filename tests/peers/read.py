"""Reads topics with confluent-kafka and the lake with DuckDB, Polars and PyArrow, as users would.

Usage: read.py BROKERS TABLE; prints one JSON object.
"""

import json
import sys

import confluent_kafka
import duckdb
import polars
import pyarrow.dataset


def count(brokers: str, topic: str) -> tuple[int, dict]:
    """Counts the messages of a topic, and keeps the first one."""
    settings = {"bootstrap.servers": brokers, "group.id": "peers", "enable.partition.eof": True}
    consumer = confluent_kafka.Consumer(settings | {"auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in partitions])
    messages, open_partitions, first = 0, len(partitions), {}
    while open_partitions:
        message = consumer.poll(20)
        assert message is not None, f"{topic} stalls"
        if message.error():
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
            open_partitions -= 1
            continue
        messages += 1
        if not first:
            headers = {name: value.decode() for name, value in message.headers() or []}
            first = {"key": message.key().decode(), "headers": headers, "bytes": len(message.value())}
    consumer.close()
    return messages, first


def main(brokers: str, table: str) -> None:
    """Prints what the peers see."""
    scores, first_score = count(brokers, "flights.scores")
    dead, first_letter = count(brokers, "flights.dead")
    # The table's log is read by hand: DuckDB's Delta extension has to be downloaded.
    files = active(table)
    lake = duckdb.sql(f"select count(*), typeof(any_value(tail_number)), any_value(_event_date) from read_parquet({files!r}, hive_partitioning = true)")
    rows, sealed, day = lake.fetchall()[0]
    frame = polars.scan_parquet(files, hive_partitioning=True)
    arrow = pyarrow.dataset.dataset(files, format="parquet")
    seen = {
        "scores": scores,
        "score_key": first_score["key"],
        "dead": dead,
        "letter": first_letter["headers"],
        "duckdb_rows": rows,
        "duckdb_sealed": sealed,
        "day": str(day),
        "polars_rows": frame.select(polars.len()).collect().item(),
        "polars_sealed": str(frame.collect_schema()["tail_number"]),
        "pyarrow_rows": arrow.count_rows(),
        "pyarrow_sealed": str(arrow.schema.field("tail_number").type),
    }
    print(json.dumps(seen))


def active(table: str) -> list[str]:
    """Returns the files of the newest version of a Delta table."""
    import pathlib
    import urllib.parse

    files: set[str] = set()
    for commit in sorted(pathlib.Path(table, "_delta_log").glob("*.json")):
        for line in commit.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files.add(urllib.parse.unquote(action["add"]["path"]))
            if "remove" in action:
                files.discard(urllib.parse.unquote(action["remove"]["path"]))
    return [str(pathlib.Path(table, name)) for name in sorted(files)]


if __name__ == "__main__":
    main(*sys.argv[1:])
