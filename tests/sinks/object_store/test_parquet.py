"""Parquet: nothing is lost on the way, types are fixed, and OCSF's own schema agrees row by row."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from arro3.io import read_parquet
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.contracts import BatchEvent
from forwarder.formats.ocsf import OcsfConfig, OcsfFormat
from forwarder.sinks.object_store.config import ObjectStoreConfig
from forwarder.sinks.object_store.objects import LakeObject, Objects
from forwarder.sinks.object_store.ocsf_columns import EVERY, OF_CLASS, SHARED
from forwarder.sinks.object_store.parquet import columns_of, fit
from forwarder.testing.fake_sinks import batch_of, make_event, sink_context
from forwarder.testing.samples import event_of, sample_events
from tests.formats.strategies import streams_and_rows
from tests.formats.test_ocsf import ocsf_faults
from tests.sinks.object_store.lake import query, rows_of

VERSIONS = ("1.1.0", "1.3.0", "1.5.0", "1.7.0", "1.8.0", "1.9.0")
LAKE = {"region": "eu-central-1", "account_id": "123456789012"}


def style(version: str, *, raw_data: bool = False) -> OcsfFormat:
    return OcsfFormat(OcsfConfig.model_validate({"ocsf_version": version, "raw_data": raw_data}))


def objects_of(events: Iterable[BatchEvent], ocsf: bool = True, **more: Any) -> list[LakeObject]:  # noqa: FBT001, FBT002
    given = {"url": "s3://lake", "file_format": "parquet", **more}
    context = replace(
        sink_context(),
        format="ocsf" if ocsf else "raw",
        format_settings=OcsfConfig(ocsf_version="1.1.0"),
    )
    made, rejected = Objects(ObjectStoreConfig.model_validate(given), context).of(
        batch_of(list(events))
    )
    assert not rejected
    return made


def rendered(version: str) -> list[BatchEvent]:
    """Return all sample events in the order of their times, as if they were of one hour."""
    events = sorted(sample_events(), key=lambda event: event.time_us)
    return [make_event(n, body=style(version).render(event)) for n, event in enumerate(events)]


def as_texts(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as Parquet has it: the values of ``unmapped`` are texts."""
    unmapped = {
        name: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in event.get("unmapped", {}).items()
    }
    return {**event, **({"unmapped": unmapped} if unmapped else {})}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_sample_event_comes_back_as_it_was(version: str) -> None:
    events = rendered(version)
    (made,) = objects_of(events)

    assert rows_of(made.body) == [as_texts(orjson.loads(event.body)) for event in events]


@given(streams_and_rows)
def test_no_value_of_any_row_lacks_a_column(given: tuple[str, dict[str, Any]]) -> None:
    """Otherwise it would be in ``unmapped``, where nobody looks for it."""
    for version in VERSIONS:
        body = style(version, raw_data=version == "1.8.0").render(event_of(*given))
        event = orjson.loads(body)
        fit(event, columns_of(event["class_uid"]))

        assert event == as_texts(orjson.loads(body))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.sampled_from(
        ["name", "uid", "user", "time", "metadata", "version", "unmapped", "x", "observables"]
    ), some, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*EVERY, "other", "user.name"]), _JSON))
def test_whatever_does_not_fit_its_column_is_text_in_unmapped(event: dict[str, Any]) -> None:
    """Every leaf is somewhere, and the file takes every row that ``fit`` has made."""
    found = orjson.loads(orjson.dumps(event))
    fit(found, columns_of(3002))
    (made,) = objects_of([make_event(0, body=orjson.dumps(event))])
    texts = list(found.get("unmapped", {}).values())

    for leaf in _leaves(event):
        text = leaf if isinstance(leaf, str) else orjson.dumps(leaf).decode()
        written = orjson.dumps(leaf).decode().strip('"')
        assert leaf in list(_leaves(found)) or any(text in one or written in one for one in texts)
    assert len(read_parquet(io.BytesIO(made.body)).read_all()) == 1


def _leaves(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def test_a_column_keeps_its_type_without_a_value(tmp_path: Path) -> None:
    small = b'{"class_uid":3002,"time":1,"metadata":{"uid":"x"}}'
    for number, events in enumerate([rendered("1.8.0"), [make_event(0, body=small)]]):
        (made,) = objects_of(events)
        (tmp_path / f"{number}.parquet").write_bytes(made.body)

    types = [query(f"describe from '{{folder}}/{n}.parquet'", tmp_path) for n in (0, 1)]
    assert types[0] == types[1]
    assert {name for name, *_ in types[0]} == set(EVERY)


def test_other_formats_have_their_event_as_json(tmp_path: Path) -> None:
    (made,) = objects_of([make_event(n) for n in range(3)], ocsf=False)
    (tmp_path / "x.parquet").write_bytes(made.body)

    found = query(
        "select id, epoch_us(time), epoch_us(seen), outcome, user, event->>'n' "
        "from '{folder}/x.parquet'",
        tmp_path,
    )
    events = [make_event(n) for n in range(3)]
    assert found == [
        (one.id, one.time_us, one.seen_us, "success", one.user, str(one.offset)) for one in events
    ]


class TestSecurityLake:
    """The published rules for custom sources, as far as they can be checked without AWS."""

    @pytest.fixture
    def made(self) -> list[LakeObject]:
        return objects_of(rendered("1.1.0"), layout="security_lake", security_lake=LAKE)

    def test_a_source_holds_one_class_and_is_partitioned_by_region_account_and_day(
        self, made: list[LakeObject]
    ) -> None:
        place = "region=eu-central-1/accountId=123456789012/eventDay=20260101/"
        for one in made:
            kinds = {row["class_uid"] for row in rows_of(one.body)}
            source = f"cf-access-{kinds.pop()}"

            assert not kinds
            assert one.name.startswith(f"ext/{source}/{place}")
            assert one.name.endswith(".parquet")
            assert len(source) <= 20

        assert len(made) == len({row["class_uid"] for one in made for row in rows_of(one.body)})

    def test_files_are_parquet_with_zstd_and_sorted_by_time(
        self, made: list[LakeObject], tmp_path: Path
    ) -> None:
        for number, one in enumerate(made):
            (tmp_path / f"{number}.parquet").write_bytes(one.body)
            where = f"parquet_metadata('{{folder}}/{number}.parquet')"
            (facts,) = query(
                f"select list(distinct compression), max(total_uncompressed_size) from {where}",
                tmp_path,
            )
            offsets = [row["time"] for row in rows_of(one.body)]

            assert facts[0] == ["ZSTD"]
            assert facts[1] < 256 * 2**20
            assert offsets == sorted(offsets)

    def test_every_row_is_valid_under_ocsf_1_1(self, made: list[LakeObject]) -> None:
        rows = [row for one in made for row in rows_of(one.body)]

        assert len(rows) == len(list(sample_events()))
        for row in rows:
            assert row["metadata"]["version"] == "1.1.0"
            assert ocsf_faults(row, "1.1.0") == []

    def test_a_file_has_the_columns_of_its_class_only(self, made: list[LakeObject]) -> None:
        for one in made:
            names = read_parquet(io.BytesIO(one.body)).schema.names
            kind = rows_of(one.body)[0]["class_uid"]

            assert names == [*SHARED, *OF_CLASS[kind]]
