"""The part of `run --metrics` that says who may ask, and starts what answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.config.settings import Settings


@contextmanager
def answering_metrics(
    settings: Settings, host: str, port: int, allow_host: tuple[str, ...], token_file: Path | None, *, agents: int
) -> Iterator[Callable[[], None]]:
    """Listen on an address. What is yielded prints where that is and begins to answer; the block's end stops it.

    Raises MissingExtra, ConfigError without a token for an address that other machines reach, and SidecarError if the
    system refuses the address.
    """
    from sidecar import access
    from sidecar.errors import MissingExtra
    from sidecar.terminal import print_note

    try:
        from sidecar.metrics.process import MetricsProcess, Scraped
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise MissingExtra("metrics", "prometheus_client") from None

    access.check_host(host, token_file is not None, "metrics are nobody else's business")
    token = None if token_file is None else access.read_token(token_file)
    with access.listen(host, port, "--metrics") as listener:
        process = MetricsProcess(Scraped(settings, access.access_to(host, allow_host, token), agents), listener)

        def start() -> None:
            print_note(f"metrics at {access.address(listener)}metrics")
            process.start()

        try:
            yield start
        finally:
            process.close()
