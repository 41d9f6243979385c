"""How large is fusion's gain beside what a perfect choice between the baselines would gain?"""

import numpy as np

from core import metrics
from core.config import BASELINES, UserError
from core.findings.accuracy import compare_pairs, explain_interval
from core.findings.evidence import Evidence
from core.findings.finding import Result, choose, judge, name, percent


def measure_headroom(evidence: Evidence, one: str) -> Result:
    """Fusion's gain over a baseline as a share of the oracle's: 1 is as much, below 0 is a loss. Raises UserError.

    The gain may lie on other images than the oracle's. Counted on those alone, any other network would seem to lose: they are
    picked by what these baselines got right.
    """
    (second,) = set(BASELINES) - {one}
    outcomes = [evidence.correct(model) for model in ("fusion", one, second)]
    counts = metrics.count_outcomes(*outcomes)  # (fusion, one, second)

    def split(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (R,) that the oracle and fusion predict correctly beyond that baseline."""
        baseline = tables[:, :, 1].sum(axis=(1, 2))
        return tables[:, :, 0, 1].sum(axis=1), tables[:, 1].sum(axis=(1, 2)) - baseline

    draws = metrics.resample_outcomes(counts)
    headroom, taken = (int(values[0]) for values in split(counts[None]))
    room, gain = split(draws)
    n = len(outcomes[0])
    oracle = (counts.sum() - counts[:, 0, 0].sum()) / n
    if headroom == 0:
        raise UserError(f"{name(one)} is correct wherever {name(second)} is: there is nothing to gain, so nothing to test")
    share, interval = taken / headroom, metrics.percentile_interval(gain[room > 0] / room[room > 0])
    p = evidence.once(compare_pairs)[one]["p"]  # a gain is a difference in accuracy, and is judged as that is
    verdict = judge(share, p)
    told, low, high = (f"{100 * value:.0f}".replace("-", "−") for value in (share, *interval))
    statement = choose(
        verdict,
        f"Fusion gains {told} % as much as a perfect choice between the two networks would",
        "It is not shown that fusion gains, where a perfect choice between the two networks would",
        "Fusion loses, where a perfect choice between the two networks would gain",
    )
    why = explain_interval(verdict, interval)
    return Result(
        statement=statement,
        details=f"{name(one)} alone is correct on {percent(outcomes[1].mean())}, either network on {percent(oracle)}; fusion's "
        f"{percent(outcomes[0].mean())} is a gain {told} % as large [{low}, {high}]; {counts[1, 0, 0]} of its images "
        f"neither network gets.{why}",
        verdict=verdict,
        numbers={"fusion": outcomes[0].mean(), one: outcomes[1].mean(), "oracle": oracle, "share": share},
        test="exact McNemar, Holm over 3 pairs; bootstrap of the images",
        p=p,
        effect=share,
        interval=interval,
        unit="%",
        n=n,
    )
