"""Says what a stream costs in which only yes is ever said, and how long to wait before the rest counts as no.

    target/peers/bin/python tests/peers/only_yes.py [thalweg's binary]

(after `./demo` and `./test`, which build the one and set the other up.)

The flights again, but only those that were late ever get a label, when they arrive. `thalweg evaluate --at-arrival` with the
default learner, by `negative_after` and `revised`; predictions are held against what became of each flight. Beside it the
same flights with every label said.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

from pyarrow import compute, parquet

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLIGHTS = ROOT / "compose/streams/flights"
WAITS = ["1m", "1h", "2h", "4h", "6h", "12h"]


def evaluated(thalweg: str, data: pathlib.Path, contract: pathlib.Path) -> dict:
    command = [thalweg, "evaluate", data, "--contract", contract, "--at-arrival", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    thalweg = sys.argv[1] if sys.argv[1:] else str(ROOT / "target/release/thalweg")
    flights = parquet.read_table(FLIGHTS / "flights.parquet")
    late = compute.fill_null(flights["late"], False)
    for name in ("late", "arrival"):
        only = compute.if_else(late, flights[name], None)
        flights = flights.set_column(flights.schema.get_field_index(name), name, only)
    text = (FLIGHTS / "stream.toml").read_text()
    # The default learner: without a word on how to learn.
    text = re.sub(r"(?ms)^\[learner\].*?^\[", "[", text)
    with tempfile.TemporaryDirectory() as folder:
        data, contract = pathlib.Path(folder) / "flights.parquet", pathlib.Path(folder) / "stream.toml"
        parquet.write_table(flights, data)
        print("| no after | a late yes | log loss | AUC | always the base rate |\n|---|---|---|---|---|")
        for wait in WAITS:
            for revised in ("ignore", "learn"):
                policy = f'unlabelled = "negative"\nnegative_after = "{wait}"'
                said = text.replace('unlabelled = "wait"', policy).replace('revised = "ignore"', f'revised = "{revised}"')
                contract.write_text(said)
                found = evaluated(thalweg, data, contract)
                figures = [found[name] for name in ("log_loss", "auc", "base_log_loss")]
                print(f"| {wait} | {revised} |", " | ".join(f"{figure:.4f}" for figure in figures), "|", flush=True)
        contract.write_text(text)
        found = evaluated(thalweg, FLIGHTS / "flights.parquet", contract)
        figures = [found[name] for name in ("log_loss", "auc", "base_log_loss")]
        print("| every label said | |", " | ".join(f"{figure:.4f}" for figure in figures), "|")


main()
