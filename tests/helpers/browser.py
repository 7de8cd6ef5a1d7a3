"""A real browser for the tests of pages."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from benchmarks.browser import browser as chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@contextmanager
def browser() -> Iterator["Browser"]:
    """Yields a Chromium of this machine without a window, and closes it; skips the test where there is none."""
    with ExitStack() as stack:
        try:
            launched = stack.enter_context(chromium())
        except SystemExit as missing:  # of Chromium and playwright, that which is not installed
            pytest.skip(f"pages are looked at in a real browser, which this machine does not have: {missing}")
        yield launched
