"""Whatever comes in, only the documented errors come out, soon, and without a secret."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config import load
from forwarder.core.errors import ConfigError, ForwarderError
from forwarder.testing.samples import LOGINS, SCIM_UPDATES
from tests.proof.ledger import Ledger
from tests.proof.reading import read_through

_ROOT = Path(__file__).parents[2]
_LONGEST = 5.0
_SECRET = "a-token-that-must-not-be-told"
_ROWS = [orjson.dumps(dict(row)) for row in (*LOGINS.values(), *SCIM_UPDATES.values())]
_ANSWERS = (
    b'\x04{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}',
    b'\x09{"success":false,"errors":[{"code":10429,"message":"Too many"}],"result":null}',
    b"\x0a<html><head><title>502 Bad Gateway</title></head></html>",
    b'\x00{"success":true,"result":[],"result_info":{"page":1,"per_page":1000,"count":0}}',
)
"""Whole answers, behind a control character that stands for the status."""
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=12,
)
_keys = st.sampled_from(
    ["created_at", "logged_at", "user_email", "action", "allowed", "ip_address", "app_uid",
     "request_body", "response_body", "ray_id", "idp_id", "status", "resource_type", "country"]
)  # fmt: skip
_row = st.dictionaries(_keys | st.text(max_size=8), _json, max_size=12)
_bodies = st.one_of(
    st.binary(max_size=200),
    st.fixed_dictionaries(
        {}, optional={"success": _json, "result": st.lists(_row, max_size=4) | _json,
                      "errors": _json, "result_info": _json}
    ).map(lambda body: orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)),
    st.lists(_row, max_size=4).map(lambda rows: orjson.dumps({"success": True, "result": rows})),
)  # fmt: skip


_fuzzer = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed"
)


class UndocumentedError(AssertionError):
    """Something else than a documented error came out, or it took too long, or told a secret."""


def documented(call: Callable[[], object]) -> str:
    """Return how a call ended: ``ok`` or the documented error's name."""
    began = time.monotonic()
    try:
        call()
    except ForwarderError as error:
        if _SECRET in f"{error} {error!r}":
            raise UndocumentedError("a secret is shown") from error
        outcome = type(error).__name__
    except Exception as error:
        raise UndocumentedError(repr(error)) from error
    else:
        outcome = "ok"
    if time.monotonic() - began > _LONGEST:
        raise UndocumentedError(f"took longer than {_LONGEST} s")
    return outcome


