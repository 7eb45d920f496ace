"""Exact values of the hidden goal without noise: what sweeping earns, and the Bayes-optimal way to search.

Until the goal is found every history says the same, "not here", so a policy is a fixed walk that is left for the goal
as soon as the goal is found. The best walk over all episodes of a trial is the Bayes-optimal policy. On the 5 x 5 grid
with two episodes of 15 steps it earns 4.00 and 11.07: it spends no step of the first episode on a square it knows, and
leaves for the second only squares that lie along one shortest way, so that searching them costs nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache, lru_cache

from planprobe.core.errors import RecipeError
from planprobe.core.grid import COLUMN_OFFSETS, ROW_OFFSETS
from planprobe.subjects.envs.hidden_goal import CORNER, GOAL_REWARD, STEP_REWARD, HiddenGoalTask, goal_squares

MAX_NODES = 200_000  # about ten seconds

Weights = dict[tuple[int, int], float]
"""Probability of (square, squares still live as a bit mask)."""


@dataclass(frozen=True)
class SearchPlan:
    """A walk that finds every goal as early as it should.

    squares: where each step of each episode ends, E tuples of squares; shorter once nothing is left to search.
    returns: expected return of each episode when the walk is left for the goal as soon as it is found.
    """

    squares: tuple[tuple[int, ...], ...]
    returns: tuple[float, ...]


def plan_returns(task: HiddenGoalTask, squares: tuple[tuple[int, ...], ...]) -> tuple[float, ...]:
    """Expected return of each episode of a walk, exact. Raises: RecipeError (a noisy or redrawn task)."""
    _check_exact(task)
    goals = goal_squares(task.size).nonzero().flatten().tolist()
    totals = [0.0] * task.num_episodes
    for goal in goals:
        found = False
        for episode, walk in enumerate(squares):
            if found:
                totals[episode] += _reward_from(task, _distance(task.size, CORNER, goal))
            elif goal in walk:
                totals[episode] += _reward_from(task, walk.index(goal) + 1)
                found = True
            else:
                totals[episode] += STEP_REWARD * task.episode_steps
    return tuple(total / len(goals) for total in totals)


@lru_cache(maxsize=8)
def exact_sweep_returns(task: HiddenGoalTask) -> tuple[float, ...]:
    """Expected return of `SweepPlayer` in each episode: nearest live square, ties and ways at random.

    Raises: RecipeError (a noisy or redrawn task).
    """
    _check_exact(task)
    goals = goal_squares(task.size).nonzero().flatten().tolist()
    horizon, returns = task.episode_steps, []
    starts = {sum(1 << goal for goal in goals): 1.0}
    for _ in range(task.num_episodes):
        total = sum(
            weight * _reward_from(task, _distance(task.size, CORNER, goal))
            for live, weight in starts.items()
            for goal in goals
            if not live >> goal & 1
        )
        layer: Weights = {(CORNER, live): weight for live, weight in starts.items()}
        for step in range(1, horizon + 1):
            layer, newly_found = _sweep_one_step(task.size, layer)
            total += newly_found * _reward_from(task, step)
        starts = defaultdict(float)
        for (_, live), weight in layer.items():
            starts[live] += weight
            total += weight * live.bit_count() * STEP_REWARD * horizon
        returns.append(total / len(goals))
    return tuple(returns)


def _sweep_one_step(size: int, layer: Weights) -> tuple[Weights, float]:
    """Where all sweeping walks are a step later, and the expected number of goals that they came upon."""
    after: Weights = defaultdict(float)
    found = 0.0
    for (square, live), weight in layer.items():
        if not live:  # nothing left to search: wherever the goal is, it was found
            after[square, live] += weight
            continue
        for ahead, share in _sweep_moves(size, square, live).items():
            if live >> ahead & 1:
                found += weight * share
            after[ahead, live & ~(1 << ahead)] += weight * share
    return after, found


@lru_cache(maxsize=200_000)
def _sweep_moves(size: int, square: int, live: int) -> dict[int, float]:
    """Probability of each next square of a sweep."""
    goals = [goal for goal in range(size**2) if live >> goal & 1]
    nearest = min(_distance(size, square, goal) for goal in goals)
    targets = [goal for goal in goals if _distance(size, square, goal) == nearest]
    shares: dict[int, float] = defaultdict(float)
    for target in targets:
        ways = [n for n in _neighbours(size, square) if _distance(size, n, target) < nearest]
        for ahead in ways:
            shares[ahead] += 1 / (len(targets) * len(ways))
    return shares


@lru_cache(maxsize=8)
def plan_search(task: HiddenGoalTask, *, max_nodes: int = MAX_NODES) -> SearchPlan:
    """The walk with the highest expected return of the trial: the Bayes-optimal policy, by iterative deepening.

    Raises: RecipeError (a noisy or redrawn task, or no walk is proved best within `max_nodes` positions).
    """
    _check_exact(task)
    search = _Search(task, max_nodes)
    squares = search.run()
    return SearchPlan(squares, plan_returns(task, squares))


class _Search:
    """Depth-first search under a growing limit on the loss, counted in steps that an oracle would have been paid for.

    A goal at distance d found in step t of episode e loses e * (H + 1 - d) + (t - d): not being found within an episode
    is like being found in step H + 1.
    """

    def __init__(self, task: HiddenGoalTask, max_nodes: int) -> None:
        self.size, self.horizon, self.num_episodes = task.size, task.episode_steps, task.num_episodes
        self.max_nodes, self.nodes = max_nodes, 0
        self.goals = goal_squares(task.size).nonzero().flatten().tolist()
        self.walks: list[list[int]] = [[]]
        self.failed: dict[tuple[int, int, int, int], int] = {}  # position -> room for loss that was not enough
        self.next_limit = 0

    def run(self) -> tuple[tuple[int, ...], ...]:
        live = sum(1 << goal for goal in self.goals)
        self.limit = self._bound(0, 0, CORNER, live)
        while True:
            self.next_limit = 1 << 60
            if self._descend(0, 0, CORNER, live, 0):
                walks = [tuple(walk) for walk in self.walks]
                return tuple(walks + [()] * (self.num_episodes - len(walks)))
            self.limit = self.next_limit

    def _descend(self, episode: int, step: int, square: int, live: int, loss: int) -> bool:
        least = loss + self._bound(episode, step, square, live)
        if least > self.limit:
            self.next_limit = min(self.next_limit, least)
            return False
        if not live or (step == self.horizon and episode == self.num_episodes - 1):
            return True
        place = (episode, step, square, live)
        if self.failed.get(place, -1) >= self.limit - loss:
            return False
        self._count()
        if step == self.horizon:
            self.walks.append([])
            if self._descend(episode + 1, 0, CORNER, live, loss):
                return True
            self.walks.pop()
        else:
            for ahead in sorted(_neighbours(self.size, square), key=lambda s: self._exits(s, live)):
                new = live >> ahead & 1
                cost = self._loss(episode, step + 1, ahead) if new else 0
                self.walks[-1].append(ahead)
                if self._descend(episode, step + 1, ahead, live & ~(1 << ahead), loss + cost):
                    return True
                self.walks[-1].pop()
        self.failed[place] = self.limit - loss
        return False

    def _bound(self, episode: int, step: int, square: int, live: int) -> int:
        """Least loss of the live squares: one a step, none before it can be reached, the rest an episode later."""
        goals = [goal for goal in self.goals if live >> goal & 1]
        slot, total = step, 0
        late = (episode + 1) * (self.horizon + 1)
        for away in sorted(_distance(self.size, square, goal) for goal in goals):
            slot = max(slot + 1, step + away)
            total += late - (self.horizon + 1) + slot if slot <= self.horizon else late
        return total - (episode + 1) * sum(_distance(self.size, CORNER, goal) for goal in goals)

    def _loss(self, episode: int, step: int, goal: int) -> int:
        return episode * (self.horizon + 1) + step - (episode + 1) * _distance(self.size, CORNER, goal)

    def _exits(self, square: int, live: int) -> tuple[bool, int]:
        """Live squares first, and of those the one with the fewest ways on (Warnsdorff), lest it be cut off."""
        return not live >> square & 1, sum(live >> n & 1 for n in _neighbours(self.size, square))

    def _count(self) -> None:
        self.nodes += 1
        if self.nodes > self.max_nodes:
            raise RecipeError(
                f"plan_search: no best walk within {self.max_nodes:,} positions.\n"
                "  Take a smaller grid, fewer or shorter episodes, or raise max_nodes."
            )


def _check_exact(task: HiddenGoalTask) -> None:
    if task.start != "corner" or (task.hit_rate, task.false_rate) != (1.0, 0.0) or task.goal is not None:
        raise RecipeError(
            f"{task}: values are enumerated for a drawn goal without noise and starts at the corner only."
        )


def _reward_from(task: HiddenGoalTask, step: int) -> float:
    """Return of an episode whose goal is first stepped on in this step, and stayed on."""
    return (task.episode_steps - step + 1) * GOAL_REWARD + (step - 1) * STEP_REWARD


@cache
def _distance(size: int, first: int, second: int) -> int:
    return abs(first // size - second // size) + abs(first % size - second % size)


@cache
def _neighbours(size: int, square: int) -> tuple[int, ...]:
    row, column = divmod(square, size)
    around = [(row + down, column + right) for down, right in zip(ROW_OFFSETS, COLUMN_OFFSETS, strict=True)]
    return tuple(r * size + c for r, c in around if 0 <= r < size and 0 <= c < size)
