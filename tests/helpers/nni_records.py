"""Writes what NNI's manager records, with its tables, for tests without a manager."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

CONFIG = {"searchSpace": {"seed": {"_type": "choice", "_value": [0, 1]}}, "maxTrialNumber": 2, "tuner": {"name": "TPE"}}

TABLES = """
create table TrialJobEvent (timestamp integer, trialJobId text, event text, data text, logPath text,
    sequenceId integer, message text, environmentId text);
create table MetricData (timestamp integer, trialJobId text, parameterId text, type text, sequence integer, data text);
create table ExperimentProfile (params text, id text, execDuration integer, startTime integer, endTime integer,
    logDir text, nextSequenceId integer, revision integer);
"""


class Records:
    """The records of one experiment, to be added to as its manager does."""

    def __init__(self, folder: Path, started: int = 1_000_000, **config):
        self.folder = folder
        (folder / "db").mkdir(parents=True)
        self.execute(TABLES)
        profile = (json.dumps(CONFIG | config), folder.name, 0, started, 0, 1)
        self.execute("insert into ExperimentProfile values (?, ?, ?, ?, null, null, ?, ?)", *profile)

    def execute(self, sql: str, *values) -> None:
        with closing(sqlite3.connect(self.folder / "db" / "nni.sqlite")) as database, database:
            database.execute(sql, values) if values else database.executescript(sql)

    def event(self, trial: str, event: str, parameters: dict | None = None, time: int = 2_000_000) -> None:
        data = json.dumps({"parameter_id": 0, "parameters": parameters}) if parameters else None
        self.execute("insert into TrialJobEvent values (?, ?, ?, ?, null, 0, null, null)", time, trial, event, data)

    def metric(self, trial: str, value, sequence: int | None = None) -> None:
        """An intermediate metric, or the final one, which has no place in a sequence."""
        kind = "FINAL" if sequence is None else "PERIODICAL"
        packed = json.dumps(json.dumps(value))
        self.execute("insert into MetricData values (0, ?, '0', ?, ?, ?)", trial, kind, sequence or 0, packed)
