"""A proof holds for what is claimed, and for nobody who has none of the secrets."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from forwarder.sources.logpush.proof import CLOCKS_S, Verifier, have_common, prove, tags

NOW = 1_796_040_000
NONCE = "0123456789abcdef" * 2
CLAIMS = ("POST", "https://10.0.0.7:9465", "/" + "a" * 32 + "/http_requests", "gzip", "512")
SECRETS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=4)
TEXTS = st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=6)


def refused(proof: str, secrets: list[str], *claims: str, now_s: int = NOW) -> bool:
    return bool(Verifier().refusal(proof, secrets, now_s, *claims))


@given(passing=SECRETS, owning=SECRETS, claims=TEXTS, data=st.data())
def test_one_secret_in_common_is_enough(
    passing: list[str], owning: list[str], claims: list[str], data: st.DataObject
) -> None:
    owning.insert(data.draw(st.integers(0, len(owning))), data.draw(st.sampled_from(passing)))

    assert not refused(prove(passing, NOW, NONCE, *claims), owning, *claims)


@given(passing=SECRETS, owning=SECRETS)
def test_without_one_in_common_nothing_is_proven(passing: list[str], owning: list[str]) -> None:
    strangers = [one for one in owning if one not in passing]

    assert refused(prove(passing, NOW, NONCE, *CLAIMS), strangers, *CLAIMS)


@given(data=st.data(), secrets=SECRETS)
def test_each_bit_of_what_is_claimed_counts(data: st.DataObject, secrets: list[str]) -> None:
    proof = prove(secrets, NOW, NONCE, *CLAIMS)
    claims = list(CLAIMS)
    which = data.draw(st.integers(0, len(claims) - 1))
    claims[which] = flipped(data, claims[which])

    assert refused(proof, secrets, *claims)


@given(data=st.data(), secret=st.text(st.characters(codec="utf-8"), min_size=1))
def test_each_bit_of_a_proof_counts(data: st.DataObject, secret: str) -> None:
    """The time and the nonce, too: whoever has seen a proof can change neither."""
    proof = prove([secret], NOW, NONCE, *CLAIMS)

    assert refused(flipped(data, proof), [secret], *CLAIMS)


@given(one=TEXTS, other=TEXTS, secrets=SECRETS)
def test_what_ends_one_claim_never_begins_the_next(
    one: list[str], other: list[str], secrets: list[str]
) -> None:
    assert (one == other) == (tags(secrets, *one) == tags(secrets, *other))


@given(proof=st.text(), secrets=SECRETS)
def test_any_text_may_come_from_a_stranger(proof: str, secrets: list[str]) -> None:
    assert refused(proof, secrets, *CLAIMS)
    assert not have_common(proof, tags(secrets, *CLAIMS))


def test_a_file_without_a_secret_proves_nothing_and_accepts_nothing() -> None:
    assert refused(prove([], NOW, NONCE, *CLAIMS), [], *CLAIMS)
    assert not have_common("", tags([]))


@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 40), st.integers(-80, 80), st.integers(0, 5)), max_size=60
    )
)
def test_a_proof_is_accepted_once_and_only_about_when_it_was_made(
    arrivals: list[tuple[int, int, int]],
) -> None:
    """Each arrival: seconds after the one before, how old it is, and which nonce it has."""
    verifier, now, accepted = Verifier(), NOW, set[str]()
    for later, age, number in arrivals:
        now += later
        proof = prove(["secret"], now - age, f"{number:032x}", *CLAIMS)
        fresh = not verifier.refusal(proof, ["secret"], now, *CLAIMS)

        assert not fresh or abs(age) <= CLOCKS_S
        assert not fresh or proof not in accepted
        accepted |= {proof} if fresh else set()


def test_what_is_remembered_of_proofs_does_not_grow_with_their_number() -> None:
    """Refused ones leave nothing, accepted ones are forgotten after two minutes."""
    verifier, refusals = Verifier(), 0
    tracemalloc.start()
    for number in range(3000):
        proof = prove(["secret"], NOW + number, f"{number:032x}", *CLAIMS)
        refusals += bool(verifier.refusal(proof, ["secret"], NOW + number, *CLAIMS))
        refusals += bool(verifier.refusal(f"{proof}0", ["secret"], NOW + number, *CLAIMS))
        refusals += bool(verifier.refusal(proof, ["another"], NOW + number, *CLAIMS))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert refusals == 6000
    assert held < 100_000


def flipped(data: st.DataObject, text: str) -> str:
    """Return a text with one bit changed, as a header would carry it."""
    content = bytearray(text.encode())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    return content.decode(errors="surrogateescape")
