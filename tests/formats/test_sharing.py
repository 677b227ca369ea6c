"""Sinks that want the same share the work; memory stays within its bound."""

from __future__ import annotations

from typing import Any

from forwarder.core.contracts import StoredPage
from forwarder.core.schema import Normaliser
from forwarder.formats.ecs import EcsConfig, EcsFormat
from forwarder.formats.pipeline import Pipelines, RenderedPages
from forwarder.formats.shape import Shape
from forwarder.sources.cloudflare_access.login_mapping import LOGINS
from forwarder.testing.samples import ACCOUNTS, LOGIN, NORMALISERS, page_of

_STREAM = "access_requests"


class Counter:
    """Counts how often rows are read."""

    def __init__(self) -> None:
        self.rows = 0

        def view(*arguments: Any) -> Any:
            self.rows += 1
            return LOGINS.usual.view(*arguments)  # type: ignore[union-attr]

        usual = LOGINS.usual._replace(view=view)  # type: ignore[union-attr]
        self.normalisers = {_STREAM: Normaliser(LOGINS.normalise, LOGINS.keys, usual)}


def _page(number: int) -> StoredPage:
    return page_of(_STREAM, [LOGIN] * 3, first_offset=3 * number)


def test_sinks_with_the_same_format_and_shape_render_a_page_once() -> None:
    counter = Counter()
    pipelines = Pipelines(counter.normalisers, ACCOUNTS)
    one, two = (pipelines.render_for(EcsFormat, EcsConfig(), Shape()) for _ in range(2))

    rendered = [one(_page(0)), two(_page(0)), one(_page(1)), two(_page(1))]

    assert counter.rows == 6
    assert rendered[0] == rendered[1]
    assert rendered[2] == rendered[3]


def test_sinks_that_want_something_else_get_it() -> None:
    pipelines = Pipelines(NORMALISERS, ACCOUNTS)
    plain = pipelines.render_for(EcsFormat, EcsConfig(), Shape())
    added = pipelines.render_for(EcsFormat, EcsConfig(), Shape(add_fields=(("a", "b"),)))
    other = pipelines.render_for(EcsFormat, EcsConfig(event_original=True), Shape())

    bodies = {render(_page(0)).events[0].body for render in (plain, added, other, plain, added)}

    assert len(bodies) == 3


def test_pages_of_two_shards_are_not_taken_for_each_other() -> None:
    """Each shard counts its offsets from one."""
    pipelines = Pipelines(NORMALISERS, ACCOUNTS)
    renders = [
        pipelines.render_for(EcsFormat, EcsConfig(), Shape(), shard) for shard in (0, 0, 1, 1)
    ]
    pages = [page_of(_STREAM, [{**LOGIN, "ray_id": ray}]) for ray in ("first", "second")]

    bodies = [renders[n](pages[n // 2]).events[0].body for n in (0, 2, 1, 3)]

    assert [bodies[0], bodies[1]] == [bodies[2], bodies[3]]
    assert bodies[0] != bodies[1]


def test_the_tail_of_a_page_is_another_page() -> None:
    pipelines = Pipelines(NORMALISERS, ACCOUNTS)
    one, two = (pipelines.render_for(EcsFormat, EcsConfig(), Shape()) for _ in range(2))
    tail = page_of(_STREAM, [LOGIN] * 2, first_offset=1)

    assert one(_page(0)).end_offset == two(tail).end_offset == 3
    assert len(two(tail).events) == 2


def test_nothing_is_kept_for_a_sink_that_is_alone_or_gone() -> None:
    counter = Counter()
    pipelines = Pipelines(counter.normalisers, ACCOUNTS)
    one, two = (pipelines.render_for(EcsFormat, EcsConfig(), Shape()) for _ in range(2))
    pipelines.release(two)

    one(_page(0))
    one(_page(0))

    assert counter.rows == 6


def test_what_all_have_taken_is_let_go() -> None:
    pages = RenderedPages(10_000_000)
    rendered = Pipelines(NORMALISERS, ACCOUNTS).render_for(EcsFormat, EcsConfig(), Shape())(
        _page(0)
    )
    pages.keep("a", rendered, takers=2)

    assert pages.take("a") is rendered
    assert pages.take("a") is rendered
    assert pages.take("a") is None
    assert pages.bytes == 0


def test_the_bound_holds_and_the_oldest_goes_first() -> None:
    rendered = Pipelines(NORMALISERS, ACCOUNTS).render_for(EcsFormat, EcsConfig(), Shape())(
        _page(0)
    )
    size = sum(len(event.body) + 400 for event in rendered.events)
    pages = RenderedPages(3 * size)

    for key in range(10):
        pages.keep(key, rendered, takers=1)
        assert pages.bytes <= 3 * size

    kept = [key for key in range(10) if pages.take(key)]
    assert kept
    assert kept == list(range(10))[-len(kept) :]


def test_a_page_larger_than_the_bound_is_not_kept() -> None:
    rendered = Pipelines(NORMALISERS, ACCOUNTS).render_for(EcsFormat, EcsConfig(), Shape())(
        _page(0)
    )
    pages = RenderedPages(10)

    pages.keep("a", rendered, takers=1)

    assert pages.bytes == 0
