"""Cache: the activations of one run, one tensor a site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from planprobe.core.errors import AddressError, CaptureError, UnknownSiteError, unknown_name


class Cache(Mapping[str, Tensor]):
    """Activations of B boards over the recorded steps: `cache[site]` is (B, T, ...), e.g. (B, T, C, H, W).

    steps: the clock step of each entry along T. Readable once its `capture` block has ended. Values keep the memory
    layout they had in the run, so rows (B, T, H, W, C) -> (N, C) of a channels-last site are a view.
    """

    def __init__(self, values: Mapping[str, Tensor] | None = None, steps: tuple[int, ...] = ()) -> None:
        self._values, self.steps = None if values is None else dict(values), tuple(steps)

    def fill(self, values: Mapping[str, Tensor], steps: tuple[int, ...]) -> None:
        """Set, once, by `capture`."""
        self._values, self.steps = dict(values), steps

    def __getitem__(self, site: str) -> Tensor:
        values = self._read()
        if site not in values:
            raise unknown_name("site", site, values, where="this cache", error=UnknownSiteError)
        return values[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, site: object) -> bool:
        return site in self._read()

    def __repr__(self) -> str:
        if self._values is None:
            return "Cache(still recording)"
        return f"Cache({len(self.steps)} steps, {{{', '.join(f'{k}: {tuple(v.shape)}' for k, v in self.items())}}})"

    def at(self, site: str, step: int) -> Tensor:
        """The value (B, ...) of a site at one clock step. Raises: AddressError (that step was not recorded)."""
        values = self[site]
        try:
            return values[:, self.steps.index(step)]
        except ValueError:
            raise AddressError(
                f"the cache holds steps {_span(self.steps)} of '{site}', not step {step}.\n"
                "  Give the address steps=cache.steps, or capture a longer run."
            ) from None

    def boards(self, ids: Tensor) -> Cache:
        """The same run of some boards, in the order of `ids` (M,): to patch each board from another one."""
        return Cache({site: values[ids.to(values.device)] for site, values in self.items()}, self.steps)

    def to(self, device: torch.device | str) -> Cache:
        return Cache({site: values.to(device) for site, values in self.items()}, self.steps)

    def _read(self) -> dict[str, Tensor]:
        if self._values is None:
            raise CaptureError("the run is still being captured: read the cache after its `with` block.")
        if not self.steps:
            raise CaptureError("no step was captured: step the policy inside the block, at one of the chosen steps.")
        return self._values


def _span(steps: tuple[int, ...]) -> str:
    if len(steps) > 1 and steps == tuple(range(steps[0], steps[-1] + 1)):
        return f"{steps[0]} to {steps[-1]}"
    return ", ".join(map(str, steps[:12])) + (", ..." if len(steps) > 12 else "")