def harmed(text: bytes, rng: Random) -> bytes:
    """Return a text with a few bytes flipped, cut out or doubled."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 6)):
        at, size = rng.randrange(len(data) + 1), rng.randint(0, 30)
        match rng.randrange(4):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case _:
                data[at:at] = rng.choice((b"[", b"{", b"]", b'"', b"\\ud800", b"1e999", b"\x00"))
    return bytes(data)


def test_any_answer_is_read_or_refused(ledger: Ledger) -> None:
    examples = 0

    @given(_bodies, st.sampled_from([200, 200, 200, 204, 301, 400, 401, 403, 429, 500, 530]))
    @settings(deadline=_LONGEST * 1000)
    def every(body: bytes, status: int) -> None:
        nonlocal examples
        examples += 1
        headers = {"retry-after": str(len(body)), "date": "whenever"}
        documented(lambda: read_through(status, headers, body))

    every()
    ledger.row(
        "Fuzz", "API answers made of the right parts (Hypothesis)", times=examples,
        more="read and rendered in every format, or a documented error",
    )  # fmt: skip


def test_good_answers_with_damage_are_read_or_refused(ledger: Ledger, *, long: bool) -> None:
    rng, times = Random(3), 50_000 if long else 2_000
    good = b'{"success":true,"errors":[],"result":[' + b",".join(_ROWS[:6]) + b"]}"
    ended = [documented(lambda: read_through(200, {}, harmed(good, rng))) for _ in range(times)]

    assert ended.count("ok") > times // 10
    ledger.row(
        "Fuzz", "API answers with flipped, cut and doubled bytes", times=times,
        more=f"{ended.count('ok'):,} read in spite of it",
    )  # fmt: skip


def fuzzed(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Let libFuzzer start from the sample rows, and from answers without any."""
    lists = [b"[" + row + b"]" for row in _ROWS] + [b"[" + b",".join(_ROWS[:4]) + b"]"]
    for number, seed in enumerate((*lists, *_ANSWERS)):
        (folder / str(number)).write_bytes(seed)
    return subprocess.run(
        [sys.executable, "-m", "tests.proof.fuzz_answers", *options, "-timeout=120",
         "-max_len=2048", "-rss_limit_mb=1024", f"-artifact_prefix={folder}/", folder],
        cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


@pytest.mark.timeout(0)
@_fuzzer
def test_coverage_guided_fuzzing_finds_nothing(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    minutes = float(os.environ.get("FUZZ_MINUTES") or (60 if long else 0.5))
    process = fuzzed(tmp_path, f"-max_total_time={minutes * 60:.0f}")
    done = re.findall(r"Done (\d+) runs", process.stdout)
    reached = [int(edges) for edges in re.findall(r" cov: (\d+) ", process.stdout)]

    assert process.returncode == 0, process.stdout[-3000:]
    assert reached[-1] > reached[0] > 500
    ledger.row(
        "Fuzz", "envelope, identities, normalisers and formats (atheris)", times=int(done[0]),
        more=f"{minutes:g} min, no crash; {reached[-1]:,} branches reached, {reached[0]:,} of them "
        "by the sample rows; quick and plain rendering agree",
    )  # fmt: skip


@pytest.mark.timeout(600)
@_fuzzer
def test_the_fuzzer_finds_a_mistake_inside(tmp_path: Path, ledger: Ledger) -> None:
    process = fuzzed(tmp_path, "planted", "-seed=1", "-max_total_time=300")
    found = re.findall(r"^#(\d+)", process.stdout, re.MULTILINE)

    assert process.returncode != 0
    assert "KeyError: 'status'" in process.stdout, process.stdout[-3000:]
    ledger.plant(
        "Fuzz", "a mistake behind the parser, for one kind of value in one key (atheris)",
        f"KeyError after more than {int(found[-1]):,} answers",
    )  # fmt: skip


def test_any_settings_file_is_taken_or_refused(
    tmp_path: Path, ledger: Ledger, *, long: bool
) -> None:
    rng, times = Random(4), 10_000 if long else 600
    good = (_ROOT / "config.yaml").read_bytes()
    text = good.replace(b"simulated-token", _SECRET.encode())
    file = tmp_path / "config.yaml"
    ended = []
    for _ in range(times):
        file.write_bytes(harmed(text, rng))
        ended.append(documented(lambda: load(file, {})))

    assert set(ended) <= {"ok", ConfigError.__name__}
    ledger.row(
        "Fuzz", "settings files with damage", times=times,
        more=f"{ended.count('ok')} could still be used; the others say what is wrong",
    )  # fmt: skip


def test_any_value_of_any_setting_is_taken_or_refused(tmp_path: Path, ledger: Ledger) -> None:
    good = yaml.safe_load((_ROOT / "config.yaml").read_bytes())
    places = list(_places(good))
    examples = 0

    @given(st.sampled_from(places), _json)
    def every(place: tuple[Any, ...], value: Any) -> None:
        nonlocal examples
        examples += 1
        settings_now = yaml.safe_load(yaml.safe_dump(good))
        inner = settings_now
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(settings_now))
        documented(lambda: load(file, {}))

    every()
    ledger.row("Fuzz", "settings files with any value in any place (Hypothesis)", times=examples)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [path] if path else []
    if isinstance(data, dict):
        for key in data:
            found += _places(data[key], (*path, key))
    return found


def test_an_undocumented_error_and_a_told_secret_are_found(ledger: Ledger) -> None:
    def tell() -> None:
        raise ForwarderError(f"refused with {_SECRET}")

    with pytest.raises(UndocumentedError) as crash:
        documented(lambda: orjson.loads(b"{")["result"])
    with pytest.raises(UndocumentedError) as told:
        documented(tell)
    ledger.plant("Fuzz", "a parser that lets a foreign error through", crash.value)
    ledger.plant("Fuzz", "an error that tells a token", told.value)
