"""How much of what a perfect choice between the baselines would gain does fusion take?"""

import numpy as np

from core import metrics
from core.config import BASELINES, UserError
from core.findings.accuracy import compare_pairs, explain_interval
from core.findings.evidence import Evidence
from core.findings.finding import Result, choose, judge, name, percent


def measure_headroom(evidence: Evidence, one: str) -> Result:
    """Fusion's gain over a baseline as a share of the oracle's, of the images that either network predicts correctly: of the others no
    choice gains any. 1 is all there is, below 0 is a loss. Raises UserError.
    """
    (second,) = set(BASELINES) - {one}
    outcomes = [evidence.correct(model) for model in ("fusion", one, second)]
    counts = metrics.count_outcomes(*outcomes)  # (fusion, one, second)

    def split(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (R,) that the oracle and, of those it predicts correctly, fusion get beyond that baseline."""
        return tables[:, :, 0, 1].sum(axis=1), tables[:, 1, 0, 1] - tables[:, 0, 1].sum(axis=1)

    draws = metrics.resample_outcomes(counts)
    headroom, taken = (int(values[0]) for values in split(counts[None]))
    room, gain = split(draws)
    either = outcomes[1] | outcomes[2]
    fusion, alone = (correct[either] for correct in outcomes[:2])
    if headroom == 0:
        raise UserError(f"{name(one)} is correct wherever {name(second)} is: there is nothing to gain, so nothing to test")
    share, interval = taken / headroom, metrics.percentile_interval(gain[room > 0] / room[room > 0])
    p = max(metrics.mcnemar(fusion, alone), evidence.once(compare_pairs)[one]["p"])  # what no gain is has no parts
    verdict = judge(share, p)
    statement = choose(
        verdict,
        "Fusion takes part of what a perfect choice between the two networks would gain",
        "It is not shown that fusion takes part of what a perfect choice between the two networks would gain",
        "Fusion loses where a perfect choice between the two networks would gain",
    )
    why = explain_interval(verdict, interval)
    told, low, high = (f"{100 * value:.0f}".replace("-", "−") for value in (share, *interval))
    return Result(
        statement=statement,
        details=f"Of the {len(fusion):,} images that either network predicts correctly {name(one)} gets {percent(alone.mean())}, fusion "
        f"{percent(fusion.mean())}: {told} % of the way [{low}, {high}]. "
        f"Fusion gets {counts[1, 0, 0]} that neither does, which no choice could.{why}",
        verdict=verdict,
        numbers={"fusion": fusion.mean(), one: alone.mean(), "oracle": either.mean(), "share": share, "neither": counts[1, 0, 0]},
        test="exact McNemar on these images, and on all with Holm over 3 pairs; bootstrap of the images",
        p=p,
        effect=share,
        interval=interval,
        unit="%",
        n=len(fusion),
    )
