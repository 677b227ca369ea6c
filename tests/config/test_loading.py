"""Settings are checked whole: every fault with its place, what was found and what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from forwarder.config.loading import load
from forwarder.config.models import ForwarderSettings
from forwarder.core.errors import ConfigError
from tests.config.conftest import GOOD, FakePlugins, ServiceConfig

Faults = Callable[..., list[str]]
Build = Callable[..., ForwarderSettings]


def test_the_smallest_file_gives_all_defaults(settings_of: Build) -> None:
    settings = settings_of(GOOD)

    (sink,) = settings.sinks
    assert settings.root.admin.address == ("127.0.0.1", 9464)
    assert settings.root.journal.max_size == 2 * 2**30
    assert (sink.name, sink.format, sink.options.when_full) == ("console", "raw", "block")
    assert settings.accounts[0].label == "a1"


def test_common_keys_go_to_the_options_and_the_others_to_plugin_and_format(
    settings_of: Build,
) -> None:
    settings = settings_of(
        GOOD
        + """
  splunk:
    type: splunk_hec
    url: https://s
    token: t
    envelope: no
    batch: { max_bytes: 64KiB }
    except: { stream: forwarder }
"""
    )

    sink = settings.sinks[1]
    assert sink.config.model_fields_set == {"url", "token"}
    assert sink.format_config.model_dump() == {"envelope": False}
    assert sink.options.batch.max_bytes == 65_536
    assert sink.options.except_ is not None
    assert sink.options.except_.stream == ("forwarder",)


def test_every_fault_is_told_at_once(faults_of: Faults) -> None:
    found = faults_of(
        """
        version: 2
        sttate_dir: /tmp
        journal: { max_size: much }
        accounts:
          - acount_id: a1
            api_token: 12345678
        sinks:
          one: { type: splnk_hec }
          two: { type: stdout, format: rwa }
          three: { type: splunk_hec, urll: x, token: t, when_full: blok }
          four: stdout
          five: {}
          six: { type: broken }
        """
    )

    assert found == [
        (
            "config.yaml:3: sttate_dir: unknown key (did you mean state_dir? allowed:"
            " accounts, admin, journal, log, logpush, reload_on_change, sinks, state_dir,"
            " tracing, version)"
        ),
        "config.yaml:2: version: found 2; allowed: 1",
        (
            "config.yaml:4: journal.max_size: 'much' is not a size; write for example 512KiB,"
            " 64MiB, 2GiB, 10MB"
        ),
        "config.yaml:6: accounts[0].account_id: required, but not given",
        "config.yaml:7: accounts[0].api_token: found a secret; must be a text (put it in quotes)",
        (
            "config.yaml:6: accounts[0].acount_id: unknown key (did you mean account_id?"
            " allowed: account_id, api_token, api_token_file, name, rate_limit, streams)"
        ),
        (
            "config.yaml:9: sinks.one.type: unknown sink type 'splnk_hec' (did you mean"
            " splunk_hec? allowed: broken, splunk_hec, stdout)"
        ),
        "config.yaml:10: sinks.two.format: unknown format 'rwa' (did you mean raw? allowed: raw)",
        (
            "config.yaml:11: sinks.three.urll: unknown key (did you mean url? allowed: acks,"
            " add_fields, batch, drop_fields, envelope, except, format, hash_fields, hash_key,"
            " hash_key_file, headers,"
            " marks, max_in_flight, only, paused, redact_request_body, retry, start_at, timeout,"
            " tls, token, token_file, type, url, when_full)"
        ),
        (
            "config.yaml:11: sinks.three.when_full: found 'blok'; allowed: block, drop_oldest"
            " (did you mean block?)"
        ),
        "config.yaml:11: sinks.three.url: required, but not given",
        "config.yaml:12: sinks.four: found a text; must be a mapping of keys",
        (
            "config.yaml:13: sinks.five.type: required, but not given; allowed: broken, splunk_hec,"
            " stdout"
        ),
        (
            "config.yaml:14: sinks.six.type: broken cannot be imported: no module named absent"
            " (is its distribution fully installed?)"
        ),
    ]


def test_a_fault_deep_inside_names_the_keys_allowed_there(faults_of: Faults) -> None:
    text = GOOD.replace("logins: {}", "logins: { pol_interval: 3s }")

    assert faults_of(text) == [
        (
            "config.yaml:6: accounts[0].streams.logins.pol_interval: unknown key (did you mean"
            " poll_interval? allowed: poll_interval)"
        )
    ]


def test_a_choice_of_types_shows_the_key_and_not_the_type(faults_of: Faults) -> None:
    text = GOOD.replace("streams:", "rate_limit: { requests: many }\n    streams:")

    assert faults_of(text)[0] == (
        "config.yaml:6: accounts[0].rate_limit.requests: found 'many'; must be a valid integer"
    )


def test_a_wrong_value_out_of_a_variable_shows_the_variable(faults_of: Faults) -> None:
    text = GOOD.replace("logins: {}", "logins: { poll_interval: '${PAUSE}' }")

    (fault,) = faults_of(text, PAUSE="hunter2")
    assert "${PAUSE}" in fault
    assert "hunter2" not in fault


def test_credentials_in_an_url_are_not_shown(faults_of: Faults) -> None:
    text = GOOD + "  s: { type: splunk_hec, url: x, token: t, acks: 'https://u:hunter2@h' }\n"

    assert "hunter2" not in str(faults_of(text))


@pytest.mark.parametrize("key", ["accounts", "sinks"])
def test_accounts_and_sinks_must_be_there(faults_of: Faults, key: str) -> None:
    text = GOOD.replace(f"{key}:", "x: &x").replace("x: &x", "log: {}\nx:")

    assert any(f"{key}: found nothing; must be" in fault for fault in faults_of(text))


def test_an_account_may_be_listed_once(faults_of: Faults) -> None:
    text = GOOD.replace("sinks:", "  - { account_id: a1, name: b, api_token: t }\nsinks:")

    assert faults_of(text) == [
        (
            "config.yaml:7: accounts[1].account_id: 'a1' is already used by accounts[0]"
            " (an account may be listed once)"
        )
    ]


def test_a_secret_and_its_file_exclude_each_other(faults_of: Faults) -> None:
    text = GOOD.replace("streams:", "api_token_file: /x\n    streams:")

    assert faults_of(text) == [
        "config.yaml:4: accounts[0]: api_token and api_token_file exclude each other"
    ]


def test_a_secret_file_that_is_not_there_is_a_fault_of_its_key(faults_of: Faults) -> None:
    text = GOOD.replace("api_token: t0ken", "api_token_file: /nowhere/token")

    (fault,) = faults_of(text)
    assert fault.startswith("config.yaml:5: accounts[0].api_token_file: the secret file /nowhere")


def test_secrets_by_name_may_each_be_a_file(faults_of: Faults) -> None:
    def faults(marks: str) -> list[str]:
        return faults_of(f"{GOOD}  s: {{ type: splunk_hec, url: 'https://h', token: t, {marks} }}")

    (absent,) = faults("marks: { X-Key_file: /nowhere/key }")
    (both,) = faults("marks: { X-Key: a, X-Key_file: /nowhere/key }")
    (whole,) = faults("marks_file: /nowhere/key")

    assert "sinks.s.marks.X-Key_file: the secret file /nowhere/key cannot be read" in absent
    assert both.endswith("X-Key and X-Key_file exclude each other")
    assert "sinks.s.marks_file: unknown key" in whole


@pytest.mark.parametrize("kind", ["{ b: t0psecret }", "[t0psecret]"])
def test_a_secret_that_is_no_text_is_a_fault_in_plain_words(faults_of: Faults, kind: str) -> None:
    (direct,) = faults_of(GOOD.replace("api_token: t0ken", f"api_token: {kind}"))
    (named,) = faults_of(
        f"{GOOD}  s: {{ type: splunk_hec, url: 'https://h', token: t, marks: {{ X-Key: {kind} }} }}"
    )

    assert direct.endswith("accounts[0].api_token: found a secret; must be a text")
    assert named.endswith("must be a text")
    assert "t0psecret" not in direct + named


def test_a_file_that_a_key_names_must_be_readable(faults_of: Faults) -> None:
    text = GOOD + "  s: { type: splunk_hec, url: x, token: t, tls: { ca_file: /nowhere/ca } }\n"

    assert faults_of(text) == [
        (
            "config.yaml:9: sinks.s.tls.ca_file: the file /nowhere/ca does not exist"
            " (check the path and its permissions)"
        )
    ]
    (folder,) = faults_of(text.replace("/nowhere/ca", "/"))
    assert "the file / is no file" in folder


def test_a_list_of_streams_is_told_how_a_mapping_looks(faults_of: Faults) -> None:
    text = GOOD.replace("{ logins: {} }", "[logins]")

    assert faults_of(text) == [
        (
            "config.yaml:6: accounts[0].streams: found a list; must be a mapping of keys"
            " (write { NAME: {} } for each name)"
        )
    ]


def test_a_secret_that_others_can_read_is_a_warning(tmp_path: Path, settings_of: Build) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    token.chmod(0o644)
    text = GOOD.replace("api_token: t0ken", f"api_token_file: {token}")

    settings = settings_of(text)
    (warning,) = settings.warnings
    assert warning == (
        f"{token} contains accounts[0].api_token_file and has mode 0644; run: chmod 600 {token}"
    )
    token.chmod(0o600)
    assert settings_of(text).warnings == ()
    assert isinstance(settings.accounts[0].config, ServiceConfig)
    assert settings.accounts[0].config.api_token.reveal() == "t0ken"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_of_another_user_may_be_read_through_the_group(
    tmp_path: Path, settings_of: Build
) -> None:
    """So are the files of a Kubernetes secret: of root, for the pod's group."""
    token = tmp_path / "token"
    token.write_text("t0ken")
    os.chown(token, 65_534, 65_534)
    text = GOOD.replace("api_token: t0ken", f"api_token_file: {token}")

    token.chmod(0o440)
    assert settings_of(text).warnings == ()
    token.chmod(0o444)
    assert "mode 0444" in settings_of(text).warnings[0]


