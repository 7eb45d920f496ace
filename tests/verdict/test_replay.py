"""Replays show what the net held and did, and the page holds what the replays say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import pytest
import torch

from planprobe.core.errors import ShapeError, TooFewLevelsError, UnknownConceptError
from planprobe.core.grid import TARGET, WALL, move_offsets
from planprobe.instruments.hooks import capture, open_policy
from planprobe.instruments.probes.table import fit_site_probes
from planprobe.subjects.zoo import load_agent
from planprobe.verdict.replay import THINKING, make_replays, pack_replays, render_replays

NUM_LEVELS, NUM_THINKING, NUM_FIT = 3, 4, 30
SETTING = {"thinking_steps": NUM_THINKING, "num_fit_levels": NUM_FIT, "per_level": 2, "max_steps": 30}


@pytest.fixture(scope="module")
def planner():
    return load_agent("planprobe.subjects.organisms:wavefront_maze9_s3")


@pytest.fixture(scope="module")
def book(planner):
    return make_replays(planner, planner.levels("test", NUM_LEVELS), **SETTING)


@pytest.fixture(scope="module")
def page(book):
    return render_replays(book)


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_a_planner_shows_the_way_it_then_takes(book):
    """The wavefront marks the squares of its way by the move that enters each, once it has had time."""
    for replay in book.replays:
        assert replay.solved
        now, last = NUM_THINKING, len(book.sites) - 1
        way = torch.tensor([*replay.players[now + 1 :].tolist(), replay.end])
        read = replay.classes[now, last].flatten()[way]
        assert (read == replay.actions[now:] + 1).float().mean() > 0.8
        elsewhere = replay.events[now, last].flatten()[(replay.boards[now] == 0).flatten()]
        assert replay.events[now, last].flatten()[way].mean() > elsewhere.mean() + 0.3


def test_boards_moves_and_ends_follow_each_other(book):
    offsets = move_offsets(book.levels.width)
    for level, replay in enumerate(book.replays):
        assert replay.actions[:NUM_THINKING].eq(THINKING).all() and replay.actions[NUM_THINKING:].ge(0).all()
        assert replay.players[: NUM_THINKING + 1].eq(book.levels.players[level]).all()
        after = torch.tensor([*replay.players[NUM_THINKING + 1 :].tolist(), replay.end])
        before = replay.players[NUM_THINKING:]
        walls = (replay.boards[0].flatten() & WALL).bool()
        wished = before + offsets[replay.actions[NUM_THINKING:]]
        assert torch.equal(after, torch.where(walls[wished], before, wished))
        assert torch.equal(replay.boards, book.levels.boards[level].expand_as(replay.boards))
        assert replay.boards[0].flatten()[replay.end] & TARGET


def test_what_is_shown_is_what_the_net_held_and_said(planner, book):
    """One level by hand, step by step, beside the batch."""
    level, replay = 1, book.replays[1]
    opened = open_policy(planner.net)
    levels = planner.levels("valid", NUM_FIT)
    probes = fit_site_probes(
        opened, planner.make_env, levels, book.concept, sites=list(book.sites), per_level=2, seed=0
    )  # fmt: skip
    env = planner.make_env(book.levels, NUM_LEVELS)
    observation, state = env.reset(torch.arange(NUM_LEVELS)), opened.initial_state(NUM_LEVELS, (9, 9))
    for t in range(NUM_THINKING + 3):
        with capture(opened, list(book.sites)) as cache, torch.no_grad():
            logits, values, state = opened.step(observation, state)
        assert torch.allclose(replay.policy[t], logits[level].softmax(-1), atol=1e-6)
        assert torch.allclose(replay.values[t], values[level], atol=1e-6)
        for place, site in enumerate(book.sites):
            chances = probes[site].read_board(cache[site][:, 0])[level].softmax(0)
            assert torch.allclose(replay.events[t, place], 1 - chances[0], atol=1e-5)
            assert torch.equal(replay.classes[t, place], chances.argmax(0))
        if t >= NUM_THINKING:
            assert int(replay.actions[t]) == int(logits[level].argmax())
            observation = env.step(logits.argmax(-1)).observation


def test_the_page_holds_the_replays(book, page):
    data = data_of(page)
    assert data == json.loads(json.dumps(pack_replays(book)))
    assert data["signs"] == ["", "↑", "↓", "←", "→"]
    for packed, replay in zip(data["levels"], book.replays, strict=True):
        assert [int(digit, 36) for digit in packed["boards"][0]] == replay.boards[0].flatten().tolist()
        shades = [int(digit, 36) / 35 for digit in packed["shades"][2][1]]
        assert torch.allclose(torch.tensor(shades), replay.events[2, 1].flatten(), atol=0.5 / 35 + 1e-6)
        assert [int(digit, 36) for digit in packed["classes"][2][1]] == replay.classes[2, 1].flatten().tolist()
        assert packed["players"] == [*replay.players.tolist(), replay.end]


def test_the_page_stands_alone_and_finds_its_own_parts(page):
    assert not re.findall(r"(?:src|href)\s*=|@import|url\(|fetch\(", page)
    wanted = set(re.findall(r'(?:byId|getElementById)\("(\w+)"\)', page))
    assert wanted == set(re.findall(r'\bid="(\w+)"', page))


def test_names_cannot_write_into_the_page(book):
    name = "</script><img onerror=alert(1)>"
    page = render_replays(replace(book, agent=name, sites=(name,), read_outs=[{"site": name, "macro_f1": 0.5}]))
    assert name not in page
    assert data_of(page)["agent"] == name
    assert unescape(re.search(r"<h1>(.*?)</h1>", page)[1]) == name


def test_rows_tell_what_came_of_each_level(book):
    assert [row["steps"] for row in book.rows()] == [len(each.actions) - NUM_THINKING for each in book.replays]
    assert all(row["solved"] and row["thinking_steps"] == NUM_THINKING for row in book.rows())
    assert [row["site"] for row in book.read_outs] == list(book.sites)


def test_what_cannot_be_shown(planner):
    levels = planner.levels("test", 2)
    with pytest.raises(TooFewLevelsError, match="one or more"):
        make_replays(planner, levels[:0])
    with pytest.raises(UnknownConceptError, match="agent-approach-direction"):
        make_replays(planner, levels, concept="agent-aproach-direction")
    with pytest.raises(ShapeError, match="concept of states"):
        make_replays(planner, levels, concept="steps-left", num_fit_levels=12)
