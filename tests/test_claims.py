import pytest
import torch

from course_utils import _store
from course_utils.claims import ClaimError, claim


def test_a_claim_that_holds_prints_one_line(capsys):
    claim("two and two make four", 2 + 2 == 4, "2 + 2 = 4")
    assert capsys.readouterr().out == "✓ two and two make four [2 + 2 = 4]\n"


def test_a_tensor_with_one_value_is_a_truth(capsys):
    claim("one is positive", torch.tensor(1.0) > 0)
    assert capsys.readouterr().out == "✓ one is positive\n"


def test_a_claim_that_does_not_hold_raises_with_its_numbers():
    with pytest.raises(ClaimError, match=r"This does not hold: pigs fly \[0 of 12\]"):
        claim("pigs fly", holds=False, shown="0 of 12")


def test_a_claim_about_real_data_is_not_checked_on_a_standin(monkeypatch, capsys):
    monkeypatch.setattr(_store, "standins_in_use", lambda: ("cora",))
    claim("Cora has 2,708 papers", holds=False, real_only=True)
    assert "not checked on the stand-in (cora)" in capsys.readouterr().out


def test_a_claim_about_real_data_is_checked_on_real_data(monkeypatch):
    monkeypatch.setattr(_store, "standins_in_use", lambda: ())
    with pytest.raises(ClaimError):
        claim("Cora has 3 papers", holds=False, real_only=True)


def test_an_ordinary_claim_is_checked_on_a_standin_too(monkeypatch):
    monkeypatch.setattr(_store, "standins_in_use", lambda: ("cora",))
    with pytest.raises(ClaimError):
        claim("false", holds=False)
