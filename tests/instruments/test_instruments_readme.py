"""The page of instruments: each says what it asks, takes and gives, what stands beside it, and how it fails."""

import re
from pathlib import Path

import pytest

import planprobe

FOLDER = Path(planprobe.__file__).parent / "instruments"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
PARAGRAPHS = re.split(r"\n\n(?=\*\*)", TEXT)[1:]
PARTS = {
    "question": "- Asks?:",
    "input": "- In:",
    "output": ".*Out[:,]",
    "control": "- Control:",
    "failure": "- Fails?:",
}


def name_of(paragraph):
    return paragraph.splitlines()[0]


@pytest.mark.parametrize("paragraph", PARAGRAPHS, ids=name_of)
def test_a_paragraph_says_it_all(paragraph):
    assert not [part for part, start in PARTS.items() if not re.search(f"^{start}", paragraph, flags=re.MULTILINE)]


@pytest.mark.parametrize("paragraph", PARAGRAPHS, ids=name_of)
def test_its_files_are_there(paragraph):
    named = re.findall(r"`([\w/]+(?:\.py|/))`", name_of(paragraph))
    assert named
    assert not [
        name for name in named if not any((root / name).exists() for root in (FOLDER, FOLDER.parent / "subjects"))
    ]


def test_every_detector_has_a_paragraph():
    named = set(re.findall(r"detectors/(\w+)\.py", "\n".join(map(name_of, PARAGRAPHS))))
    assert named == {path.stem for path in (FOLDER / "detectors").glob("*.py")} - {"__init__"}
