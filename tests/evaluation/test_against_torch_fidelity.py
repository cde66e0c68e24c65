"""What is computed here in place of torch-fidelity equals torch-fidelity."""

import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from cspipe.evaluation.frechet import frechet
from cspipe.evaluation.precision_recall import _rough, least, precision_recall
from cspipe.evaluation.scores import inception_score


def features(count: int, seed: int, decay: float, size: int = 192) -> Tensor:
    """Random features off zero: independent, or of spectra that fall as those of nets do."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(1, size, size, dtype=torch.float64) ** -decay
    mixed = torch.randn(size, size, generator=torch.Generator().manual_seed(99)).double() * spread
    return torch.randn(count, size, generator=generator).double() @ mixed.T + 0.1 * seed + 3


def of_torch_fidelity(x: Tensor, y: Tensor) -> dict[str, float]:
    found = prc_features_to_metric(x, y, save_cpu_ram=True, prc_batch_size=500, verbose=False)
    return {key: found[key] for key in ("precision", "recall")}


@pytest.mark.parametrize("decay", [0.0, 1.0])
@pytest.mark.parametrize("rough", ["bfloat16", "float32"])
def test_precision_and_recall(decay: float, rough: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What oneDNN supports does not count: it emulates bfloat16 on processors with AVX-512 alone."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: rough == "bfloat16")
    x, y = features(1100, 1, decay), features(900, 2, decay)
    assert _rough(x, x.mean(0))[0].dtype is getattr(torch, rough)
    found = precision_recall(x, y)
    assert found == pytest.approx(of_torch_fidelity(x, y), rel=1e-6)
    assert 0 < found["recall"] < 1
    assert precision_recall(x.float(), y.float()) == pytest.approx(found, abs=1e-6)


def test_precision_and_recall_of_copies_and_of_few() -> None:
    x = features(300, 1, 1.0)
    copies = x[:30].repeat(10, 1)  # more copies than a row has candidates with bfloat16's bounds
    assert precision_recall(copies, x) == {"precision": 1.0, "recall": pytest.approx(0.1)}
    assert precision_recall(x[:1].expand(60, -1), x[:1].expand(40, -1)) == {"precision": 1.0, "recall": 1.0}
    assert precision_recall(x[:5], x[5:12]) == pytest.approx(of_torch_fidelity(x[:5], x[5:12]))


def test_the_least_of_each_row_is_that_of_all_distances() -> None:
    x, y = features(500, 1, 0.5), features(400, 2, 0.5)
    radii = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 300
    whole = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square() - radii
    for k in (1, 4):
        torch.testing.assert_close(least(x, y, radii, k), whole.kthvalue(k, dim=1).values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [150, 2000])
def test_frechet_with_fewer_images_than_features_and_with_more(count: int) -> None:
    x, y = features(count, 1, 0.5), features(count + 100, 2, 0.4)
    published = fid_statistics_to_metric(*(fid_features_to_statistics(z) for z in (x, y)), verbose=False)
    assert frechet(x, y) == pytest.approx(published["frechet_inception_distance"], rel=1e-7)
    assert frechet(x, x) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("count", "splits"), [(40, 1), (1234, 2), (6000, 10)])
def test_the_inception_score_split_by_split(count: int, splits: int) -> None:
    logits = features(count, 1, 0.0, size=10).float()
    assert inception_score(logits) == isc_features_to_metric(logits, splits)["inception_score_mean"]