def test_a_secret_in_the_file_itself_asks_for_a_narrow_mode(
    tmp_path: Path, plugins: FakePlugins
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    path.chmod(0o640)

    assert "chmod 600" in load(path, {}, plugins).warnings[0]
    path.write_text(GOOD.replace("t0ken", "${TOKEN}"))
    assert load(path, {"TOKEN": "t"}, plugins).warnings == ()


def test_an_empty_file_says_what_is_required(faults_of: Faults) -> None:
    assert "config.yaml:1: version: required, but not given" in " ".join(faults_of("{}"))


def test_a_list_at_the_top_is_refused(faults_of: Faults) -> None:
    assert faults_of("- 1") == ["config.yaml:1: must be a mapping of keys"]


def test_a_config_error_keeps_its_faults(tmp_path: Path, plugins: FakePlugins) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml", {}, plugins)

    assert len(caught.value.faults) == 1


def test_a_wrong_key_of_a_mapping_is_shown_and_not_its_value(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"{_GOOD}sinks: {{ a: {{ type: relp, host: h, severity: {{ succes: info }} }} }}"
    )

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert str(caught.value) == (
        f"{path}:4: sinks.a.severity.succes: found 'succes'; allowed: success, failure, unknown"
        " (did you mean success?)"
    )


_GOOD = """
version: 1
accounts: [{ account_id: 023e105f4ecef8ad9ca31a8372d0c353, api_token: t }]
"""


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (
            "only: { outcome: bad }",
            "only.outcome: found 'bad'; allowed: success, failure, unknown",
        ),
        (
            "except: { stream: [x, forwarder] }",
            (
                "except.stream: unknown stream 'x' (allowed: "
                "access_requests, account_audit, forwarder, jit_requests, "
                "non_identity_logins, scim_updates)"
            ),
        ),
        ("retry: { initial: 1m, max: 1s }", "retry: retry.initial must not be above retry.max"),
        ("paused: perhaps", "paused: found 'perhaps'; must be true or false"),
    ],
)
def test_words_that_would_silence_a_sink_are_faults(tmp_path: Path, given: str, fault: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{_GOOD}sinks:\n  a: {{ type: stdout, {given} }}\n")

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert str(caught.value) == f"{path}:5: sinks.a.{fault}"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("${NOT_SET:-}", "'${NOT_SET:-}' must not be empty"),
        ("", "found nothing; must be a path"),
        ("[a]", "found a list; must be a path"),
    ],
)
def test_the_state_folder_is_named(tmp_path: Path, given: str, fault: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"{_GOOD}sinks: {{ a: {{ type: stdout }} }}\nstate_dir: {given}\n")

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert str(caught.value) == f"{path}:5: state_dir: {fault}"


@pytest.mark.parametrize("written", ["24", "'24'", "${HOURS:-24}", "24.0"])
def test_a_duration_without_its_unit_is_a_fault(written: str, faults_of: Faults) -> None:
    (fault,) = faults_of(f"{GOOD}journal:\n  keep_delivered: {written}\n")

    assert "journal.keep_delivered: " in fault
    assert "has no unit; write for example 24" in fault


def test_shards_are_for_a_journal_in_a_database_and_at_most_64(
    settings_of: Build, faults_of: Faults
) -> None:
    shared = f"{GOOD}journal: {{ type: postgres, dsn: host=db, shards: %d }}\n"
    (file,) = faults_of(f"{GOOD}journal: {{ shards: 4 }}\n")
    (many,) = faults_of(shared % 65)

    assert "only type postgres has shards" in file
    assert "journal.shards" in many
    assert 64 == settings_of(shared % 64).root.journal.shards
