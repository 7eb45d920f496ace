"""Cache: the activations of one run, one tensor a site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from planprobe.core.errors import AddressError, CaptureError, UnknownSiteError, unknown_name


class Cache(Mapping[str, Tensor]):
    """Activations of B boards over the recorded steps: `cache[site]` is (B, T, ...), e.g. (B, T, C, H, W).

    steps: the clock step of each entry along T. Readable once its `capture` block has ended. Values keep the memory
    layout they had in the run, so rows (B, T, H, W, C) -> (N, C) of a channels-last site need no reordering. A long run
    is recorded in chunks; they are joined when a site is first read.
    """

    def __init__(self, values: Mapping[str, Tensor] | None = None, steps: tuple[int, ...] = ()) -> None:
        self._chunks: dict[str, list[Tensor]] | None = None
        self.steps: tuple[int, ...] = ()
        if values is not None:
            self.fill({site: [value] for site, value in values.items()}, steps)

    def fill(self, chunks: Mapping[str, list[Tensor]], steps: tuple[int, ...]) -> None:
        """Set, once, by `capture`: chunks (B, T', ...) that follow each other along T."""
        self._chunks, self.steps = dict(chunks), tuple(steps)

    def __getitem__(self, site: str) -> Tensor:
        chunks = self._chunks_of(site)
        chunks[:] = [_join(chunks)]
        return chunks[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, site: object) -> bool:
        return site in self._read()

    def __repr__(self) -> str:
        if self._chunks is None:
            return "Cache(still recording)"
        return f"Cache({len(self.steps)} steps of {', '.join(self._chunks)})"

    def at(self, site: str, step: int) -> Tensor:
        """The value (B, ...) of a site at one clock step. Raises: AddressError (that step was not recorded)."""
        chunks = self._chunks_of(site)
        if step not in self.steps:
            raise AddressError(
                f"the cache holds steps {_span(self.steps)} of '{site}', not step {step}.\n"
                "  Give the address steps=cache.steps, or capture a longer run."
            )
        place = self.steps.index(step)
        for chunk in chunks:
            if place < chunk.shape[1]:
                break
            place -= chunk.shape[1]
        return chunk[:, place]

    def boards(self, ids: Tensor) -> Cache:
        """The same run of some boards, in the order of `ids` (M,): to patch each board from another one."""
        return Cache({site: values[ids.to(values.device)] for site, values in self.items()}, self.steps)

    def to(self, device: torch.device | str) -> Cache:
        return Cache({site: values.to(device) for site, values in self.items()}, self.steps)

    def _read(self) -> dict[str, list[Tensor]]:
        if self._chunks is None:
            raise CaptureError("the run is still being captured: read the cache after its `with` block.")
        if not self.steps:
            raise CaptureError("no step was captured: step the policy inside the block, at one of the chosen steps.")
        return self._chunks

    def _chunks_of(self, site: str) -> list[Tensor]:
        chunks = self._read()
        if site not in chunks:
            raise unknown_name("site", site, chunks, where="this cache", error=UnknownSiteError)
        return chunks[site]


def _join(chunks: list[Tensor]) -> Tensor:
    """Concatenate along T in the order that the memory has, so that each chunk is one plain copy."""
    if len(chunks) == 1:
        return chunks[0]
    order = sorted(range(chunks[0].ndim), key=lambda axis: -chunks[0].stride(axis))
    joined = torch.cat([chunk.permute(order) for chunk in chunks], dim=order.index(1))
    return joined.permute([order.index(axis) for axis in range(joined.ndim)])


def _span(steps: tuple[int, ...]) -> str:
    if len(steps) > 1 and steps == tuple(range(steps[0], steps[-1] + 1)):
        return f"{steps[0]} to {steps[-1]}"
    return ", ".join(map(str, steps[:12])) + (", ..." if len(steps) > 12 else "")
