"""Error rates of the detectors and of the verdict, measured on organisms; kept with the version that they belong to.

That version is the battery's: the one of planprobe in which what the battery says last changed. There are two, one for
boards and one for tasks with trials, so that a change of the one leaves the rates of the other standing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planprobe.core.errors import OutputError
from planprobe.core.records import Effect
from planprobe.core.store import write_json
from planprobe.subjects.recipe import BOARD_TASKS
from planprobe.verdict.criteria import MIN_ORGANISMS

SCHEMA = 2
BOARD_BATTERY, TRIAL_BATTERY = "0.7.0", "0.6.0"
"""The version of planprobe in which what each battery says last changed: move it with every such change."""
RATES_FILE = Path(__file__).with_name("calibration.json")  # of the battery as it is, where one was made
TRIAL_RATES_FILE = RATES_FILE.with_name("trial_calibration.json")  # likewise, of the battery for trials


@dataclass(frozen=True)
class DetectorRates:
    """How often a detector said 'supported' where its claim is false, and where it is true; None = no such organism."""

    detector: str
    false_positives: Effect | None
    true_positives: Effect | None

    @property
    def text(self) -> str:
        """For a reader: 'wrongly positive on 0 of 20 organisms, rightly on 14 of 15'."""
        parts = []
        for word, rate in (("wrongly positive", self.false_positives), ("rightly", self.true_positives)):
            parts.append(f"{word} on {round(rate.value * rate.n)} of {rate.n}" if rate else f"{word}: not measured")
        return f"{parts[0]} organisms, {parts[1]}"


@dataclass(frozen=True)
class Rates:
    """One calibration. version: of the battery. budget: the name of the studies' budget. tasks: kinds of task that its
    organisms play; of others it says nothing. detectors: by name.

    verdict_right: share of organisms with the right reading. given_right: the same among those of whom more was said
    than 'cannot say': a battery that lacks a measurement says less, and may not say more that is wrong.
    called_planner: share of non-planners called 'plans'.
    planner_denied: share of planners of whom it was said that they do not plan, whatever they do instead.
    type_right: share of planners, among those called so, with the right type; of tasks where types are told apart (D3).
    account_denied: share of organisms of whom the account that is true of them was ruled out.
    """

    version: str
    budget: str
    tasks: tuple[str, ...]
    detectors: dict[str, DetectorRates]
    verdict_right: Effect | None = None
    given_right: Effect | None = None
    called_planner: Effect | None = None
    planner_denied: Effect | None = None
    type_right: Effect | None = None
    account_denied: Effect | None = None

    def open_about(self, detectors: Iterable[str]) -> list[str]:
        """Those of the detectors of which one rate or the other rests on too few organisms (`MIN_ORGANISMS`)."""
        return [name for name in detectors if not self._is_known(name)]

    def _is_known(self, name: str) -> bool:
        if (found := self.detectors.get(name)) is None:
            return False
        both = (found.false_positives, found.true_positives)
        return all(rate is not None and rate.n >= MIN_ORGANISMS.value for rate in both)


def battery_version(task: str) -> str:
    """Of the battery that judges a kind of task."""
    return BOARD_BATTERY if task in BOARD_TASKS else TRIAL_BATTERY


def save_rates(path: str | Path, rates: Rates) -> Path:
    """Write a calibration as JSON. Raises: OutputError."""
    return write_json(path, {"schema": SCHEMA, **asdict(rates)})


def load_rates(budget: str, task: str, path: str | Path = RATES_FILE) -> Rates | None:
    """The calibration for a budget and a kind of task; None where there is none, or none of its battery's version.

    Raises: OutputError (the file is no calibration).
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text())
        if document["schema"] != SCHEMA or (document["version"], document["budget"]) != (battery_version(task), budget):
            return None
        if task not in document["tasks"]:
            return None
        detectors = {
            name: DetectorRates(name, _effect(each["false_positives"]), _effect(each["true_positives"]))
            for name, each in document["detectors"].items()
        }
        shares = ("verdict_right", "given_right", "called_planner", "planner_denied", "type_right", "account_denied")
        whole = {key: _effect(document.get(key)) for key in shares}
        return Rates(document["version"], budget, tuple(document["tasks"]), detectors, **whole)
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(f"'{path}' is no calibration: {error}.\n  Make one with: planprobe calibrate") from None


def _effect(value: dict[str, Any] | None) -> Effect | None:
    return None if value is None else Effect(**value)
