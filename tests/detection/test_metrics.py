import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from synood_ray.detection.metrics import METRICS, bootstrap, interval, intervals, ood_metrics, threshold_at


def sample(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    id_scores, ood_scores = rng.normal(1.0, 1.0, 137), rng.normal(0.0, 1.3, 211)
    return (id_scores.round(1), ood_scores.round(1)) if ties else (id_scores, ood_scores)


def by_definition(id_scores: np.ndarray, ood_scores: np.ndarray) -> dict[str, float]:
    """FPR95 by trying every threshold."""
    thresholds = np.unique(np.concatenate([id_scores, ood_scores]))
    keeps_id = [t for t in thresholds if (id_scores >= t).mean() >= 0.95]
    catches_ood = [t for t in thresholds if (ood_scores <= t).mean() >= 0.95]
    return {
        "fpr95_id_positive": float((ood_scores >= max(keeps_id)).mean()),
        "fpr95_ood_positive": float((id_scores <= min(catches_ood)).mean()),
    }


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn_and_the_definitions(seed: int, ties: bool) -> None:
    id_scores, ood_scores = sample(seed, ties)
    is_id = np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))]
    scores = np.r_[id_scores, ood_scores]
    expected = {
        "auroc": roc_auc_score(is_id, scores),
        "aupr_in": average_precision_score(is_id, scores),
        "aupr_out": average_precision_score(1 - is_id, -scores),
        **by_definition(id_scores, ood_scores),
    }
    assert ood_metrics(id_scores, ood_scores) == pytest.approx(expected, abs=1e-12)


def test_fpr95_equals_the_roc_curve() -> None:
    id_scores, ood_scores = sample(9)
    is_id = np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))]
    fpr, tpr, _ = roc_curve(is_id, np.r_[id_scores, ood_scores], drop_intermediate=False)
    assert ood_metrics(id_scores, ood_scores)["fpr95_id_positive"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


def test_the_two_conventions_differ_on_the_same_scores() -> None:
    values = ood_metrics([0.0, 5.0, 5.0, 5.0], [1.0, 1.0, 1.0, 1.0])
    assert values["fpr95_id_positive"] == 1.0  # keeping every ID image lets all OOD images in
    assert values["fpr95_ood_positive"] == 0.25  # catching every OOD image costs the one weak ID image


def test_perfect_and_inverted_scores() -> None:
    perfect = ood_metrics([2.0, 3.0], [0.0, 1.0])
    assert perfect == {name: float(metric.higher_is_better) for name, metric in METRICS.items()}
    assert ood_metrics([0.0, 1.0], [2.0, 3.0])["auroc"] == 0.0


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_unusable_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="OOD scores"):
        ood_metrics([1.0], scores)


def test_threshold_keeps_the_asked_share() -> None:
    scores = np.arange(100.0)
    threshold = threshold_at(scores)
    assert threshold == 5.0
    assert (scores >= threshold).mean() == 0.95


def test_bootstrap_draw_equals_the_repeated_images() -> None:
    """A draw weights images; the same as listing the images of each drawn class that often."""
    id_scores, ood_scores = sample(3, ties=True)
    id_classes = np.arange(len(id_scores)) % 5
    low_high = intervals(bootstrap(id_scores, id_classes, ood_scores, np.zeros(len(ood_scores)), draws=1, seed=4))
    counts = np.random.default_rng(4).multinomial(5, np.full(5, 0.2), size=1)[0]
    repeated = np.concatenate([np.repeat(id_scores[id_classes == c], n) for c, n in enumerate(counts)])
    expected = ood_metrics(repeated, ood_scores)
    for name in METRICS:
        assert low_high[name] == pytest.approx((expected[name], expected[name]), abs=1e-12)


def test_interval_holds_the_value_and_widens_with_fewer_classes() -> None:
    ood_scores = np.random.default_rng(0).normal(0, 1, 300)

    def width(n_classes: int) -> float:
        classes = np.repeat(np.arange(n_classes), 200 // n_classes)
        low, high = intervals(bootstrap(np.where(classes % 2, 1.5, 0.5), classes, ood_scores, None, draws=400))["auroc"]
        return high - low

    assert width(4) > width(20) > 0
    id_scores, ood_scores = sample(1)
    low, high = intervals(bootstrap(id_scores, np.arange(137), ood_scores, None, draws=300))["auroc"]
    assert low < ood_metrics(id_scores, ood_scores)["auroc"] < high


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    id_scores, ood_scores = sample(2)
    classes = np.arange(137) % 10
    once = intervals(bootstrap(id_scores, classes, ood_scores, None, draws=20))
    assert once == intervals(bootstrap(id_scores, classes, ood_scores, None, draws=20))
    with pytest.raises(ValueError, match="classes for"):
        bootstrap(id_scores, classes[:-1], ood_scores, None)


def test_id_positive_fpr95_is_the_papers_where_95_percent_is_a_whole_number() -> None:
    """MCM and NegLabel take the recall nearest to .95, we the first that reaches it."""
    rng = np.random.default_rng(5)
    known, strange = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    thresholds = np.sort(known)[::-1]
    recall = np.arange(1, 401) / 400
    nearest = thresholds[np.argmin(np.abs(recall - 0.95))]
    assert ood_metrics(known, strange)["fpr95_id_positive"] == (strange >= nearest).mean()


def test_draws_are_paired_over_scores_and_share_their_id_classes_over_sets() -> None:
    rng = np.random.default_rng(3)
    known, classes, ood = rng.normal(1, 1, 60), np.repeat(np.arange(6), 10), rng.normal(0, 1, 40)
    groups = np.repeat(np.arange(4), 10)
    one = bootstrap(known, classes, ood, groups, 200, 5)
    other = bootstrap(2 * known + 1, classes, 2 * ood + 1, groups, 200, 5)  # the same ranks: no difference in any draw
    assert all((one[name] == other[name]).all() for name in METRICS)
    worse = bootstrap(known - 0.2, classes, ood, groups, 200, 5)
    low, high = interval(one["auroc"] - worse["auroc"])
    assert 0 < low < high < interval(one["auroc"])[1] - interval(worse["auroc"])[0]
    middle = np.median(known)  # OOD images there: AUROC is the share of ID images above it, by ID draws alone
    here = bootstrap(known, classes, [middle], None, 50, 5)["auroc"]
    assert here == pytest.approx(bootstrap(known, classes, [middle] * 9, None, 50, 5)["auroc"]) and here.std() > 0
